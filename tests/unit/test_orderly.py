# SPDX-License-Identifier: Apache-2.0
"""A signal ends the block, never the set-up or the removal, and is never lost."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import pytest

from xdpprobe.lab.orderly import SIGNALS, deferred, orderly

CODES = {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGHUP: 128 + signal.SIGHUP}


@contextmanager
def ended(number: int) -> Iterator[None]:
    """The block must end as `number` ends it."""
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as caught:
        yield
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == CODES[signal.Signals(number)]


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("step", ["block", "set-up", "removal"])
def test_a_signal_ends_it_after_a_whole_removal(number: int, step: str) -> None:
    log: list[str] = []

    @contextmanager
    def reraising() -> Iterator[None]:
        log.append("set-up begins")
        if step == "set-up":
            os.kill(os.getpid(), number)
        log.append("set-up ends")
        try:
            yield
        finally:
            log.append("removal begins")
            if step == "removal":
                os.kill(os.getpid(), number)
            log.append("removal ends")

    with ended(number), orderly(reraising()):
        if step == "block":
            os.kill(os.getpid(), number)
        log.append("block ends")
    whole = ["set-up begins", "set-up ends", "block ends", "removal begins", "removal ends"]
    if step != "removal":
        whole.remove("block ends")
    assert log == whole


def test_the_second_signal_does_not_end_the_removal() -> None:
    log: list[str] = []

    @contextmanager
    def slow() -> Iterator[None]:
        try:
            yield
        finally:
            os.kill(os.getpid(), signal.SIGINT)
            log.append("removed")

    with ended(signal.SIGTERM), orderly(slow()):
        os.kill(os.getpid(), signal.SIGTERM)
    assert log == ["removed"]


def test_a_deferred_signal_comes_when_the_inner_block_is_done() -> None:
    log: list[str] = []
    with ended(signal.SIGTERM), orderly(nullcontext()):
        with deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            log.append("inner block ends")
        log.append("not reached")
    assert log == ["inner block ends"]


def test_a_deferring_block_in_another_or_in_the_removal_lets_nothing_through() -> None:
    log: list[str] = []

    @contextmanager
    def removing() -> Iterator[None]:
        yield
        with deferred():
            os.kill(os.getpid(), signal.SIGINT)
        log.append("removed")

    with ended(signal.SIGTERM), orderly(removing()), deferred():
        with deferred():
            os.kill(os.getpid(), signal.SIGTERM)
        log.append("outer block ends")
    assert log == ["outer block ends"]

    log.clear()
    with ended(signal.SIGINT), orderly(removing()):
        pass
    assert log == ["removed"]


def test_a_deferring_block_that_fails_lets_signals_through_again() -> None:
    with ended(signal.SIGTERM), orderly(nullcontext()):
        with suppress(ValueError), deferred():
            raise ValueError
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("not reached")


def test_handlers_are_as_before_afterwards() -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    with orderly(nullcontext()):
        assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    assert {number: signal.getsignal(number) for number in SIGNALS} == before
