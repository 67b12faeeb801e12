# SPDX-License-Identifier: Apache-2.0
"""The picture of `top`: a frame and the user's choices to a rich renderable of a given size.

header   interfaces, rates, time
header   flows in the table, losses, sort key, filter
table    applications, hosts, names or flows
panels   the most active hosts and names (applications view, where there is room)
footer   keys, or what the user should know
"""

import time
from dataclasses import dataclass
from itertools import zip_longest

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from xdpprobe.filter import KEYS as KEYS_OF_FILTERS
from xdpprobe.views.sheet import Column, Sheet
from xdpprobe.views.tables import RateRow, flow_rates_table, rate_columns, rates_table
from xdpprobe.views.text import percent, quantity, rate
from xdpprobe.views.top_model import Frame, Header

KEYS = (
    ("1 2 3, Tab", "applications, hosts, flows"),
    ("n", "hosts: addresses or server names"),
    ("s, S", "next sort key, reverse the order"),
    ("/", "filter (empty: all flows); Esc gives up"),
    ("b", "bits or bytes a second"),
    ("space", "pause, go on"),
    ("+, -", "longer, shorter interval"),
    ("up, down, PgUp, PgDn, Home", "scroll"),
    ("?, h", "this help"),
    ("q, Ctrl-C", "quit"),
)
_TITLES = {
    "apps": ("APPLICATION", "CATEGORY"),
    "hosts": ("HOST", "APPLICATION"),
    "names": ("SERVER NAME", "APPLICATION"),
}
_FOOTER = "1 apps 2 hosts 3 flows  s sort  / filter  b bits  space pause  ? help  q quit"
# What stays of it beside a filter.
_FOOTER_SHORT = "/ filter  ? help  q quit "
_HEADER_LINES = 2
_FOOTER_LINES = 1


@dataclass
class State:
    """What the user has chosen. typing: the filter's line is open."""

    view: str = "apps"
    sort: str = "rate"
    reverse: bool = False
    bits: bool = True
    paused: bool = False
    help: bool = False
    first: int = 0
    interval: float = 1.0
    filter: str = ""
    message: str = ""
    typing: bool = False


def layout(view: str, height: int) -> tuple[int, int]:
    """(rows of the table, rows of the panels) that fit into `height` lines."""
    lines = height - _HEADER_LINES - _FOOTER_LINES - 1
    if view != "apps" or lines < 12:
        return max(lines, 1), 0
    panel = min(max((lines - 8) // 3, 3), 10)
    return lines - panel - 2, panel


def build(frame: Frame, state: State, width: int, height: int) -> RenderableType:
    """The whole picture, at most `height` lines of `width` columns."""
    rows, panel = layout(state.view, height)
    parts: list[RenderableType] = _header(frame.header, state, width)
    used = _HEADER_LINES + _FOOTER_LINES
    if state.help:
        parts.append(_help())
        used += len(KEYS)
    else:
        bars = min(max(8, (width - 64) // 2), 60) if state.view == "apps" else 0
        parts.append(_table(frame, state, rows, bars))
        used += 1 + min(len(frame.rows), rows)
        if panel and (frame.hosts or frame.names):
            parts += [Text(), _panels(frame, state.bits, panel)]
            used += 2 + min(max(len(frame.hosts), len(frame.names)), panel)
    parts.extend(Text() for _ in range(height - used))
    parts.append(_footer(state, width))
    return Group(*parts)


def _table(frame: Frame, state: State, count: int, bars: int) -> Sheet:
    """The view's first `count` rows; bars: columns of the history."""
    rows = frame.rows[:count]
    if state.view == "flows":
        return flow_rates_table(rows, state.bits)
    return rates_table(rows, _TITLES[state.view], sum(frame.header.rate), state.bits, bars)


def plain(frame: Frame, state: State, width: int) -> RenderableType:
    """The picture for a pipe: header, every row of the frame, panels; nothing to fill a screen."""
    parts = _header(frame.header, state, width)
    parts.append(_table(frame, state, len(frame.rows), 0))
    if state.view == "apps" and (frame.hosts or frame.names):
        parts += [Text(), _panels(frame, state.bits, len(frame.rows))]
    return Group(*parts)


def _line(left: Text, right: Text, width: int) -> Text:
    """One line: `left`, and flush right `right`; the left one is cut where both do not fit."""
    left.truncate(max(width - len(right) - 1, 0), overflow="ellipsis")
    left.pad_right(max(width - len(left) - len(right), 0))
    line = left + right
    line.truncate(width)
    line.no_wrap = True
    return line


def _header(head: Header, state: State, width: int) -> list[RenderableType]:
    unit = "b/s" if state.bits else "B/s"
    clock = time.strftime("%H:%M:%S", time.localtime(head.moment))
    # What is not up comes first: the line may be cut.
    names = [f"{name} {state.upper()}" for name, state in head.trouble.items()]
    names += [name for name in head.interfaces if name not in head.trouble]
    left = Text(f" {','.join(names) or 'no interface'}", style="bold")
    right = Text.assemble(
        ("up ", ""),
        (f"{rate(head.rate[0], state.bits)}{unit}", "bold"),
        ("  down ", ""),
        (f"{rate(head.rate[1], state.bits)}{unit}", "bold"),
        (f"  {quantity(head.packets)}p/s", ""),
        (f"  {clock} ", ""),
    )
    first = _line(left, right, width)
    first.stylize("reverse")
    loss = f"  losses {quantity(head.losses)}"
    if head.worst_loss:
        loss += f" (mostly {head.worst_loss.replace('_', ' ')})"
    matching = "" if head.matching is None else f" {quantity(head.matching)} match;"
    left = Text.assemble(
        f"{matching} flows {quantity(head.used)} of {quantity(head.capacity)}"
        f" ({percent(head.used, head.capacity) or '0%'})",
        (loss, "bold red" if head.new_losses else ""),
    )
    order = f"by {state.sort}{' reversed' if state.reverse else ''}"
    right = Text(f"{order}, {state.interval:g}s ")
    return [first, _line(left, right, width)]


def _panels(frame: Frame, bits: bool, count: int) -> Sheet:
    """The most active hosts and names, side by side."""
    rates = rate_columns(bits)
    columns = [
        Column("MOST ACTIVE HOSTS", ratio=4),
        *rates,
        Column("MOST ACTIVE NAMES", ratio=5),
        *rates,
    ]
    sides = (_panel(frame.hosts[:count], bits), _panel(frame.names[:count], bits))
    rows = zip_longest(*sides, fillvalue=("", "", ""))
    return Sheet(columns, [left + right for left, right in rows])


def _panel(rows: list[RateRow], bits: bool) -> list[tuple[str, str, str]]:
    return [(row.name, rate(row.rate[0], bits), rate(row.rate[1], bits)) for row in rows]


def _help() -> Table:
    grid = Table.grid(padding=(0, 2))
    for keys, meaning in KEYS:
        grid.add_row(Text(f"  {keys}", style="bold"), Text(meaning))
    return grid


def _footer(state: State, width: int) -> Text:
    right = Text()
    if state.message:
        left = Text(f" {state.message}", style="bold red")
    elif state.typing:
        left = Text(f" keys: {' '.join(KEYS_OF_FILTERS)}", style="dim")
        right.append("Enter applies  Esc gives up ", style="dim")
    elif state.filter:
        left = Text(f" filter: {state.filter}", style="bold")
        right.append(_FOOTER_SHORT, style="dim")
    else:
        left = Text(f" {_FOOTER}", style="dim")
    if state.paused:
        right.append("PAUSED ", style="reverse")
    return _line(left, right, width)
