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
.venv/bin/python -m pytest --no-header -p no:cacheprovider -r fEs tests || status=1
[ $status -eq 0 ] || echo "test: FAILED"
exit $status
