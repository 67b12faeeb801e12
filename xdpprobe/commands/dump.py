# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe dump`: every map of the probe, sizes and contents, for a closer look."""

import argparse
import json
from typing import Any

from xdpprobe.views import report

_DESCRIPTION = """\
Prints every map of the probe: type, size, kernel memory, entries (flows, names) that it has room
for and that are in use; and what stands in the small ones (counters, ports, slots, control, info,
retired). Needs python3-bpfcc.

With --filter also how many entries of flow_hot, flow_cold, names and hellos belong to flows that
match, and the first 1000 of them as the tables hold them. All else stays whole.

JSON: {"schema": 1, "abi": layout, "maps": {name: {...}}}; sizes in bytes; max_entries as the kernel
has it, which for flows and names are sets of several elements."""


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "dump",
        help="every map, sizes and counters",
        description=_DESCRIPTION,
        epilog="examples:\n  xdpprobe dump --json | jq .maps.counters.entries\n"
        "  xdpprobe dump --filter 'host:10.0.0.7 state:est'",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, schema 1")
    report.add_filter(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the dump."""
    from xdpprobe.dump import dump
    from xdpprobe.probe import Probe

    wanted = report.parse_filter(args.filter)
    with Probe.open(args.bpffs) as probe:
        found = dump(probe, wanted)
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    _print(found["maps"], wanted is not None)
    return 0


def _print(maps: dict[str, dict[str, Any]], filtered: bool) -> None:
    """A line a map, then a line each of the entries that are shown."""
    titles = f"{'MAP':<12} {'TYPE':<13} {'VALUE':>6} {'ENTRIES':>8} {'USED':>8} {'MEMORY':>11}"
    print(titles + (f" {'MATCH':>8}" if filtered else ""))
    for name, entry in maps.items():
        # Where a value is a set, what it is a set of.
        entries = entry.get("elements", entry["max_entries"])
        size = entry["value_size"] * entry["max_entries"] // entries
        line = f"{name:<12} {entry['type']:<13} {size:>6} {entries:>8} "
        line += f"{entry.get('used', ''):>8} {entry['memory']:>11}"
        print(line + (f" {entry.get('matching', ''):>8}" if filtered else "").rstrip())
    for name, entry in maps.items():
        shown = entry.get("entries", {})
        for key, record in shown.items():
            fields = " ".join(f"{field}={value}" for field, value in record.items())
            print(f"{name}[{key}] {fields}")
        if entry.get("matching", 0) > len(shown):
            print(f"{name}: {entry['matching'] - len(shown)} more match; `flows` lists all flows")
