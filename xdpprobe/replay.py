# SPDX-License-Identifier: Apache-2.0
"""A capture through the very XDP program that runs on interfaces, by BPF_PROG_TEST_RUN.

What a test run cannot know reaches the program through the map `replay`: the packet's time and
its original length. The program's clock is then the capture's, in milliseconds; idle time-outs
are off, so that a flow is one entry from the first packet to the last. That clock has 32 bits,
and captures that were merged span decades, in any order: when a flow was seen is kept here.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from xdpprobe import catalogue as catalogues
from xdpprobe import syscall
from xdpprobe.capture import MAX_TIME_NS, Capture
from xdpprobe.errors import StateError
from xdpprobe.linktypes import to_ethernet
from xdpprobe.loader import Loaded, load_object
from xdpprobe.rereadable import name_of, opened
from xdpprobe.settings import TUNNELS
from xdpprobe.snapshot import ClockReading, Snapshot

TICKS = 1000  # of the program's clock a second
NEVER = 0x7FFFFFFF  # ticks; no age is more: above half of 32 bits it is of the future
SHORTEST = 14  # bytes that a test run of an XDP program takes
LONGEST = 60_000  # and the most: a frame and its fragments
MOST_FLOWS = 1 << 22


class Watcher(Protocol):
    """Who looks on between packets."""

    def watching(self, loaded: Loaded, known: catalogues.Catalogue) -> AbstractContextManager[None]:
        """Around all packets; again from the start with each size of the flow table."""

    def packet(self, index: int) -> None:
        """After a packet that belongs to the flow of that element."""


@dataclass
class Replay:
    """What came of a capture.

    snapshot: the tables. order: their entries in order of the flows' first packets. packets,
    octets: of the capture. short: frames below 14 bytes, which no test run takes. unsupported:
    packets of a link type that carries no IP plainly. damage: where the file breaks off.
    """

    snapshot: Snapshot
    order: list[int] = field(default_factory=list)
    packets: int = 0
    octets: int = 0
    short: int = 0
    unsupported: int = 0
    damage: str | None = None

    def lost(self) -> int:
        """Flows that the table had no room for."""
        return sum(
            self.snapshot.counters[f"LOSS_EVICTED_{kind}"][0] for kind in ("ESTABLISHED", "NEW")
        )


def replay(
    path: Path,
    *,
    flow_limit: int = 262144,
    fragments_apart: bool = True,
    tunnels: str = TUNNELS[0],
    signatures: list[Path] | None = None,
    watcher: Watcher | None = None,
) -> Replay:
    """Runs a capture. `flow_limit` is the table's first size: it grows until nothing is lost.

    path: of a file or a pipe, or `-`: standard input. tunnels: as in `Settings`.

    Raises DataError for what is no capture, PrivilegeError, KernelError, and StateError where
    even the largest table is too small.
    """
    known = catalogues.load(signatures)
    with opened(path) as file:
        while True:
            # Looked at first: what is no capture is said before the kernel is asked for anything.
            with Capture(path, file) as capture:
                done = _run(capture, known, flow_limit, fragments_apart, tunnels, watcher)
            if not done.lost():
                return done
            if flow_limit * 4 > MOST_FLOWS:
                raise StateError(
                    f"{name_of(path)} has more flows than {flow_limit} entries can hold",
                    "split the capture (editcap -c) and replay the parts",
                )
            flow_limit *= 4
            file.rewind()


def _run(
    capture: Capture,
    known: catalogues.Catalogue,
    entries: int,
    apart: bool,
    tunnels: str,
    watcher: Watcher | None,
) -> Replay:
    constants: dict[str, int | bytes] = {
        "replaying": 1,
        "fragments_apart": int(apart),
        "tunnels": TUNNELS.index(tunnels),
        "idle_new": NEVER,
        "idle_established": NEVER,
        "idle_closed": NEVER,
        "idle_least": NEVER,
        "active_timeout": NEVER,
    }
    with load_object(
        constants, flows=entries, programs=["xdp_entry"], l4=known.l4, hz=TICKS
    ) as loaded:
        loaded.tables().load(known)
        with watcher.watching(loaded, known) if watcher else nullcontext():
            return _feed(capture, loaded, watcher)


def _feed(capture: Capture, loaded: Loaded, watcher: Watcher | None) -> Replay:
    record = loaded.array("replay", writable=True)
    words = record.view(np.uint32)
    times = record["time_ns"]
    fields: Any = record.dtype.fields
    length_at, index_at = (fields[name][1] // 4 for name in ("wire_length", "flow_index"))
    run = syscall.test_runner(loaded.prog_fd("xdp_entry"), LONGEST)
    last: dict[int, int] = {}  # flow_index -> ns of its last packet; in order of the first ones
    early: dict[int, int] = {}  # the same of the earliest packet that did not come first
    packets = octets = short = unsupported = 0
    for packet in capture:
        packets += 1
        octets += packet.wire_length
        frame = to_ethernet(packet)
        if frame is None:
            unsupported += 1
            continue
        data = frame.data if len(frame.data) <= LONGEST else frame.data[:LONGEST]
        if len(data) < SHORTEST:
            short += 1
            continue
        times[0] = moment = packet.time_ns
        words[length_at] = packet.wire_length
        words[index_at] = 0
        run(data)
        index = int(words[index_at])
        if moment > last.get(index, -1):
            last[index] = moment
        elif moment < early.get(index, moment + 1):
            early[index] = moment
        if watcher and index:
            watcher.packet(index - 1)
    snapshot = _snapshot(loaded, last, early)
    order = [index - 1 for index in last if index]
    return Replay(snapshot, order, packets, octets, short, unsupported, capture.damage)


def _snapshot(loaded: Loaded, last: dict[int, int], early: dict[int, int]) -> Snapshot:
    tables, abi = loaded.tables(), loaded.abi
    hot, cold = loaded.array("flow_hot"), loaded.array("flow_cold", writable=True)
    # Element 0 is for packets of no flow: flow_index counts from 1.
    last_ns, first_ns = np.zeros(len(hot) + 1, np.int64), np.full(len(hot) + 1, MAX_TIME_NS)
    last_ns[list(last)], first_ns[list(early)] = list(last.values()), list(early.values())
    cold["first_ns"] = np.minimum(cold["first_ns"], first_ns[1:].astype(np.uint64))
    end = int(last_ns.max())
    return Snapshot(
        hot=hot,
        cold=cold,
        names=loaded.array("names"),
        retired=tables.retired(loaded.array("retired")),
        # Capture time is wall time: both clocks stand at the last packet.
        clock=ClockReading(end // 10**6 % 2**32, TICKS, end, end),
        labels=tables.labels(),
        enums={name: dict(values) for name, values in abi.enums.items()},
        counters=tables.counters(),
        last_ns=last_ns[1:],
        hellos=loaded.array("hellos"),
    )
