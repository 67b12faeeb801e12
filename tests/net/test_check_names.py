# SPDX-License-Identifier: Apache-2.0
"""Real clients of all kinds, each connection to a host of its own: all are named right."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CONNECTIONS = 40


def test_every_connection_has_its_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.check_names", "--connections", str(CONNECTIONS)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    made, right = done.stdout.splitlines()[-1].split()[1:3]
    assert int(made) == int(right) >= CONNECTIONS // 2
