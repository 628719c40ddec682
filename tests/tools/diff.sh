# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# diff.

_two_states() {
    cambium init a.cmb
    printf 'a\t1\nb\t2\nc\t3\n' | cambium load a.cmb --tsv -m one
    cambium put a.cmb b 22 -m two
    cambium del a.cmb c -m three
    cambium put a.cmb d 4
}

changes_are_shown_in_key_order() {
    _two_states
    expect 0 cambium diff a.cmb main~3 main
    out_is '-b	2' '+b	22' '-c	3' '+d	4'
    expect 0 cambium diff a.cmb main main~3
    out_is '-b	22' '+b	2' '+c	3' '-d	4'
}

name_status_is_a_letter_a_tab_and_the_key() {
    _two_states
    expect 0 cambium diff a.cmb main~3 main --name-status
    out_is 'M	b' 'D	c' 'A	d'
    cambium put a.cmb "$(printf 'x\ty\\')" v
    expect 0 cambium diff a.cmb main~3 main --name-status --from x
    out_is 'A	x\ty\\'
}

stat_shows_sizes_and_a_total() {
    _two_states
    expect 0 cambium diff a.cmb main~3 main --stat
    out_is 'M        1 B -> 2 B        b' 'D        1 B -> -          c' 'A          - -> 1 B        d' \
        '3 keys changed: 1 added, 1 deleted, 1 modified'
    expect 0 cambium diff a.cmb main main --stat
    out_is
}

json_has_both_sides() {
    _two_states
    expect 0 cambium diff a.cmb main~3 main --json
    out_is '{"status": "M", "key": "b", "before": {"value": "2", "size": 1}, "after": {"value": "22", "size": 2}}' \
        '{"status": "D", "key": "c", "before": {"value": "3", "size": 1}}' \
        '{"status": "A", "key": "d", "after": {"value": "4", "size": 1}}'
}

the_exit_status_says_whether_they_differ_if_it_is_asked() {
    _two_states
    expect 0 cambium diff a.cmb main main
    out_is
    expect 0 cambium diff a.cmb main main --exit-code
    expect 1 cambium diff a.cmb main~1 main --exit-code
    out_is '+d	4'
    expect 1 cambium diff a.cmb main~1 main --quiet
    out_is
    expect 0 cambium diff a.cmb main main --quiet
    expect 0 cambium diff a.cmb main~1 main --quiet --from e
}

ranges_confine_it() {
    _two_states
    expect 0 cambium diff a.cmb main~3 main --name-status --from c
    out_is 'D	c' 'A	d'
    expect 0 cambium diff a.cmb main~3 main --name-status --to c
    out_is 'M	b'
    expect 0 cambium diff a.cmb main~3 main --name-status --prefix 63 --hex
    out_is 'D	c'
}

equal_contents_of_other_histories_do_not_differ() {
    _two_states
    cambium branch a.cmb create other --empty
    printf 'd\t4\nb\t22\na\t1\n' | cambium load a.cmb -b other --tsv
    expect 0 cambium diff a.cmb main other --exit-code
}

large_values_stand_as_their_size_and_in_json_whole() {
    cambium init a.cmb
    head -c 300000 /dev/zero | tr '\0' x >large
    cambium put a.cmb k - -m one <large
    cambium put a.cmb k small -m two
    expect 0 cambium diff a.cmb main~1 main
    out_is '-k	(293.0 KiB)' '+k	small'
    expect 0 cambium diff a.cmb main~1 main --json
    [ "$(grep -o x out | wc -l)" -eq 300000 ] || _fail 'not the whole value'
}

a_large_image_with_a_small_change_is_compared_quickly() {
    cambium init a.cmb
    seq 200000 | sed 's/.*/key&\tvalue &/' | cambium load a.cmb --tsv -m one
    cambium put a.cmb key77777 other -m two
    expect 0 cambium diff a.cmb main~1 main
    out_is '-key77777	value 77777' '+key77777	other'
}

modes_of_git_images_belong_to_their_paths() {
    cambium init a.cmb
    _mode() { printf '%02x' 0; printf 'mode' | od -An -tx1 | tr -d ' \n'; printf '00'; printf '%s' "$1" | od -An -tx1 | tr -d ' \n'; }
    cambium put a.cmb run 1 -m one
    cambium put a.cmb link 1 -m two
    cambium put a.cmb "$(_mode run)" 100755 --hex -m three
    cambium put a.cmb "$(_mode link)" 120000 --hex
    cambium put a.cmb link 2
    cambium put a.cmb new 1
    cambium put a.cmb "$(_mode new)" 100755 --hex
    cambium del a.cmb "$(_mode run)" --hex
    expect 0 cambium diff a.cmb main~1 main --name-status
    out_is 'T	link' 'A	new' 'M	run'
    expect 0 cambium diff a.cmb main~1 main --to r
    out_is '-link	1	(mode 100644)' '+link	2	(mode 120000)' '+new	1	(mode 100755)'
    expect 0 cambium diff a.cmb main~2 main~1 --name-status
    out_is 'M	run'
    expect 0 cambium diff a.cmb main~2 main~1
    out_is '-run	(mode 100644)' '+run	(mode 100755)'
    expect 0 cambium diff a.cmb main~2 main~1 --json
    out_is '{"status": "M", "key": "run", "before": {"mode": "100644"}, "after": {"mode": "100755"}}'
    expect 0 cambium diff a.cmb main~1 main --name-status --prefix n
    out_is 'A	new'
    expect 0 cambium diff a.cmb main~2 main~1 --name-status --raw
    out_is 'A	\x00mode\x00run'
    expect 1 cambium diff a.cmb main~2 main~1 --quiet
}

wrong_usage_is_told() {
    cambium init a.cmb
    expect 2 cambium diff a.cmb main
    expect 2 cambium diff a.cmb main main --stat --json
    error_has 'give one of them'
    expect 1 cambium diff a.cmb main nonsense
    error_has "'nonsense'"
    expect 2 cambium diff a.cmb main main --prefix zz --hex
}
