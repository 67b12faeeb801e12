# SPDX-License-Identifier: Apache-2.0
"""What the reporting commands share: their options, and how they print.

A report is a table of at most the terminal's width (in a pipe of any) or one JSON object.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from xdpprobe import filter as filters
from xdpprobe.filter import Filter
from xdpprobe.snapshot import Snapshot

if TYPE_CHECKING:  # rich takes 40 ms to import; JSON needs none of it
    from rich.console import Console

    from xdpprobe.views.sheet import Sheet

SCHEMA = 1
LIMIT = 50
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_BATCH = 500


def add_filter(parser: argparse.ArgumentParser) -> None:
    """The option --filter, and its grammar under the help text."""
    parser.add_argument(
        "--filter", metavar="EXPR", help="only flows that match (the language is explained below)"
    )
    grammar = "filters:\n" + (filters.__doc__ or "").split("\n", 2)[2].rstrip()
    parser.epilog = f"{parser.epilog}\n\n{grammar}" if parser.epilog else grammar
    # argparse expands % in an epilog.
    parser.epilog = parser.epilog.replace("%", "%%")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def add_report(parser: argparse.ArgumentParser, sorts: Sequence[str], default: str) -> None:
    """The options --json, --sort, --reverse, --limit and --filter."""
    parser.add_argument("--json", action="store_true", help="one JSON object, schema 1")
    parser.add_argument(
        "--sort", choices=sorts, default=default, help=f"sort key (default: {default})"
    )
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument(
        "--limit",
        type=natural,
        metavar="N",
        help=f"rows to show, 0: all (default: {LIMIT} in a table, all in JSON)",
    )
    add_filter(parser)


def natural(text: str) -> int:
    """An option's value that counts something."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return int(text)


def limit(args: argparse.Namespace) -> int | None:
    """How many rows to show; None: all."""
    if args.limit is None:
        return None if args.json else LIMIT
    return int(args.limit) or None


def parse_filter(text: str | None) -> Filter | None:
    """The filter of --filter, parsed; UsageError where it is wrong."""
    return Filter(text) if text else None


def checked(wanted: Filter | None, snapshot: Snapshot) -> Filter | None:
    """The filter again, once its names are known to exist; UsageError otherwise."""
    if wanted is not None:
        wanted.check(snapshot)
    return wanted


def console() -> "Console":
    """Standard output, without markup or guesses about colours of numbers."""
    from rich.console import Console

    class Pipe(Console):
        def on_broken_pipe(self) -> None:
            # Called where BrokenPipeError is handled. rich would exit with 1; `cli.main` knows
            # that a reader may have seen enough.
            raise

    return Pipe(highlight=False, markup=False, emoji=False)


def print_table(table: "Sheet", shown: int, total: int, what: str) -> None:
    """Prints a table; under it, how much it leaves out, or that there is nothing.

    Where nobody has said how wide lines may be, a terminal or COLUMNS, nothing is cut.
    """
    from rich.text import Text

    out = console()
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        out.width = max(out.width, table.whole_width())
    if not total:
        out.print(Text(f"no {what}", style="dim"))
        return
    out.print(table)
    if shown < total:
        out.print(Text(f"{total - shown} more {what}: --limit 0 shows all", style="dim"))


def compact(value: object) -> str:
    """JSON without blanks."""
    return _ENCODER.encode(value)


def print_json(head: dict[str, Any], key: str, rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object on one line: schema, `head`, and under `key` the rows as they come."""
    write = sys.stdout.write
    write(f'{compact({"schema": SCHEMA, **head})[:-1]},"{key}":[')
    source, comma = iter(rows), ""
    # An encoder takes longer to start than to write a row.
    while batch := list(islice(source, _BATCH)):
        write(comma + compact(batch)[1:-1])
        comma = ","
    write("]}\n")
    sys.stdout.flush()
