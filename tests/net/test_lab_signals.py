# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C at any moment: what the lab was making just then is removed too."""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import Any

import pytest

from tests.net.remains import remains
from xdpprobe.lab.namespaces import Network
from xdpprobe.lab.orderly import orderly


class At:
    """Sends this process SIGINT before the Nth line that it runs in some functions."""

    def __init__(self, number: int, functions: set[str]) -> None:
        self.left, self._functions = number, functions

    def __enter__(self) -> "At":
        sys.settrace(self._call)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_qualname in self._functions else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        self.left -= event == "line"
        if not self.left:
            sys.settrace(None)
            os.kill(os.getpid(), signal.SIGINT)
        return self._line


def made(network: Network, moment: At) -> None:
    """Makes one of each with which a signal could get away, under `moment`."""
    with orderly(network), moment:
        space = network.add("a")
        network.mount_bpffs()
        network.start(space, "sleep", "60")


STARTING = {"Popen.__init__", "Popen._execute_child", "Network.add", "Network.start"}


def test_ctrl_c_at_any_line_leaves_nothing() -> None:
    """Also between a child's start and the line that knows of it."""
    number = 1
    while True:
        moment = At(number, STARTING)
        with suppress(KeyboardInterrupt):
            made(Network(), moment)
        # No child that nobody waited for, and that may still make something.
        with pytest.raises(ChildProcessError):
            os.wait()
        assert remains(os.getpid()) == [], f"line {number}"
        if moment.left > 0:
            break
        number += 1
    assert number > 50
