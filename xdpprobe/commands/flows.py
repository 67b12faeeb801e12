# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe flows`: the flows in the table, or each one as it is named or ends."""

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from xdpprobe import flows
from xdpprobe.errors import UsageError
from xdpprobe.filter import Filter
from xdpprobe.follow import followed
from xdpprobe.probe import Probe
from xdpprobe.records import of_records
from xdpprobe.snapshot import Array, Snapshot
from xdpprobe.sorting import SORT_KEYS, order
from xdpprobe.streams import say
from xdpprobe.views import report
from xdpprobe.views.text import endpoint, quantity

_DESCRIPTION = f"""\
The flows in the table, or with --follow a line for each flow that gets a name or ends. UP and DOWN
are bytes, TIME is from the first packet to the last.

JSON: {{"schema": 1, "flows": [...]}}, and with --follow one object a line. A flow is
{(flows.__doc__ or "").split("opened it:", 1)[-1].rstrip()}

with --follow before these:
    schema, time      1; when the record was read, ISO 8601, UTC
    event             named, ended (closed), expired (silent), evicted (table full), active
A flow that fell silent is reported when another takes its place, which in a table with room may be
never; one that ended may still see a last packet. Up to four can follow at a time."""

# Flows decoded at a time: memory stays small however large the table is.
_BATCH = 8192
_RING_FULL = "LOSS_RING_FULL"


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "flows",
        help="the flows in the table, or as they are named and end",
        description=_DESCRIPTION,
        epilog="examples:\n  xdpprobe flows --filter 'app:youtube bytes>1M' --sort last\n"
        "  xdpprobe flows --follow --json",
    )
    parser.add_argument(
        "--follow", action="store_true", help="print flows as they are named or end, until Ctrl-C"
    )
    parser.add_argument(
        "--tls",
        action="store_true",
        help="show what is known of TLS: version, whether resumed, whether the certificate is"
        " for other names (mismatch), ALPN, ECH, and JA4 from 87 columns up; JSON has it anyway",
    )
    report.add_report(parser, list(SORT_KEYS), "bytes")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the report, or follows."""
    wanted = report.parse_filter(args.filter)
    if args.follow:
        return _follow(args, wanted)
    if args.tls and args.json:
        raise UsageError("JSON has what --tls shows", "leave out --tls")
    with Probe.open(args.bpffs) as probe:
        snapshot = probe.snapshot()
        report.checked(wanted, snapshot)
        rows = flows.live(snapshot) if wanted is None else wanted.rows(snapshot)
        shown = order(snapshot, rows, args.sort, args.reverse, report.limit(args))
        if args.json:
            batches = (shown[at : at + _BATCH] for at in range(0, len(shown), _BATCH))
            found = (flow for batch in batches for flow in flows.decode(snapshot, batch))
            report.print_json({}, "flows", (flow.to_json() for flow in found))
            return 0
        # See report.py: rich only where it is needed.
        from xdpprobe.views.tables import flows_table, tls_table

        table = tls_table if args.tls else flows_table
        made = table(flows.decode(snapshot, shown))
        report.print_table(made, len(shown), len(rows), "flows")
    return 0


def _follow(args: argparse.Namespace, wanted: Filter | None) -> int:
    if args.limit is not None or args.reverse or args.sort != "bytes" or args.tls:
        raise UsageError(
            "--follow prints records as they come", "leave out --sort, --reverse, --limit, --tls"
        )
    with Probe.open(args.bpffs) as probe:
        base = probe.snapshot()
        report.checked(wanted, base)
        lost = _lost(base)
        with followed(probe) as batches:
            for records in batches:
                lost = _tell_lost(probe.counters(), lost)
                if not len(records):
                    continue
                base = probe.refreshed(base)
                for line in record_lines(records, base, wanted, args.json):
                    sys.stdout.write(line + "\n")
                sys.stdout.flush()
    return 0


def _lost(base: Snapshot) -> int:
    return base.counters[_RING_FULL][0]


def _tell_lost(counters: Mapping[str, tuple[int, int]], before: int) -> int:
    """Says so when records found no room; a ring does not tell whose it was."""
    now = counters[_RING_FULL][0]
    if now > before:
        say(f"{now - before} records were lost: they came faster than readers take them")
    return now


def record_lines(records: Array, base: Snapshot, wanted: Filter | None, as_json: bool) -> list[str]:
    """A line for each record (struct flow_record) that the filter lets through."""
    snapshot = of_records(records, base)
    rows = np.arange(len(records)) if wanted is None else wanted.rows(snapshot)
    words = flows.kind_words(snapshot)
    moment = flows.iso_time(base.clock.realtime_ns / 1e9)
    lines = []
    kinds = records["kind"][rows].tolist()
    for kind, flow in zip(kinds, flows.decode(snapshot, rows), strict=True):
        event = words.get(kind, str(kind))
        if as_json:
            head = {"schema": report.SCHEMA, "time": moment, "event": event}
            lines.append(report.compact({**head, **flow.to_json()}))
        else:
            lines.append(f"{moment[11:23]} {event:7} {_flow_text(flow)}")
    return lines


def _flow_text(flow: flows.Flow) -> str:
    verdict = "/".join(part for part in (flow.protocol, flow.app) if part) or "unknown"
    evidence = f" by {flow.method}" if flow.method else ""
    named = f" {flow.host}" if flow.host else ""
    ends = f"{endpoint(flow.src, flow.sport)} > {endpoint(flow.dst, flow.dport)}"
    volume = " ".join(
        f"{mark}{quantity(packets)}p/{quantity(octets)}B"
        for mark, packets, octets in zip("^v", flow.packets, flow.bytes, strict=True)
    )
    return f"{flow.l4} {ends} {verdict}{named}{evidence} {volume}"
