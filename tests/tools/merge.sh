# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# merge, revert, cherry-pick.

# Two branches that changed k, and one key each.
_clash() {
    cambium init a.cmb
    cambium put a.cmb k base -m base
    cambium branch a.cmb create side
    cambium put a.cmb k mine -m mine
    cambium put a.cmb m 1 -m more
    cambium put a.cmb k theirs -b side -m theirs
    cambium put a.cmb t 1 -b side -m more
}

a_branch_is_merged_with_a_message_and_two_parents() {
    cambium init a.cmb
    cambium put a.cmb k v -m base
    cambium branch a.cmb create side
    cambium put a.cmb m 1 -m mine
    cambium put a.cmb t 1 -b side -m theirs
    expect 0 cambium merge a.cmb side -m 'both' -a ada
    out_is "merged: $(cambium rev-parse a.cmb main)"
    expect 0 cambium scan a.cmb
    out_is 'k	v' 'm	1' 't	1'
    expect 0 cambium show a.cmb main --json
    out_has '"message": "both"'
    out_has '"author": "ada"'
    out_has "\"$(cambium rev-parse a.cmb main^1)\""
    out_has "\"$(cambium rev-parse a.cmb main^2)\""
    [ "$(cambium rev-parse a.cmb main^2)" = "$(cambium rev-parse a.cmb side)" ] || _fail parents
    expect 0 cambium merge a.cmb side
    out_is 'up to date'
    expect 0 cambium merge a.cmb main -b side
    out_is "fast-forward: $(cambium rev-parse a.cmb main)"
    expect 0 cambium fsck a.cmb --full
}

conflicts_are_listed_and_nothing_moves() {
    _clash
    expect 1 unchanged a.cmb cambium merge a.cmb side
    out_is 'C	k	changed by both'
    error_is 'cambium: a.cmb: 1 conflict, nothing is merged'
    expect 1 unchanged a.cmb cambium merge a.cmb side --json
    out_has '{"conflict": "k", "base": "base", "theirs": "theirs", "ours": "mine"}'
    out_has '{"result": "conflicts", "conflicts": 1, '
    cambium del a.cmb k -m gone
    expect 1 cambium merge a.cmb side
    out_is 'C	k	deleted by us, changed by them'
    expect 1 cambium merge a.cmb main -b side
    out_is 'C	k	changed by us, deleted by them'
}

