#!/bin/sh
# SPDX-License-Identifier: ISC
# Arrows go one way: io <- log <- btree <- store <- tools, and only io/ may include a header of the
# operating system. usage: arrows.sh SOURCE-ROOT
set -u
cd "$1" || exit 99
bad=0

# forbid ROOM PATTERN WHY: no line `#include` in ROOM may match PATTERN.
forbid()
{
    found=$(grep -nE "^[[:space:]]*#[[:space:]]*include[[:space:]]*$2" "$1"/*.h "$1"/*.c 2>/dev/null)
    [ -z "$found" ] && return
    printf '%s (%s):\n%s\n' "$1/ $3" "see the picture in CONTRIBUTING.md" "$found"
    bad=1
}

forbid io '"(log|btree|store|tools)/' 'includes a room above it'
forbid log '"(btree|store|tools)/' 'includes a room above it'
forbid btree '"(store|tools)/' 'includes a room above it'
forbid store '"tools/' 'includes a room above it'

# What C11 promises without an operating system, and the pieces of the C library that work on memory alone.
free='(assert|float|inttypes|iso646|limits|stdalign|stdarg|stdatomic|stdbool|stddef|stdint|stdio|stdnoreturn|string|immintrin|emmintrin|arm_neon)\.h>'
for room in log btree store; do
    found=$(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*<' "$room"/*.h "$room"/*.c 2>/dev/null |
        grep -vE "<(cambium/[a-z]+\.h>|$free)" |
        grep -vE '^store/mergefn_json\.c:[0-9]+:#include <jansson\.h>$') # a feature that a unikernel builds without
    [ -z "$found" ] && continue
    printf '%s/ includes a header of the operating system:\n%s\n' "$room" "$found"
    bad=1
done
exit $bad
