# SPDX-License-Identifier: Apache-2.0
"""A benchmark's figures as a table."""

from collections.abc import Sequence

from xdpprobe.bench.report import Figure
from xdpprobe.views.sheet import Column, Sheet


def bench_table(figures: Sequence[Figure]) -> Sheet:
    """A line a figure, all of them ns."""
    columns = [
        Column("A PACKET THAT IS", ratio=1),
        Column("FLOWS", 9, right=True, style="dim"),
        Column("NET NS", 6, right=True, style="bold green"),
        Column("MIN", 5, right=True),
        Column("MAX", 5, right=True),
        Column("NS", 5, right=True, style="dim"),
        Column("EMPTY", 5, right=True, style="dim"),
        Column("RATIO", 5, right=True, style="dim"),
    ]
    return Sheet(
        columns,
        [
            (
                figure.name if figure.per == "packet" else "  both of a connection",
                _flows(figure.flows),
                *(str(n) for n in (figure.net_ns, figure.min_ns, figure.max_ns)),
                *(str(n) for n in (figure.ns, figure.empty_ns)),
                f"{figure.ratio:.1f}",
            )
            for figure in figures
        ],
    )


def _flows(count: int | None) -> str:
    if count is None:
        return "none"
    return f"{count:,}" if count else "new"
