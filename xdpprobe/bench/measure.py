# SPDX-License-Identifier: Apache-2.0
"""Takes the measurements: an instance of its own, one CPU, the program and an empty one in turns."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from xdpprobe import catalogue as catalogues
from xdpprobe.bench.feeder import HOOKS, Feeder
from xdpprobe.bench.ledger import Ledger
from xdpprobe.bench.rows import FULL, Row, all_rows
from xdpprobe.loader import load_object

# A flow is established, and its inspection over, after so many packets (bpf/config.h).
_OPENING_PACKETS = 10
# Of the table, at most: where new flows shall find room; and where flows shall stay.
_LOAD, _STAY = 3 / 8, 1 / 2
_ROUNDS_MIN = 3


@dataclass(frozen=True)
class Effort:
    """How long to measure: seconds a row, after which no round begins, rounds at most, and packets
    a round of established and of new flows."""

    seconds: float
    rounds: int
    established: int
    new: int


THOROUGH = Effort(1.1, 15, 100_000, 24_000)
QUICK = Effort(0.2, 5, 100_000, 16_000)


@dataclass(frozen=True)
class Figure:
    """A row's result. per: "packet" or "connection" (of several packets). flows: that took turns,
    0: all were new. ns, empty_ns: medians of the rounds; net_ns: their difference; ratio: ns /
    empty_ns; min_ns, max_ns: of the rounds' ns. packets: measured."""

    name: str
    per: str
    flows: int
    ns: float
    empty_ns: float
    net_ns: float
    ratio: float
    min_ns: int
    max_ns: int
    packets: int


@dataclass(frozen=True)
class Report:
    """What came of it. capacity: flows of the table. rules: name rules in force.

    left_out: rows that the table is too small for.
    """

    hook: str
    capacity: int
    rules: int
    hz: int
    figures: list[Figure]
    left_out: list[str]


def run(
    hook: str = "xdp",
    flows: int = 262144,
    quick: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> Report:
    """Measures every row. flows: capacity of the table. progress: told each row's name.

    Raises UsageError, PrivilegeError, KernelError, and ProbeError where the packets did not do
    what a row claims.
    """
    effort = QUICK if quick else THOROUGH
    known = catalogues.load()
    figures: list[Figure] = []
    left_out = []
    with load_object(flows=flows, programs=[HOOKS[hook]], l4=known.l4) as loaded, _one_cpu():
        rules = loaded.tables().load(known)
        ledger = Ledger(loaded)
        program = loaded.prog_fd(HOOKS[hook])
        for row in all_rows():
            if row.flows > ledger.capacity * _STAY:
                left_out.append(f"{row.name}, {row.flows} flows")
                continue
            progress(row.name)
            figures += _measure(hook, program, row, ledger, effort)
        return Report(hook, ledger.capacity, rules, loaded.hz, figures, left_out)


@contextmanager
def _one_cpu() -> Iterator[None]:
    """Stay on one CPU: not the first one, which most interrupts go to."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _measure(hook: str, program: int, row: Row, ledger: Ledger, effort: Effort) -> list[Figure]:
    ledger.clear()
    if row.opening:
        with Feeder(hook, program, row, row.opening, 1) as feeder:
            feeder.tested(row.flows)
    with Feeder(hook, program, row, row.frames, row.per_flow) as feeder:
        packets = _warm_up(feeder, row, ledger, effort)
        before = ledger.read()
        tested: list[int] = []
        empty: list[int] = []
        end = time.monotonic() + effort.seconds
        while len(tested) < effort.rounds:
            if len(tested) >= _ROUNDS_MIN and time.monotonic() > end:
                break
            if not row.flows and row.table != FULL:
                ledger.clear()
            tested.append(feeder.tested(packets))
            empty.append(feeder.base(packets))
        ledger.verify(row, before, packets * len(tested))
    figure = _figure(row, tested, empty, packets * len(tested))
    return [figure, _a_connection(figure, row.per_flow)] if row.per_flow > 1 else [figure]


def _warm_up(feeder: Feeder, row: Row, ledger: Ledger, effort: Effort) -> int:
    """Brings the table into the row's state, and all code into the caches; packets of a round."""
    if row.flows:
        feeder.tested(row.flows * _OPENING_PACKETS)
        packets = effort.established // row.flows * row.flows
    else:
        turn = len(row.frames)
        packets = min(effort.new, int(ledger.capacity * _LOAD)) // turn * turn
        feeder.tested(2 * ledger.capacity if row.table == FULL else packets)
    feeder.base(packets)
    return packets


def _figure(row: Row, tested: list[int], empty: list[int], packets: int) -> Figure:
    ns, empty_ns = statistics.median(tested), statistics.median(empty)
    return Figure(
        name=row.name,
        per="packet",
        flows=row.flows,
        ns=ns,
        empty_ns=empty_ns,
        net_ns=ns - empty_ns,
        ratio=round(ns / max(empty_ns, 1), 2),
        min_ns=min(tested),
        max_ns=max(tested),
        packets=packets,
    )


def _a_connection(figure: Figure, packets: int) -> Figure:
    """The same, for all packets of a connection together."""
    fields = asdict(figure)
    for name in ("ns", "empty_ns", "net_ns", "min_ns", "max_ns"):
        fields[name] *= packets
    return Figure(**{**fields, "per": "connection"})
