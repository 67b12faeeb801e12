# SPDX-License-Identifier: Apache-2.0
"""Part four: what a user may hand over. Only the project's own errors may come out, soon."""

import contextlib
import io
import itertools
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz.cases import Case
from tests.fuzz.report import Tally
from tests.fuzz.targets import TARGETS, Broken
from xdpprobe.errors import ProbeError

PART = "files"
EXAMPLES = 250  # a round of one target
SECONDS = 10  # that one example may take; a filter's own limit is 3
MEMORY = 1 << 30  # bytes that the part may add to what the process has

Edit = tuple[int, int, int, bytes]  # kind, from, to (in thousandths of the length), bytes


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """A seed with pieces replaced, left out, doubled, or cut off."""
    for kind, first, last, new in edits:
        low, high = sorted((first * len(data) // 1000, last * len(data) // 1000))
        if kind == 0:
            data = data[:low] + new + data[low + len(new) :]
        elif kind == 1:
            data = data[:low] + new + data[low:]
        elif kind == 2:
            data = data[:low] + data[high:]
        elif kind == 3:
            data = data[:high] + data[low:]
        else:
            data = data[:high]
    return data


def inputs(name: str) -> st.SearchStrategy[bytes]:
    """Edited seeds of a target, and now and then bytes out of nothing."""
    _, seeds, words = TARGETS[name]
    place = st.integers(0, 1000)
    new = st.one_of(st.binary(max_size=8), st.sampled_from(words))
    edit = st.tuples(st.sampled_from((0, 0, 0, 1, 1, 2, 3, 4)), place, place, new)
    grown = st.builds(edited, st.sampled_from(seeds()), st.lists(edit, min_size=1, max_size=8))
    return st.one_of(grown, grown, grown, grown, grown, st.binary(max_size=200))


def problems(name: str, data: bytes) -> list[str]:
    """What is wrong with how a target takes an input."""
    begin = time.process_time()
    try:
        with _alarm():
            TARGETS[name][0](data)
    except ProbeError as error:
        if not error.what:
            return ["an error that says nothing"]
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    took = time.process_time() - begin
    return [f"took {took:.1f} s"] if took > SECONDS else []


def _too_long(*_: Any) -> None:
    raise Broken(f"did not end within {3 * SECONDS} s")


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    """Ends what never would; by time that passes, as another timer is the filter's own."""
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.setitimer(signal.ITIMER_REAL, 3 * SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _bounded_memory() -> Iterator[None]:
    """What asks for too much gets a MemoryError, which is none of the project's errors."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def round_of(name: str, number: int, examples: int = EXAMPLES) -> tuple[int, Case | None]:
    """(inputs tried, the smallest one with something wrong)."""
    tried = 0
    worst: Case | None = None

    @seed(number)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(inputs(name))
    def attempt(data: bytes) -> None:
        nonlocal tried, worst
        tried += 1
        wrong = problems(name, data)
        if wrong:
            # Hypothesis comes back with smaller ones, and last with the smallest.
            worst = Case(PART, name, {}, [(data.hex(), 0, 0)], "one of the project's errors", wrong)
            raise Broken(wrong[0])

    with contextlib.suppress(Broken), contextlib.redirect_stdout(io.StringIO()), _bounded_memory():
        attempt()
    return tried, worst


def fuzz(tally: Tally, number: int, seconds: float) -> None:
    """Goes on for so long, target by target; findings go to the tally."""
    end = time.monotonic() + seconds
    for turn in itertools.count():
        for name in TARGETS:
            if time.monotonic() >= end or tally.full:
                return
            tried, worst = round_of(name, number + turn)
            tally.done += tried
            if worst:
                tally.found(worst)


def replay(case: Case) -> list[str]:
    """What is wrong when a case is tried again."""
    return problems(case.hook, bytes.fromhex(case.packets[0][0]))
