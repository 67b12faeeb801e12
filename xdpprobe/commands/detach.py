# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe detach`: takes the probe off interfaces."""

import argparse
from typing import Any

from xdpprobe import streams
from xdpprobe.netdev import typed

_DESCRIPTION = """\
Detaches interfaces. With the last one the tables go, and with them all totals: read them first.
--all detaches every interface, and removes probes of other xdpprobe versions too."""


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "detach",
        help="detach interfaces",
        description=_DESCRIPTION,
        epilog="example:\n  xdpprobe detach eth0",
    )
    add = parser.add_argument
    add("interfaces", nargs="*", type=typed, metavar="IFACE", help="interface to detach")
    add("--all", action="store_true", dest="everything", help="everything that is attached")
    add("--netns", metavar="NAME", help="network namespace that the interfaces are in")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Detaches and says what was done."""
    from xdpprobe.detach import detach

    done = detach(
        args.interfaces, everything=args.everything, bpffs=args.bpffs, netns_name=args.netns
    )
    for name in done.interfaces:
        print(f"{streams.printable(name)}: detached")
    for name in done.gone:
        print(f"{streams.printable(name)}: the interface is gone; cleared away")
    for version in done.versions:
        print(f"probe of another version ({version}): removed")
    if done.tables:
        print("that was the last interface: the tables and their totals are gone")
    elif not (done.interfaces or done.gone or done.versions):
        print("nothing was attached")
    return 0
