# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe dump`: every map of the probe, sizes and contents, for a closer look."""

import argparse
import json
from typing import Any

_DESCRIPTION = """\
Prints every map of the probe: type, size, kernel memory, elements in use; and what stands in the
small ones (counters, ports, slots, control, info, retired). Needs python3-bpfcc.

JSON: {"schema": 1, "abi": layout, "maps": {name: {...}}}; sizes in bytes."""


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "dump",
        help="every map, sizes and counters",
        description=_DESCRIPTION,
        epilog="example:\n  xdpprobe dump --json | jq .maps.counters.entries",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, schema 1")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the dump."""
    from xdpprobe.dump import dump
    from xdpprobe.probe import Probe

    with Probe.open(args.bpffs) as probe:
        found = dump(probe)
    if args.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"{'MAP':<12} {'TYPE':<13} {'VALUE':>6} {'ENTRIES':>8} {'USED':>8} {'MEMORY':>11}")
    for name, entry in found["maps"].items():
        print(
            f"{name:<12} {entry['type']:<13} {entry['value_size']:>6} {entry['max_entries']:>8} "
            f"{entry.get('used', ''):>8} {entry['memory']:>11}"
        )
    for name, entry in found["maps"].items():
        for key, record in entry.get("entries", {}).items():
            fields = " ".join(f"{field}={value}" for field, value in record.items())
            print(f"{name}[{key}] {fields}")
    return 0
