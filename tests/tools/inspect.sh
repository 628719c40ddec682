# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# inspect.sh: records taken apart, pictures, and images that do not open.

_image() {
    expect 0 cambium init a.cmb --node-size 1024
    i=0
    while [ $i -lt 400 ]; do
        printf 'key%04d\tvalue number %d\n' $i $i
        i=$((i + 1))
    done >pairs
    expect 0 cambium load a.cmb --tsv -m 'first ring' -a ada pairs
    expect 0 cambium tag a.cmb create v1 main
    expect 0 cambium branch a.cmb create feature main
    expect 0 cambium put a.cmb -b feature key0000 changed -m second
}

# The address of the last record of a kind.
_record() { cambium inspect a.cmb log --records | sed -n "s/^  $1 *\([0-9]*\) .*/\1/p" | tail -n 1; }

a_picture_shows_a_shared_node_once_in_the_colours_of_both_branches() {
    _image
    expect 0 cambium inspect a.cmb tree main feature --dot
    cp out both.dot
    [ "$(sort both.dot | uniq -d | grep -c label)" -eq 0 ] || _fail 'a node stands twice'
    nodes=$(grep -c 'B at' both.dot)
    shared=$(grep -c 'style="striped", fillcolor="#8dd3c7:#fdb462"' both.dot)
    mine=$(grep 'B at' both.dot | grep -c 'fillcolor="#8dd3c7"')
    theirs=$(grep 'B at' both.dot | grep -c 'fillcolor="#fdb462"')
    [ "$nodes" -eq $((shared + mine + theirs)) ] || _fail 'nodes without a colour'
    [ "$mine" -eq "$theirs" ] || _fail 'one path differs'
    [ "$shared" -gt "$mine" ] || _fail 'most of it is shared'
    ! command -v dot >/dev/null 2>&1 || dot -Tsvg both.dot >/dev/null || _fail 'dot does not read it'
    expect 0 cambium inspect a.cmb tree main --dot --limit 3
    [ "$(grep -c 'B at' out)" -eq 3 ] || _fail 'more than 3 nodes'
    out_has 'subtrees are left out'
    expect 2 cambium inspect a.cmb tree main --dot --limit 0
}

records_are_taken_apart() {
    _image
    expect 0 cambium inspect a.cmb node "$(_record commit)"
    out_has "id       $(cambium rev-parse a.cmb feature)"
    out_has "parent   $(cambium rev-parse a.cmb main)"
    out_has 'message  second'
    expect 0 cambium inspect a.cmb node "$(_record edits)"
    out_has 'set     commits  '
    out_has 'set     refs     heads/feature'
    expect 0 cambium inspect a.cmb node "$(_record root)"
    out_has 'table    refs'
    expect 0 cambium inspect a.cmb node "$(_record segments)"
    out_has 'checkpoint root at '
}

an_image_without_superblocks_shows_what_lies_on_the_device() {
    _image
    commit=$(_record commit)
    frames=$(cambium inspect a.cmb log | grep -c '^frame')
    for slot in 0 1 2 3; do
        dd if=/dev/zero of=a.cmb bs=1048576 seek=$slot count=1 conv=notrunc 2>/dev/null
    done
    expect 0 cambium inspect a.cmb node "$commit"
    out_has 'message  second'
    error_has 'the log does not open'
    expect 3 cambium inspect a.cmb log
    [ "$(grep -c '^frame' out)" -ge "$frames" ] || _fail 'frames are missing'
    expect 3 cambium inspect a.cmb segments
    expect 3 cambium inspect a.cmb super
}
