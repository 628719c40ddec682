# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# ls.

_tree() {
    cambium init a.cmb
    {
        printf 'readme\t12\nsrc/a.c\t1\nsrc/b.c\t123\nsrc/deep/er/x\t1\n'
        printf 'src\t4\nzoo/x\t1\n'
    } | cambium load a.cmb --tsv -m one
}

directories_are_listed_with_their_children() {
    _tree
    expect 0 cambium ls a.cmb
    out_is readme src src/ zoo/
    expect 0 cambium ls a.cmb src
    out_is a.c b.c deep/
    expect 0 cambium ls a.cmb src/deep/
    out_is er/
    expect 0 cambium ls a.cmb src/a.c
    out_is src/a.c
    expect 1 cambium ls a.cmb src/c.c
    error_has 'no key "src/c.c"'
    cambium init empty.cmb
    expect 0 cambium ls empty.cmb
    out_is
}

long_listings_tell_sizes_and_counts() {
    _tree
    expect 0 cambium ls a.cmb -l
    out_is '           2 B  readme' '           1 B  src' '     3 entries  src/' '     1 entry    zoo/'
}

recursive_listings_go_through_all_directories_in_order() {
    _tree
    expect 0 cambium ls a.cmb -R
    out_is '/:' readme src src/ zoo/ '' src/: a.c b.c deep/ '' src/deep/: er/ '' src/deep/er/: x '' zoo/: x
    expect 0 cambium ls a.cmb src/deep -R
    out_is src/deep/: er/ '' src/deep/er/: x
}

json_has_whole_paths() {
    _tree
    expect 0 cambium ls a.cmb --json
    out_is '{"path": "readme", "entry": true, "size": 2, "directory": false}' \
        '{"path": "src", "entry": true, "size": 1, "directory": true, "below": 3}' \
        '{"path": "zoo", "entry": false, "directory": true, "below": 1}'
    expect 0 cambium ls a.cmb src/deep --json -R
    out_is '{"path": "src/deep/er", "entry": false, "directory": true, "below": 1}' \
        '{"path": "src/deep/er/x", "entry": true, "size": 1, "directory": false}'
}

any_state_can_be_listed() {
    _tree
    cambium put a.cmb new/x 1 -m two
    expect 0 cambium ls a.cmb new --at main
    out_is x
    expect 1 cambium ls a.cmb new --at main~1
    cambium branch a.cmb create other --empty
    expect 0 cambium ls a.cmb -b other
    out_is
    expect 2 cambium ls a.cmb -b other --at main
    expect 2 cambium ls a.cmb -l --json
    expect 1 cambium ls a.cmb --at nonsense
}

modes_of_git_images_are_told_and_their_entries_hidden() {
    _tree
    mode() { { printf '\0mode\0%s' "$1"; } | od -An -v -tx1 | tr -d ' \n'; }
    cambium put a.cmb "$(mode src/a.c)" 100755 --hex -m two
    cambium put a.cmb "$(mode zoo/x)" 120000 --hex -m three
    expect 0 cambium ls a.cmb
    out_is readme src src/ zoo/
    expect 0 cambium ls a.cmb -a
    out_is '\x00mode\x00src/' '\x00mode\x00zoo/' readme src src/ zoo/
    expect 0 cambium ls a.cmb src -l
    out_is '100755            1 B  a.c' '100644            3 B  b.c' '040000      1 entry    deep/'
    expect 0 cambium ls a.cmb zoo --json
    out_is '{"path": "zoo/x", "entry": true, "size": 1, "directory": false, "mode": "120000"}'
}

a_wide_tree_is_listed_level_by_level() {
    cambium init a.cmb
    seq 100000 | sed 's/\(.*\)\(..\)$/dir\2\/key\1\tv/' | grep / | cambium load a.cmb --tsv -m one
    expect 0 cambium ls a.cmb -l
    [ "$(wc -l <out)" -eq 100 ] || _fail "$(wc -l <out) lines"
    out_has ' 1,000 entries  dir00/'
}
