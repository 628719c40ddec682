# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# stat, inspect, fsck.

# An image with history, two branches, a tag, large values and enough entries for several levels.
_image() {
    cambium init a.cmb --node-size 1K
    seq 1 5000 | awk '{ printf "key%06d\tvalue number %d\n", $1, $1 }' | cambium load a.cmb --tsv -m loaded 2>/dev/null
    cambium tag a.cmb create v1
    cambium branch a.cmb create other
    head -c 3000000 /dev/zero | tr '\0' z | cambium put a.cmb key002500/large -b other -m large
    cambium put a.cmb key000001 changed
}

# The first node of a tree at a level: _node REV LEVEL
_node() { cambium inspect a.cmb tree "$1" --json | sed -n "s/^{\"address\": \([0-9]*\), \"level\": $2,.*/\1/p" | head -n 1; }

a_whole_image_is_clean_at_every_level() {
    _image
    for level in --quick --structure --full ''; do
        # shellcheck disable=SC2086 # none or one
        expect 0 unchanged a.cmb cambium fsck a.cmb $level
        out_has 'a.cmb: clean: '
    done
    expect 0 cambium fsck a.cmb --full --json
    [ "$(wc -l <out)" -eq 1 ] || _fail 'not one line'
    out_has '{"result": "clean", "findings": 0, "superblocks": 4, '
}

an_empty_image_is_clean() {
    cambium init a.cmb
    expect 0 cambium fsck a.cmb --full
    out_has 'a.cmb: clean: '
}

a_damaged_leaf_is_found_with_refs_and_keys() {
    _image
    leaf=$(_node v1 0)
    flip a.cmb $(($(place a.cmb "$leaf") + 100))
    expect 4 unchanged a.cmb cambium fsck a.cmb --full
    out_has "leaf-damaged: node at $leaf: "
    out_has "leaf-damaged: node at $leaf: its content is "
    out_has '; hurts heads/main, heads/other, tags/v1, keys "" to "key00'
    out_has 'a.cmb: DAMAGED: '
    expect 4 cambium fsck a.cmb --full --redact
    ! grep -q 'key00\|other\|v1' out || _fail 'a name or a key is shown'
    out_has '; hurts heads/#'
    expect 0 cambium fsck a.cmb --structure
    expect 3 cambium dump a.cmb --at v1
    error_is 'cambium: a.cmb: the image is damaged: '
    ! grep -q DATA=END out || _fail 'the dump looks whole'
}

a_damaged_inner_node_is_found_without_reading_leaves() {
    _image
    node=$(_node v1 1)
    flip a.cmb $(($(place a.cmb "$node") + 60))
    expect 4 cambium fsck a.cmb
    out_has "node-damaged: node at $node: "
    expect 4 cambium fsck a.cmb --json
    out_has '{"finding": "node-damaged", "error": "CMB_ECORRUPT", "address": '"$node"', '
    expect 3 cambium stat a.cmb
    error_is 'cambium: a.cmb: the image is damaged: '
    expect 3 cambium inspect a.cmb tree v1
    error_is 'cambium: a.cmb: the image is damaged: '
}

a_damaged_large_value_is_found_with_its_key() {
    _image
    chunk=$(cambium inspect a.cmb log --records --json | sed -n 's/^{"record": "chunk", "address": \([0-9]*\),.*/\1/p' | sed -n 2p)
    flip a.cmb $(($(place a.cmb "$chunk") + 5000))
    expect 0 cambium fsck a.cmb --structure
    expect 4 cambium fsck a.cmb --full
    out_has 'value-damaged: '
    out_has 'heads/other, key "key002500/large"'
    expect 3 cambium get a.cmb key002500/large -b other
}

a_damaged_commit_is_found_at_once() {
    _image
    commit=$(cambium inspect a.cmb log --records --json | sed -n 's/^{"record": "commit", "address": \([0-9]*\),.*/\1/p' | sed -n 1p)
    flip a.cmb $(($(place a.cmb "$commit") + 30))
    for level in --quick --structure --full; do
        expect 4 cambium fsck a.cmb $level
        out_has 'commit-damaged: '
        out_has 'hurts '
    done
}

one_damaged_superblock_is_found_and_does_no_harm() {
    _image
    newest=$(cambium inspect a.cmb super --json |
        sed -n 's/^{"slot": "\([0-9]\)".*"generation": "\([0-9]*\)".*/\2 \1/p' | sort -n | tail -n 1 | cut -d ' ' -f 2)
    flip a.cmb $((newest * 1048576 + 40))
    expect 4 cambium fsck a.cmb --quick
    out_has "superblock-damaged: superblock $newest at "
    expect 0 cambium get a.cmb key000001
    expect 0 cambium inspect a.cmb super
    out_has 'valid: no'
}

