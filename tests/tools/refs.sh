# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# branch, tag, log, show, rev-parse.

branches_are_listed_with_their_state() {
    cambium init a.cmb
    expect 0 cambium branch a.cmb
    out_is 'main  -             0 entries, no commit yet'
    cambium put a.cmb k v -m one
    id=$(cambium rev-parse a.cmb main --short)
    cambium branch a.cmb create feature
    cambium put a.cmb k2 v
    expect 0 cambium branch a.cmb list
    out_is "feature  $id  1 entries" "main     $id  2 entries, working state"
    expect 0 cambium branch a.cmb --json
    out_has '"name": "feature", "commit": "'
    out_has '"working": true'
}

branches_are_created_moved_and_deleted() {
    cambium init a.cmb
    cambium put a.cmb k 1 -m one
    cambium put a.cmb k 2 -m two
    cambium branch a.cmb create old main~1
    [ "$(cambium get a.cmb k -b old)" = 1 ] || _fail old
    expect 6 unchanged a.cmb cambium branch a.cmb create old
    cambium branch a.cmb set old main
    [ "$(cambium get a.cmb k -b old)" = 2 ] || _fail moved
    cambium branch a.cmb delete old
    expect 1 cambium get a.cmb k -b old
    cambium branch a.cmb create new --empty
    expect 0 cambium scan a.cmb -b new
    out_is
}

writes_to_one_branch_leave_the_others_alone() {
    cambium init a.cmb
    cambium put a.cmb k main -m one
    cambium branch a.cmb create other
    cambium put a.cmb k other -b other -m two
    [ "$(cambium get a.cmb k)" = main ] || _fail main
    [ "$(cambium get a.cmb k -b other)" = other ] || _fail other
}

a_working_state_that_is_named_becomes_a_commit() {
    cambium init a.cmb
    cambium put a.cmb k v
    cambium tag a.cmb create v1
    expect 0 cambium rev-parse a.cmb v1
    grep -qx '[0-9a-f]\{32\}' out || _fail "$(cat out)"
    expect 0 cambium rev-parse a.cmb main
}

tags_stay_when_branches_move_on() {
    cambium init a.cmb
    cambium put a.cmb k 1 -m one
    cambium tag a.cmb create v1
    cambium put a.cmb k 2 -m two
    [ "$(cambium get a.cmb k --at v1)" = 1 ] || _fail v1
    [ "$(cambium get a.cmb k --at tags/v1)" = 1 ] || _fail tags/v1
    cambium tag a.cmb set v1 main
    [ "$(cambium get a.cmb k --at v1)" = 2 ] || _fail moved
    expect 0 cambium tag a.cmb
    out_has 'v1  '
    cambium tag a.cmb delete v1
    expect 1 cambium get a.cmb k --at v1
    expect 2 cambium tag a.cmb create v2 --empty
}

the_log_shows_commits_newest_first() {
    cambium init a.cmb
    for m in one two three; do cambium put a.cmb k $m -m "$m" -a Ada; done
    expect 0 cambium log a.cmb --oneline
    [ "$(sed 's/.* //' out | tr '\n' ' ')" = 'three two one ' ] || _fail order
    expect 0 cambium log a.cmb --limit 1
    grep -q '^commit  [0-9a-f]\{32\}$' out || _fail commit
    grep -q '^author  Ada$' out || _fail author
    grep -q '^time    20[0-9-]*T[0-9:]*Z$' out || _fail time
    out_has '    three'
    expect 0 cambium log a.cmb main~2 --json
    [ "$(wc -l <out)" -eq 1 ] || _fail 'not one line'
    out_has '"message": "one"}'
    out_has '"parents": []'
    expect 0 cambium log a.cmb --limit 0
    out_is
}

the_log_of_a_branch_without_commits_says_so() {
    cambium init a.cmb
    expect 1 cambium log a.cmb
    error_is 'cambium: a.cmb: not found: '
}

a_message_of_several_lines_is_shown_whole() {
    cambium init a.cmb
    cambium put a.cmb k v -m 'subject

body	\ of it'
    expect 0 cambium show a.cmb main
    tail -n 4 out >end
    printf '\n    subject\n    \n    body\\t\\\\ of it\n' >want
    same want end
    expect 0 cambium log a.cmb --oneline
    grep -q ' subject$' out || _fail subject
}

show_tells_commits_from_working_states() {
    cambium init a.cmb
    cambium put a.cmb k v -m one
    expect 0 cambium show a.cmb main
    out_has 'entries 1'
    cambium put a.cmb k2 v
    expect 0 cambium show a.cmb main
    out_has 'working state of main'
    out_has 'entries 2'
    expect 0 cambium show a.cmb main --json
    out_has '"working": true'
    expect 0 cambium show a.cmb main~1 --json
    out_has '"working": false'
}

rev_parse_names_commits_by_any_way_to_them() {
    cambium init a.cmb
    cambium put a.cmb k 1 -m one
    cambium put a.cmb k 2 -m two
    id=$(cambium rev-parse a.cmb main)
    for rev in heads/main "$id" "$(echo "$id" | cut -c 1-8)" main~0; do
        expect 0 cambium rev-parse a.cmb "$rev"
        out_is "$id"
    done
    first=$(cambium rev-parse a.cmb main~1)
    for rev in main^ main^1 "$id~1"; do
        expect 0 cambium rev-parse a.cmb "$rev"
        out_is "$first"
    done
    expect 0 cambium rev-parse a.cmb --short main
    out_is "$(echo "$id" | cut -c 1-12)"
}

rev_parse_of_a_working_state_tells_what_to_do() {
    cambium init a.cmb
    expect 1 cambium rev-parse a.cmb main
    error_is 'cambium: a.cmb: not found: main has no commit yet'
    cambium put a.cmb k v
    expect 1 cambium rev-parse a.cmb main
    error_is 'cambium: a.cmb: a working state has no commit id: '
    error_has "'main^{root}' names its content"
    expect 0 cambium rev-parse a.cmb 'main^{root}'
    grep -qx '[0-9a-f]\{32\}' out || _fail "$(cat out)"
    expect 0 cambium rev-parse a.cmb main --json
    out_has '"commit": null, "base": null, '
}

equal_contents_have_equal_roots_whatever_the_order() {
    cambium init a.cmb
    cambium init b.cmb
    seq 1 500 | awk '{ printf "%d\tv%d\n", $1, $1 }' | cambium load a.cmb --tsv 2>/dev/null
    seq 500 -1 1 | awk '{ printf "%d\tv%d\n", $1, $1 }' | cambium load b.cmb --tsv 2>/dev/null
    cambium put b.cmb extra v -m more
    cambium del b.cmb extra -m less
    [ "$(cambium rev-parse a.cmb 'main^{root}')" = "$(cambium rev-parse b.cmb 'main^{root}')" ] || _fail 'other roots'
}
