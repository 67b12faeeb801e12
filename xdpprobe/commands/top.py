# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe top`: what uses the link now, live, once, or as JSON a line an interval."""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from xdpprobe.errors import ProbeError, UsageError
from xdpprobe.filter import Filter
from xdpprobe.probe import Probe
from xdpprobe.views import report
from xdpprobe.views.top_model import VIEWS, Model, Source, to_json

_DESCRIPTION = """\
Rates and totals by application, with the most active hosts and server names. UP is what the
initiators of the flows sent. FLOWS are those in the table; BYTES count since the probe was attached
(applications) or since the flow began (all else), TIME is from a flow's first packet to its last.
Keys: ? shows them.

With --filter all rates and rows are of the flows that match; use of the table and losses are not.
Losses are those of `status`, but for "budget": flows that stayed unknown after a look at their
first packets are counted and shown, as unknown.

--once prints one table, --json one JSON object a line for each interval:
{"schema": 1, "time": ISO 8601, "seconds": measured over, "interfaces": [names],
"trouble": {interface: what it is instead of up}, "bytes_per_second": [up, down],
"packets_per_second": n, "matching": flows that the filter lets through, null without one,
"flows": in the table, "capacity": n, "losses": n,
"apps": [{"app": name, "category": word, "flows": n, "bytes_per_second": [up, down],
"bytes": [up, down]}, ...], "hosts": [{"host": address, "app": name, ...}], "names": [...]}
with every application (unless --limit is given) and the 10 most active hosts and names. With
--view hosts, names or flows, instead of these three: "hosts", "names", or "flow_list" with what
`flows --json` has of a flow and "bytes_per_second"."""
_PANEL = 10
_ROWS = 20
_ALL = 10**9


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "top",
        help="what uses the link now",
        description=_DESCRIPTION,
        epilog="examples:\n  xdpprobe top --filter 'not cat:ads'\n"
        "  xdpprobe top --json --count 10 --interval 5",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--once", action="store_true", help="print one table after one interval")
    output.add_argument("--json", action="store_true", help="print a JSON object each interval")
    parser.add_argument(
        "--count", type=report.natural, metavar="N", help="with --json: stop after N (0: never)"
    )
    parser.add_argument(
        "--interval", type=_interval, default=1.0, metavar="SECONDS", help="0.1 to 3600, default 1"
    )
    parser.add_argument("--view", choices=list(VIEWS), default="apps", help="what to show first")
    parser.add_argument("--sort", choices=VIEWS["apps"], default="rate", help="sort key")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument(
        "--limit",
        type=report.natural,
        metavar="N",
        help=f"rows of --once and --json, 0: all (default {_ROWS}; all applications in JSON)",
    )
    parser.add_argument("--bytes", action="store_true", help="bytes a second instead of bits")
    report.add_filter(parser)
    parser.set_defaults(run=run)


def _interval(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.1 to 3600")
    return value


def run(args: argparse.Namespace) -> int:
    """Shows the view, or prints."""
    if args.sort not in VIEWS[args.view]:
        raise UsageError(
            f"the view {args.view} has no sort key {args.sort}",
            f"it has {', '.join(VIEWS[args.view])}",
        )
    if args.count is not None and not args.json:
        raise UsageError("--count belongs to --json", "add --json, or leave --count out")
    live = not (args.once or args.json)
    if args.limit is not None and live:
        raise UsageError(
            "--limit belongs to --once and --json", "leave it out: the live view fills the screen"
        )
    # Textual draws on standard error, so that all three have to be the terminal.
    if live and not all(os.isatty(number) for number in (0, 1, 2)):
        raise UsageError("top needs a terminal", "in a pipe use --once or --json")
    wanted = report.parse_filter(args.filter)
    with Probe.open(args.bpffs) as probe:
        if wanted is not None:
            report.checked(wanted, probe.snapshot())
        with watching(probe) as source:
            return show(args, source, wanted)


@contextmanager
def watching(probe: Probe) -> Iterator[Source]:
    """Snapshots that know which interfaces are not up."""
    from xdpprobe.status import troubles

    # pyroute2 runs an event loop, which it cannot in a thread where the live view's runs.
    with ThreadPoolExecutor(1) as pool:
        yield lambda: replace(probe.snapshot(), trouble=pool.submit(troubles, probe).result())


def show(args: argparse.Namespace, source: Source, wanted: Filter | None) -> int:
    """What the arguments ask for, from any source of snapshots."""
    if args.json:
        return _json(args, source, wanted)
    if args.once:
        return _once(args, source, wanted)
    # Textual takes 0.2 s to import; the printing forms need none of it.
    from xdpprobe.views.top_app import TopApp
    from xdpprobe.views.top_screen import State

    state = State(
        view=args.view,
        sort=args.sort,
        reverse=args.reverse,
        bits=not args.bytes,
        interval=args.interval,
        filter=args.filter or "",
    )
    error: ProbeError | None = TopApp(source, state, wanted).run(mouse=False)
    if error is not None:
        raise error
    return 0


def _limit(args: argparse.Namespace, default: int) -> int:
    """How many rows to print."""
    return default if args.limit is None else int(args.limit) or _ALL


def _json(args: argparse.Namespace, source: Source, wanted: Filter | None) -> int:
    model, every = Model(wanted), args.view == "apps"
    rows = (0, _limit(args, _ALL if every else _ROWS))
    model.update(source)
    due = time.monotonic()
    left = args.count or -1
    while left:
        due = max(due + args.interval, time.monotonic())
        time.sleep(max(due - time.monotonic(), 0))
        model.update(source)
        frame = model.frame(args.view, args.sort, args.reverse, rows, _PANEL if every else 0)
        sys.stdout.write(report.compact(to_json(frame)) + "\n")
        sys.stdout.flush()
        left -= 1
    return 0


def _once(args: argparse.Namespace, source: Source, wanted: Filter | None) -> int:
    from xdpprobe.views.top_screen import State, plain

    model = Model(wanted)
    model.update(source)
    time.sleep(args.interval)
    model.update(source)
    rows = (0, _limit(args, _ROWS))
    frame = model.frame(args.view, args.sort, args.reverse, rows, _PANEL // 2)
    state = State(
        view=args.view,
        sort=args.sort,
        reverse=args.reverse,
        bits=not args.bytes,
        interval=args.interval,
    )
    out = report.console()
    out.print(plain(frame, state, out.width))
    return 0
