#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Make a bare Debian machine able to run `make demo` and `make test`: system packages, .venv, the
# Python packages that requirements-ci.txt pins, and xdpprobe itself into .venv. What is there
# already is skipped. Everything it says goes to standard error, one line a step.
set -euo pipefail

cd "$(dirname "$0")/.."

python=/usr/bin/python3 # python3-bpfcc is for this interpreter; `python3` may be another one
venv=.venv
stamps=.setup

# What each is for stands in README.md, "Dependencies".
packages="clang clang-format libbpf1 libbpf-dev linux-libc-dev libelf1
	python3 python3-venv python3-bpfcc
	iproute2 ethtool publicsuffix util-linux mount curl openssl dnsmasq-base bind9-dnsutils openssh-client"

# What one test alone needs, and not every machine wants: make setup BROWSER=1
[ -z "${BROWSER:-}" ] || packages+=" chromium"

say() { printf 'setup: %s\n' "$*" >&2; }

die() {
	printf 'setup: %s\n' "$*" >&2
	exit 1
}

# logged NAME COMMAND...: run quietly; on failure show the last line and where the rest is.
logged() {
	local name=$1 log=$stamps/$1.log
	shift
	"$@" >"$log" 2>&1 ||
		die "$name failed: $(grep -v '^[[:space:]]*$' "$log" | tail -n 1); all of it is in $log"
}

# key FILE...: what a stamp holds: the content of the files, the interpreter and the place.
key() { { cat "$@" && "$python" -VV && pwd; } | sha256sum; }

fresh() { [ -e "$stamps/$1" ] && [ "$(cat "$stamps/$1")" = "$2" ]; }

install_packages() {
	local missing
	command -v dpkg-query >/dev/null ||
		die "this is no Debian; install what these packages have: ${packages//[$'\n\t']/ }"
	# shellcheck disable=SC2086
	missing=$(comm -23 <(printf '%s\n' $packages | sort) \
		<(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $packages 2>/dev/null |
			sed -n 's/^installed //p' | sort -u))
	[ -n "$missing" ] || return 0
	missing=${missing//$'\n'/ }
	[ "$(id -u)" -eq 0 ] || die "root is needed to install: $missing; run: sudo make setup"
	say "installing system packages: $missing"
	logged apt-update apt-get update
	# shellcheck disable=SC2086
	logged apt-install env DEBIAN_FRONTEND=noninteractive \
		apt-get install --yes --no-install-recommends $missing
}

# A virtual environment names its own place and interpreter: one that was moved, or was made by
# another python, or does not see the system's packages, is made anew.
venv_is_good() {
	grep -qs '^include-system-site-packages = true' $venv/pyvenv.cfg &&
		grep -qs "^#!$PWD/$venv/bin/python" $venv/bin/pip &&
		$venv/bin/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
		[ "$($venv/bin/python -VV)" = "$($python -VV)" ]
}

make_venv() {
	venv_is_good && return 0
	"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
		die "$python is $("$python" -V); xdpprobe needs Python 3.11 or newer (Debian 12)"
	say "making $venv"
	logged venv "$python" -m venv --clear --system-site-packages $venv
	rm -f $stamps/requirements $stamps/package
}

install_requirements() {
	local want
	want=$(key requirements-ci.txt)
	fresh requirements "$want" && return 0
	say "installing Python packages into $venv"
	logged pip $venv/bin/python -m pip install --disable-pip-version-check -r requirements-ci.txt
	printf '%s\n' "$want" >$stamps/requirements
}

install_xdpprobe() {
	local want
	want=$(key pyproject.toml setup.py)
	fresh package "$want" && [ -x $venv/bin/xdpprobe ] && return 0
	say "installing xdpprobe into $venv"
	logged package $venv/bin/python -m pip install --disable-pip-version-check \
		--no-deps --no-build-isolation --editable .
	printf '%s\n' "$want" >$stamps/package
}

mkdir -p $stamps 2>/dev/null || die "cannot write to $PWD; run it as the owner, or with sudo"
install_packages
make_venv
install_requirements
install_xdpprobe
