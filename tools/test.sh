#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# All that has to hold before a change lands: lint, then every test. What cannot run here is named
# with its reason; pytest's own closing lines come last.
set -uo pipefail

cd "$(dirname "$0")/.."
status=0

tools/lint.sh || status=1
if [ "$(id -u)" -ne 0 ]; then
	echo "test: not root: tests/bpf and tests/net are left out; all of it runs by: sudo make test"
fi
# -r: failures, errors and skips are listed with their reasons at the end. No cache: one that root
# left would be in the way of the next run without root.
pytest=(.venv/bin/python -m pytest --no-header -p no:cacheprovider -r fEs --durations 5)
# In two halves, one a processor: most of tests/net, and all the rest. What waits more than it
# computes (test_b*) is in the rest. The first half is shown after the second.
half='tests/net/test_[ac-p]*.py'
later=$(mktemp)
trap 'rm -f "$later"' EXIT
set -m # else it would ignore SIGINT, and all that it starts
# shellcheck disable=SC2086
"${pytest[@]}" $half >"$later" 2>&1 </dev/null &
beside=$!
set +m
trap 'kill -INT -- -$beside 2>/dev/null; wait $beside; exit 130' INT TERM
"${pytest[@]}" tests --ignore-glob="$half" || status=1
wait $beside || status=1
cat "$later"
[ $status -eq 0 ] || echo "test: FAILED"
exit $status
