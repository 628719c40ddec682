#!/bin/sh
# SPDX-License-Identifier: ISC
# usage: readme.sh BUILD-DIRECTORY README.md
# Installs the build into a temporary root, compiles README.md's C program with what pkg-config says, and runs it.
set -eu
for tool in meson pkg-config; do
    command -v $tool >/dev/null || { echo "$tool is not installed"; exit 77; }
done
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' "$2" >"$dir/example.c"
[ -s "$dir/example.c" ] || { echo "README.md has no C program"; exit 99; }

DESTDIR=$dir/root meson install -C "$1" --no-rebuild --quiet
PKG_CONFIG_LIBDIR=$(dirname "$(find "$dir/root" -name cambium.pc)")
PKG_CONFIG_SYSROOT_DIR=$dir/root
export PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR
libdir=$dir/root$(pkg-config --variable=libdir cambium | sed "s#^$dir/root##")

# shellcheck disable=SC2046,SC2086 # both are lists of words
${CC:-cc} -std=c11 -Wall -Wextra -Werror "$dir/example.c" -o "$dir/example" $(pkg-config --cflags --libs cambium)
cd "$dir"
LD_LIBRARY_PATH=$libdir ./example | tee out
[ -s out ] || { echo "the program printed nothing"; exit 1; }
