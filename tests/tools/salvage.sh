# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# salvage.sh: what can still be read of a damaged image, as people do it.

_image() {
    expect 0 cambium init a.cmb --node-size 1024
    i=0
    while [ $i -lt 400 ]; do
        printf 'key%04d\tvalue number %d\n' $i $i
        i=$((i + 1))
    done >pairs
    expect 0 cambium load a.cmb --tsv -m first pairs
    expect 0 cambium tag a.cmb create v1 main
    expect 0 cambium put a.cmb one more -m second
    expect 0 cambium put a.cmb two 'a working state'
}

_same() {
    for rev in main v1; do
        cambium dump "$1" --at $rev >x
        cambium dump "$2" --at $rev >y
        same x y
        [ "$(cambium rev-parse "$1" "$rev~0")" = "$(cambium rev-parse "$2" "$rev~0")" ] || _fail "$rev is another commit"
    done
}

a_whole_image_comes_out_as_it_was() {
    _image
    unchanged a.cmb expect 0 cambium salvage a.cmb b.cmb
    out_has 'b.cmb: complete: 1 branches, 1 tags, 2 commits'
    _same a.cmb b.cmb
    expect 0 cambium fsck b.cmb --full
}

an_image_without_superblocks_comes_out_as_well() {
    _image
    cp a.cmb broken.cmb
    for slot in 0 1 2 3; do
        dd if=/dev/zero of=broken.cmb bs=1048576 seek=$slot count=1 conv=notrunc 2>/dev/null
    done
    expect 3 cambium log broken.cmb
    expect 1 cambium salvage broken.cmb b.cmb
    out_has 'superblocks-lost: '
    out_has 'state-rebuilt: '
    _same a.cmb b.cmb
}

a_damaged_leaf_is_listed_with_its_keys() {
    _image
    leaf=$(cambium inspect a.cmb tree v1 | sed -n 's/^ *leaf \([0-9]*\) .*/\1/p' | sed -n 3p)
    flip a.cmb $(($(place a.cmb "$leaf") + 60))
    unchanged a.cmb expect 1 cambium salvage a.cmb b.cmb --list lost
    grep -q '^keys-lost: heads/main beyond "key0.*" up to "key0.*": node at ' lost || _fail "no line of main: $(cat lost)"
    grep -q '^keys-lost: tags/v1 ' lost || _fail 'no line of v1'
    grep -q '^commit-changed: commit [0-9a-f]*: it is [0-9a-f]* now$' lost || _fail 'no line of a commit'
    expect 0 cambium fsck b.cmb --full
    expect 0 cambium get b.cmb two
    expect 1 cambium salvage a.cmb c.cmb --json
    grep -q '^{"loss": "keys-lost", "lost": true, "where": "heads/main", "after": "key0' out || _fail 'no object'
    grep -q '^{"result": "lost", ' out || _fail 'no result'
}

what_cannot_run_says_so_by_status_8() {
    expect 8 cambium salvage nothing.cmb b.cmb
    [ ! -e b.cmb ] || _fail 'something was made'
    random 6000000 >noise
    expect 8 cambium salvage noise b.cmb
    _image
    expect 0 cambium init there.cmb
    expect 8 cambium salvage a.cmb there.cmb
    error_is 'cambium: there.cmb: already exists'
    expect 0 cambium salvage a.cmb there.cmb --force
    _same a.cmb there.cmb
}

_refused() { # the image is as it was, and why is said
    unchanged a.cmb expect 8 cambium salvage "$@"
    error_is "cambium: "
    case $(cat err) in
    *'the image itself'* | *'OUT itself'*) ;;
    *) _fail "not the reason: $(cat err)" ;;
    esac
}

the_image_is_not_overwritten_by_whatever_name() {
    _image
    ln a.cmb hard.cmb
    ln -s a.cmb soft.cmb
    for name in a.cmb ./a.cmb hard.cmb soft.cmb 'a.cmb?io=posix' "$PWD/a.cmb"; do
        _refused a.cmb "$name" --force
        _refused a.cmb b.cmb --list "${name%\?*}"
        [ ! -e b.cmb ] || _fail 'something was made'
    done
    _refused a.cmb a.cmb
    _refused a.cmb b.cmb --list b.cmb
    cp a.cmb other.cmb
    ln other.cmb other_too.cmb
    _refused a.cmb other.cmb --force --list other_too.cmb
    same a.cmb other.cmb
    unchanged a.cmb expect 7 cambium dump a.cmb hard.cmb
}

what_is_no_image_leaves_nothing_at_out() {
    random 3000000 >noise
    expect 8 cambium salvage noise b.cmb
    [ ! -e b.cmb ] || _fail 'something was made'
    _image
    expect 0 cambium salvage a.cmb b.cmb
}

wrong_usage_is_status_16() {
    expect 16 cambium salvage a.cmb
    expect 16 cambium salvage a.cmb b.cmb --seed xyz
    expect 16 cambium salvage a.cmb b.cmb --node-size many
}
