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
from xdpprobe.tls import Tls
from xdpprobe.views.sheet import Cell, Column, Sheet
from xdpprobe.views.text import endpoint, percent, quantity, rate, span, sparkline


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


# At 80 columns there is room for an IPv4 address with its port.
_ENDS = (Column("FROM", ratio=7), Column("TO", ratio=7))
# Short forms that filters take, too.
_STATES = {"established": "estab", "expired": "expir"}


def _ends(flow: Flow) -> tuple[str, str]:
    return endpoint(flow.src, flow.sport), endpoint(flow.host or flow.dst, flow.dport)


def flows_table(rows: Sequence[Flow]) -> Sheet:
    """Flows, a line each: the server's name stands for its address where it is known."""
    columns = [
        *_ENDS,
        Column("L4", 6),
        Column("APPLICATION", ratio=4),
        Column("UP", 5, right=True, style="green"),
        Column("DOWN", 5, right=True, style="cyan"),
        Column("STATE", 6, style="dim"),
        Column("TIME", 4, right=True),
    ]
    return Sheet(
        columns,
        [
            (
                *_ends(row),
                row.l4,
                label_text(row.label, row.app is not None),
                quantity(row.bytes[0]),
                quantity(row.bytes[1]),
                _STATES.get(row.state, row.state),
                span(row.duration),
            )
            for row in rows
        ],
    )


def tls_table(rows: Sequence[Flow]) -> Sheet:
    """What is known of flows' TLS: the ends, the server's answer, the client's hello.

    JA4 comes last: it is as long as three others, and what a narrow screen has no room for.
    """
    columns = [
        *_ENDS,
        Column("VERSION", 7),
        Column("MARK", 8),
        Column("ALPN", 8),
        Column("ECH", 6),
        Column("JA4", 36),
    ]
    return Sheet(
        columns,
        [
            (
                *_ends(row),
                row.tls.version or "",
                _tls_mark(row.tls),
                row.alpn or "",
                row.ech or "",
                row.ja4 or "",
            )
            for row in rows
        ],
    )


def _tls_mark(tls: Tls) -> str:
    """What is odd comes before what is usual."""
    return "mismatch" if tls.sni_mismatch else "resumed" if tls.resumed else ""


@dataclass(frozen=True, slots=True)
class RateRow:
    """A line of top, each pair [from, to] the initiator: bytes a second, and bytes so far.

    history: the last rates, oldest first (applications only). flow: what a line of flows is.
    """

    name: str
    note: str
    application: bool
    flows: int
    rate: tuple[float, float]
    octets: tuple[int, int]
    history: tuple[float, ...] = ()
    flow: Flow | None = None


def rate_columns(bits: bool) -> tuple[Column, Column]:
    """The columns of what goes up and down a second."""
    unit = "b/s" if bits else "B/s"
    return (
        Column(f"UP {unit}", 6, right=True, style="green"),
        Column(f"DN {unit}", 6, right=True, style="cyan"),
    )


def rates_table(
    rows: Sequence[RateRow], titles: tuple[str, str], whole: float, bits: bool, bars: int = 0
) -> Sheet:
    """Rates and totals a row. titles: of name and note. whole: all rates, for the shares.

    bars: columns of the sparkline, 0 for none.
    """
    columns = [
        Column(titles[0], ratio=3),
        Column(titles[1], ratio=2, style="dim"),
        Column("FLOWS", 5, right=True),
        *rate_columns(bits),
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


def flow_rates_table(rows: Sequence[RateRow], bits: bool) -> Sheet:
    """Rates of flows, a line each (those without a `flow` have none)."""
    columns = [
        *_ENDS,
        Column("APPLICATION", ratio=4),
        *rate_columns(bits),
        Column("BYTES", 5, right=True),
        Column("TIME", 4, right=True),
    ]
    return Sheet(
        columns,
        [
            (
                *_ends(row.flow),
                label_text(row.note, row.application),
                rate(row.rate[0], bits),
                rate(row.rate[1], bits),
                quantity(sum(row.octets)),
                span(row.flow.duration),
            )
            for row in rows
            if row.flow
        ],
    )
