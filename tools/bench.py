# SPDX-License-Identifier: Apache-2.0
"""The whole benchmark: what `make bench` runs (root). Writes docs/performance.* anew.

    sudo .venv/bin/python tools/bench.py [--only PART ... | --continue] [--data FILE] [--quick]

Ten minutes, on a machine that has nothing else to do. Everything happens in network namespaces of
its own, which are removed whatever comes between. With --only, the other parts stay as they are in
the data; --quick takes a fifth of the time, for figures that say no more than that all of it works.
What is void is measured once more. Parts are kept as they are finished: --continue goes on with a
run that was broken off.
What is in the data: docs/performance.md, "The data"; tools/performance.py makes that document.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bench_data
import bench_growth
import bench_peers
import bench_signatures
import bench_veth
import measure_readers
import performance
from performance_text import DATA

from xdpprobe.bench import measure
from xdpprobe.bench.rows import all_rows
from xdpprobe.errors import ProbeError, StateError
from xdpprobe.lab import run

# Part -> what it needs, command -> Debian package, beside what `make setup` installs.
TOOLS = {"frames": {"tcpdump": "tcpdump"}, "tcp": {"tcpdump": "tcpdump", "iperf3": "iperf3"}}
_QUICK_DATA = DATA.parents[1] / "build" / "performance.json"
_LARGE = 2097152  # entries of a table that holds the rows with a million flows


@dataclass(frozen=True)
class Effort:
    """How long everything takes. sizes, rules, signatures, peers: how far growth is followed.
    seconds: to watch `top`."""

    rows: measure.Effort
    growth: measure.Effort
    veth: bench_veth.Effort
    sizes: tuple[int, ...]
    rules: tuple[int, ...]
    signatures: tuple[int, ...]
    peers: tuple[int, ...]
    seconds: float


THOROUGH = Effort(
    rows=measure.Effort(0.5, 15, 100_000, 24_000),
    growth=measure.Effort(0.5, 7, 100_000, 24_000),
    veth=bench_veth.Effort(5, 1_000_000, 3),
    sizes=tuple(bench_growth.SIZES),
    rules=bench_growth.RULES,
    signatures=bench_signatures.COUNTS,
    peers=bench_peers.COUNTS,
    seconds=15.0,
)
QUICK = Effort(
    rows=measure.QUICK,
    growth=measure.Effort(0.05, 3, 100_000, 8_000),
    veth=bench_veth.Effort(2, 200_000, 1),
    sizes=tuple(bench_growth.SIZES)[:3],
    rules=bench_growth.RULES[:4],
    signatures=bench_signatures.COUNTS[:2],
    peers=bench_peers.COUNTS[:2],
    seconds=5.0,
)


def rows(effort: Effort, progress: Callable[[str], None]) -> dict[str, Any]:
    """The table of `xdpprobe bench`, over XDP and tc."""
    found = {}
    for hook in ("xdp", "tc"):
        report = measure.run(hook, 262144, effort.rows, progress, again=True).to_json()
        many = [row for row in all_rows() if row.flows == 1_000_000]
        if effort is THOROUGH:
            large = measure.run(hook, _LARGE, effort.rows, progress, many, again=True).to_json()
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
    take = partial(measure_readers.table, 262144, 262144, effort.seconds, False)
    found = measure.twice(take, progress)
    return {"flows": found["read_ms"]["flows"], "rate": measure_readers.LIVE_RATE} | {
        name: {key: found[name][key] for key in ("percent", "rss", "pss")}
        for name in ("top_idle", "top_live")
    }


PARTS: dict[str, Callable[[Effort, Callable[[str], None]], Any]] = {
    "rows": rows,
    "goal": lambda effort, progress: bench_growth.goal(effort.growth, progress),
    "flows": lambda effort, progress: bench_growth.flows(effort.sizes, effort.growth, progress),
    "rules": lambda effort, progress: bench_growth.rules(effort.rules, effort.growth, progress),
    "signatures": lambda effort, progress: bench_signatures.signatures(
        effort.signatures, effort.growth, progress
    ),
    "peers": lambda effort, progress: bench_peers.peers(effort.peers, effort.growth, progress),
    "frames": lambda effort, progress: bench_veth.frames(effort.veth, progress),
    "tcp": lambda effort, progress: bench_veth.tcp(effort.veth, progress),
    "readers": readers,
}


def take(
    parts: Sequence[str],
    effort: Effort,
    known: dict[str, Any],
    save: Callable[[dict[str, Any]], None] = lambda data: None,
) -> dict[str, Any]:
    """The data: `known` with these parts measured anew. save: gets them after each part.

    Raises ProbeError when a part cannot be measured.
    """
    data = bench_data.begin(effort is QUICK, known, parts)
    for name in parts:
        start = time.monotonic()
        try:
            data[name] = PARTS[name](effort, partial(_progress, name))
        except (OSError, LookupError, ValueError, subprocess.SubprocessError) as error:
            raise StateError(f"{name}: {type(error).__name__}: {error}") from error
        data["seconds"][name] = round(time.monotonic() - start)
        bench_data.note_load(data)
        save(data)
        _tell(f"{name}: done in {data['seconds'][name]} s\n")
    order = [name for name in data if name not in PARTS] + [name for name in PARTS if name in data]
    return {name: data[name] for name in order}


def _progress(part: str, words: str) -> None:
    _tell(f"{part}: {words}")


def _tell(words: str) -> None:
    """One line that says what goes on; where nobody watches, only the lines that end."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[Kbench: {words}")
    elif words.endswith("\n"):
        sys.stderr.write(f"bench: {words}")
    sys.stderr.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--only",
        nargs="+",
        choices=list(PARTS),
        metavar="PART",
        help=f"measure these parts: {', '.join(PARTS)}",
    )
    which.add_argument(
        "--continue",
        dest="go_on",
        action="store_true",
        help="measure what is missing of a run that was broken off",
    )
    parser.add_argument("--quick", action="store_true", help="two minutes; figures of no worth")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="where the data go (default: docs/performance.json; --quick: in build/)",
    )
    args = parser.parse_args()
    args.data = args.data or (_QUICK_DATA if args.quick else DATA)
    return args


