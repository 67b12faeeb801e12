# SPDX-License-Identifier: Apache-2.0
"""Takes the measurements: an instance of its own, one CPU, the program and an empty one in turn."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from xdpprobe import catalogue as catalogues
from xdpprobe.bench.feeder import HOOKS, Feeder
from xdpprobe.bench.ledger import Ledger, Tally
from xdpprobe.bench.report import Figure, Report, figures
from xdpprobe.bench.rows import FULL, Row, all_rows
from xdpprobe.errors import ProbeError, UsageError
from xdpprobe.loader import load_object

T = TypeVar("T")

# A flow is established, and its inspection over, after so many packets (bpf/config.h).
_OPENING_PACKETS = 10
# Of the table, at most: where new flows shall find room; and where flows shall stay.
_LOAD, _STAY = 0.375, 0.5
_FILLS = 6  # a full table's entries are mostly those of a flood (FLOW_CROWDED) after so many
_CAPACITY_MIN = 16384  # below, sets that are full by chance would push out flows that a row needs
_ROUNDS_MIN = 3
# Flows that no packet comes for stay what they are while a large table is filled: ticks, below
# half of 32 bits, as ages are compared signed.
# What opening a QUIC Initial costs, not how many the probe opens.
UNLIMITED = {"quic_rate": 0x3FFFFFFF, "quic_burst": 0x3FFFFFFF}
_CONSTANTS = {"idle_new": 0x3FFFFFFF, "idle_established": 0x3FFFFFFF, **UNLIMITED}


@dataclass(frozen=True)
class Effort:
    """How long to measure a row. seconds: after which no round begins, but three are taken.
    rounds: at most. established, new: packets a round."""

    seconds: float
    rounds: int
    established: int
    new: int


THOROUGH = Effort(0.5, 15, 100_000, 24_000)
QUICK = Effort(0.05, 5, 100_000, 8_000)


def run(
    hook: str = "xdp",
    flows: int = 262144,
    effort: Effort = THOROUGH,
    progress: Callable[[str], None] = lambda name: None,
    rows: Iterable[Row] | None = None,
    again: bool = False,
) -> Report:
    """Measures every row, or those of `rows`. flows: capacity of the table. progress: told each
    row's name. again: a row that is void is measured once more.

    Raises UsageError, PrivilegeError, KernelError, and ProbeError where the packets did not do
    what a row claims.
    """
    if flows < _CAPACITY_MIN:
        raise UsageError(
            f"--flows {flows} is too small to measure with", f"{_CAPACITY_MIN} is the least"
        )
    known = catalogues.load()
    found: dict[str, list[Figure]] = {}
    left_out = []
    chosen = all_rows() if rows is None else list(rows)
    for tunnels in sorted({row.tunnels for row in chosen}):
        constants = {**_CONSTANTS, "tunnels": int(tunnels)}
        with (
            load_object(constants, flows=flows, programs=[HOOKS[hook]], l4=known.l4) as loaded,
            one_cpu(),
        ):
            rules = loaded.tables().load(known)
            ledger = Ledger(loaded.tables())
            program = loaded.prog_fd(HOOKS[hook])
            for row in chosen:
                if row.tunnels != tunnels:
                    continue
                if row.flows > ledger.capacity * _STAY:
                    left_out.append(row.title)
                    continue
                progress(row.name)
                take = partial(measure, hook, program, row, ledger, effort)
                found[row.title] = twice(take, progress) if again else take()
    figures = [figure for row in chosen for figure in found.get(row.title, [])]
    return Report(hook, ledger.capacity, rules, loaded.hz, figures, left_out)


def twice(take: Callable[[], T], progress: Callable[[str], None]) -> T:
    """What `take` measures; where that is void, what it measures the second time.

    For long runs, which one packet of others must not end. progress: told of it, in a line.
    """
    try:
        return take()
    except ProbeError as error:
        progress(f"once more, as {error.what}\n")
        return take()


@contextmanager
def one_cpu() -> Iterator[None]:
    """Stay on one CPU: not the first one, which most interrupts go to."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def measure(hook: str, program: int, row: Row, ledger: Ledger, effort: Effort) -> list[Figure]:
    """One row. program: descriptor of the hook's entry point in the ledger's instance.

    Raises ProbeError where the packets did not do what the row claims.
    """
    ledger.clear()
    tested: list[int] = []
    empty: list[int] = []
    with ExitStack() as stack:
        opener = _Opener(hook, program, row, stack)
        feeder = stack.enter_context(Feeder(hook, program, row, row.frames, row.per_flow))
        packets = _warm_up(feeder, opener, row, ledger, effort)
        before = ledger.read()
        end = time.monotonic() + effort.seconds
        while len(tested) < effort.rounds:
            if len(tested) >= _ROUNDS_MIN and time.monotonic() > end:
                break
            if not row.flows:
                before = _make_room(opener, row, ledger, packets, before)
            tested.append(feeder.tested(packets))
            empty.append(feeder.base(packets))
        ledger.verify(row, before, packets * len(tested))
    return figures(row, tested, empty, packets)


class _Opener:
    """Sends what comes before a row's frames, flow by flow."""

    def __init__(self, hook: str, program: int, row: Row, stack: ExitStack) -> None:
        self._feeders = [
            (stack.enter_context(Feeder(hook, program, part, part.frames, part.per_flow)), part)
            for part in row.before()
        ]

    def open(self, flows: int) -> None:
        """Of so many flows, those that are measured next."""
        for feeder, part in self._feeders:
            feeder.tested(flows * part.per_flow)


def _make_room(opener: _Opener, row: Row, ledger: Ledger, packets: int, before: Tally) -> Tally:
    """Empties the table for a round of new flows, and opens them; `before`, moved on by that."""
    if row.table == FULL:
        return before
    ledger.clear()
    opened = ledger.read()
    opener.open(packets // row.per_flow)
    if row.forgotten:
        ledger.clear()
    return before.plus(ledger.read(), opened)


def _warm_up(feeder: Feeder, opener: _Opener, row: Row, ledger: Ledger, effort: Effort) -> int:
    """Brings the table into the row's state, and all code into the caches; packets of a round."""
    if row.flows:
        opener.open(row.flows)
        feeder.tested(row.flows * _OPENING_PACKETS)
        packets = max(effort.established // row.flows, 1) * row.flows
    else:
        turn = len(row.frames)
        packets = min(effort.new, int(ledger.capacity * _LOAD)) // turn * turn
        opener.open(packets // row.per_flow)
        feeder.tested(_FILLS * ledger.capacity if row.table == FULL else packets)
    feeder.base(packets)
    return packets
