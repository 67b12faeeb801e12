# SPDX-License-Identifier: Apache-2.0
"""`python -m xdpprobe`, and what the console script calls: the command line as a whole process.

What belongs to the process and not to a call of `cli.main` is here: what Ctrl-C does before that
call has begun, and after it is over.
"""

import signal
import sys
from types import TracebackType


def _excepthook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Shows what nobody expected; an interrupt is expected at any instruction."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


def entry() -> int:
    """Runs the command line; returns the exit code for `sys.exit`."""
    sys.excepthook = _excepthook
    try:
        from xdpprobe.cli import main

        code = main()
    except KeyboardInterrupt:  # while modules were read, or a second one while the first was told
        code = 128 + signal.SIGINT  # as shells have it
    # Nothing is left to be undone: a Ctrl-C while Python takes itself down ends the process at
    # once, where it would be an exception in the middle of that, and a traceback.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


if __name__ == "__main__":
    sys.exit(entry())
