# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# damage.sh: what named damage does, with checks as they were and with checks made right again.

_image() {
    expect 0 cambium init a.cmb --node-size 1024
    i=0
    while [ $i -lt 300 ]; do
        printf 'key%04d\tvalue number %d\n' $i $i
        i=$((i + 1))
    done >pairs
    expect 0 cambium load a.cmb --tsv -m first pairs
}

a_superblock_of_another_version_is_damage_until_its_check_is_right() {
    _image
    expect 0 "$DAMAGE" a.cmb super:0.version 9
    out_is "$(cambium inspect a.cmb super | sed -n 's/^version: //p' | sed -n 2p)"
    expect 0 cambium inspect a.cmb super
    out_has 'wrong check'
    expect 0 "$DAMAGE" a.cmb super:0.version 9 --mend
    expect 0 cambium inspect a.cmb super
    out_has 'format version 9'
}

a_node_that_lies_about_its_entries_is_found_behind_right_checks() {
    _image
    leaf=$(cambium inspect a.cmb tree main | sed -n 's/^ *leaf \([0-9]*\) .*/\1/p' | sed -n 2p)
    expect 0 "$DAMAGE" a.cmb "node:$leaf.entries" 7 --mend
    expect 3 cambium inspect a.cmb node "$leaf"
    expect 4 cambium fsck a.cmb --full
    expect 1 cambium salvage a.cmb b.cmb
    out_has 'keys-lost: heads/main'
}

a_frame_of_the_future_is_named() {
    _image
    frame=$(cambium inspect a.cmb log | sed -n 's/^frame *\([0-9]*\) .*/\1/p' | head -n 1)
    expect 0 "$DAMAGE" a.cmb "frame:$frame.durable" 0xffff
    expect 3 cambium inspect a.cmb log
    out_has "DAMAGED  $frame"
}
