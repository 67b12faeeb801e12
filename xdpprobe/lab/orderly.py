# SPDX-License-Identifier: Apache-2.0
"""Something that must be removed again, whatever signal comes and whenever.

Signals are held back by a flag, not by the process's signal mask: threads of libraries (NumPy's
have some) do not share the mask, and would take a signal that Python then acts on here.
"""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn, TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class _Gate:
    """Whether signals are held back, and which one has come meanwhile (0: none)."""

    closed: bool = False
    held: int = 0

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.closed:
            self.held = self.held or number
            return
        self.closed = True  # one is enough: what follows is the removal
        _end(number)

    def open(self) -> None:
        self.closed = False
        if self.held:
            number, self.held, self.closed = self.held, 0, True
            _end(number)


_gate = _Gate()


def _end(number: int) -> NoReturn:
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


@contextmanager
def orderly(resource: AbstractContextManager[T]) -> Iterator[T]:
    """Enter `resource`; SIGINT, SIGTERM and SIGHUP end the block, never its set-up or removal.

    In the block SIGINT raises KeyboardInterrupt and the others SystemExit(128 + number); one that
    came too late for that is raised after the removal. Only the main thread may use it.
    """
    _gate.closed, _gate.held = True, 0
    # SIGINT is set too: a shell starts its background jobs with that signal ignored.
    handlers = {number: signal.signal(number, _gate.handle) for number in SIGNALS}
    try:
        with resource as value:
            try:
                _gate.open()
                yield value
            finally:
                _gate.closed = True
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if _gate.held:
        _end(_gate.held)


@contextmanager
def deferred() -> Iterator[None]:
    """In a block of `orderly`: let signals wait until this inner block is done.

    For calls into C that call back: an exception that a signal raises in a callback is lost. And
    for starting a process: one that a signal cuts off leaves a child that nobody knows. In the
    set-up and the removal, or in another such block, signals go on waiting.
    """
    if _gate.closed:
        yield
        return
    _gate.closed = True
    try:
        yield
    finally:
        _gate.open()
