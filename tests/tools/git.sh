# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# import-git and export-git, with git itself as the judge.

_export_options='--all --signed-tags=verbatim --tag-of-filtered-object=abort --reencode=no --mark-tags'

_need_git() {
    _need git
    export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 HOME="$PWD"
}

_fast_export() {
    _repo=$1
    shift
    # shellcheck disable=SC2086 # a list of words
    git -C "$_repo" fast-export $_export_options "$@"
}

# round_trip REPO [OPTION...]: through an image and back; `copy` and `image` are what comes out, `git` what git makes of the stream itself.
_round_trip() {
    rm -rf copy git image stream back
    _fast_export "$@" >stream
    cambium init image
    expect 0 cambium import-git image stream --marks marks
    expect 0 cambium export-git image back
    for _name in copy git; do
        git init -q --bare $_name
    done
    git -C copy fast-import --quiet <back || _fail 'git does not take what was exported'
    git -C git fast-import --quiet --date-format=raw-permissive <stream
    git -C copy fsck --no-dangling 2>/dev/null >/dev/null || true
    git -C copy show-ref >copy.refs || true
    git -C git show-ref >git.refs || true
    git -C "$1" show-ref >own.refs || true
    diff git.refs copy.refs || _fail 'other refs than git makes of its own stream'
    expect 0 cambium fsck image --full
}

# What git loses itself would hide what is lost here.
_same_as_original() {
    diff own.refs copy.refs || _fail 'other refs than in the repository'
}

