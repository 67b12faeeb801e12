# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe hosts`: who talks, and with whom: totals by server name or by address."""

import argparse
from collections.abc import Callable
from typing import Any

from xdpprobe.flows import Indexes, live
from xdpprobe.grouping import HostTotal, Keys, address_keys, host_rows, name_keys
from xdpprobe.probe import Probe
from xdpprobe.snapshot import Snapshot
from xdpprobe.views import report

_BY: dict[str, tuple[Callable[[Snapshot, Indexes], Keys], str, str]] = {
    "name": (name_keys, "SERVER NAME", "server names"),
    "client": (address_keys, "CLIENT", "clients"),
    "server": (lambda s, rows: address_keys(s, rows, server=True), "SERVER", "servers"),
}
_SORTS: dict[str, tuple[Callable[[HostTotal], Any], bool]] = {
    # key -> (value, largest first by default)
    "bytes": (lambda row: sum(row.bytes), True),
    "up": (lambda row: row.bytes[0], True),
    "down": (lambda row: row.bytes[1], True),
    "packets": (lambda row: sum(row.packets), True),
    "flows": (lambda row: row.flows, True),
    "host": (lambda row: row.host, False),
    "app": (lambda row: (row.app, row.host), False),
}
_DESCRIPTION = """\
Totals of the flows in the table by server name (as seen in TLS, QUIC, HTTP or DNS), by client (the
address that opened the flow) or by server (the address that was called). UP is what the initiators
sent. APPLICATION is that of the flow with most bytes.

JSON: {"schema": 1, "by": "name", "hosts": [{"host": name or address, "app": name, "category": word,
"flows": number, "packets": [up, down], "bytes": [up, down]}, ...]}"""


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "hosts",
        help="totals by server name or address",
        description=_DESCRIPTION,
        epilog="example:\n  xdpprobe hosts --by client --filter 'cat:video'",
    )
    parser.add_argument(
        "--by", choices=list(_BY), default="name", help="what to add up by (default: name)"
    )
    report.add_report(parser, list(_SORTS), "bytes")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the report."""
    wanted = report.parse_filter(args.filter)
    with Probe.open(args.bpffs) as probe:
        snapshot = probe.snapshot()
        report.checked(wanted, snapshot)
        make_keys, title, what = _BY[args.by]
        chosen = live(snapshot) if wanted is None else wanted.rows(snapshot)
        rows = host_rows(snapshot, make_keys(snapshot, chosen))
        value, descending = _SORTS[args.sort]
        rows.sort(key=value, reverse=descending != args.reverse)
        shown = rows[: report.limit(args)]
        if args.json:
            report.print_json({"by": args.by}, "hosts", (row.to_json() for row in shown))
            return 0
        # See report.py: rich only where it is needed.
        from xdpprobe.views.tables import hosts_table

        report.print_table(hosts_table(shown, title), len(shown), len(rows), what)
        return 0