a_damaged_superblock_is_mended_when_asked_for() {
    _image
    cp a.cmb whole.cmb
    newest=$(cambium inspect a.cmb super --json |
        sed -n 's/^{"slot": "\([0-9]\)".*"generation": "\([0-9]*\)".*/\2 \1/p' | sort -n | tail -n 1 | cut -d ' ' -f 2)
    flip a.cmb $((newest * 1048576 + 40))
    expect 1 cambium fsck a.cmb --quick --repair
    out_has 'a.cmb: 1 copies of the superblock were written again'
    out_has 'a.cmb: repaired: '
    cmp a.cmb whole.cmb || _fail 'it is not as it was'
    expect 0 unchanged a.cmb cambium fsck a.cmb --full --repair
    flip a.cmb $((newest * 1048576 + 40))
    commit=$(cambium inspect a.cmb log --records --json | sed -n 's/^{"record": "commit", "address": \([0-9]*\),.*/\1/p' | sed -n 1p)
    flip a.cmb $(($(place a.cmb "$commit") + 30))
    expect 5 cambium fsck a.cmb --repair --json
    out_has '"mended": 1,'
    out_has '{"result": "damaged", '
}

an_image_without_superblocks_is_not_run_on() {
    _image
    for slot in 0 1 2 3; do dd if=/dev/zero of=a.cmb bs=4096 count=1 seek=$((slot * 256)) conv=notrunc 2>/dev/null; done
    expect 8 cambium fsck a.cmb
    error_is 'cambium: a.cmb: not a Cambium image'
    expect 3 cambium inspect a.cmb super
}

fsck_works_beside_a_live_writer() {
    _image
    mkfifo pipe
    "$CAMBIUM" put a.cmb live <pipe &
    writer=$!
    exec 3>pipe
    head -c 100000 /dev/zero >&3
    expect 0 cambium fsck a.cmb --full
    exec 3>&-
    wait $writer
    expect 0 cambium fsck a.cmb --full
}

stat_counts_what_is_there() {
    _image
    expect 0 unchanged a.cmb cambium stat a.cmb --json
    for text in '"branches": 2,' '"tags": 1,' '"commits": 2,' '"values": 1,' '"node_size": 1024,'; do out_has "$text"; done
    expect 0 cambium stat a.cmb --segments
    out_has 'amplification '
    grep -q '^ *[0-9][0-9]* *[0-9][0-9]*  plain ' out || _fail 'no segments'
    expect 0 cambium stat a.cmb --segments --json
    out_has '"segments": [{"logical": '
    if command -v jq >/dev/null 2>&1; then
        jq -e '.live_bytes == .leaf_bytes + .node_bytes + .value_bytes + .commit_bytes + .ref_bytes' out >/dev/null || _fail parts
        jq -e '([.segments[] | select(.kind != "meta") | .live_bytes] | add) == .live_bytes' out >/dev/null || _fail segments
    fi
}

inspect_shows_each_layer() {
    _image
    for view in super log segments 'tree main' 'log --records' 'tree main v1 --depth 2'; do
        # shellcheck disable=SC2086 # a list of words
        expect 0 unchanged a.cmb cambium inspect a.cmb $view
        [ -s out ] || _fail "$view shows nothing"
        # shellcheck disable=SC2086 # a list of words
        expect 0 cambium inspect a.cmb $view --json
        ! command -v jq >/dev/null 2>&1 || jq . out >/dev/null || _fail "$view: no JSON"
    done
    expect 1 cambium inspect a.cmb log --segment 9999
    expect 1 cambium inspect a.cmb tree none
}

inspect_takes_records_apart() {
    _image
    expect 0 cambium inspect a.cmb node "$(_node v1 0)"
    out_has 'kind     leaf'
    out_has 'key000001	value number 1'
    expect 0 cambium inspect a.cmb node "$(_node v1 1)"
    out_has 'kind     node'
    commit=$(cambium inspect a.cmb log --records --json | sed -n 's/^{"record": "commit", "address": \([0-9]*\),.*/\1/p' | sed -n 1p)
    expect 0 cambium inspect a.cmb node "$(printf '0x%x' "$commit")"
    out_has 'kind     commit'
    out_has 'check    right'
    expect 2 cambium inspect a.cmb node 17
    expect 2 cambium inspect a.cmb node x
    expect 3 cambium inspect a.cmb node 160000000000
}

pictures_show_shared_nodes_once() {
    _image
    expect 0 cambium inspect a.cmb tree main v1 --dot
    out_has 'digraph cambium {'
    [ "$(sed -n 's/^  \(n[0-9]*\) \[.*/\1/p' out | sort | uniq -d | wc -l)" -eq 0 ] || _fail 'a node stands twice'
    ! command -v dot >/dev/null 2>&1 || dot -Tsvg out >/dev/null || _fail 'dot does not read it'
}
