# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# What goes wrong: named in one line, with its exit status, and the image is as it was.

a_missing_image_is_named_with_status_3() {
    for command in 'get none.cmb k' 'put none.cmb k v' 'scan none.cmb' 'stat none.cmb' 'branch none.cmb' 'log none.cmb' 'dump none.cmb' \
        'inspect none.cmb super' 'inspect none.cmb log'; do
        # shellcheck disable=SC2086 # a list of words
        expect 3 cambium $command
        error_is 'cambium: none.cmb: '
        [ ! -e none.cmb ] || _fail "$command made it"
    done
    expect 8 cambium fsck none.cmb
    error_is 'cambium: none.cmb: '
}

a_foreign_file_is_no_image() {
    seq 1 2000000 >text
    : >empty
    for file in text empty; do
        expect 3 unchanged $file cambium get $file k
        error_is "cambium: $file: not a Cambium image"
        expect 3 unchanged $file cambium put $file k v
        expect 8 unchanged $file cambium fsck $file
        expect 3 cambium inspect $file super
    done
}

a_directory_is_no_image() {
    mkdir dir
    expect 3 cambium get dir k
    error_is 'cambium: dir: '
    expect 2 cambium init dir --force
    error_is 'cambium: dir: '
}

a_short_image_is_refused_and_stays_as_it_is() {
    cambium init a.cmb --size 32M
    cambium put a.cmb k v
    head -c 9000000 a.cmb >short.cmb
    expect 3 unchanged short.cmb cambium get short.cmb k
    error_is 'cambium: short.cmb: the image is damaged'
    error_has shorter
    expect 3 unchanged short.cmb cambium put short.cmb k v
    expect 4 unchanged short.cmb cambium fsck short.cmb
}

an_image_of_a_newer_version_is_refused() {
    cambium init a.cmb
    "$FORGE" a.cmb
    for command in 'get a.cmb k' 'put a.cmb k v' 'stat a.cmb'; do
        # shellcheck disable=SC2086 # a list of words
        expect 3 unchanged a.cmb cambium $command
        error_is 'cambium: a.cmb: the image was made by a newer version: '
    done
    expect 8 cambium fsck a.cmb
    expect 3 cambium inspect a.cmb super
    out_has 'version: 2'
}

a_read_only_file_can_be_read_and_not_written() {
    cambium init a.cmb
    cambium put a.cmb k v
    chmod 444 a.cmb
    set -- "$CAMBIUM"
    if [ "$(id -u)" -eq 0 ]; then
        _need setpriv
        set -- setpriv --reuid 65534 --regid 65534 --clear-groups "$CAMBIUM"
        "$@" --version >/dev/null 2>&1 || _skip 'the command cannot be run without privileges'
    fi
    expect 0 "$@" get a.cmb k
    expect 3 unchanged a.cmb "$@" put a.cmb k w
    error_is 'cambium: a.cmb: permission denied'
}

a_missing_key_is_status_1_and_says_where() {
    cambium init a.cmb
    expect 1 cambium get a.cmb nothing
    error_is 'cambium: a.cmb: not found: no key "nothing" in main'
    [ ! -s out ] || _fail 'there is output'
}

an_unknown_branch_tag_or_commit_is_status_1() {
    cambium init a.cmb
    expect 1 unchanged a.cmb cambium put a.cmb k v -b none
    error_is 'cambium: a.cmb: not found: '
    error_has none
    for rev in none main~3 abcdef12; do
        expect 1 cambium get a.cmb k --at $rev
        error_is 'cambium: a.cmb: not found: '
        error_has "${rev%~*}"
    done
    expect 1 unchanged a.cmb cambium branch a.cmb delete none
    expect 1 unchanged a.cmb cambium tag a.cmb set none main
}

malformed_names_and_revisions_are_status_2() {
    cambium init a.cmb
    cambium put a.cmb k v -m one
    cambium put a.cmb k w -m two
    for name in '' 'a b' 'a..b' '/a' 'a/' 'a.lock' 'x~1' 'x^' 'x:y' '.hidden' '@{x'; do
        expect 2 unchanged a.cmb cambium branch a.cmb create "$name"
        error_is 'cambium: a.cmb: '
    done
    for rev in 'main~x' 'main^{tree}'; do
        expect 2 cambium get a.cmb k --at "$rev"
        error_is 'cambium: a.cmb: '
    done
}

