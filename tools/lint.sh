#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Style and types. Runs every check even when one fails, says for each what came of it, and ends
# with 1 when any failed.
set -uo pipefail

cd "$(dirname "$0")/.."
failed=0

# check NAME COMMAND...: the command's output is shown only where it fails.
check() {
	local name=$1 output
	shift
	if output=$("$@" 2>&1); then
		printf 'lint: %-13s ok\n' "$name"
	else
		printf '%s\nlint: %-13s FAILED (%s)\n' "$output" "$name" "$*"
		failed=1
	fi
}

# No cache of ruff: one that root left would end the next run without root.
check "ruff check" .venv/bin/ruff check --no-cache .
check "ruff format" .venv/bin/ruff format --no-cache --check .
check "mypy" .venv/bin/mypy --strict -p xdpprobe
check "clang-format" clang-format --dry-run -Werror --ferror-limit=1 bpf/*.h bpf/*.c
exit $failed
