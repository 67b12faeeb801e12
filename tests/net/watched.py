# SPDX-License-Identifier: Apache-2.0
"""Processes that a test reads from: none outlives it, and none is waited for without an end."""

import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

DEADLINE = 120.0  # s, of all that a test does with one


@contextmanager
def watched(argv: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """A process, its output and errors in pipes; killed where the test fails or takes too long.

    So that a line which never comes ends a read as the end of the output does: with "".
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True) as child:
        watch = threading.Timer(DEADLINE, child.kill)
        watch.start()
        try:
            yield child
        except BaseException:
            child.kill()
            raise
        finally:
            watch.cancel()