wrong_usage_is_status_2_and_points_to_the_help() {
    expect 2 cambium
    expect 2 cambium frobnicate a.cmb
    error_is 'cambium: frobnicate: no such command'
    expect 2 cambium get
    error_is 'cambium: get: an image is needed (see '
    expect 2 cambium get a.cmb
    expect 2 cambium get a.cmb k x
    error_is 'cambium: get: one operand too many: x'
    expect 2 cambium get a.cmb k --nonsense
    error_is 'cambium: get: unknown option --nonsense'
    expect 2 cambium get a.cmb k -q
    error_is 'cambium: get: unknown option -q'
    expect 2 cambium get a.cmb k --at
    error_is 'cambium: get: option --at needs an argument'
    expect 2 cambium get a.cmb k --hex=1
    expect 2 cambium scan a.cmb --limit ten
    expect 16 cambium fsck
    expect 16 cambium fsck a.cmb --quick --full
    expect 16 cambium fsck a.cmb --threads 0
    expect 2 cambium inspect a.cmb nothing
    expect 2 cambium inspect a.cmb super --dot
    expect 2 cambium branch a.cmb frob x
}

an_unreadable_dump_names_its_line_and_changes_nothing() {
    cambium init a.cmb
    cambium put a.cmb k v
    printf 'VERSION=3\nformat=bytevalue\nHEADER=END\n 61\n 62\n 63\n 6x\nDATA=END\n' >bad
    expect 4 unchanged a.cmb cambium load a.cmb bad
    error_is 'cambium: bad: malformed input: line 7: '
    expect 4 unchanged a.cmb cambium load a.cmb - <bad
    error_is 'cambium: standard input: malformed input: line 7: '
    printf 'a\tb\nc\n' >bad
    expect 4 unchanged a.cmb cambium load a.cmb --tsv bad
    error_is 'cambium: bad: malformed input: line 2: '
    expect 4 unchanged a.cmb cambium load a.cmb missing
    error_is 'cambium: missing: '
    expect 4 unchanged a.cmb cambium load a.cmb .
    expect 4 unchanged a.cmb cambium put a.cmb k --file missing
    expect 0 cambium scan a.cmb
    out_is 'k	v'
}

a_full_fixed_image_says_so_and_goes_on_reading_and_deleting() {
    cambium init a.cmb --size 16M
    cambium put a.cmb first v
    i=0
    while [ $i -lt 64 ]; do
        random 1000000 >value
        status=0
        cambium put a.cmb "k$i" --file value 2>err || status=$?
        [ $status -eq 0 ] || break
        i=$((i + 1))
    done
    [ "$status" -eq 3 ] || _fail "status $status instead of 3"
    error_is 'cambium: a.cmb: no space left in the image'
    expect 0 cambium get a.cmb first
    expect 0 cambium del a.cmb first
    expect 1 cambium get a.cmb first
    expect 0 cambium fsck a.cmb --full
}

a_closed_pipe_is_no_crash() {
    cambium init a.cmb
    seq 1 200000 | awk '{ printf "key%06d\tvalue\n", $1 }' | cambium load a.cmb --tsv 2>/dev/null
    for command in 'scan a.cmb' 'dump a.cmb' 'scan a.cmb --json' 'dump a.cmb --tsv'; do
        # shellcheck disable=SC2086 # a list of words
        { status=0; cambium $command 2>err || status=$?; echo $status >status; } | head -n 1 >out
        [ "$(cat status)" -eq 7 ] || _fail "status $(cat status): $command"
        [ ! -s err ] || _fail "$command says something"
    done
}

an_output_that_cannot_be_written_is_status_7() {
    [ -c /dev/full ] || _skip 'there is no /dev/full'
    cambium init a.cmb
    cambium put a.cmb k v
    status=0
    cambium get a.cmb k >/dev/full 2>err || status=$?
    [ $status -eq 7 ] || _fail "status $status"
    error_is 'cambium: standard output: write: '
    expect 7 cambium dump a.cmb /nonexistent/dump
    error_is 'cambium: /nonexistent/dump: '
}

a_second_writer_is_told_who_holds_the_image() {
    [ -r /proc/locks ] || _skip 'there is no /proc'
    cambium init a.cmb
    mkfifo pipe
    "$CAMBIUM" put a.cmb k <pipe &
    first=$!
    exec 3>pipe
    head -c 200000 /dev/zero >&3 # more than a pipe holds: when it is gone, the image is open
    expect 5 cambium put a.cmb other v
    error_is 'cambium: a.cmb: in use: '
    error_has "$first"
    expect 0 cambium scan a.cmb
    printf v >&3
    exec 3>&-
    wait $first
    expect 0 cambium get a.cmb k
}
