#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Build one BPF object: DIRECTORY/NAME.bpf.o, the only argument, from bpf/NAME.bpf.c.
# The Makefile and the wheel's build (setup.py) both call it, so the flags stand once.
set -euo pipefail

cd "$(dirname "$0")/.."
[ $# -eq 1 ] || { echo "usage: tools/build.sh OBJECT" >&2; exit 2; }
object=$1
source=bpf/$(basename "${object%.o}").c
clang=${CLANG:-clang}

command -v "$clang" >/dev/null || {
	echo "build: $clang not found; install it: apt-get install clang" >&2
	exit 1
}
multiarch=/usr/include/$(uname -m)-linux-gnu # where Debian keeps <asm/types.h>
for header in "$multiarch/asm/types.h" /usr/include/bpf/bpf_helpers.h; do
	[ -e "$header" ] || {
		echo "build: $header not found; install it: apt-get install linux-libc-dev libbpf-dev" >&2
		exit 1
	}
done

mkdir -p "$(dirname "$object")"
# -mcpu=v3: 32-bit jumps and compare-and-swap, known to every kernel that can run this (6.1).
# Callbacks of bpf_loop get parameters that they need not use.
# The prefix map keeps the builder's directory out of the debug information.
"$clang" -target bpf -mcpu=v3 -O2 -g -std=gnu11 \
	-Wall -Wextra -Werror -Wno-unused-parameter -Wshadow -Wimplicit-fallthrough -Wundef -Wvla \
	-Wstrict-prototypes -Wold-style-definition \
	-ffile-prefix-map="$PWD"=. \
	-isystem "$multiarch" -Ibpf \
	-c "$source" -o "$object.new"
mv "$object.new" "$object" # never a half-written object in its place
