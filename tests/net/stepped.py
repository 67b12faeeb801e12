# SPDX-License-Identifier: Apache-2.0
"""Runs one xdpprobe command in a process whose wall clock has been stepped.

    python -m tests.net.stepped SECONDS COMMAND...

The machine's own clock stays as it is; the kernel has no namespace for this one.
"""

import sys
import time

from xdpprobe import cli


def _main(seconds: str, *command: str) -> int:
    by, now, now_ns = int(seconds), time.time, time.time_ns
    time.time = lambda: now() + by
    time.time_ns = lambda: now_ns() + by * 1_000_000_000
    return cli.main(command)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
