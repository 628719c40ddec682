# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# log, last-modified, merge-base, reflog, annotated tags.

# main: one (a=1), two (b=1), main3 (a=2); side from two: side1 (c=1), side2 (c=2)
_history() {
    cambium init h.cmb
    cambium put h.cmb a 1 -m one
    cambium put h.cmb b 1 -m two
    cambium branch h.cmb create side
    cambium put h.cmb c 1 -b side -m side1
    cambium put h.cmb a 2 -m main3
    cambium put h.cmb c 2 -b side -m side2
}

# The messages of a log, on one line.
_messages() {
    cambium log h.cmb "$@" --oneline | sed 's/^[^ ]* [^ ]* //' | tr '\n' ' '
}

_messages_are() {
    wanted=$1
    shift
    got=$(_messages "$@")
    [ "$got" = "$wanted" ] || _fail "log $*: $got, not $wanted"
}

a_log_of_a_span_leaves_out_what_the_other_side_has() {
    _history
    _messages_are 'main3 two one '
    _messages_are 'side2 side1 ' main..side
    _messages_are 'main3 ' side..
    _messages_are 'side2 side1 ' ..side
    _messages_are 'side2 ' ..side -n 1
    _messages_are '' main..main
    expect 2 cambium log h.cmb main...side
    expect 1 cambium log h.cmb main..nothing
}

a_log_of_keys_shows_who_changed_them() {
    _history
    _messages_are 'main3 one ' main a
    _messages_are 'one ' side a
    _messages_are 'main3 two one ' main a b
    _messages_are 'side2 side1 ' side --prefix c
    _messages_are 'main3 one ' main 61 --hex
    _messages_are '' main nothing
    cambium del h.cmb a -m gone
    _messages_are 'gone main3 one ' main a
    expect 2 cambium log h.cmb main --topo-order --date-order
    expect 2 cambium log h.cmb main ''
}

last_modified_names_the_commit_of_each_key() {
    _history
    one=$(cambium rev-parse h.cmb main~2 --short)
    two=$(cambium rev-parse h.cmb main~1 --short)
    three=$(cambium rev-parse h.cmb main --short)
    expect 0 cambium last-modified h.cmb
    cut -d' ' -f1,3 out >columns
    printf '%s a\n%s b\n' "$three" "$two" | cmp - columns || _fail "$(cat out)"
    expect 0 cambium last-modified h.cmb side a
    grep -q "^$one .* a$" out || _fail "$(cat out)"
    expect 0 cambium last-modified h.cmb side --prefix b
    grep -q "^$two .* b$" out || _fail "$(cat out)"
    expect 1 cambium last-modified h.cmb main nothing
    cambium put h.cmb b 9
    expect 0 cambium last-modified h.cmb main b
    grep -q '^-  *working state  *b$' out || _fail "$(cat out)"
    expect 0 cambium last-modified h.cmb --json
    out_has '"key": "b", "commit": null'
    expect 2 cambium last-modified h.cmb main b --prefix b
}

merge_base_finds_the_common_ancestor() {
    _history
    two=$(cambium rev-parse h.cmb main~1)
    expect 0 cambium merge-base h.cmb main side
    out_is "$two"
    expect 0 cambium merge-base h.cmb main side --all
    out_is "$two"
    expect 0 cambium merge-base h.cmb main~1 side --is-ancestor
    out_is
    expect 1 cambium merge-base h.cmb main side --is-ancestor
    cambium branch h.cmb create lone --empty
    cambium put h.cmb z 1 -b lone -m alone
    expect 1 cambium merge-base h.cmb main lone
    expect 1 cambium merge-base h.cmb main lone --all
    expect 2 cambium merge-base h.cmb main
}

the_reflog_tells_where_a_branch_stood() {
    _history
    one=$(cambium rev-parse h.cmb main~2 --short)
    two=$(cambium rev-parse h.cmb main~1 --short)
    cambium branch h.cmb set side main~1
    cambium branch h.cmb delete side
    expect 0 cambium reflog h.cmb side
    sed 's/ [0-9TZ:-]*Z / /; s/^[0-9a-f]\{12\}/X/; s/ [0-9a-f]\{12\}/ X/; s/  */ /g' out >reasons
    printf '%s\n' 'X - deleted' 'X X set' 'X X committed' 'X X committed' '- X created' | cmp - reasons || _fail "$(cat out)"
    expect 0 cambium reflog h.cmb -n 2
    [ "$(wc -l <out)" -eq 2 ] || _fail "$(cat out)"
    expect 0 cambium reflog h.cmb
    grep -q "^$one *$two .* committed$" out || _fail "$(cat out)"
    expect 0 cambium reflog h.cmb --json
    out_has '"reason": "committed"'
    expect 1 cambium reflog h.cmb nothing
}

an_annotated_tag_is_shown_with_its_message() {
    _history
    expect 0 cambium tag h.cmb create v1 -m 'the first one' -a ada
    expect 6 cambium tag h.cmb create v1 -m again
    id=$(cambium rev-parse h.cmb main)
    [ "$(cambium rev-parse h.cmb v1)" = "$id" ] || _fail 'not the same commit'
    expect 0 cambium show h.cmb v1
    out_has 'tag     v1'
    out_has 'tagger  ada'
    out_has '    the first one'
    out_has "commit  $id"
    expect 0 cambium show h.cmb v1~0
    ! grep -q tagger out || _fail 'a step leads to the commit'
    expect 0 cambium tag h.cmb
    out_has ', annotated'
    expect 0 cambium tag h.cmb set v1 main~1 -m moved
    expect 0 cambium show h.cmb v1 --json
    out_has '"tagger": "tester", "message": "moved"'
    expect 2 cambium tag h.cmb delete v1 -m no
    expect 2 cambium tag h.cmb list -a no
    expect 0 cambium fsck h.cmb --full
}