# tree NAME=MODE:TYPE:HASH...: the name may have \ooo escapes of printf's %b.
_tree() {
    for _entry in "$@"; do
        _rest=${_entry#*=}
        _mode=${_rest%%:*}
        _rest=${_rest#*:}
        printf '%s %s %s\t%b\000' "$_mode" "${_rest%%:*}" "${_rest#*:}" "${_entry%%=*}"
    done | git mktree -z --missing
}

_blob() { printf '%b' "$1" | git hash-object -w --stdin; }

_clock=1000000000
# commit TREE MESSAGE PARENT...: `who`, `by`, `zone` and `extra` may say more.
_commit() {
    _tree=$1 _message=$2
    shift 2
    _clock=$((_clock + 97))
    {
        echo "tree $_tree"
        [ $# -eq 0 ] || printf 'parent %s\n' "$@"
        printf 'author %b %s %s\n' "${who:-A U Thor <author@example.org>}" "$((_clock - 5))" "${zone:-+0100}"
        printf 'committer %b %s %s\n' "${by:-C O Mitter <committer@example.org>}" "$_clock" "${zone:-+0100}"
        printf '%b' "${extra:-}\n"
        printf '%b' "$_message"
    } | git hash-object -t commit -w --stdin --literally
}

# tag TARGET TYPE NAME TAGGER MESSAGE
_tag() {
    {
        printf 'object %s\ntype %s\ntag %s\n' "$1" "$2" "$3"
        [ -z "$4" ] || printf 'tagger %s 1234567890 -0330\n' "$4"
        printf '\n%b' "$5"
    } | git hash-object -t tag -w --stdin --literally
}

# A repository with everything that git keeps and that a stream can say. With the argument "kinds" files become directories as well:
# git 2.39 loses those directories in its own streams, unless each commit gives its full tree.
_odd_repository() {
    git init -q --bare -b main odd
    cd odd || exit 1
    plain=$(_blob 'plain\n') empty=$(_blob '') latin=$(_blob 'caf\0351\n')
    exact=$(head -c 1024 /dev/zero | tr '\0' a | git hash-object -w --stdin)
    over=$(head -c 1025 /dev/zero | tr '\0' b | git hash-object -w --stdin)
    large=$(seq 1 60000 | git hash-object -w --stdin)
    huge=$(seq 1 900000 | git hash-object -w --stdin)
    target=$(_blob 'some/where') zero=$(_blob 'a\0000b\n\n')
    sub=1234567890123456789012345678901234567890
    none=$(_tree)
    flat=$(_tree "a=100644:blob:$plain" "b=100755:blob:$plain" "c=120000:blob:$target" "d=160000:commit:$sub" "e=100644:blob:$empty")
    deep=$(_tree "x=040000:tree:$flat" "y=100644:blob:$large" "z!=100644:blob:$exact" "z=040000:tree:$flat" "z0=100644:blob:$over")
    odd=$(_tree "a b=100644:blob:$plain" "new\nline=100644:blob:$plain" 'quote\0042d'"=100755:blob:$plain" "back\\\\slash=100644:blob:$zero" \
        "tab\tbed=120000:blob:$target" "\0377\0376=100644:blob:$latin" "caf\0303\0251=100755:blob:$latin" "-dash=100644:blob:$empty" \
        "~=100644:blob:$plain" " =100644:blob:$plain" "\0001=100644:blob:$plain" "deep=040000:tree:$deep" "#=100644:blob:$huge")
    c1=$(_commit "$none" '')
    c2=$(_commit "$flat" 'flat' "$c1")
    # modes and kinds change, with and without the content
    changed=$(_tree "a=100755:blob:$plain" "b=120000:blob:$plain" "c=100644:blob:$target" "d=100644:blob:$empty")
    if [ "${1:-}" = kinds ]; then
        changed=$(_tree "a=100644:blob:$plain" "b=040000:tree:$flat" "c=040000:tree:$changed" "d=040000:tree:$flat" "e=040000:tree:$flat")
    fi
    c3=$(_commit "$changed" 'modes\n\nand kinds\n\n\n' "$c2")
    c4=$(_commit "$flat" '\n\n leading lines and no end' "$c3")
    c5=$(_commit "$odd" 'odd' "$c4")
    swapped=$(_tree "a c=040000:tree:$flat" "deep=100644:blob:$plain" "z=040000:tree:$deep")
    c6=$(_commit "$swapped" 'directories and files' "$c5")
    c7=$(_commit "$none" 'all gone' "$c6")
    c8=$(_commit "$none" 'nothing again' "$c7")
    c9=$(zone=+1345 by='C <c@example.org>' _commit "$deep" 'deep' "$c8")
    c10=$(zone=-0000 who=' <nameless@example.org>' _commit "$deep" 'no name' "$c9")
    c11=$(zone=-1200 who=' <>' by='Caf\0303\0251 <caf\0303\0251@example.org>' _commit "$odd" 'nobody' "$c10")
    c12=$(extra='encoding ISO-8859-1\n' who='J\0366rg <j@example.org>' _commit "$flat" 'caf\0351\n' "$c11")
    # two that cross each other, and merges of many
    left=$(_commit "$deep" 'left' "$c12") right=$(_commit "$odd" 'right' "$c12")
    l2=$(_commit "$odd" 'left took right' "$left" "$right") r2=$(_commit "$deep" 'right took left' "$right" "$left")
    l3=$(_commit "$deep" 'criss' "$l2" "$r2") r3=$(_commit "$odd" 'cross' "$r2" "$l2")
    side=''
    for i in 1 2 3 4 5 6 7; do
        side="$side $(_commit "$(_tree "f$i=100644:blob:$plain" "g=040000:tree:$flat")" "side $i" "$c12")"
    done
    # shellcheck disable=SC2086 # a list of words
    octopus=$(_commit "$odd" 'octopus' "$l3" "$r3" $side)
    root=$(_commit "$flat" 'another root')
    joined=$(_commit "$deep" 'two roots' "$octopus" "$root")
    git update-ref refs/heads/main "$joined"
    git update-ref refs/heads/old "$c4"
    git update-ref refs/heads/dir/ec/tory "$l3"
    git update-ref refs/heads/refs/heads/main "$r3"
    git update-ref refs/heads/worktrees/x "$r2"
    git update-ref refs/notes/commits "$(_commit "$(_tree "$c1=100644:blob:$plain")" 'Notes' )"
    git update-ref refs/stash "$(_commit "$odd" 'WIP' "$l2" "$r2")"
    git update-ref refs/pull/1/head "$root"
    git update-ref refs/tags/light "$c5"
    git update-ref refs/tags/alone "$(_commit "$flat" 'only a tag' "$c3")"
    git update-ref refs/tags/v1 "$(_tag "$c9" commit v1 'T Agger <tagger@example.org>' 'version 1\n')"
    git update-ref refs/tags/same "$(_tag "$c9" commit same 'T Agger <tagger@example.org>' '')"
    git update-ref refs/tags/signed "$(_tag "$joined" commit signed 'T <t@example.org>' \
        'signed\n-----BEGIN PGP SIGNATURE-----\n\nabc=\n-----END PGP SIGNATURE-----\n')"
    git update-ref refs/tags/nobody "$(_tag "$c2" commit nobody '' 'no tagger\n')"
    git update-ref refs/tags/only "$(_tag "$(_commit "$odd" 'under a tag' "$c2")" commit only 'T <t@example.org>' 'x\n')"
    git update-ref refs/tags/content "$(_tag "$huge" blob content 'T <t@example.org>' 'a blob\n')"
    git update-ref refs/tags/small "$(_tag "$plain" blob small 'T <t@example.org>' 'a small blob\n')"
    cd .. || exit 1
}

every_branch_and_tag_of_an_odd_repository_comes_back_the_same() {
    _need_git
    _odd_repository
    _round_trip odd
    _same_as_original
}

what_was_imported_reads_as_keys_and_values() {
    _need_git
    _odd_repository
    _round_trip odd
    cambium get image 'deep/x/a' -b refs/heads/refs/heads/main >out
    out_is plain
    expect 0 cambium get image '#' -b refs/stash
    git -C odd cat-file blob "refs/stash:#" >want
    same want out
    expect 0 cambium get image blob --at small
    out_is plain
    expect 0 cambium get image "$(printf 'new\nline')" -b refs/stash
    out_is plain
}

a_stream_read_twice_changes_nothing() {
    _need_git
    _odd_repository
    _round_trip odd
    _before=$(cambium branch image list --json)
    expect 0 cambium import-git image stream --json
    out_has "\"known\": $(grep -c '^commit ' stream)"
    [ "$(cambium branch image list --json)" = "$_before" ] || _fail 'branches have moved'
}

renames_and_copies_are_what_they_stand_for() {
    _need_git
    git init -q --bare odd
    cd odd || exit
    one=$(seq 1 200 | git hash-object -w --stdin) two=$(seq 200 500 | git hash-object -w --stdin)
    three=$(seq 200 501 | git hash-object -w --stdin)
    first=$(_tree "a=100644:blob:$one" "b b=100755:blob:$two" "d=040000:tree:$(_tree "x=100755:blob:$three")")
    second=$(_tree "a2=100644:blob:$one" "b b=100755:blob:$two" "copy \0042=100755:blob:$two" "e=040000:tree:$(_tree "y=100755:blob:$two")")
    third=$(_tree "a3=100755:blob:$one" "new=100755:blob:$three" "newer=100644:blob:$two" "e=040000:tree:$(_tree "a=100644:blob:$one")")
    c=$(_commit "$third" 3 "$(_commit "$second" 2 "$(_commit "$first" 1)")")
    git update-ref refs/heads/main "$c"
    cd ..
    _round_trip odd
    _fast_export odd -M -C --find-copies-harder >renames
    grep -q '^R ' renames || _fail 'no rename in the stream'
    grep -q '^C ' renames || _fail 'no copy in the stream'
    cambium init renamed
    expect 0 cambium import-git renamed renames
    cambium branch image list --json >want
    cambium branch renamed list --json >out
    same want out
}

a_full_tree_in_every_commit_is_what_it_stands_for() {
    _need_git
    _odd_repository
    _round_trip odd
    _fast_export odd --full-tree >full
    cambium init full.cmb
    expect 0 cambium import-git full.cmb full
    cambium branch image list --json >want
    cambium branch full.cmb list --json >out
    same want out
}

files_that_become_directories_come_back_the_same() {
    _need_git
    _odd_repository kinds
    _round_trip odd --full-tree
    _same_as_original
}

a_history_of_an_image_becomes_one_of_git() {
    _need_git
    cambium init image
    cambium put image dir/a one -m 'first' -a 'Ada <ada@example.org>'
    cambium put image b two -m 'second' -a 'grace'
    cambium branch image create side main~1
    cambium put image c three -b side -m 'third'
    cambium tag image create v1 main
    cambium put image later x
    expect 0 cambium export-git image stream
    grep -q 'working state' err || _fail 'nothing is said of the working state'
    git init -q --bare copy
    git -C copy fast-import --quiet <stream
    git -C copy log --format='%an <%ae> %s' main >out
    out_is 'grace <> second' 'Ada <ada@example.org> first'
    [ "$(git -C copy show main:dir/a)" = one ] || _fail 'another content'
    [ "$(git -C copy rev-parse v1)" = "$(git -C copy rev-parse main)" ] || _fail 'the tag stands elsewhere'
    git -C copy ls-tree -r --name-only side >out
    out_is c dir/a
}

# refused TEXT STREAM: with status 4, and the image as it was.
_refused() {
    printf '%b' "$2" >stream
    unchanged image expect 4 cambium import-git image stream || _fail "not refused: $2"
    error_has "$1"
}

malformed_streams_name_their_line_and_change_nothing() {
    cambium init image
    cambium put image key value -m one
    _c='commit refs/heads/x\nmark :1\ncommitter A <a> 1 +0000\n'
    _refused 'line 1 (byte 0): ' 'commot refs/heads/x\n'
    _refused 'line 4 (byte 52): ' "${_c}"'date 0\n'
    _refused 'line 4 (byte 52): ' "${_c}"'data 10\nshort'
    _refused 'line 4 ' "${_c}"'data 99999999999999999999999\n'
    _refused 'line 4 ' "${_c}"'data <<END\nno end\n'
    _refused 'line 5 ' "${_c}"'data 0\nfrom :9\n'
    _refused 'line 5 ' "${_c}"'data 0\nfrom refs/heads/none\n'
    _refused 'line 5 ' "${_c}"'data 0\nM 100644 :7 a\n'
    _refused 'line 5 ' "${_c}"'data 0\nM 100645 inline a\ndata 0\n'
    _refused 'line 5 ' "${_c}"'data 0\nM 100644 0123456789012345678901234567890123456789 a\n'
    _refused 'line 5 ' "${_c}"'data 0\nM 040000 0123456789012345678901234567890123456789 a\n'
    _refused 'line 5 ' "${_c}"'data 0\nM 100644 inline a//b\ndata 0\n'
    _refused 'line 5 ' "${_c}"'data 0\nM 100644 inline "a\n'
    _refused 'line 5 ' "${_c}"'data 0\nM 100644 inline "a\\000b"\n'
    _refused 'line 5 ' "${_c}"'data 0\nR a b\n'
    _refused 'line 5 ' "${_c}"'data 0\nN inline :1\n'
    _refused 'line 5 ' "${_c}"'data 0\nls a\n'
    _refused 'line 7 ' "${_c}"'data 3\na\n\nM 100644 :7 a\n'
    _refused 'line 2 ' 'commit refs/heads/x\ncommitter nobody\ndata 0\n'
    _refused 'line 2 ' 'commit refs/heads/x\ndata 0\n'
    _refused 'line 1 ' 'commit trunk\n'
    _refused 'line 1 ' 'commit refs/heads/a..b\n'
    _refused 'line 1 ' 'reset refs/tags/\n'
    _refused 'line 2 ' 'blob\nmark :0\ndata 0\n'
    _refused 'line 2 ' 'tag x\nfrom :1\ndata 0\n'
    _refused 'line 1 ' 'feature import-marks=x\n'
    _refused 'done' 'feature done\nblob\ndata 0\n'
    long=$(head -c 16380 /dev/zero | tr '\0' p)
    _refused 'line 5 ' "${_c}data 0\nM 100644 inline $long\ndata 0\n"
}

a_cut_stream_changes_nothing() {
    _need_git
    _odd_repository
    _fast_export odd --use-done-feature >stream
    cambium init image
    _size=$(wc -c <stream)
    cambium put image key value -m one
    cambium stat image --json >before
    for _cut in 1 20 30 100 1000 5000 $((_size / 2)) $((_size - 6)); do
        head -c "$_cut" stream >./cut
        expect 4 cambium import-git image cut
        error_has 'line '
        cambium branch image list >out
        grep -q '^main ' out && [ "$(wc -l <out)" -eq 1 ] || _fail "cut at $_cut: something is visible"
        expect 0 cambium fsck image --full
    done
    expect 5 cambium import-git image stream
    expect 0 cambium import-git image stream --force
}

a_branch_moves_forward_only_unless_forced() {
    cambium init image
    _stream='commit refs/heads/main\ncommitter A <a> 1 +0000\ndata 3\none\nM 644 inline a\ndata 1\na\n'
    printf "%b" "$_stream" >first
    printf "%b" "${_stream}\ncommit refs/heads/main\ncommitter A <a> 2 +0000\ndata 3\ntwo\nD a\n" >second
    printf "%b" "reset refs/heads/main\ncommit refs/heads/main\ncommitter A <a> 3 +0000\ndata 3\nnew\n" >other
    expect 0 cambium import-git image first
    expect 0 cambium import-git image second
    unchanged image expect 5 cambium import-git image other
    error_has 'heads/main'
    unchanged image expect 5 cambium import-git image first
    expect 0 cambium import-git image other --force
    expect 0 cambium log image main
    out_has new
    cambium put image k v
    unchanged image expect 5 cambium import-git image other
    error_has 'working state'
    printf 'commit refs/heads/main\ncommitter A <a> 9 +0000\ndata 1\nx\nfrom refs/heads/main^0\n' >on
    unchanged image expect 5 cambium import-git image on
    expect 0 cambium import-git image on --force
    expect 0 cambium log image main
    out_has new
}

all_words_of_streams_are_understood() {
    _need_git
    cat >stream <<'STREAM'
feature done
feature date-format=raw
option git quiet
# a comment
progress hello
blob
mark :1
original-oid 0123456789012345678901234567890123456789
data <<EOF
delimited

EOF

blob
data 4
lost
checkpoint

commit refs/heads/main
mark :2
original-oid 1123456789012345678901234567890123456789
author A <a@b> 5 +0000
committer C <c@d> 7 -0730
data <<.
message
.
M 644 :1 "one \"two\"\ttab\012\303\251"
M 755 inline dir/file
data 5
12345M 120000 inline dir/sub/link
data 4
file
M 100644 :1 dir/sub/other

alias
mark :3
to :2

commit refs/heads/main
mark :4
committer C <c@d> 8 +0000
data 0
from :3
R dir/sub moved
C moved moved/again
C dir/file moved
C "" whole
D whole/dir

reset refs/heads/topic
from :3

commit refs/heads/topic
committer C <c@d> 9 +0000
data 1
t
merge :4
deleteall
M 040000 4b825dc642cb6eb9a060e54bf8d69288fbee4904 nothing
M 644 inline a/b
data 0
M 644 inline a
data 0
M 644 inline a/c
data 0

reset refs/heads/gone
from :2
reset refs/heads/gone
from 0000000000000000000000000000000000000000

tag t
mark :9
from :4
data 3
tagtag u
from :9
tagger T <t@u> 3 +0000
data 0
reset refs/tags/light
from refs/heads/main
done
what follows is not read
STREAM
    cambium init image
    expect 0 cambium import-git image stream
    expect 0 cambium export-git image back
    for name in git copy; do git init -q --bare $name; done
    git -C git fast-import --quiet <stream
    git -C copy fast-import --quiet <back
    git -C git show-ref >want
    git -C copy show-ref >out
    same want out
    git -C copy ls-tree -r --name-only topic >out
    out_is a/c
}

tags_of_tags_come_back_the_same() {
    _need_git
    printf '%s\n' 'commit refs/heads/main' 'mark :1' 'committer A <a> 1 +0000' 'data 0' \
        'tag inner' 'mark :2' 'from :1' 'tagger T <t> 1 +0000' 'data 2' i 'tag outer' 'mark :3' 'from :2' 'data 0' \
        'tag another' 'from :2' 'data 0' 'tag above' 'from :3' 'tagger T <t> 2 +0000' 'data 0' >stream
    cambium init image
    expect 0 cambium import-git image stream
    expect 0 cambium export-git image back
    for name in git copy; do git init -q --bare $name; done
    git -C git fast-import --quiet <stream
    git -C copy fast-import --quiet <back
    git -C git show-ref >want
    git -C copy show-ref >out
    same want out
}

tags_that_git_names_alike_come_in_and_go_out() {
    _need_git
    printf '%s\n' 'commit refs/heads/main' 'mark :1' 'committer A <a> 1 +0000' 'data 0' \
        'tag outer' 'mark :2' 'from :1' 'data 2' i 'tag outer' 'mark :3' 'from :2' 'data 2' o \
        'tag outer' 'mark :4' 'from :3' 'data 3' oo >stream
    cambium init image
    expect 0 cambium import-git image stream
    expect 0 cambium export-git image back
    git init -q --bare copy
    git -C copy fast-import --quiet <back
    git -C copy cat-file tag "$(git -C copy rev-parse outer)" >out
    out_has 'type tag'
    [ "$(git -C copy rev-parse 'outer^{commit}')" = "$(git -C copy rev-parse main)" ] || _fail 'it leads elsewhere'
}

what_git_does_not_keep_in_a_stream_is_kept_all_the_same() {
    cambium init image
    printf '%b' 'commit refs/heads/main\nmark :1\nauthor A <a> 18446744073709551615 +051800\ncommitter A <a> 0 +0000\nencoding x\n' \
        'data 5\na\0000b\n\n' 'tag v\nfrom :1\ntagger T <t> 1 +9999\ndata 3\n\0000x\n' >stream
    expect 0 cambium import-git image stream
    expect 0 cambium export-git image back
    grep -q '^feature date-format=raw-permissive$' back || _fail 'git is not told to be permissive'
    for line in 'author A <a> 18446744073709551615 +051800' 'encoding x' 'tagger T <t> 1 +9999'; do
        grep -qaxF "$line" back || _fail "lost: $line"
    done
    [ "$(tr -cd '\0' <back | wc -c)" -eq 2 ] || _fail 'zero bytes of messages are lost'
    cambium init again
    expect 0 cambium import-git again back
    cambium rev-parse image main >want
    cambium rev-parse again main >out
    same want out
}

signatures_of_commits_are_kept() {
    cambium init image
    printf 'commit refs/heads/main\nmark :1\ncommitter A <a> 0 +0000\ngpgsig sha1 openpgp\ndata 9\nsignature\ndata 1\nm\n' >stream
    expect 0 cambium import-git image stream
    expect 0 cambium export-git image back
    grep -A2 '^gpgsig sha1 openpgp$' back >out
    out_is 'gpgsig sha1 openpgp' 'data 9' signature
}

keys_that_are_no_paths_are_named() {
    cambium init image
    cambium put image a x -m one
    cambium put image a/b x -m two
    expect 4 cambium export-git image stream
    error_has "'a/b'"
    cambium init second
    cambium put second a//b x -m one
    expect 4 cambium export-git second stream
    error_has "'a//b'"
}

this_project_comes_back_the_same() {
    _need_git
    # shellcheck disable=SC2154 # run.sh sets it
    _repo=$(git -C "$(dirname "$script")" rev-parse --show-toplevel 2>/dev/null) || _skip 'the sources are in no repository of git'
    git clone -q --bare --no-local "$_repo" own 2>/dev/null || _skip 'the repository cannot be copied'
    _round_trip own
    _same_as_original
}
