#!/bin/sh
# SPDX-License-Identifier: ISC
# usage: run.sh CAMBIUM SCRIPT [TEST]
# Runs every function of SCRIPT whose name does not begin with an underscore (or TEST alone), each in a directory of its own, and
# reports in TAP: the function's name is the sentence that it proves. A function that returns 77 is skipped; it says why in its
# last line of output. FORGE in the environment is the program made from forge.c.
set -u
CAMBIUM=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
script=$(cd "$(dirname "$2")" && pwd)/$(basename "$2")
only=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/cambium-test.XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$scratch"
unset CAMBIUM_AUTHOR
export CAMBIUM LC_ALL=C USER=tester TZ=UTC

names=$(sed -n 's/^\([a-z][a-z0-9_]*\)() *{*$/\1/p' "$script")
[ -z "$only" ] || names=$only
# shellcheck disable=SC2086 # a list of words
set -- $names
echo "1..$#"
n=0
for name in "$@"; do
    n=$((n + 1))
    mkdir "$scratch/$name"
    (
        cd "$scratch/$name" || exit 1
        set -eu
        # shellcheck source=tests/tools/lib.sh
        . "$here/lib.sh"
        # shellcheck disable=SC1090 # the script that was given
        . "$script"
        "$name"
    ) >"$scratch/log" 2>&1 </dev/null
    status=$?
    sentence=$(echo "$name" | tr _ ' ')
    case $status in
    0) echo "ok $n - $sentence" ;;
    77) echo "ok $n - $sentence # SKIP $(tail -n 1 "$scratch/log")" ;;
    *)
        echo "not ok $n - $sentence"
        sed 's/^/# /' "$scratch/log"
        ;;
    esac
    rm -rf "${scratch:?}/$name"
done
