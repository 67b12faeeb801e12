#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Install what `make bench` needs beside `make setup`. What is there already is skipped.
set -euo pipefail

cd "$(dirname "$0")/.."

packages="iperf3 tcpdump"
matplotlib=3.11.2 # draws docs/performance-*.svg

say() { printf 'bench: %s\n' "$*" >&2; }

# shellcheck disable=SC2086
missing=$(comm -23 <(printf '%s\n' $packages | sort) \
	<(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null |
		sed -n 's/^installed //p' | sort -u))
if [ -n "$missing" ]; then
	missing=${missing//$'\n'/ }
	[ "$(id -u)" -eq 0 ] || {
		say "root is needed to install: $missing; run: sudo make bench"
		exit 1
	}
	say "installing system packages: $missing"
	apt-get update -qq
	# shellcheck disable=SC2086
	DEBIAN_FRONTEND=noninteractive \
		apt-get install --yes -qq --no-install-recommends $missing >&2
fi

.venv/bin/python -c "import sys, importlib.metadata as m; sys.exit(m.version('matplotlib') != '$matplotlib')" \
	2>/dev/null || {
	say "installing matplotlib $matplotlib into .venv"
	.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		-c requirements-ci.txt "matplotlib==$matplotlib" >&2
}
