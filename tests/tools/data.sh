# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# init, put, get, del, scan: what a person does first.

what_was_put_is_got() {
    expect 0 cambium init a.cmb
    expect 0 cambium put a.cmb greeting 'hello, world'
    expect 0 cambium get a.cmb greeting
    printf 'hello, world' >want
    same want out
}

a_value_comes_from_standard_input_or_a_file_byte_for_byte() {
    cambium init a.cmb
    random 1000 >value
    cambium put a.cmb one <value
    cambium put a.cmb two - <value
    cambium put a.cmb three --file value
    : | cambium put a.cmb four
    cambium put a.cmb five ''
    for key in one two three; do
        cambium get a.cmb $key >got
        same value got
    done
    for key in four five; do
        cambium get a.cmb $key >got
        [ ! -s got ] || _fail "$key is not empty"
    done
}

a_large_value_passes_through_pipes_unchanged() {
    cambium init a.cmb
    random 20000000 | tee value | cambium put a.cmb large
    cambium get a.cmb large | cat >got
    same value got
    expect 0 cambium scan a.cmb --json
    out_has '"size": 20000000}'
}

a_large_value_takes_little_memory() {
    cambium init a.cmb
    head -c 300000000 /dev/zero | peak_under 64 "$CAMBIUM" put a.cmb large
    peak_under 64 "$CAMBIUM" get a.cmb large
    [ "$(wc -c <out)" -eq 300000000 ] || _fail 'another size'
}

options_stand_before_or_after_operands() {
    cambium init a.cmb
    cambium put -m one a.cmb k v
    cambium put a.cmb -mtwo k v2
    cambium put a.cmb k --message=three v3
    expect 0 cambium log --oneline a.cmb
    [ "$(wc -l <out)" -eq 3 ] || _fail 'not three commits'
    expect 0 cambium scan -kr a.cmb
    out_is k
}

two_dashes_end_the_options() {
    cambium init a.cmb
    cambium put a.cmb -- -key --value
    expect 0 cambium get a.cmb -- -key
    printf %s --value >want
    same want out
}

hexadecimal_keys_name_any_bytes() {
    cambium init a.cmb
    cambium put a.cmb -x 00ff0a v
    expect 0 cambium scan a.cmb
    out_is '\x00\xff\n	v'
    expect 0 cambium get a.cmb --hex 00FF0A
    expect 2 cambium get a.cmb --hex 00f
    error_is "cambium: get: not hexadecimal"
}

deleted_keys_are_gone_all_or_none() {
    cambium init a.cmb
    for k in a b c; do cambium put a.cmb $k v$k; done
    expect 1 unchanged a.cmb cambium del a.cmb a x
    error_is 'cambium: a.cmb: not found: no key "x" in main'
    expect 0 cambium del a.cmb a b
    expect 0 cambium scan a.cmb
    out_is 'c	vc'
    expect 0 cambium del -f a.cmb x c
    expect 0 cambium scan a.cmb
    out_is
}

ranges_are_half_open_and_go_both_ways() {
    cambium init a.cmb
    for k in a b ba bb c; do printf '%s\t%s\n' $k ${k}1; done | cambium load a.cmb --tsv
    expect 0 cambium scan a.cmb --from b --to c --keys-only
    out_is b ba bb
    expect 0 cambium scan a.cmb --prefix b --reverse --keys-only
    out_is bb ba b
    expect 0 cambium scan a.cmb --prefix b --from ba --to bb
    out_is 'ba	ba1'
    expect 0 cambium scan a.cmb --limit 2
    out_is 'a	a1' 'b	b1'
    expect 0 cambium scan a.cmb --reverse --limit 1 --json
    out_is '{"key": "c", "value": "c1", "size": 2}'
    expect 0 cambium scan a.cmb --prefix z
    out_is
}

