# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe replay`: the flows of a capture file, as the data plane sees them."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xdpprobe import flows
from xdpprobe.flows import Flow
from xdpprobe.replay import SHORTEST, Replay
from xdpprobe.replay import replay as run_capture
from xdpprobe.rereadable import capture_path, name_of
from xdpprobe.settings import TUNNELS
from xdpprobe.views import report
from xdpprobe.views.text import quantity

_DESCRIPTION = """\
Runs a capture (pcap or pcapng; Ethernet, raw IP, PPP, Linux cooked, ...) through the same XDP
program that runs on interfaces, and prints its flows. Nothing is sent and nothing attached.

JSON: one object a line, a line for each pair of addresses and ports: {"schema": 1, ...}, the rest
as `xdpprobe flows --help` says (vlan: null where several were seen)."""


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "replay",
        help="the flows of a capture file, as the data plane sees them",
        description=_DESCRIPTION,
        epilog="examples:\n  xdpprobe replay capture.pcapng --filter 'not app:youtube'\n"
        "  tcpdump -c 1000 -w - | xdpprobe replay -",
    )
    parser.add_argument("file", type=capture_path, help="capture file or pipe; -: standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object a flow and line")
    parser.add_argument(
        "--limit",
        type=report.natural,
        metavar="N",
        help="flows to show, 0: all (JSON: all)",
    )
    parser.add_argument(
        "--flows",
        type=int,
        default=262144,
        metavar="N",
        help="entries of the flow table at first",
    )
    parser.add_argument(
        "--fragments",
        choices=("apart", "flow"),
        default="apart",
        help="count later IP fragments apart, as most flow tools do, or in their flow, as on"
        " interfaces (default: apart)",
    )
    parser.add_argument(
        "--tunnels",
        choices=TUNNELS,
        default=TUNNELS[0],
        help="flows are the tunnels, or what they carry (default: outer)",
    )
    parser.add_argument(
        "--signatures", type=Path, action="append", metavar="DIR|FILE", help="more signature files"
    )
    report.add_filter(parser)
    parser.set_defaults(offline=True, run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the flows, then on standard error what the capture held."""
    wanted = report.parse_filter(args.filter)
    done = run_capture(
        args.file,
        flow_limit=args.flows,
        fragments_apart=args.fragments == "apart",
        tunnels=args.tunnels,
        signatures=args.signatures,
    )
    report.checked(wanted, done.snapshot)
    rows = np.array(done.order, dtype=np.intp)
    if wanted is not None:
        rows = rows[np.isin(rows, wanted.rows(done.snapshot))]
    found = merged(flows.decode(done.snapshot, rows))
    limit = report.limit(args)
    if args.json:
        for flow in found[:limit]:
            head = {"schema": report.SCHEMA}
            sys.stdout.write(report.compact({**head, **flow.to_json()}) + "\n")
        sys.stdout.flush()
    else:
        from xdpprobe.views.tables import flows_table

        report.print_table(flows_table(found[:limit]), len(found[:limit]), len(found), "flows")
    for line in summary(args.file, done, len(found), quiet=args.json):
        print(line, file=sys.stderr)
    return 1 if done.damage else 0


def merged(found: list[Flow]) -> list[Flow]:
    """One flow for each pair of addresses and ports: entries that differ by VLAN are added up."""
    by_ends: dict[tuple[Any, ...], Flow] = {}
    for flow in found:
        ends = sorted([(flow.src, flow.sport), (flow.dst, flow.dport)])
        key = (flow.l4, *ends)
        first = by_ends.get(key)
        by_ends[key] = flow if first is None else _sum(first, flow)
    return list(by_ends.values())


def _sum(first: Flow, other: Flow) -> Flow:
    same = (first.src, first.sport) == (other.src, other.sport)
    step = 1 if same else -1
    named = first if first.protocol or not other.protocol else other
    return replace(
        first,
        vlan=first.vlan if first.vlan == other.vlan else None,
        packets=_add(first.packets, other.packets[::step]),
        bytes=_add(first.bytes, other.bytes[::step]),
        first=min(first.first, other.first),
        last=max(first.last, other.last),
        protocol=named.protocol,
        app=named.app,
        category=named.category,
        host=named.host,
        method=named.method,
        confidence=named.confidence,
    )


def _add(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, int]:
    return a[0] + b[0], a[1] + b[1]


def summary(path: Path, done: Replay, found: int, quiet: bool) -> list[str]:
    """What to say of the capture; with `quiet`, only what went wrong."""
    lines = []
    if not quiet:
        lines.append(
            f"{quantity(done.packets)} packets, {quantity(done.octets)} bytes, {found} flows"
        )
        reasons = {
            name.removeprefix("REASON_").lower().replace("_", " "): packets
            for name, (packets, _) in done.snapshot.counters.items()
            if name.startswith("REASON_") and packets
        }
        if reasons:
            parts = (f"{reason} {packets}" for reason, packets in reasons.items())
            lines.append("in no flow: " + ", ".join(parts))
    if done.short:
        lines.append(f"{done.short} packets below {SHORTEST} bytes were left out")
    if done.unsupported:
        lines.append(f"{done.unsupported} packets of a link type without plain IP were left out")
    if done.damage:
        where = f"xdpprobe: {name_of(path)}: {done.damage}"
        lines.append(f"{where}; all whole packets before are counted")
    return lines
