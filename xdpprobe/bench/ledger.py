# SPDX-License-Identifier: Apache-2.0
"""What the tables say that has happened, so that a row can be held to what it claims."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xdpprobe.bench.rows import FULL, Row
from xdpprobe.errors import ProbeError
from xdpprobe.tables import Tables

# Nobody reads records in a benchmark; how often that was noticed says nothing.
_UNTOLD = {"INFO_NO_READER", "COUNTER_MAX"}
# Sets fill unevenly: a few of many flows find another state than most.
_UNEVEN = {"LOSS_EVICTED_NEW", "LOSS_EVICTED_ESTABLISHED"}
_TOLERANCE = 0.02
# See Ledger._strays: the share, and of which part of the table on.
_STRAYS, _ROOMY = 0.0001, 0.4


@dataclass(frozen=True)
class Tally:
    """Totals since the instance was loaded. packets, octets: of the interface. counted: packets
    in flows. born: flows that ever were. counters: name -> packets."""

    packets: int
    octets: int
    counted: int
    born: int
    counters: Mapping[str, int]

    def plus(self, later: "Tally", earlier: "Tally") -> "Tally":
        """With what happened between two other moments added."""
        return Tally(
            self.packets + later.packets - earlier.packets,
            self.octets + later.octets - earlier.octets,
            self.counted + later.counted - earlier.counted,
            self.born + later.born - earlier.born,
            {
                name: packets + later.counters[name] - earlier.counters[name]
                for name, packets in self.counters.items()
            },
        )


class Ledger:
    """Reads an instance's tables, and empties the flow table without losing count of it."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._hot = tables.array("flow_hot", writable=True)
        self._cold = tables.array("flow_cold")
        self._retired = tables.array("retired")
        self._cleared = self._cleared_packets = 0

    @property
    def capacity(self) -> int:
        """Entries of the flow table."""
        return len(self._hot)

    def clear(self) -> None:
        """Forgets all flows."""
        self._cleared += self.live()
        self._cleared_packets += int(self._hot["packets"].sum())
        self._hot.view(np.uint8)[:] = 0

    def live(self) -> int:
        """Flows in the table."""
        return int(np.count_nonzero(self._hot["tag"]))

    def read(self) -> Tally:
        """The totals now."""
        port = self._tables.per_cpu("ports", 0)
        retired = self._retired
        return Tally(
            packets=int(port["packets"].sum()),
            octets=int(port["bytes"].sum()),
            counted=self._cleared_packets
            + int(self._hot["packets"].sum())
            + int(retired["packets"].sum()),
            born=self._cleared + self.live() + int(retired["flows"].sum()),
            counters={name: packets for name, (packets, _) in self._tables.counters().items()},
        )

    def verify(self, row: Row, before: Tally, packets: int) -> None:
        """Raises ProbeError unless `packets` since `before` did what the row claims.

        before: with what an opening did meanwhile added.
        """
        wrong = self._events(row, before, packets) or self._flows(row)
        if wrong:
            raise ProbeError(
                f"the measurement of '{row.name}' is void: {wrong}",
                "measure again; if it stays, this xdpprobe has a fault",
            )

    def _strays(self, row: Row) -> float:
        """Which share of packets and flows may do something else: in a table that is not far from
        full, one pair in a million or so finds one entry for two flows."""
        return _STRAYS if row.flows > _ROOMY * self.capacity else 0

    def _events(self, row: Row, before: Tally, packets: int) -> str:
        after = self.read()
        standing = row.flows or row.opened or not row.tracked
        born = 0 if standing else packets // row.per_flow
        exact = {
            "packets seen": (after.packets - before.packets, packets),
            "bytes seen": (after.octets - before.octets, packets * len(row.frames[0])),
            "packets counted in flows": (
                after.counted - before.counted,
                packets if row.tracked else 0,
            ),
        }
        others = {"flows born": (after.born - before.born, born)}
        for name in after.counters.keys() - _UNTOLD:
            gain = after.counters[name] - before.counters[name]
            others[name] = gain, round(row.gains.get(name, 0) * packets)
        for name, (got, wanted) in others.items():
            slack = _TOLERANCE if name in _UNEVEN else self._strays(row)
            if abs(got - wanted) > slack * packets:
                exact[name] = got, wanted
        return ", ".join(
            f"{name}: {got}, not {wanted}"
            for name, (got, wanted) in sorted(exact.items())
            if got != wanted
        )

    def _number(self, protocol: str) -> int:
        """Of a constant of the data plane's, or else of a label; -1 where nothing is called so."""
        if (number := self._tables.abi.enums["protocol"].get(protocol)) is not None:
            return number
        labels = self._tables.labels().values()
        return next(
            (label.id for label in labels if (label.name, label.kind) == (protocol, "protocol")), -1
        )

    def _flows(self, row: Row) -> str:
        """What is wrong with the flows that stand in the table."""
        enums = self._tables.abi.enums
        live = self._hot["tag"] != 0
        hot, cold = self._hot[live], self._cold[live]
        protocol = self._number(row.protocol) if row.protocol else 0
        method = enums["method"][row.method or "METHOD_NONE"]
        mapped = (cold["address"][:, 0, :10] == 0).all(axis=1)
        strays = self._strays(row)

        def hold(good: npt.NDArray[np.bool_]) -> bool:
            return bool(np.count_nonzero(~good) <= strays * len(good))

        standing = row.flows or not row.tracked
        holds = {
            "flows in the table": abs(len(hot) - row.flows) <= strays * row.flows
            if standing
            else len(hot) > 0,
            "their protocol": hold(hot["protocol"] == protocol),
            "their method": hold(hot["app_method"] == method),
            "their application": hold((hot["app"] > 0) == bool(row.method)),
            "their VLAN": hold(cold["vlan"] == row.route.vlan),
            "their address family": hold(mapped != row.route.ipv6),
        }
        if row.flows:
            turns = hot["packets"].sum(axis=1)
            holds["their state"] = hold(hot["state"] == enums["flow_state"]["FLOW_ESTABLISHED"])
            holds["their turns"] = hold(turns >= turns.max() - 1)
        if row.table == FULL:
            holds["the table's fill"] = len(hot) > (1 - _TOLERANCE) * self.capacity
        return ", ".join(
            f"{name} is not as it should be" for name, good in holds.items() if not good
        )
