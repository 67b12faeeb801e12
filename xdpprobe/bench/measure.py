# SPDX-License-Identifier: Apache-2.0
"""Takes the measurements: an instance of its own, one CPU, the program and an empty one in turn."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from xdpprobe import catalogue as catalogues
from xdpprobe.bench.feeder import HOOKS, Feeder
from xdpprobe.bench.ledger import Ledger
from xdpprobe.bench.report import Figure, Report, figures
from xdpprobe.bench.rows import FULL, Row, all_rows
from xdpprobe.errors import UsageError
from xdpprobe.loader import load_object

# A flow is established, and its inspection over, after so many packets (bpf/config.h).
_OPENING_PACKETS = 10
# Of the table, at most: where new flows shall find room; and where flows shall stay.
_LOAD, _STAY = 0.375, 0.4
_FILLS = 6  # a full table's entries are mostly those of a flood (FLOW_CROWDED) after so many
_CAPACITY_MIN = 16384  # below, sets that are full by chance would push out flows that a row needs
_ROUNDS_MIN = 3
# Flows that no packet comes for stay what they are while a large table is filled: ticks, below
# half of 32 bits, as ages are compared signed.
_CONSTANTS = {"idle_new": 0x3FFFFFFF, "idle_established": 0x3FFFFFFF}


@dataclass(frozen=True)
class Effort:
    """How long to measure a row. seconds: after which no round begins, but three are taken.
    rounds: at most. established, new: packets a round."""

    seconds: float
    rounds: int
    established: int
    new: int


THOROUGH = Effort(0.6, 15, 100_000, 24_000)
QUICK = Effort(0.05, 5, 100_000, 8_000)


def run(
    hook: str = "xdp",
    flows: int = 262144,
    effort: Effort = THOROUGH,
    progress: Callable[[str], None] = lambda name: None,
) -> Report:
    """Measures every row. flows: capacity of the table. progress: told each row's name.

    Raises UsageError, PrivilegeError, KernelError, and ProbeError where the packets did not do
    what a row claims.
    """
    if flows < _CAPACITY_MIN:
        raise UsageError(
            f"--flows {flows} is too small to measure with", f"{_CAPACITY_MIN} is the least"
        )
    known = catalogues.load()
    found: list[Figure] = []
    left_out = []
    with (
        load_object(_CONSTANTS, flows=flows, programs=[HOOKS[hook]], l4=known.l4) as loaded,
        _one_cpu(),
    ):
        rules = loaded.tables().load(known)
        ledger = Ledger(loaded)
        program = loaded.prog_fd(HOOKS[hook])
        for row in all_rows():
            if row.flows > ledger.capacity * _STAY:
                left_out.append(f"{row.name}, {row.flows} flows")
                continue
            progress(row.name)
            found += measure(hook, program, row, ledger, effort)
        return Report(hook, ledger.capacity, rules, loaded.hz, found, left_out)


@contextmanager
def _one_cpu() -> Iterator[None]:
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
    if row.opening:
        with Feeder(hook, program, row, row.opening, 1) as feeder:
            feeder.tested(row.flows)
    tested: list[int] = []
    empty: list[int] = []
    with Feeder(hook, program, row, row.frames, row.per_flow) as feeder:
        packets = _warm_up(feeder, row, ledger, effort)
        before = ledger.read()
        end = time.monotonic() + effort.seconds
        while len(tested) < effort.rounds:
            if len(tested) >= _ROUNDS_MIN and time.monotonic() > end:
                break
            if not row.flows and row.table != FULL:
                ledger.clear()
            tested.append(feeder.tested(packets))
            empty.append(feeder.base(packets))
        ledger.verify(row, before, packets * len(tested))
    return figures(row, tested, empty, packets)


def _warm_up(feeder: Feeder, row: Row, ledger: Ledger, effort: Effort) -> int:
    """Brings the table into the row's state, and all code into the caches; packets of a round."""
    if row.flows:
        feeder.tested(row.flows * _OPENING_PACKETS)
        packets = max(effort.established // row.flows, 1) * row.flows
    else:
        turn = len(row.frames)
        packets = min(effort.new, int(ledger.capacity * _LOAD)) // turn * turn
        feeder.tested(_FILLS * ledger.capacity if row.table == FULL else packets)
    feeder.base(packets)
    return packets
