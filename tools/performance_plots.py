# SPDX-License-Identifier: Apache-2.0
"""Draws docs/performance-*.svg from docs/performance.json; needs matplotlib (tools/bench_setup.sh).

.venv/bin/python tools/performance_plots.py [DATA]
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from performance_text import DATA, Data, digest

_COLOURS = ("#2f6fab", "#c8553d", "#5b8c5a", "#8d6a9f")
_SIZE = (7.2, 3.4)  # inches


def draw(data: Data, directory: Path) -> None:
    """One file a section that has a plot. The same data give the same bytes."""
    mpl.rcParams.update(
        {
            "svg.hashsalt": "xdpprobe",
            "svg.fonttype": "none",  # text stays text, in the viewer's font
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.axisbelow": True,
        }
    )
    for name, plot in PLOTS.items():
        if name not in data:
            continue
        figure = Figure(figsize=_SIZE, layout="constrained")
        plot(figure.subplots(), data[name])
        about = {"Date": None, "Source": f"performance.json, {name}, {digest(data[name])}"}
        figure.savefig(directory / f"performance-{name}.svg", metadata=about)


def _lines(axes: Axes, counts: Sequence[int], figures: Mapping[str, Sequence[Data]]) -> None:
    """Medians as lines, and between the least and the largest a shade."""
    for (label, found), colour in zip(figures.items(), _COLOURS, strict=False):
        median, low, high = ([one[key] for one in found] for key in ("net_ns", "min_ns", "max_ns"))
        axes.plot(counts, median, "o-", color=colour, label=label)
        axes.fill_between(counts, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_ylabel("ns net of an empty program")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(frameon=False)


def flows(axes: Axes, found: Sequence[Data]) -> None:
    """ns by the flows in the table."""
    figures = {
        "a packet of an established flow": [row["established"] for row in found],
        "a new flow's SYN": [row["new"] for row in found],
    }
    _lines(axes, [row["flows"] for row in found], figures)
    axes.set_xlabel("flows in the table")


def rules(axes: Axes, found: Sequence[Data]) -> None:
    """ns by the name rules."""
    hellos = {"a new flow's ClientHello, named": [row["hello"] for row in found]}
    _lines(axes, [row["rules"] for row in found], hellos)
    axes.set_xlabel("name rules")


def _bars(
    axes: Axes, names: Sequence[str], groups: Mapping[str, Sequence[Data]], unit: float
) -> None:
    """A bar a name and group; its whisker goes from the least to the largest."""
    height = 0.8 / len(groups)
    for number, ((label, found), colour) in enumerate(zip(groups.items(), _COLOURS, strict=False)):
        at = [place + (number - (len(groups) - 1) / 2) * height for place in range(len(names))]
        median = [one["median"] / unit for one in found]
        spread = [
            [(one["median"] - one["min"]) / unit for one in found],
            [(one["max"] - one["median"]) / unit for one in found],
        ]
        axes.barh(at, median, height * 0.9, xerr=spread, color=colour, ecolor="#444", label=label)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)


def frames(axes: Axes, found: Data) -> None:
    """Frames a second by what is attached."""
    names = list(dict.fromkeys(row["variant"] for row in found["rows"]))
    groups = {
        f"{cpus} CPU{'s' if cpus > 1 else ''}": [
            row["frames_a_second"] for row in found["rows"] if row["cpus"] == cpus
        ]
        for cpus in sorted({row["cpus"] for row in found["rows"]})
    }
    _bars(axes, names, groups, 1e6)
    axes.set_xlabel(f"10^6 frames of {found['frame_bytes']} bytes a second")
    axes.legend(frameon=False)


def tcp(axes: Axes, found: Data) -> None:
    """Throughput by what is attached."""
    names = [row["variant"] for row in found["rows"]]
    _bars(axes, names, {"": [row["bits_a_second"] for row in found["rows"]]}, 1e9)
    axes.set_xlabel("Gb/s of one TCP stream")


PLOTS: dict[str, Callable[[Axes, Any], None]] = {
    "flows": flows,
    "rules": rules,
    "frames": frames,
    "tcp": tcp,
}


def main() -> None:
    """Draws beside the data."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    draw(json.loads(source.read_text()), source.parent)


if __name__ == "__main__":
    main()
