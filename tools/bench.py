# SPDX-License-Identifier: Apache-2.0
"""The whole benchmark: what `make bench` runs (root). Writes docs/performance.* anew.

    sudo .venv/bin/python tools/bench.py [--only PART ...] [--data FILE] [--quick]

Ten minutes, on a machine that has nothing else to do. Everything happens in network namespaces of
its own, which are removed whatever comes between. With --only, the other parts stay as they are in
the data; --quick takes a fifth of the time, for figures that say no more than that all of it works.
What is in the data: docs/performance.md, "The data"; tools/performance.py makes that document.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bench_growth
import bench_veth
import measure_readers
import performance
from performance_text import DATA

from xdpprobe import kernel
from xdpprobe.bench import measure
from xdpprobe.bench.report import cpu_model
from xdpprobe.bench.rows import all_rows
from xdpprobe.errors import ProbeError
from xdpprobe.lab import run
from xdpprobe.version import VERSION

SCHEMA = 1
# Part -> what it needs, command -> Debian package, beside what `make setup` installs.
TOOLS = {"frames": {"tcpdump": "tcpdump"}, "tcp": {"tcpdump": "tcpdump", "iperf3": "iperf3"}}
_QUICK_DATA = DATA.parents[1] / "build" / "performance.json"
_LARGE = 2097152  # entries of a table that holds the rows with a million flows


@dataclass(frozen=True)
class Effort:
    """How long everything takes. sizes, rules: how far growth is followed. seconds: to watch
    `top`."""

    rows: measure.Effort
    growth: measure.Effort
    veth: bench_veth.Effort
    sizes: tuple[int, ...]
    rules: tuple[int, ...]
    seconds: float


THOROUGH = Effort(
    rows=measure.Effort(0.5, 15, 100_000, 24_000),
    growth=measure.Effort(0.5, 7, 100_000, 24_000),
    veth=bench_veth.Effort(5, 1_000_000, 3),
    sizes=tuple(bench_growth.SIZES),
    rules=bench_growth.RULES,
    seconds=15.0,
)
QUICK = Effort(
    rows=measure.QUICK,
    growth=measure.Effort(0.05, 3, 100_000, 8_000),
    veth=bench_veth.Effort(2, 200_000, 1),
    sizes=tuple(bench_growth.SIZES)[:3],
    rules=bench_growth.RULES[:4],
    seconds=5.0,
)


def rows(effort: Effort, progress: Callable[[str], None]) -> dict[str, Any]:
    """The table of `xdpprobe bench`, over XDP and tc."""
    found = {}
    for hook in ("xdp", "tc"):
        report = measure.run(hook, 262144, effort.rows, progress).to_json()
        many = [row for row in all_rows() if row.flows == 1_000_000]
        if effort is THOROUGH:
            large = measure.run(hook, _LARGE, effort.rows, progress, many).to_json()
            report["rows"] += [row | {"capacity": _LARGE} for row in large["rows"]]
            report["left_out"] = []
        places = [(row.name, row.flows) for row in all_rows()]
        report["rows"].sort(key=lambda row: places.index((row["name"], row["flows"] or 0)))
        keep = ("capacity", "rules", "hz", "left_out")
        table = [{"capacity": report["capacity"]} | row for row in report["rows"]]
        found[hook] = {name: report[name] for name in keep} | {"rows": table}
    return found


def readers(effort: Effort, progress: Callable[[str], None]) -> dict[str, Any]:
    """`top` once a second on a full default table, quiet and with traffic."""
    progress("readers of a full table")
    found = measure_readers.table(262144, 262144, effort.seconds, False)
    return {"flows": found["read_ms"]["flows"], "rate": measure_readers.LIVE_RATE} | {
        name: {key: found[name][key] for key in ("percent", "rss", "pss")}
        for name in ("top_idle", "top_live")
    }


PARTS: dict[str, Callable[[Effort, Callable[[str], None]], Any]] = {
    "rows": rows,
    "goal": lambda effort, progress: bench_growth.goal(effort.growth, progress),
    "flows": lambda effort, progress: bench_growth.flows(effort.sizes, effort.growth, progress),
    "rules": lambda effort, progress: bench_growth.rules(effort.rules, effort.growth, progress),
    "frames": lambda effort, progress: bench_veth.frames(effort.veth, progress),
    "tcp": lambda effort, progress: bench_veth.tcp(effort.veth, progress),
    "readers": readers,
}


def machine() -> dict[str, Any]:
    """On what it was measured, and with what."""
    memory = re.search(r"MemTotal: +(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "virtual": "hypervisor" in Path("/proc/cpuinfo").read_text(),
        "memory": int(memory[1]) * 1024 if memory else None,
        "machine": os.uname().machine,
        "kernel": kernel.release(),
        "clang": _version("clang"),
        "iperf3": _version("iperf3"),
        "tcpdump": _version("tcpdump"),
    }


def _version(tool: str) -> str:
    """The number in what a program says of itself; "unknown" where it is not installed."""
    try:
        done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    found = re.search(r"\d+\.\d[\w.]*", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def take(parts: list[str], effort: Effort, known: dict[str, Any]) -> dict[str, Any]:
    """The data: `known` with these parts measured anew."""
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "quick": effort is QUICK or known.get("quick", False),
        "machine": machine(),
        "seconds": dict(known.get("seconds", {})),
    }
    for name in PARTS:
        if name in parts:
            start = time.monotonic()
            data[name] = PARTS[name](effort, partial(_progress, name))
            data["seconds"][name] = round(time.monotonic() - start)
            _tell(f"{name}: done in {data['seconds'][name]} s\n")
        elif name in known:
            data[name] = known[name]
    return data


def _progress(part: str, words: str) -> None:
    _tell(f"{part}: {words}")


def _tell(words: str) -> None:
    """One line that says what goes on; where nobody watches, only the lines that end."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[Kbench: {words}")
    elif words.endswith("\n"):
        sys.stderr.write(f"bench: {words}")
    sys.stderr.flush()


def main() -> int:
    """Measures, writes the data, and then what is made of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="measure these parts")
    parser.add_argument("--quick", action="store_true", help="two minutes; figures of no worth")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="where the data go (default: docs/performance.json; --quick: in build/)",
    )
    args = parser.parse_args()
    args.data = args.data or (_QUICK_DATA if args.quick else DATA)
    args.data.parent.mkdir(exist_ok=True)
    partly = args.only and args.data.exists()
    known = json.loads(args.data.read_text()) if partly else {}
    parts = args.only or list(PARTS)
    try:
        run.require_root("the benchmark")
        for part in parts:
            run.require_tools(TOOLS.get(part, {}))
        data = take(parts, QUICK if args.quick else THOROUGH, known)
    except ProbeError as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nbench: broken off; nothing was written", file=sys.stderr)
        return 130
    args.data.write_text(json.dumps(data, indent=1) + "\n")
    performance.write(data, args.data)
    from performance_plots import draw  # matplotlib, which nothing else needs

    draw(data, args.data.parent)
    print(f"bench: {args.data.with_suffix('.md')} is written", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
