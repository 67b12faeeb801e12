#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Install what `make vm-test` needs beside `make setup`, for these kernels if any is given. What is
# there already is skipped.
set -euo pipefail

packages="busybox-static cpio kmod procps qemu-system-x86 squashfs-tools xz-utils zstd"
[[ $* != *-arm64* ]] || packages+=" qemu-system-arm"

# shellcheck disable=SC2086
missing=$(comm -23 <(printf '%s\n' $packages | sort) \
	<(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null |
		sed -n 's/^installed //p' | sort -u))
[ -n "$missing" ] || exit 0
missing=${missing//$'\n'/ }
[ "$(id -u)" -eq 0 ] || {
	echo "vm-test: root is needed to install: $missing; run: sudo make vm-test" >&2
	exit 1
}
echo "vm-test: installing system packages: $missing" >&2
apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get install --yes -qq --no-install-recommends $missing >&2