conflicts_are_resolved_on_the_command_line() {
    _clash
    for how in ours=mine theirs=theirs delete= @f=file; do
        cambium branch a.cmb create "b-${how#*=}x" main
        printf file >f
        expect 0 cambium merge a.cmb side "k=${how%%=*}" -b "b-${how#*=}x"
        [ "$(cambium get a.cmb k -b "b-${how#*=}x" 2>/dev/null)" = "${how#*=}" ] || _fail "$how"
        [ "$(cambium get a.cmb t -b "b-${how#*=}x")" = 1 ] || _fail "$how"
    done
    cambium branch a.cmb create input main
    printf 'from standard input' | cambium merge a.cmb side k=@- -b input
    [ "$(cambium get a.cmb k -b input)" = 'from standard input' ] || _fail '@-'
    cambium branch a.cmb create rest main
    expect 0 cambium merge a.cmb side --rest theirs -b rest
    [ "$(cambium get a.cmb k -b rest)" = theirs ] || _fail rest
    expect 1 unchanged a.cmb cambium merge a.cmb side m=ours
    error_has 'm is not in conflict'
    expect 4 unchanged a.cmb cambium merge a.cmb side k=@nowhere
    expect 2 unchanged a.cmb cambium merge a.cmb side k
    expect 2 unchanged a.cmb cambium merge a.cmb side --rest sideways
    expect 0 cambium merge a.cmb side --hex 6b=theirs
    [ "$(cambium get a.cmb k)" = theirs ] || _fail hex
}

strategies_settle_clashes() {
    _clash
    for s in ours theirs; do
        cambium branch a.cmb create $s main
        expect 0 cambium merge a.cmb side -b $s -s $s
    done
    [ "$(cambium get a.cmb k -b ours)" = mine ] || _fail ours
    [ "$(cambium get a.cmb k -b theirs)" = theirs ] || _fail theirs
    expect 0 cambium merge a.cmb side --strategy union
    expect 0 cambium get a.cmb k
    printf 'mine\ntheirs' >both
    cmp both out || _fail union
    expect 2 cambium merge a.cmb side -s clever
    error_has 'unknown strategy clever'
}

json_documents_are_merged() {
    cambium init a.cmb
    cambium put a.cmb doc '{"a": 1, "n": 0.1}' -m base
    cambium branch a.cmb create side
    cambium put a.cmb doc '{"a": 1, "n": 0.1, "b": 2}' -m mine
    cambium put a.cmb doc '{"a": 3, "n": 0.1}' -b side -m theirs
    expect 0 cambium merge a.cmb side -s json ||
        { error_has 'without JSON' && _skip 'built without JSON'; }
    [ "$(cambium get a.cmb doc)" = '{"a":3,"b":2,"n":0.1}' ] || _fail "$(cambium get a.cmb doc)"
}

forward_only_and_never_forward() {
    cambium init a.cmb
    cambium put a.cmb k 1 -m one
    cambium branch a.cmb create side
    cambium put a.cmb k 2 -b side -m two
    cambium branch a.cmb create other
    expect 0 cambium merge a.cmb side --no-ff -b other
    expect 0 cambium rev-parse a.cmb other^2
    expect 0 cambium merge a.cmb side --ff-only
    cambium put a.cmb m 1 -m mine
    cambium put a.cmb t 1 -b side -m theirs
    expect 1 unchanged a.cmb cambium merge a.cmb side --ff-only
    error_has 'cannot move forward'
    expect 2 cambium merge a.cmb side --ff-only --no-ff
    expect 1 cambium merge a.cmb nothing
    expect 1 cambium merge a.cmb side -b nothing
}

a_commit_is_reverted() {
    cambium init a.cmb
    cambium put a.cmb k 1 -m one
    cambium put a.cmb k 2 -m two
    cambium put a.cmb m 1 -m three
    expect 0 cambium revert a.cmb main~1
    [ "$(cambium get a.cmb k)" = 1 ] || _fail k
    [ "$(cambium get a.cmb m)" = 1 ] || _fail m
    expect 0 cambium show a.cmb main
    out_has 'Revert "two"'
    expect 0 cambium revert a.cmb main~2
    out_is 'up to date'
    cambium put a.cmb k 3 -m four
    expect 1 cambium revert a.cmb main~3
    out_is 'C	k	changed by both'
    expect 0 cambium revert a.cmb main~3 k=theirs -m 'back to one'
    [ "$(cambium get a.cmb k)" = 1 ] || _fail 'back to one'
}

a_commit_is_picked() {
    _clash
    expect 0 cambium cherry-pick a.cmb side
    [ "$(cambium get a.cmb t)" = 1 ] || _fail t
    [ "$(cambium get a.cmb k)" = mine ] || _fail k
    expect 0 cambium show a.cmb main
    out_has more
    expect 1 cambium cherry-pick a.cmb side~1
    expect 0 cambium cherry-pick a.cmb side~1 k=theirs -a eve -m picked
    expect 0 cambium show a.cmb main --json
    out_has '"author": "eve"'
    out_has '"message": "picked"'
}

a_merge_is_reverted_along_a_parent() {
    _clash
    cambium merge a.cmb side --rest ours
    expect 2 cambium revert a.cmb main
    error_has 'is a merge of 2 parents'
    expect 2 cambium revert a.cmb main --mainline 0
    expect 2 cambium revert a.cmb main --mainline 3
    expect 0 cambium revert a.cmb main --mainline 1
    expect 1 cambium get a.cmb t
    [ "$(cambium get a.cmb m)" = 1 ] || _fail m
}
