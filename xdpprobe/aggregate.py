# SPDX-License-Identifier: Apache-2.0
"""Totals by application.

The data plane keeps a counter in one place only, the flow's entry; what applications used is summed
here, when somebody asks. `retired` adds what flows that have left the table left behind.

Every sum is exact: NumPy adds weighted counts as doubles, which are good up to 2^53, so wider
counters are summed in halves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xdpprobe.flows import Indexes, owners, used
from xdpprobe.snapshot import Array, Snapshot

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_EXACT = 1 << 53
# Flows summed at once: what is computed in between stays in a CPU's cache.
_CHUNK = 1 << 15


@dataclass(frozen=True)
class LabelTotals:
    """One element a label. `flows` counts live and retired ones, `live` those in the table.

    packets, bytes: (2, labels), from the initiator and to it.
    """

    live: I64
    flows: I64
    packets: U64
    bytes: U64


@dataclass(frozen=True, slots=True)
class AppTotal:
    """A line of `apps`: what one label used. `packets`, `bytes`: [from, to] the initiator."""

    label: int
    app: str
    category: str
    kind: str
    flows: int
    live: int
    packets: tuple[int, int]
    bytes: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `apps --json`."""
        return {
            "app": self.app,
            "category": self.category,
            "kind": self.kind,
            "flows": self.flows,
            "live": self.live,
            "packets": list(self.packets),
            "bytes": list(self.bytes),
        }


def exact_sum(group: Array, values: U64, length: int) -> U64:
    """Sums of `values` by `group` (0..length-1), exact below 2^64."""
    if not len(values):
        return np.zeros(length, dtype=np.uint64)
    if len(values) <= _CHUNK:
        return _exact_piece(group, values, length)
    total = np.zeros(length, dtype=np.uint64)
    for start in range(0, len(values), _CHUNK):
        part = slice(start, start + _CHUNK)
        total += _exact_piece(group[part], values[part], length)
    return total


def _exact_piece(group: Array, values: U64, length: int) -> U64:
    # 2^15 halves of 32 bits stay below 2^53, whatever they are.
    if float(values.max()) * len(values) < _EXACT:
        return np.bincount(group, values, length).astype(np.uint64)
    low, high = values & np.uint64(0xFFFFFFFF), values >> np.uint64(32)
    total = np.bincount(group, low, length).astype(np.uint64)
    total += np.bincount(group, high, length).astype(np.uint64) << np.uint64(32)
    return total


def _parts(snapshot: Snapshot, rows: Indexes | None) -> Iterator[Indexes | slice]:
    """The flows to sum, a piece at a time; where a piece of the table is full, as a slice of it."""
    chosen = used(snapshot) if rows is None else rows
    if len(chosen) == len(snapshot.hot):
        yield from (slice(at, at + _CHUNK) for at in range(0, len(chosen), _CHUNK))
    else:
        yield from (chosen[at : at + _CHUNK] for at in range(0, len(chosen), _CHUNK))


def label_totals(snapshot: Snapshot, rows: Indexes | None = None) -> LabelTotals:
    """Totals by label of the whole table and of what retired flows left; or (rows) of these flows.

    With `rows` nothing retired is in them: a retired flow's details are gone, so no filter can
    choose it.
    """
    length = len(snapshot.retired)
    # Endpoints are summed apart by who opened the flow, and turned to from / to afterwards:
    # cheaper than to turn each flow.
    live = np.zeros(2 * length, dtype=np.int64)
    sums = np.zeros((2, 2, 2 * length), dtype=np.uint64)
    for part in _parts(snapshot, rows):
        group = owners(snapshot, part)
        live += np.bincount(group, minlength=2 * length)
        for place, field in enumerate(("packets", "bytes")):
            pair = snapshot.hot[field][part]
            for end in (0, 1):
                sums[place, end] += exact_sum(group, pair[:, end], 2 * length)
    ends = sums.reshape(2, 2, length, 2)
    up, down = ends[:, 0, :, 0] + ends[:, 1, :, 1], ends[:, 0, :, 1] + ends[:, 1, :, 0]
    packets, octets = np.stack((up, down), axis=1)
    live = live.reshape(length, 2).sum(axis=1)
    if rows is not None:
        return LabelTotals(live, live, packets, octets)
    retired = snapshot.retired
    return LabelTotals(
        live,
        live + retired["flows"].astype(np.int64),
        packets + retired["packets"].T,
        octets + retired["bytes"].T,
    )


def app_rows(snapshot: Snapshot, totals: LabelTotals) -> list[AppTotal]:
    """A row for each label that anything was counted under, most bytes first."""
    rows = []
    for number in np.flatnonzero((totals.flows != 0) | totals.packets.any(axis=0)).tolist():
        label = snapshot.label(number)
        packets, octets = totals.packets[:, number].tolist(), totals.bytes[:, number].tolist()
        rows.append(
            AppTotal(
                number,
                label.name,
                label.category,
                label.kind,
                int(totals.flows[number]),
                int(totals.live[number]),
                (packets[0], packets[1]),
                (octets[0], octets[1]),
            )
        )
    rows.sort(key=lambda row: (-sum(row.bytes), row.app))
    return rows
