#!/bin/sh
# SPDX-License-Identifier: ISC
# What the core asks of whoever links it: every symbol that its objects leave undefined is in allowed.txt.
# usage: undefined.sh ALLOWED ARCHIVE...
# The core: btree, log, store, and of io what works without an operating system, with the Xen front end.
set -eu
allowed=$1
shift
# Of io: the operating system's part, which a port replaces.
platform='os_posix file file_io file_lock file_map posix uring trace xen_linux xen_loopback xen_loopback_open xen_loopback_store xen_back xen_back_ring'

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
for archive in "$@"; do
    nm -A "$archive"
done >"$tmp/all"
for part in $platform; do
    printf '[:/]%s\\.c\\.o:\n' "$part"
done >"$tmp/platform"
grep -vf "$tmp/platform" "$tmp/all" >"$tmp/core"
if grep -qE ' __([at]san|gcov)_' "$tmp/core"; then
    echo 'a build with sanitizers or counters asks for what they need: skipped'
    exit 77
fi
grep -c . "$tmp/core" >/dev/null # some objects there are
sed -nE 's/^.* U ([^ ]+)$/\1/p' "$tmp/core" | sed 's/@.*//' | sort -u >"$tmp/undefined"
sed -nE 's/^.*[0-9a-f]+ [A-TV-Zuvw] ([^ ]+)$/\1/p' "$tmp/core" | sort -u >"$tmp/defined"
comm -23 "$tmp/undefined" "$tmp/defined" >"$tmp/asked"
sed 's/#.*//' "$allowed" | tr -s ' ' '\n' | grep . | sort -u >"$tmp/allowed"
bad=$(comm -23 "$tmp/asked" "$tmp/allowed")
for symbol in $bad; do
    echo "$symbol: asked for by $(sed -nE "s/^.*[:\/]([a-z0-9_]+\.c)\.o: +U $symbol(@.*)?\$/\1/p" "$tmp/core" | sort -u | tr '\n' ' ')"
done
[ -z "$bad" ] || exit 1
echo "the core asks for $(wc -l <"$tmp/asked") symbols, all of them allowed"
