# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe bench`: what a packet costs on this machine."""

import argparse
import sys
from typing import Any

from xdpprobe.views import report

_DESCRIPTION = """\
Measures what a packet costs the data plane on this machine, by test runs (BPF_PROG_TEST_RUN) of
the XDP or tc program in an instance of its own: nothing is attached or sent, and an attached probe
is left alone. Takes half a minute with the default table.

Every figure is a difference: the program, and in the same round an empty program, run on the same
packets. NET NS is that difference in the median round; MIN and MAX are those of all rounds; NS and
EMPTY are what was measured in the median round, RATIO their quotient. After each measurement the
tables must show that the packets did what the row says (flows born, names found, nothing lost), or
it ends with an error instead of a figure. Frames lie in the CPU's cache, and no driver is in it.

FLOWS "none" are packets that belong to no flow. "headers alone" are segments whose TCP header
claims more bytes than IP has, which shows when all headers were read. "new" are packets each of
which is the first that is seen of its flow, or the first after what the row names; the table has
room unless the row says otherwise. Hellos, requests and queries carry 16 well-known names in turn,
which are matched against the signatures of the package. Addresses that DNS gave for those names
are noted in the last rows alone: with any noted, each new flow is looked up among them.

What needs traffic (packets a second and TCP throughput through an attached probe, growth with the
table, readers) is measured by `make bench` in the source tree, in network namespaces of its own;
docs/performance.md has its figures.

JSON: schema 2; ns of each row are those of the table (net_ns, min_ns, max_ns, ns, empty_ns); per:
"packet" or "connection" (of several packets); flows: how many took turns, 0: all were new, null:
of no flow; packets: how many were measured; capacity: of the flow table; hz: jiffies a second;
left_out: rows that the table is too small for."""


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "bench",
        help="what a packet costs on this machine",
        description=_DESCRIPTION,
        epilog="example:\n  xdpprobe bench --quick --hook tc",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, schema 2")
    parser.add_argument(
        "--quick", action="store_true", help="fewer packets: ten seconds, and less to be relied on"
    )
    parser.add_argument(
        "--flows",
        type=int,
        default=262144,
        metavar="N",
        help="entries of the flow table, 16384 or more (default: 262144); filling a large one takes"
        " longer",
    )
    parser.add_argument(
        "--hook",
        choices=("xdp", "tc"),
        default="xdp",
        help="the program that is measured (default: xdp)",
    )
    parser.set_defaults(offline=True, run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the figures."""
    from xdpprobe.bench import measure

    effort = measure.QUICK if args.quick else measure.THOROUGH
    try:
        found = measure.run(args.hook, args.flows, effort, _progress)
    finally:
        _progress("")
    if args.json:
        print(report.compact(found.to_json()))
        return 0
    from xdpprobe.views.bench import bench_table

    about = found.to_json()
    out = report.console()
    out.print(bench_table(found.figures))
    settings = f"{found.hook} program, table of {found.capacity} flows, {found.rules} name rules"
    out.print(f"{settings}\n{about['cpu']}, Linux {about['kernel']}", style="dim")
    if found.left_out:
        out.print(f"left out, as the table is too small: {'; '.join(found.left_out)}")
    return 0


def _progress(name: str) -> None:
    """Where a person watches, one line that says what is being measured; "" takes it away."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{name and f'measuring: {name}'}")
        sys.stderr.flush()
