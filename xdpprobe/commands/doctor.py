# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe doctor`: what this machine and an interface can and cannot do for the probe."""

import argparse
import json
from typing import Any

from xdpprobe.netdev import typed

_DESCRIPTION = """\
Checks the kernel, this process, the BPF file system and the interfaces named, and gives the
command that would help. Changes nothing. Exit code 0 when `attach` would work."""


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "doctor",
        help="what this kernel and interface can and cannot do",
        description=_DESCRIPTION,
        epilog="example:\n  xdpprobe doctor eth0",
    )
    add = parser.add_argument
    add("interfaces", nargs="*", type=typed, metavar="IFACE", help="interface to check")
    add("--netns", metavar="NAME", help="network namespace that the interfaces are in")
    add("--json", action="store_true", help="one JSON object, schema 1")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the findings."""
    from xdpprobe import doctor

    found = doctor.machine(args.bpffs)
    own = doctor.attached(args.bpffs)
    for name in args.interfaces:
        found += doctor.interface(name, args.netns, own, args.bpffs)
    ready = all(finding.grade != doctor.BAD for finding in found)
    if args.json:
        findings = [vars(finding) for finding in found]
        print(json.dumps({"schema": 1, "ready": ready, "findings": findings}, indent=2))
        return 0 if ready else 1
    for finding in found:
        print(f"{finding.grade:<8} {finding.subject:<11} {finding.text}")
        if finding.fix:
            print(f"{'':<20} try: {finding.fix}")
    print("attach will work" if ready else "attach would fail")
    return 0 if ready else 1