def _plan(args: argparse.Namespace) -> tuple[list[str], dict[str, Any]]:
    """The parts to measure, and the data that they belong to. Raises ProbeError."""
    if args.go_on:
        known = bench_data.read(bench_data.unfinished(args.data))
        return [name for name in PARTS if name not in known], known
    known = bench_data.read(args.data) if args.only and args.data.exists() else {}
    return [name for name in PARTS if name in (args.only or PARTS)], known


def main() -> int:
    """Measures, writes the data, and then what is made of it."""
    args = _arguments()
    try:
        run.require_root("the benchmark")
        parts, known = _plan(args)
        for part in parts:
            run.require_tools(TOOLS.get(part, {}))
        _measure(parts, known, args)
    except ProbeError as error:
        print(f"\nbench: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130  # what is kept was said
    return 0


def _measure(parts: Sequence[str], known: dict[str, Any], args: argparse.Namespace) -> None:
    """Raises ProbeError; what was finished until then is kept."""
    draft, kept = bench_data.unfinished(args.data), []

    def save(data: dict[str, Any]) -> None:
        bench_data.write(data, draft)
        kept[:] = [name for name in PARTS if name in data]

    try:
        data = take(parts, QUICK if args.quick else THOROUGH, known, save)
    except BaseException as error:  # also Ctrl-C, and signals that end the process
        if kept:
            rest = f"--continue measures the rest: {draft} has {', '.join(kept)}"
            print(f"\nbench: broken off; {rest}", file=sys.stderr)
        elif not isinstance(error, ProbeError):
            print("\nbench: broken off; nothing was written", file=sys.stderr)
        raise
    bench_data.write(data, args.data)
    draft.unlink(missing_ok=True)
    performance.write(data, args.data)
    try:
        from performance_plots import draw  # matplotlib, which nothing else needs
    except ImportError:
        raise StateError(
            f"{args.data} is written, but no plots: matplotlib is not installed",
            "run: tools/bench_setup.sh; .venv/bin/python tools/performance_plots.py",
        ) from None
    draw(data, args.data.parent)
    print(f"bench: {args.data.with_suffix('.md')} is written", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
