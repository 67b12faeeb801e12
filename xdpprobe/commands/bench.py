# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe bench`: what a packet costs on this machine."""

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "bench", help="what a packet costs on this machine", epilog="example:\n  xdpprobe bench"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, schema 1")
    parser.add_argument("--quick", action="store_true", help="fewer packets")
    parser.add_argument("--flows", type=int, default=262144, metavar="N")
    parser.add_argument("--hook", choices=("xdp", "tc"), default="xdp")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the figures."""
    from xdpprobe.bench.measure import run as measure

    for f in measure(args.hook, args.flows, args.quick).figures:
        print(f)
    return 0
