#!/bin/sh
# SPDX-License-Identifier: ISC
# usage: exports.sh SHARED-LIBRARY STATIC-LIBRARY HEADER-DIRECTORY
# The shared library exports exactly the functions that the public headers mark with CMB_API; the static one
# defines no global symbol outside the prefix cmb_.
set -u
command -v nm >/dev/null || { echo "nm is not installed (binutils)"; exit 77; }
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT

# The prototypes are the statements that begin with CMB_API; a comment may follow on the same line.
cat "$3"/*.h | tr '\n' ' ' | grep -oE 'CMB_API [^;({]*[ *](cmb_[a-z0-9_]+)\(' |
    sed -E 's/.*[ *](cmb_[a-z0-9_]+)\($/\1/' | LC_ALL=C sort -u >"$dir/declared"
nm -D --defined-only "$1" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | LC_ALL=C sort -u >"$dir/exported"
if [ ! -s "$dir/declared" ] || [ ! -s "$dir/exported" ]; then echo "nothing to compare"; exit 99; fi

bad=0
grep -v '^cmb_' "$dir/exported" >"$dir/foreign" && { echo "exported, but not ours:"; cat "$dir/foreign"; bad=1; }
LC_ALL=C comm -23 "$dir/declared" "$dir/exported" >"$dir/missing"
[ -s "$dir/missing" ] && { echo "declared in a public header, but not exported:"; cat "$dir/missing"; bad=1; }
LC_ALL=C comm -13 "$dir/declared" "$dir/exported" >"$dir/private"
[ -s "$dir/private" ] && { echo "exported, but in no public header:"; cat "$dir/private"; bad=1; }
nm -g --defined-only "$2" 2>/dev/null | awk 'NF == 3 && $2 ~ /^[TDBRC]$/ && $3 !~ /^(cmb_|__asan|__odr|__sanitizer)/ { print $3 }' >"$dir/static"
[ -s "$dir/static" ] && { echo "global in the static library without the prefix cmb_:"; cat "$dir/static"; bad=1; }
echo "$(wc -l <"$dir/exported") functions exported"
exit $bad
