# SPDX-License-Identifier: ISC
# shellcheck shell=sh
# lib.sh: what the scripts of tests of the command line share. Each test runs with set -eu in an empty directory.

# The command line under test.
cambium() { "$CAMBIUM" "$@"; }

_fail() {
    echo "FAILED: $*"
    [ ! -s err ] || sed 's/^/stderr: /' err
    exit 1
}

_skip() {
    echo "$*"
    exit 77
}

_need() { command -v "$1" >/dev/null 2>&1 || _skip "$1 is not installed"; }

# expect STATUS COMMAND...: runs it; out and err hold what it wrote.
expect() {
    _want=$1
    shift
    _got=0
    "$@" >out 2>err || _got=$?
    [ "$_got" -eq "$_want" ] || _fail "status $_got instead of $_want: $*"
}

# The last command's error is one line that begins as given.
error_is() {
    [ "$(wc -l <err)" -eq 1 ] || _fail "not one line of error"
    case $(cat err) in
    "$1"*) ;;
    *) _fail "the error does not begin with: $1" ;;
    esac
}

error_has() { grep -qF -- "$1" err || _fail "the error does not say: $1"; }
out_has() { grep -qF -- "$1" out || { sed 's/^/stdout: /' out; _fail "the output does not say: $1"; }; }

# The last command's output is exactly the arguments, a line each.
out_is() {
    if [ $# -eq 0 ]; then
        : >want
    else
        printf '%s\n' "$@" >want
    fi
    cmp -s want out || { diff want out || true; _fail "another output"; }
}

same() { cmp "$1" "$2" || _fail "$1 and $2 differ"; }
_sum() { cksum <"$1"; }

# unchanged IMAGE COMMAND...: the command leaves the image's bytes as they are; its status is passed on.
unchanged() {
    _image=$1
    shift
    _before=$(_sum "$_image")
    _status=0
    "$@" || _status=$?
    [ "$(_sum "$_image")" = "$_before" ] || _fail "$_image has changed: $*"
    return $_status
}

# Bytes that do not compress or repeat: random N
random() { head -c "$1" /dev/urandom; }

# flip FILE OFFSET: changes one byte.
flip() {
    _byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    # shellcheck disable=SC2059 # the format is the byte
    printf "\\$(printf '%03o' $(((_byte + 1) % 256)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

# place IMAGE ADDRESS: the offset in the file of a logical address.
place() {
    _size=$(cambium inspect "$1" super --json | sed -n 's/.*"valid": "yes".*"segment-size": "\([0-9]*\)".*/\1/p' | head -n 1)
    _segment=$(($2 / _size))
    _physical=$(cambium inspect "$1" segments --json | sed -n "s/.*\"logical\": $_segment, \"physical\": \([0-9]*\),.*/\1/p")
    echo $((_physical * _size + $2 % _size))
}

# peak_under MIB COMMAND...: runs it, with standard input as it is, and looks at how much memory of its own it takes.
peak_under() {
    _limit=$(($1 * 1024))
    shift
    [ -r /proc/self/status ] || _skip 'there is no /proc'
    ! grep -q __asan_init "$CAMBIUM" || _skip 'AddressSanitizer takes memory of its own'
    exec 4<&0
    "$@" <&4 >out 2>err &
    _pid=$!
    exec 4<&-
    _peak=0
    while [ -r /proc/$_pid/status ]; do
        _now=$(sed -n 's/^RssAnon:[^0-9]*\([0-9]*\).*/\1/p' /proc/$_pid/status 2>/dev/null || true)
        [ "${_now:-0}" -le "$_peak" ] || _peak=$_now
        sleep 0.01
    done
    wait $_pid || _fail "status $?: $*"
    [ "$_peak" -lt "$_limit" ] || _fail "$_peak KiB: $*"
}
