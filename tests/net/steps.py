# SPDX-License-Identifier: Apache-2.0
"""Runs one xdpprobe command and breaks it off just before its n-th step on an interface.

    python -m tests.net.steps N|STEP kill|interrupt tcx|clsact COMMAND...

A step is a system call or netlink request by which an attach or detach changes what the next one
finds: pins, links, filters, table elements. Counting begins where the first interface comes in.
STEP is a step's name: the first one of that name, wherever it comes.
Exit code: KILLED, or the command's own (130: interrupted).
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xdpprobe import cli, clsact, detach, links, placement, syscall
from xdpprobe.tables import Tables

KILLED = 9
_STEPS = (
    (syscall, ("pin", "update", "create_link", "update_link", "detach_link")),
    (clsact, ("ensure_qdisc", "put", "remove", "remove_empty_qdisc")),
    (Path, ("mkdir", "rename", "unlink")),
    (Tables, ("clear_names",)),
)


class _Countdown:
    def __init__(self, until: str, kill: bool) -> None:
        self._until, self._kill = until, kill
        self._left = int(until) if until.isdecimal() else 1
        self.running = False

    def step(self, function: Callable[..., Any]) -> Callable[..., Any]:
        named = function.__name__ == self._until

        def counted(*arguments: Any, **words: Any) -> Any:
            if named or (self.running and self._until.isdecimal()):
                self._left -= 1
                if not self._left and self._kill:
                    os._exit(KILLED)
                if not self._left:
                    signal.raise_signal(signal.SIGINT)
            return function(*arguments, **words)

        return counted

    def beginning(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def begun(*arguments: Any, **words: Any) -> Any:
            self.running = True
            return function(*arguments, **words)

        return begun


def _main(until: str, how: str, tc: str, *command: str) -> int:
    countdown = _Countdown(until, how == "kill")
    for owner, names in _STEPS:
        for name in names:
            setattr(owner, name, countdown.step(getattr(owner, name)))
    for owner, name in ((placement.Placement, "__init__"), (detach, "_detach_here")):
        setattr(owner, name, countdown.beginning(getattr(owner, name)))
    if tc == "clsact":
        setattr(links, "use_clsact", lambda: True)  # noqa: B010 (a kernel before 6.6)
    return cli.main(command)


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
