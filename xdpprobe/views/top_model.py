# SPDX-License-Identifier: Apache-2.0
"""What `top` shows, computed from one snapshot after the other; knows nothing of terminals.

`Model.update` takes a snapshot; `Model.frame` turns the last one into the rows of a view. They are
apart, so that another sort key or filter shows at once and without a new reading.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from xdpprobe import flows
from xdpprobe.aggregate import LabelTotals, label_totals
from xdpprobe.errors import UsageError
from xdpprobe.filter import Filter
from xdpprobe.flows import Indexes, Mask
from xdpprobe.grouping import Keys, address_keys, group_sums, groups, name_keys
from xdpprobe.rates import History, Meter, Rates
from xdpprobe.snapshot import Snapshot
from xdpprobe.sorting import SORT_KEYS, ranked
from xdpprobe.views.tables import RateRow
from xdpprobe.views.text import endpoint
from xdpprobe.wire_text import printable

_SORTS = ("rate", "up", "down", "bytes", "flows", "name")
# View -> its sort keys, the first one to begin with. `flows` would be 1 in every line of flows.
VIEWS = {
    "apps": _SORTS,
    "hosts": _SORTS,
    "names": _SORTS,
    "flows": ("rate", "up", "down", "bytes", "name"),
}
Source = Callable[[], Snapshot]
_HISTORY = 60
# Server names kept beside the table's: a name is shown for as long as a flow has it.
_NAMES_KEPT = 20_000


@dataclass(frozen=True)
class Header:
    """The lines above every view.

    trouble: interface -> what it is instead of up. rate: bytes a second [up, down], packets: a
    second, both of the flows that the filter lets through; matching: their number, None without
    a filter. used, capacity: of the table. losses: since the attach.
    """

    interfaces: tuple[str, ...]
    trouble: dict[str, str]
    moment: float
    seconds: float
    rate: tuple[float, float]
    packets: float
    matching: int | None
    used: int
    capacity: int
    losses: int
    new_losses: int
    worst_loss: str


@dataclass(frozen=True)
class Frame:
    """One picture. total: rows the view has, as far as known; `rows` are those asked for."""

    header: Header
    view: str
    rows: list[RateRow]
    total: int
    hosts: list[RateRow] = field(default_factory=list)
    names: list[RateRow] = field(default_factory=list)


class _Reading:
    """The last snapshot and what follows from it and the filter."""

    def __init__(self, snapshot: Snapshot, rates: Rates, wanted: Filter | None) -> None:
        self.snapshot = snapshot
        self.rates = rates
        self.wanted = wanted
        self.used = int(np.count_nonzero(snapshot.hot["tag"]))
        # Bytes a second of each entry of the table.
        self.up, self.down = rates.entries[2:]
        self.by_label = rates.by_label(None if wanted is None else self.rows)

    @cached_property
    def rows(self) -> Indexes:
        """The flows to show."""
        if self.wanted is None:
            return flows.live(self.snapshot)
        return self.wanted.rows(self.snapshot)

    @cached_property
    def totals(self) -> LabelTotals:
        """Of all flows, retired ones among them; or of those that the filter lets through."""
        return label_totals(self.snapshot, None if self.wanted is None else self.rows)

    @cached_property
    def active(self) -> Indexes:
        """Those of them that moved."""
        if self.wanted is not None:
            busy: Mask = self.up[self.rows] + self.down[self.rows] > 0
            return self.rows[busy]
        moved = self.rates.moved
        complete: Mask = self.snapshot.cold["tag"][moved] == self.snapshot.hot["tag"][moved]
        return moved[complete]


class Model:
    """Rates and totals over time, of the flows that `wanted` lets through (None: all)."""

    def __init__(self, wanted: Filter | None = None) -> None:
        self.wanted = wanted
        self._meter = Meter()
        self._history = History(_HISTORY)
        self._names: dict[int, str] = {}
        self._cleared = 0  # the privacy of what stands there
        self._last: _Reading | None = None
        self._losses: dict[str, int] = {}
        self._new_losses = 0

    def update(self, source: Source) -> None:
        """Takes the next snapshot. The last one is given up first, for the memory that two need.

        UsageError: the filter takes too long on it, and is no longer in force.
        """
        first, self._last = self._last is None, None
        snapshot = source()
        losses = _losses(snapshot)
        grown = sum(losses.values()) - sum(self._losses.values())
        self._new_losses = 0 if first else max(grown, 0)
        self._losses = losses
        cleared = snapshot.info.get("cleared", 0)
        if len(self._names) > _NAMES_KEPT or cleared != self._cleared:
            self._names.clear()
        self._cleared = cleared
        rates = self._meter.update(snapshot)
        try:
            self._take(_Reading(snapshot, rates, self.wanted))
        except UsageError:
            self.wanted = None
            self._history.clear()
            self._take(_Reading(snapshot, rates, None))
            raise

    def set_filter(self, wanted: Filter | None) -> None:
        """Shows other flows from now on; the history, which was of other flows, begins anew.

        UsageError: the filter takes too long, and the one before stays in force.
        """
        last = self._last
        reading = _Reading(last.snapshot, last.rates, wanted) if last else None
        self.wanted = wanted
        self._history.clear()
        if reading:
            self._take(reading)

    @property
    def snapshot(self) -> Snapshot:
        """The last one; ValueError before the first."""
        if self._last is None:
            raise ValueError("no snapshot yet")
        return self._last.snapshot

    def _take(self, reading: _Reading) -> None:
        self._last = reading
        if reading.rates.seconds:
            self._history.add(reading.by_label[2] + reading.by_label[3])

    def frame(
        self,
        view: str = "apps",
        sort: str = "rate",
        reverse: bool = False,
        rows: tuple[int, int] = (0, 20),
        panel: int = 0,
    ) -> Frame:
        """The picture of the last snapshot.

        rows: (first, count) of those to show. panel: how many hosts and names go with the apps.
        """
        last = self._last
        if last is None:
            raise ValueError("no snapshot yet")
        first, count = rows
        if view == "apps":
            found, total = self._apps(last, sort, reverse, first, count)
        elif view == "flows":
            total = len(last.rows)
            found = self._flows(last, sort, reverse, first, count)
        else:
            # The heaviest are found without adding up all others; their number stays unknown.
            keys = self._keys(last, last.rows, view)
            few = None if reverse or sort == "name" else first + count + 1
            found = self._groups(last, keys, sort, few)
            found = found[::-1] if reverse else found
            total, found = len(found), found[first : first + count]
        hosts = names = []
        if panel:
            hosts = self._groups(last, self._keys(last, last.active, "hosts"), "rate", panel)
            names = self._groups(last, self._keys(last, last.active, "names"), "rate", panel)
        return Frame(self._header(last), view, found, total, hosts, names)

    def _header(self, last: _Reading) -> Header:
        snapshot, rate = last.snapshot, last.by_label.sum(axis=1)
        worst = max(self._losses, key=self._losses.__getitem__, default="")
        names = {
            slot: printable(name.encode(errors="surrogateescape"))
            for slot, name in snapshot.slots.items()
        }
        trouble = snapshot.trouble.items()
        return Header(
            tuple(sorted(names.values())),
            {names[slot]: state for slot, state in sorted(trouble) if slot in names},
            snapshot.clock.realtime_ns / 1e9,
            last.rates.seconds,
            (float(rate[2]), float(rate[3])),
            float(rate[0] + rate[1]),
            None if last.wanted is None else len(last.rows),
            last.used,
            snapshot.info.get("flows") or len(snapshot.hot),
            sum(self._losses.values()),
            self._new_losses,
            worst if self._losses.get(worst) else "",
        )

    def _apps(
        self, last: _Reading, sort: str, reverse: bool, first: int, count: int
    ) -> tuple[list[RateRow], int]:
        """The rows asked for, and how many there are."""
        snapshot, totals = last.snapshot, last.totals
        numbers = np.flatnonzero((totals.flows != 0) | totals.packets.any(axis=0))
        octets, (up, down) = totals.bytes[:, numbers].sum(axis=0), last.by_label[2:, numbers]
        names = [snapshot.label(number).name for number in numbers.tolist()]
        if sort == "name":
            order = sorted(range(len(names)), key=names.__getitem__)
        else:
            # Equal rates (an idle link) are ordered by totals, so that lines do not jump about.
            main = {"up": up, "down": down, "bytes": octets, "flows": totals.live[numbers]}
            keys = (main.get(sort, up + down).tolist(), octets.tolist(), names)
            order = sorted(range(len(names)), key=lambda i: (-keys[0][i], -keys[1][i], keys[2][i]))
        chosen = (order[::-1] if reverse else order)[first : first + count]
        return [self._app(last, int(numbers[i])) for i in chosen], len(order)

    def _app(self, last: _Reading, number: int) -> RateRow:
        label = last.snapshot.label(number)
        up, down = last.by_label[2:, number].tolist()
        sent, received = last.totals.bytes[:, number].tolist()
        return RateRow(
            label.name,
            label.category,
            label.kind == "application",
            int(last.totals.live[number]),
            (up, down),
            (sent, received),
            tuple(self._history.of(number, _HISTORY)),
        )

    def _keys(self, last: _Reading, rows: Indexes, view: str) -> Keys:
        if view == "names":
            return name_keys(last.snapshot, rows, self._names)
        return address_keys(last.snapshot, rows)

    def _groups(self, last: _Reading, keys: Keys, sort: str, count: int | None) -> list[RateRow]:
        """Hosts or names: the heaviest by the sort key, or all."""
        snapshot, at = last.snapshot, keys.rows
        if sort == "flows":
            weight: npt.NDArray[Any] = np.ones(len(at), np.float32)
        elif sort == "bytes":
            pair = snapshot.hot["bytes"][at]
            weight = (pair[:, 0] + pair[:, 1]).astype(np.float64)
        else:
            up, down = (sort != "down") * last.up[at], (sort != "up") * last.down[at]
            # A trace of weight: without any traffic those with flows are still worth a line.
            weight = up + down + np.float32(1e-6)
        found = groups(keys, weight, count)
        length = len(found.texts)
        octets = group_sums(snapshot, found, "bytes")
        live = np.bincount(found.codes, minlength=length).tolist()
        up_sum = np.bincount(found.codes, last.up[found.rows], length).tolist()
        down_sum = np.bincount(found.codes, last.down[found.rows], length).tolist()
        labels = [snapshot.label(n) for n in flows.labels(snapshot, found.samples).tolist()]
        rows = [
            RateRow(
                text,
                labels[i].name,
                True,
                live[i],
                (up_sum[i], down_sum[i]),
                octets[i],
            )
            for i, text in enumerate(found.texts)
        ]
        return sorted(rows, key=lambda row: row.name) if sort == "name" else rows

    def _flows(
        self, last: _Reading, sort: str, reverse: bool, first: int, count: int
    ) -> list[RateRow]:
        snapshot, at = last.snapshot, last.rows
        if sort == "up":
            values: npt.NDArray[Any] = last.up[at]
        elif sort == "down":
            values = last.down[at]
        elif sort == "bytes":
            pair = snapshot.hot["bytes"][at]
            values = pair[:, 0] + pair[:, 1]
        elif sort == "name":
            values = SORT_KEYS["app"][0](snapshot, at)
        else:
            values = last.up[at] + last.down[at]
        chosen = ranked(at, values, (sort != "name") != reverse, first + count)[first:]
        wanted = snapshot.cold["name"][chosen].tolist()
        missing = (number for number in wanted if number not in self._names)
        self._names.update(flows.resolve_names(snapshot, missing))
        return [
            RateRow(
                f"{endpoint(flow.src, flow.sport)} > {endpoint(flow.host or flow.dst, flow.dport)}",
                flow.label,
                flow.app is not None,
                1,
                (float(last.up[flow.index]), float(last.down[flow.index])),
                flow.bytes,
                flow=flow,
            )
            for flow in flows.decode(snapshot, chosen, self._names)
        ]


def _losses(snapshot: Snapshot) -> dict[str, int]:
    """Loss counters by name, without the prefix.

    Without those whose inspection ended without a verdict: such flows are counted and shown, as
    unknown, and in most networks some always are.
    """
    return {
        name.removeprefix("LOSS_").lower(): packets
        for name, (packets, _) in snapshot.counters.items()
        if name.startswith("LOSS_") and name != "LOSS_BUDGET"
    }


def to_json(frame: Frame) -> dict[str, Any]:
    """The JSON object of `top --json`; rates in bytes and packets a second, [up, down]."""
    head = frame.header
    found: dict[str, Any] = {
        "schema": 1,
        "time": flows.iso_time(head.moment),
        "seconds": round(head.seconds, 3),
        "interfaces": list(head.interfaces),
        "trouble": head.trouble,
        "bytes_per_second": [round(rate) for rate in head.rate],
        "packets_per_second": round(head.packets),
        "matching": head.matching,
        "flows": head.used,
        "capacity": head.capacity,
        "losses": head.losses,
    }
    lists = {frame.view: frame.rows}
    if frame.view == "apps":
        lists |= {"hosts": frame.hosts, "names": frame.names}
    for view, rows in lists.items():
        # "flows" is their number already.
        key = "flow_list" if view == "flows" else view
        found[key] = [_row_json(view, row) for row in rows]
    return found


def _row_json(view: str, row: RateRow) -> dict[str, Any]:
    rates = {"bytes_per_second": [round(rate) for rate in row.rate]}
    if row.flow:
        return row.flow.to_json() | rates
    called, noted = ("app", "category") if view == "apps" else (view.removesuffix("s"), "app")
    return {
        called: row.name,
        "flows": row.flows,
        **rates,
        "bytes": list(row.octets),
        noted: row.note,
    }
