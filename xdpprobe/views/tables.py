# SPDX-License-Identifier: Apache-2.0
"""Rows to tables. Pure: what is printed, and how wide, is decided by who prints.

All texts enter as `Text`, never as markup: a name from the wire must not style the screen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from xdpprobe.aggregate import AppTotal
from xdpprobe.flows import Flow
from xdpprobe.grouping import HostTotal
from xdpprobe.views.sheet import Cell, Column, Sheet
from xdpprobe.views.text import endpoint, percent, quantity, rate, sparkline


def label_text(name: str, application: bool) -> Text:
    """An application's name; a protocol's (no application is known) stands back."""
    return Text(name, style="" if application else "dim")


def apps_table(rows: Sequence[AppTotal], whole: int) -> Sheet:
    """Totals by application. whole: bytes of all applications, for the shares."""
    columns = [
        Column("APPLICATION", ratio=3),
        Column("CATEGORY", ratio=2, style="dim"),
        Column("FLOWS", 6, right=True),
        Column("PACKETS", 7, right=True),
        Column("UP", 6, right=True, style="green"),
        Column("DOWN", 6, right=True, style="cyan"),
        Column("BYTES", 6, right=True),
        Column("SHARE", 5, right=True),
    ]
    return Sheet(
        columns,
        [
            (
                label_text(row.app, row.kind == "application"),
                row.category,
                quantity(row.flows),
                quantity(sum(row.packets)),
                quantity(row.bytes[0]),
                quantity(row.bytes[1]),
                quantity(sum(row.bytes)),
                percent(sum(row.bytes), whole),
            )
            for row in rows
        ],
    )


def hosts_table(rows: Sequence[HostTotal], title: str) -> Sheet:
    """Totals by server name or address; title: what the first column holds."""
    columns = [
        Column(title, ratio=3),
        Column("APPLICATION", 16, style="dim"),
        Column("FLOWS", 6, right=True),
        Column("PACKETS", 7, right=True),
        Column("UP", 6, right=True, style="green"),
        Column("DOWN", 6, right=True, style="cyan"),
    ]
    return Sheet(
        columns,
        [
            (
                row.host,
                row.app,
                quantity(row.flows),
                quantity(sum(row.packets)),
                quantity(row.bytes[0]),
                quantity(row.bytes[1]),
            )
            for row in rows
        ],
    )


def flows_table(rows: Sequence[Flow]) -> Sheet:
    """Flows, a line each: the server's name stands for its address where it is known."""
    columns = [
        Column("FROM", ratio=5),
        Column("TO", ratio=7),
        Column("L4", 6),
        Column("APPLICATION", ratio=4),
        Column("UP", 5, right=True, style="green"),
        Column("DOWN", 5, right=True, style="cyan"),
        Column("STATE", 7, style="dim"),
    ]
    return Sheet(
        columns,
        [
            (
                endpoint(row.src, row.sport),
                endpoint(row.host or row.dst, row.dport),
                row.l4,
                label_text(row.label, row.app is not None),
                quantity(row.bytes[0]),
                quantity(row.bytes[1]),
                "estab" if row.state == "established" else row.state,
            )
            for row in rows
        ],
    )


@dataclass(frozen=True, slots=True)
class RateRow:
    """A line of top, each pair [from, to] the initiator: bytes a second, and bytes so far.

    history: the last rates, oldest first (applications only).
    """

    name: str
    note: str
    application: bool
    flows: int
    rate: tuple[float, float]
    octets: tuple[int, int]
    history: tuple[float, ...] = ()


def rates_table(
    rows: Sequence[RateRow], titles: tuple[str, str], whole: float, bits: bool, bars: int = 0
) -> Sheet:
    """Rates and totals a row. titles: of name and note. whole: all rates, for the shares.

    bars: columns of the sparkline, 0 for none.
    """
    unit = "b/s" if bits else "B/s"
    columns = [
        Column(titles[0], ratio=3),
        Column(titles[1], ratio=2, style="dim"),
        Column("FLOWS", 5, right=True),
        Column(f"UP {unit}", 6, right=True, style="green"),
        Column(f"DN {unit}", 6, right=True, style="cyan"),
        Column("SHARE", 5, right=True),
        Column("BYTES", 5, right=True),
    ]
    if bars:
        columns.append(Column("HISTORY", bars, style="yellow"))
    lines: list[list[Cell]] = []
    for row in rows:
        line: list[Cell] = [
            label_text(row.name, row.application),
            row.note,
            quantity(row.flows),
            rate(row.rate[0], bits),
            rate(row.rate[1], bits),
            percent(sum(row.rate), whole),
            quantity(sum(row.octets)),
        ]
        if bars:
            line.append(sparkline(row.history, bars))
        lines.append(line)
    return Sheet(columns, lines)
