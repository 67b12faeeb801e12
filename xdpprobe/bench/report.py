# SPDX-License-Identifier: Apache-2.0
"""What a benchmark found, and on what machine: the part that needs no kernel to be tested."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xdpprobe import kernel
from xdpprobe.bench.rows import Row

SCHEMA = 2
_CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Figure:
    """One row's result; ns are of one packet, or of one connection's packets together.

    per: "packet" or "connection". flows: that took turns, 0: a packet each of flows that are new,
    None: of no flow. ns, empty_ns: of the round with the median net_ns, which is their difference;
    ratio: ns / empty_ns. min_ns, max_ns: of all rounds' net_ns. packets: measured, in all rounds.
    """

    name: str
    per: str
    flows: int | None
    ns: int
    empty_ns: int
    net_ns: int
    ratio: float
    min_ns: int
    max_ns: int
    packets: int


@dataclass(frozen=True)
class Report:
    """What came of it. capacity: flows of the table. rules: name rules in force. hz: jiffies a
    second. left_out: rows that the table is too small for."""

    hook: str
    capacity: int
    rules: int
    hz: int
    figures: list[Figure]
    left_out: list[str]

    def to_json(self) -> dict[str, Any]:
        """As `xdpprobe bench --json` prints it: with the machine, and figures as rows."""
        return {
            "schema": SCHEMA,
            "kernel": kernel.release(),
            "machine": os.uname().machine,
            "cpu": cpu_model(),
            "hz": self.hz,
            "hook": self.hook,
            "capacity": self.capacity,
            "rules": self.rules,
            "rows": [asdict(figure) for figure in self.figures],
            "left_out": self.left_out,
        }


def figures(row: Row, tested: Sequence[int], empty: Sequence[int], packets: int) -> list[Figure]:
    """A row's figures from its rounds: ns a packet with the program under test, and without.

    Both of a round were taken one after the other, so what slows the machine down for a while is
    in both. packets: of one round.
    """
    rounds = sorted(zip(tested, empty, strict=True), key=lambda pair: pair[0] - pair[1])
    ns, empty_ns = rounds[(len(rounds) - 1) // 2]
    net = [a - b for a, b in rounds]

    def figure(per: str, count: int) -> Figure:
        return Figure(
            name=row.name,
            per=per,
            flows=row.flows if row.tracked else None,
            ns=ns * count,
            empty_ns=empty_ns * count,
            net_ns=(ns - empty_ns) * count,
            ratio=round(ns / max(empty_ns, 1), 2),
            min_ns=net[0] * count,
            max_ns=net[-1] * count,
            packets=packets * len(rounds),
        )

    both = [figure("packet", 1)]
    if row.per_flow > 1:
        both.append(figure("connection", row.per_flow))
    return both


def cpu_model(source: Path = _CPUINFO) -> str:
    """The CPU's name; arm64 kernels give numbers only: implementer and part."""
    found: dict[str, str] = {}
    for line in source.read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip(), value.strip())
    if found.get("model name"):
        return found["model name"]
    parts = [found[name] for name in ("CPU implementer", "CPU part") if name in found]
    return " ".join(parts) or "unknown"
