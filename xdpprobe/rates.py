# SPDX-License-Identifier: Apache-2.0
"""Rates: what moved between two readings of the flow table.

An application's total is no base for its rate: when a flow is named, its history moves from
"unknown" to the application, and the totals jump though no packet came. So each flow's entry is
compared with itself one reading earlier, and what it moved counts for the label it has now.

A flow that came and went between two readings is in no entry; it shows in `retired` only. That
remainder is exact over all labels, and is spread over the labels that `retired` grew under.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdpprobe.aggregate import exact_sum
from xdpprobe.flows import Indexes, initiator, labels, owners, turn
from xdpprobe.snapshot import Array, Snapshot, pick, words

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

# Entries compared at once: what is computed in between stays in a CPU's cache.
_CHUNK = 1 << 15


@dataclass(frozen=True)
class Rates:
    """Per second, between two readings of a table.

    seconds: between them, 0 for the first reading (all rates are 0 then).
    entries: (4, table size), of each entry up packets, down packets, up bytes, down bytes; up is
    from the initiator.
    moved: indexes of the entries that are not all 0.
    gone: (4, labels), the same of flows that are not in the table any more.
    """

    snapshot: Snapshot
    seconds: float
    entries: F32
    moved: Indexes
    gone: F64

    def by_label(self, rows: Indexes | None = None) -> F64:
        """(4, labels); rows: of these flows only, without what is gone."""
        length = self.gone.shape[1]
        chosen = self.moved if rows is None else rows
        group = np.minimum(labels(self.snapshot, chosen), length - 1).astype(np.intp)
        result = self.gone.copy() if rows is None else np.zeros_like(self.gone)
        for row, column in enumerate(self.entries):
            result[row] += np.bincount(group, column[chosen], length)
        return result


class Meter:
    """Turns readings, one after the other, into rates. Keeps the last one."""

    def __init__(self) -> None:
        self._before: Snapshot | None = None

    def update(self, snapshot: Snapshot) -> Rates:
        """Rates between the snapshot given last time and this one.

        A table of another size (the probe was attached anew) starts afresh.
        """
        before, self._before = self._before, snapshot
        if before is None or len(before.hot) != len(snapshot.hot):
            return _none(snapshot)
        size, length = len(snapshot.hot), len(snapshot.retired)
        seconds = max((snapshot.clock.monotonic_ns - before.clock.monotonic_ns) / 1e9, 1e-3)
        entries = np.zeros((4, size), np.float32)
        had = np.zeros((4, length), dtype=np.uint64)
        changed = _changed(before.hot, snapshot.hot)
        moved = [np.zeros(0, np.intp)]
        for start in range(0, len(changed), _CHUNK):
            at = changed[start : start + _CHUNK]
            moved.append(_compare(before, snapshot, at, entries, had))
        rows = np.concatenate(moved)
        entries[:, rows] /= np.float32(seconds)
        gone = _gone(before.retired, snapshot.retired, had) / seconds
        return Rates(snapshot, seconds, entries, rows, gone)


def _none(snapshot: Snapshot) -> Rates:
    entries = np.zeros((4, len(snapshot.hot)), np.float32)
    none = np.zeros(0, np.intp)
    return Rates(snapshot, 0.0, entries, none, np.zeros((4, len(snapshot.retired))))


def _changed(before: Array, now: Array) -> Indexes:
    """Indexes of the entries that are not what they were."""
    differs = words(before) != words(now)
    # An entry is one cache line of eight words: their eight truth values make one word again.
    return np.flatnonzero(differs.view(np.uint64))


def _compare(
    before: Snapshot, snapshot: Snapshot, at: Indexes, entries: F32, had: Array
) -> Indexes:
    """Writes by how much the entries `at` moved, and returns the indexes of those that did.

    What flows that left the table had by then is added to `had`, by direction and label.
    """
    was, now = pick(before.hot, at), pick(snapshot.hot, at)
    packets, octets = now["packets"].copy(), now["bytes"].copy()
    was_packets, was_octets = was["packets"].copy(), was["bytes"].copy()
    # The same flow may have ended and come back: its counters began at zero again.
    same = was["tag"] == now["tag"]
    same &= (was_packets[:, 0] <= packets[:, 0]) & (was_packets[:, 1] <= packets[:, 1])
    left = np.flatnonzero(~same)
    if len(left):
        owner = owners(before, at[left])
        for row, pair in ((0, was_packets), (2, was_octets)):
            for direction, column in enumerate(turn(pair[left], owner & 1)):
                had[row + direction] += exact_sum(owner >> 1, column, had.shape[1])
        was_packets[left] = was_octets[left] = 0
    # Bytes are added after packets: between the two they may seem to lag behind.
    np.minimum(was_octets, octets, out=was_octets)
    packets -= was_packets
    octets -= was_octets
    moved = np.flatnonzero(
        (packets[:, 0] | packets[:, 1] | octets[:, 0] | octets[:, 1]) * (now["tag"] != 0)
    )
    at = at[moved]
    end = initiator(snapshot, at)
    for row, pair in ((0, packets), (2, octets)):
        entries[row][at], entries[row + 1][at] = turn(pair[moved], end)
    return at


def _gone(before: Array, now: Array, had: Array) -> F64:
    """(4, labels): what `retired` grew by, less what earlier flows that left had by then."""
    result = np.zeros(had.shape)
    for base, field in ((0, "packets"), (2, "bytes")):
        grown = (now[field] - before[field]).astype(np.int64)
        for direction in (0, 1):
            rest = grown[:, direction] - had[base + direction].astype(np.int64)
            total, rest = max(int(rest.sum()), 0), np.maximum(rest, 0)
            # A flow that was named just before it left took its history to another label: one
            # label fell short, the other has too much. The sum of all labels is right.
            excess = int(rest.sum())
            result[base + direction] = rest * (total / excess) if excess else 0
    return result


class History:
    """The last rates of each label, for sparklines."""

    def __init__(self, length: int = 60) -> None:
        self._rows: deque[F32] = deque(maxlen=length)

    def add(self, octets: F64) -> None:
        """Bytes a second of all labels, one moment later."""
        self._rows.append(octets.astype(np.float32))

    def clear(self) -> None:
        """Forgets everything: the filter has changed, and with it what the rates mean."""
        self._rows.clear()

    def of(self, label: int, count: int) -> list[float]:
        """The last `count` rates of a label, oldest first; fewer where there were fewer."""
        recent = list(self._rows)[-count:]
        return [float(row[label]) for row in recent]

    def total(self, count: int) -> list[float]:
        """The last `count` rates of all labels together."""
        return [float(row.sum()) for row in list(self._rows)[-count:]]
