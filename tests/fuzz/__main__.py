# SPDX-License-Identifier: Apache-2.0
"""`make fuzz`: all parts one after the other, a table at the end, exit code 1 on a finding.

Nothing is attached or pinned, so nothing is left behind however it ends: programs and maps go with
the process.
"""

import argparse
import json
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis.configuration import set_hypothesis_home_dir
from rich.console import Console

from tests.fuzz import files, invariants, names, packets
from tests.fuzz.report import Tally, show
from tests.fuzz.seeds import Group, captured_groups, own_groups
from xdpprobe.errors import ProbeError

SCHEMA = 1
FINDINGS = Path("fuzz-findings")

Run = Callable[[Tally, list[Group], int, float], None]
# Part -> (what it counts, its share of the time, how it goes on).
PARTS: dict[str, tuple[str, float, Run]] = {
    invariants.PART: ("packets", 0.5, invariants.fuzz),
    packets.PART: ("packets", 0.1, packets.fuzz),
    names.PART: ("flows", 0.3, lambda tally, _, seed, seconds: names.fuzz(tally, seed, seconds)),
    files.PART: ("inputs", 0.1, lambda tally, _, seed, seconds: files.fuzz(tally, seed, seconds)),
}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=10, help="for all parts together (%(default)s)")
    add("--seed", type=int, help="of an earlier run, to repeat it")
    add("--corpus", type=Path, metavar="DIR", help="captures to begin with, too")
    add("--part", choices=PARTS, action="append", help="only this one (may be repeated)")
    add("--json", type=Path, metavar="FILE", help="write the table there as well")
    add("--findings", type=Path, default=FINDINGS, metavar="DIR", help="(%(default)s)")
    return parser


def main() -> int:
    """Runs the parts; the process's exit code."""
    options = build_parser().parse_args()
    console = Console()
    if os.geteuid() != 0 and options.part != [files.PART]:
        print("fuzz: loading a BPF program needs root: sudo make fuzz", file=sys.stderr)
        return 1
    seed = secrets.randbits(32) if options.seed is None else options.seed
    console.print(f"fuzz: seed {seed}")
    groups = own_groups()
    if options.corpus:
        captured = captured_groups(options.corpus, random.Random(seed))
        console.print(f"fuzz: {len(captured)} captures of {options.corpus}")
        groups += captured
    tallies: list[Tally] = []
    interrupted = False
    try:
        with tempfile.TemporaryDirectory() as folder:
            set_hypothesis_home_dir(folder)  # it keeps things, and not in the tree
            _run(options, seed, groups, tallies)
    except KeyboardInterrupt:
        interrupted = True
    except ProbeError as error:
        print(f"fuzz: {error}", file=sys.stderr)
        return error.exit_code
    show(tallies, console)
    if options.json:
        report = {"schema": SCHEMA, "seed": seed, "parts": [tally.row() for tally in tallies]}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if interrupted:
        return 130
    return 1 if any(tally.findings for tally in tallies) else 0


def _run(options: argparse.Namespace, seed: int, groups: list[Group], tallies: list[Tally]) -> None:
    chosen = {name: PARTS[name] for name in PARTS if name in (options.part or PARTS)}
    whole = sum(share for _, share, _ in chosen.values())
    cpus = os.sched_getaffinity(0)
    # Per-CPU memory keeps what the packet before left there: so all packets go to one CPU.
    os.sched_setaffinity(0, {min(cpus)})
    try:
        for name, (unit, share, run) in chosen.items():
            tally = Tally(name, unit, options.findings)
            tallies.append(tally)
            begin = time.monotonic()
            try:
                run(tally, groups, seed, options.minutes * 60 * share / whole)
            finally:
                tally.seconds = time.monotonic() - begin
    finally:
        os.sched_setaffinity(0, cpus)


if __name__ == "__main__":
    sys.exit(main())
