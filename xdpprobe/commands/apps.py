# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe apps`: what each application used since the probe was attached."""

import argparse
from collections.abc import Callable
from typing import Any

from xdpprobe.aggregate import AppTotal, app_rows, label_totals
from xdpprobe.probe import Probe
from xdpprobe.views import report

_SORTS: dict[str, tuple[Callable[[AppTotal], Any], bool]] = {
    # key -> (value, largest first by default)
    "bytes": (lambda row: sum(row.bytes), True),
    "up": (lambda row: row.bytes[0], True),
    "down": (lambda row: row.bytes[1], True),
    "packets": (lambda row: sum(row.packets), True),
    "flows": (lambda row: row.flows, True),
    "app": (lambda row: row.app, False),
    "category": (lambda row: row.category, False),
}
_DESCRIPTION = """\
Totals by application since the probe was attached: flows in the table and those that have left it.
Where no application is known, the protocol counts. UP is what the initiators sent.

With --filter, flows in the table only: of a flow that has left, only its application is known.

JSON: {"schema": 1, "apps": [{"app": name, "category": word, "kind": "application" or "protocol",
"flows": all, "live": in the table, "packets": [up, down], "bytes": [up, down]}, ...]}"""


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "apps",
        help="totals by application",
        description=_DESCRIPTION,
        epilog="example:\n  xdpprobe apps --filter 'cat:video src:10.0.0.0/8' --sort down",
    )
    report.add_report(parser, list(_SORTS), "bytes")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the report."""
    wanted = report.parse_filter(args.filter)
    with Probe.open(args.bpffs) as probe:
        snapshot = probe.snapshot()
        report.checked(wanted, snapshot)
        chosen = None if wanted is None else wanted.rows(snapshot)
        totals = label_totals(snapshot, chosen)
        rows = app_rows(snapshot, totals)
        whole = sum(sum(row.bytes) for row in rows)
        value, descending = _SORTS[args.sort]
        rows.sort(key=value, reverse=descending != args.reverse)
        shown = rows[: report.limit(args)]
        if args.json:
            report.print_json({}, "apps", (row.to_json() for row in shown))
            return 0
        # See report.py: rich only where it is needed.
        from xdpprobe.views.tables import apps_table

        report.print_table(apps_table(shown, whole), len(shown), len(rows), "applications")
        return 0
