# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# pull, bundle.

# _pair: a.cmb with some history, b.cmb with the same parameters
_pair() {
    cambium init a.cmb
    cambium put a.cmb k one -m one
    cambium put a.cmb k2 two -m two
    cambium init b.cmb --like a.cmb
}

_same_branch() { [ "$(cambium rev-parse a.cmb "$1")" = "$(cambium rev-parse b.cmb "$1")" ] || _fail "$1 differs"; }

a_pull_brings_branches_and_says_what_became_of_them() {
    _pair
    cambium branch a.cmb create feature main~1
    expect 0 cambium pull b.cmb a.cmb
    main=$(cambium rev-parse a.cmb main --short)
    feature=$(cambium rev-parse a.cmb feature --short)
    out_is "$feature	new	feature" "$main	moved forward	main"
    _same_branch main
    _same_branch feature
    expect 0 cambium pull b.cmb a.cmb main --json
    out_has '"branch": "main", "outcome": "up to date"'
    expect 0 cambium fsck b.cmb
}

a_pull_seals_a_working_state() {
    _pair
    cambium put a.cmb k working
    expect 0 cambium pull b.cmb a.cmb
    [ "$(cambium get b.cmb k)" = working ] || _fail 'another value'
    _same_branch main
}

a_branch_that_diverged_is_kept_beside_or_merged() {
    _pair
    cambium pull b.cmb a.cmb 2>/dev/null >/dev/null
    cambium put a.cmb x a -m a
    cambium put b.cmb y b -m b
    before=$(cambium rev-parse b.cmb main)
    expect 1 cambium pull b.cmb a.cmb
    out_has 'diverged	main	theirs is a/main'
    [ "$(cambium rev-parse b.cmb main)" = "$before" ] || _fail 'main has moved'
    [ "$(cambium rev-parse b.cmb a/main)" = "$(cambium rev-parse a.cmb main)" ] || _fail 'another head was kept'
    expect 0 cambium pull b.cmb a.cmb main --strategy fail
    out_has '	merged	main'
    [ "$(cambium get b.cmb x)$(cambium get b.cmb y)" = ab ] || _fail 'something is missing'
    cambium pull a.cmb b.cmb main >/dev/null 2>&1
    _same_branch main
    cambium put a.cmb k a -m a
    cambium put b.cmb k b -m b
    expect 1 cambium pull b.cmb a.cmb main --strategy fail --name other
    out_has 'in conflict	main	1 keys	theirs is other/main'
    expect 2 cambium pull b.cmb a.cmb --strategy best
    error_is 'cambium: pull: --strategy: unknown strategy best; known: fail,'
}

images_that_cannot_exchange_say_why() {
    _pair
    cambium init other.cmb --node-size 1K
    expect 3 unchanged other.cmb cambium pull other.cmb a.cmb
    error_has 'its node size is 4096'
    error_has '--like'
    expect 3 unchanged b.cmb cambium pull b.cmb a.cmb --untrusted
    error_has 'cryptographic'
    expect 1 unchanged b.cmb cambium pull b.cmb a.cmb nothing
    error_has "there is no branch 'nothing'"
    expect 3 cambium pull b.cmb missing.cmb
}

names_can_be_cryptographic() {
    cambium init a.cmb --hash sha256 2>err || { grep -q 'feature sha256' err && _skip 'built without the feature sha256'; _fail 'init'; }
    cambium put a.cmb k one -m one
    cambium init b.cmb --like a.cmb
    expect 0 cambium pull b.cmb a.cmb --untrusted
    [ "$(cambium rev-parse b.cmb main | tr -d '\n' | wc -c)" -eq 64 ] || _fail 'not 64 digits'
    expect 0 cambium stat b.cmb
    out_has 'hash sha256'
    expect 0 cambium fsck b.cmb --full
}

history_can_be_shallow() {
    _pair
    cambium put a.cmb k three -m three
    expect 0 cambium pull b.cmb a.cmb --depth 2
    expect 0 cambium log b.cmb --oneline
    [ "$(wc -l <out)" -eq 2 ] || _fail 'not two commits'
    _same_branch main
    expect 0 cambium fsck b.cmb --full
    expect 2 cambium pull b.cmb a.cmb --depth 0
}

a_bundle_moves_history_in_a_file() {
    _pair
    cambium tag a.cmb create v1 main~1
    expect 0 cambium bundle a.cmb create all.bundle main v1
    expect 0 cambium bundle b.cmb verify all.bundle
    out_is "$(cambium rev-parse a.cmb main)	main" "$(cambium rev-parse a.cmb v1)	tag v1" '2 commits, whole and well-formed'
    expect 0 cambium bundle b.cmb apply all.bundle
    _same_branch main
    _same_branch v1
    cambium put a.cmb k3 three -m three
    expect 0 cambium bundle a.cmb create new.bundle main ^v1
    cambium init c.cmb --like a.cmb
    expect 1 unchanged c.cmb cambium bundle c.cmb apply new.bundle
    error_has "$(cambium rev-parse a.cmb v1)"
    expect 0 cambium bundle b.cmb verify new.bundle --json
    out_has '"needed": ["'
    expect 0 cambium bundle b.cmb apply new.bundle
    _same_branch main
}

a_bundle_goes_through_a_pipe() {
    _pair
    cambium bundle a.cmb create - main | cambium bundle b.cmb apply - >/dev/null 2>&1
    _same_branch main
}

a_damaged_bundle_is_refused_and_the_image_is_as_it_was() {
    _pair
    cambium bundle a.cmb create all.bundle main 2>/dev/null
    size=$(wc -c <all.bundle)
    for at in 0 7 9 13 40 $((size / 2)) $((size - 1)); do
        cp all.bundle bad.bundle
        flip bad.bundle "$at"
        expect 4 unchanged b.cmb cambium bundle b.cmb apply bad.bundle
        error_has bad.bundle
    done
    for at in 0 5 8 19 $((size / 2)) $((size - 1)); do
        head -c "$at" all.bundle >bad.bundle
        expect 4 unchanged b.cmb cambium bundle b.cmb apply bad.bundle
    done
    echo >>all.bundle
    expect 4 unchanged b.cmb cambium bundle b.cmb apply all.bundle
    expect 4 cambium bundle b.cmb apply missing.bundle
}

a_bundle_that_cannot_be_made_leaves_no_file() {
    _pair
    expect 2 cambium bundle a.cmb create x.bundle main~1
    error_has 'no branch and no tag'
    [ ! -e x.bundle ] || _fail 'x.bundle is there'
    expect 2 cambium bundle a.cmb create x.bundle
    expect 2 cambium bundle a.cmb burn x.bundle
}
