# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# load and dump: the portable format of LMDB and Berkeley DB, and lines of text.

# Pairs with all kinds of bytes, none of them a backslash, which mdb_dump 0.9.24 does not double: _pairs N
_pairs() {
    awk -v n="$1" 'BEGIN {
        print "VERSION=3"; print "format=print"; print "type=btree"; print "mapsize=100000000"; print "HEADER=END"
        for (i = 0; i < n; i++) {
            printf " key %06d\\00\\ff\n", (i * 7919) % n
            printf " value %d\\0a", i
            for (j = 0; j < i % 50; j++) printf "\\%02x~", (i * j) % 92
            printf "\n"
        }
        print "DATA=END" }'
}

_data() { sed '1,/^HEADER=END$/d' "$1"; }

what_mdb_dump_wrote_is_loaded_and_dumped_byte_for_byte() {
    _need mdb_load
    _pairs 3000 >pairs
    mdb_load -n -f pairs a.mdb
    cambium init a.cmb
    for format in bytevalue print; do
        [ $format = print ] && option=-p || option=
        # shellcheck disable=SC2086 # none or one
        mdb_dump $option -n a.mdb >theirs
        cambium load a.cmb theirs 2>report -b main
        grep -q '^3,000 entries, ' report || _fail "$(cat report)"
        cambium dump a.cmb --format $format >ours
        _data theirs >theirs.data
        _data ours >ours.data
        same theirs.data ours.data
    done
}

what_is_dumped_is_loaded_by_mdb_load() {
    _need mdb_load
    cambium init a.cmb
    {
        _pairs 2000 | sed '$d'
        printf ' back\\\\slash\n \\\\\\\\n\n large\n '
        head -c 3000000 /dev/zero | tr '\0' x
        printf '\nDATA=END\n'
    } | cambium load a.cmb 2>/dev/null
    for format in bytevalue print; do
        rm -f b.mdb b.mdb-lock
        cambium dump a.cmb --format $format | mdb_load -n b.mdb
        mdb_dump -n b.mdb >theirs
        cambium dump a.cmb >ours
        _data theirs >theirs.data
        _data ours >ours.data
        same theirs.data ours.data
    done
}

what_is_dumped_is_loaded_by_db_load() {
    _db_load=
    for name in db_load db5.3_load; do
        if command -v $name >/dev/null 2>&1; then _db_load=$name; fi
    done
    [ -n "$_db_load" ] || _skip 'db_load is not installed'
    cambium init a.cmb
    _pairs 1000 | cambium load a.cmb 2>/dev/null
    cambium dump a.cmb --berkeley | $_db_load b.db
    ${_db_load%load}dump b.db >theirs
    cambium dump a.cmb >ours
    _data theirs >theirs.data
    _data ours >ours.data
    same theirs.data ours.data
}

lines_of_text_come_back_as_they_were() {
    cambium init a.cmb
    printf 'a\\tb\t\\x00\\n\\\\\nb\tcaf\303\251\nc\t\\xff\nd\t\n' >lines
    cambium load a.cmb --tsv lines 2>/dev/null
    cambium dump a.cmb --tsv out
    same lines out
    cambium dump a.cmb --tsv | cambium load a.cmb -b main --tsv - -m again 2>/dev/null
    cambium scan a.cmb >out
    same lines out
}

loading_again_makes_the_same_root() {
    cambium init a.cmb
    cambium init b.cmb
    _pairs 2000 | cambium load a.cmb 2>/dev/null
    cambium dump a.cmb --format print | cambium load b.cmb 2>/dev/null
    [ "$(cambium rev-parse a.cmb 'main^{root}')" = "$(cambium rev-parse b.cmb 'main^{root}')" ] || _fail 'other roots'
}

a_load_adds_and_overwrites_and_makes_one_commit() {
    cambium init a.cmb
    cambium put a.cmb a old -m one
    printf 'b\tnew\na\tnew\n' | cambium load a.cmb --tsv -m 'a load' --json >out
    grep -q '^{"entries": 2, "bytes": 8, "seconds": [0-9.]*, "commit": "[0-9a-f]*"}$' out || _fail "$(cat out)"
    expect 0 cambium scan a.cmb
    out_is 'a	new' 'b	new'
    expect 0 cambium log a.cmb --oneline
    [ "$(wc -l <out)" -eq 2 ] || _fail 'not two commits'
}

a_load_goes_to_the_branch_that_is_named() {
    cambium init a.cmb
    cambium branch a.cmb create other --empty
    printf 'k\tv\n' | cambium load a.cmb --tsv -b other 2>/dev/null
    expect 0 cambium scan a.cmb
    out_is
    expect 0 cambium scan a.cmb -b other
    out_is 'k	v'
}

large_values_pass_through_loads_and_dumps() {
    cambium init a.cmb
    cambium init b.cmb
    random 5000000 >value
    cambium put a.cmb large <value
    cambium dump a.cmb | cambium load b.cmb 2>/dev/null
    cambium get b.cmb large >got
    same value got
    cambium dump a.cmb --tsv | cambium load b.cmb --tsv 2>/dev/null
    cambium get b.cmb large >got
    same value got
    cambium dump a.cmb --format print | cambium load b.cmb 2>/dev/null
    cambium get b.cmb large >got
    same value got
}

a_long_load_and_its_dump_take_bounded_memory() {
    cambium init a.cmb
    seq -w 1 2000000 | sed 's/.*/key&\tvalue number &/' | peak_under 128 "$CAMBIUM" load a.cmb --tsv
    peak_under 64 "$CAMBIUM" dump a.cmb
    [ "$(cambium scan a.cmb --count)" -eq 2000000 ] || _fail 'another count'
}

an_older_state_is_dumped_as_it_was() {
    cambium init a.cmb
    cambium put a.cmb k 1 -m one
    cambium put a.cmb k 2 -m two
    expect 0 cambium dump a.cmb --at main~1 --format print --berkeley
    out_is VERSION=3 format=print type=btree db_pagesize=4096 HEADER=END ' k' ' 1' DATA=END
}