counting_agrees_with_listing() {
    cambium init a.cmb
    i=0
    while [ $i -lt 500 ]; do
        printf 'k%03d\tv\n' $i
        i=$((i + 1))
    done | cambium load a.cmb --tsv
    for range in '' '--prefix k1' '--from k100' '--to k100' '--prefix k1 --from k15 --to k3' '--from k3 --to k2' '--limit 7' '--prefix x' \
        '--prefix k --limit 1000'; do
        # shellcheck disable=SC2086 # a list of words
        [ "$(cambium scan a.cmb --count $range)" -eq "$(cambium scan a.cmb -k $range | wc -l)" ] || _fail "count $range"
    done
    cambium put a.cmb -x ffff v
    [ "$(cambium scan a.cmb --count -x --prefix ff)" -eq 1 ] || _fail 'prefix ff'
}

reading_at_an_older_revision_shows_the_older_value() {
    cambium init a.cmb
    cambium put a.cmb k one -m one
    cambium put a.cmb k two -m two
    cambium put a.cmb k three
    [ "$(cambium get a.cmb k)" = three ] || _fail three
    [ "$(cambium get a.cmb k --at main~1)" = two ] || _fail two
    [ "$(cambium get a.cmb k --at main~2)" = one ] || _fail one
    [ "$(cambium get a.cmb k -b main)" = three ] || _fail branch
    expect 2 cambium get a.cmb k --at main -b main
}

bytes_that_are_no_text_are_base64_in_json() {
    cambium init a.cmb
    printf '\377\000\001' | cambium put a.cmb 'k"1'
    expect 0 cambium scan a.cmb --json
    out_is '{"key": "k\"1", "value": {"base64": "/wAB"}, "size": 3}'
}

the_author_comes_from_the_option_or_the_environment() {
    cambium init a.cmb
    cambium put a.cmb k 1 -m one
    CAMBIUM_AUTHOR='Ada <ada@example.org>' cambium put a.cmb k 2 -m two
    CAMBIUM_AUTHOR=Ada cambium put a.cmb k 3 -m three -a Grace
    (unset USER; cambium put a.cmb k 4 -m four)
    cambium log a.cmb --json | sed 's/.*"author": "\([^"]*\)".*/\1/' >out
    out_is unknown Grace 'Ada <ada@example.org>' tester
}

images_made_like_another_compare_by_root() {
    cambium init a.cmb --node-size 1K --seed random
    cambium init b.cmb --like a.cmb
    cambium init c.cmb --node-size 1K --seed 2a
    for i in a b c; do
        seq 1 3000 | awk '{ printf "key%06d\tvalue%d\n", $1, $1 }' | cambium load $i.cmb --tsv
    done
    a=$(cambium rev-parse a.cmb 'main^{root}')
    [ "$a" = "$(cambium rev-parse b.cmb 'main^{root}')" ] || _fail 'a and b differ'
    [ "$a" != "$(cambium rev-parse c.cmb 'main^{root}')" ] || _fail 'a and c are equal'
    expect 2 cambium init d.cmb --like a.cmb --seed 1
}

an_image_has_the_size_it_was_given() {
    expect 0 cambium init a.cmb --size 32M
    [ "$(wc -c <a.cmb)" -eq 33554432 ] || _fail 'not 32 MiB'
    expect 2 cambium init b.cmb --size 32Q
    error_is 'cambium: init: --size: not a size'
    [ ! -e b.cmb ] || _fail 'b.cmb was made'
}

an_image_is_not_overwritten_without_force() {
    cambium init a.cmb
    cambium put a.cmb k v
    expect 6 unchanged a.cmb cambium init a.cmb
    error_is 'cambium: a.cmb: already exists'
    expect 0 cambium init a.cmb --force
    expect 0 cambium scan a.cmb
    out_is
    echo 'not an image' >text
    expect 6 unchanged text cambium init text
}

an_unknown_hash_lists_those_that_are_known() {
    expect 2 cambium init a.cmb --hash md5
    error_is 'cambium: init: --hash: unknown hash md5; known: xxh3, sha256'
    [ ! -e a.cmb ] || _fail 'a.cmb was made'
    expect 0 cambium init a.cmb --hash xxh3
}
