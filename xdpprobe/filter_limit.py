# SPDX-License-Identifier: Apache-2.0
"""How long a filter may take. A regular expression can try ways without end to match one name.

Python's `re` looks for signals while it matches, so a timer of the process's own CPU time stops it
wherever it is, whatever the expression looks like. Signals reach the main thread only: on any
other a filter runs without a limit.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xdpprobe.errors import UsageError

# A million names take an ordinary expression less than one second.
SECONDS = 3.0


def _stop(*_: Any) -> None:
    raise UsageError(
        f"filter: its regular expressions take more than {SECONDS:g} s on the names there are",
        "write them without repeats inside of repeats such as (a+)+, and with fewer .*",
    )


@contextmanager
def limited() -> Iterator[None]:
    """Ends what runs inside with a UsageError once it has used SECONDS of CPU time."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before or signal.SIG_DFL)
