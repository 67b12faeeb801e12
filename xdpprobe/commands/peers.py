# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe peers`: names flows by the addresses of their ends, as the operator says."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xdpprobe import peer_file, peer_text
from xdpprobe.errors import UsageError
from xdpprobe.peer_file import SECONDS_LIMIT, Said
from xdpprobe.views import report

if TYPE_CHECKING:  # the loader needs libbpf, which --help must not
    from xdpprobe.peers import Peers
    from xdpprobe.snapshot import Label

_DESCRIPTION = """\
Peers are addresses, with or without port, or prefixes, whose flows belong to an application or are
of a protocol by that alone: what a P2P tracker or client says of its peers, an own server, a
provider's prefix. They are asked when a flow begins, for either end, and what inspection finds out
later counts more. An address counts more than a prefix, and either more than the prefixes of
signatures. They are kept in the kernel, over any `attach` that updates the probe, until detach.

Peers are written 192.0.2.7, 192.0.2.7:6881/udp, [2001:db8::7]:443/tcp, 192.0.2.0/24; a port
without /tcp or /udp means both. An application of your own is defined in a signature file: an
[[app]] with an id from 7168 to 8191 needs no domain to be named here (docs/signatures.md)."""
_LIST = """\
Shows the peers in force; those that have expired are removed.

JSON: {"schema": 1, "peers": [{"peer": text, "label": word, "kind": "application" or "protocol",
"method": "peer" or "prefix", "expires": seconds from now or null}, ...]}"""
_ADD = """\
Adds peers to those that are there, while traffic runs. One that is there already belongs to LABEL
from now on, for the new age."""
_IMPORT = """\
Replaces all peers by those of a list, in one step while traffic runs: each packet meets the old
ones or the new ones. With a mistake in the list nothing changes; the message says file and line.

A line has a peer, its application or protocol, and perhaps for how many seconds; # begins a
comment:
  192.0.2.7:6881/udp  bittorrent  3600
At most a million peers and 100 MB."""
_EXPORT = """\
Prints the peers in force as a list that `import` takes, with the seconds that they have left. With
--json, prints what `list --json` does."""
_FLUSH = "Removes all peers. Flows that began as a peer's keep what they were called."


def add_parser(subparsers: Any) -> None:
    """Adds the command and its five verbs."""
    parser = subparsers.add_parser(
        "peers",
        help="name flows by address, port or prefix",
        description=_DESCRIPTION,
        epilog="example:\n  xdpprobe peers add 192.0.2.7:6881/udp --label bittorrent --age 3600",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    listing = _verb(verbs, "list", "show them", _LIST, "list", _list)
    listing.add_argument(
        "--limit",
        type=report.natural,
        metavar="N",
        help=f"rows to show, 0: all (default: {report.LIMIT} in a table, all in JSON)",
    )
    adding = _verb(verbs, "add", "add some", _ADD, "add 192.0.2.0/24 --label intranet", _add)
    adding.add_argument("peers", nargs="+", metavar="PEER", help="address, with port, or prefix")
    importing = _verb(verbs, "import", "replace them all", _IMPORT, "import peers.txt", _import)
    importing.add_argument("file", type=Path, metavar="FILE", help="list, or - for standard input")
    for verb in (adding, importing):
        of_lines = "" if verb is adding else ", of lines that name none"
        verb.add_argument(
            "--label",
            metavar="NAME",
            required=verb is adding,
            default="",
            help=f"application or protocol they belong to{of_lines}",
        )
        verb.add_argument(
            "--age",
            type=_seconds,
            metavar="SECONDS",
            default=0,
            help="how long they count (default 0: for ever)",
        )
    exporting = _verb(verbs, "export", "print them as a list", _EXPORT, "export >list", _export)
    for verb in (listing, exporting):
        verb.add_argument("--json", action="store_true", help="one JSON object, schema 1")
    _verb(verbs, "flush", "remove them all", _FLUSH, "flush", _flush)


def _verb(verbs: Any, name: str, what: str, description: str, example: str, run: Any) -> Any:
    parser = verbs.add_parser(
        name,
        help=what,
        description=description,
        epilog=f"example:\n  xdpprobe peers {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def _seconds(text: str) -> int:
    seconds = report.natural(text)
    if seconds > SECONDS_LIMIT:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {SECONDS_LIMIT} seconds")
    return seconds


@contextmanager
def _peers(args: argparse.Namespace, what: str) -> "Iterator[tuple[Peers, dict[int, Label]]]":
    """The probe's peers and labels, under its lock."""
    from xdpprobe import peers, privileges
    from xdpprobe.probe import open_instance

    privileges.require(f"cannot {what} peers")
    with (
        open_instance(args.bpffs) as instance,
        instance.pins.lock(),
        peers.opened(instance) as found,
    ):
        yield found, instance.tables().labels()


def _label_ids(labels: "dict[int, Label]") -> Callable[[str], int | None]:
    """Name -> number; of an application and a protocol of one name, the application's."""
    return {label.name: number for number, label in sorted(labels.items())}.get


def _add(args: argparse.Namespace) -> int:
    try:
        wanted = [peer for text in args.peers for peer in peer_text.parse(text)]
    except peer_text.Mistake as mistake:
        raise UsageError(mistake.why, mistake.hint) from None
    with _peers(args, "add") as (peers, labels):
        number = _label_ids(labels)(args.label)
        if number is None:
            raise UsageError(*peer_file.unknown_label(args.label))
        peers.add(peers.moments(dict.fromkeys(wanted, Said(number, args.age))))
    print(f"added: {_count(len(set(wanted)))}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from xdpprobe import privileges
    from xdpprobe.probe import open_instance

    privileges.require("cannot import peers")
    # Without the lock: standard input may take its time.
    with open_instance(args.bpffs) as instance:
        known = _label_ids(instance.tables().labels())
        most = instance.abi.enums["peers"]["PEERS_MAX"]
    if args.label and known(args.label) is None:
        raise UsageError(*peer_file.unknown_label(args.label))
    found = peer_file.read(args.file, known, args.label, args.age, most)
    with _peers(args, "import") as (peers, _):
        peers.replace(peers.moments(found))
    print(f"in force: {_count(len(found))}")
    return 0


def _flush(args: argparse.Namespace) -> int:
    with _peers(args, "remove") as (peers, _):
        peers.replace({})
    print("in force: no peers")
    return 0


def _count(number: int) -> str:
    return f"{number} peer{'' if number == 1 else 's'}"


def _rows(args: argparse.Namespace) -> "tuple[list[tuple[bytes, Said]], dict[int, Label]]":
    """(peer, label's number and seconds left), in the order of addresses; and the labels."""
    with _peers(args, "list") as (peers, labels):
        return sorted(peers.seconds_left(peers.prune())), labels


def _list(args: argparse.Namespace) -> int:
    rows, labels = _rows(args)
    limit = report.limit(args)
    shown = rows[:limit] if limit else rows
    if args.json:
        report.print_json({}, "peers", (_to_json(row, labels) for row in shown))
        return 0
    # rich takes long to import: only where it is needed.
    from xdpprobe.views.sheet import Column, Sheet

    columns = [Column("PEER"), Column("LABEL", 31), Column("EXPIRES", 12, right=True)]
    cells = [
        (
            peer_text.show(peer),
            labels[said.label].name,
            f"{said.lasts} s" if said.lasts else "never",
        )
        for peer, said in shown
    ]
    report.print_table(Sheet(columns, cells), len(shown), len(rows), "peers")
    return 0


def _export(args: argparse.Namespace) -> int:
    rows, labels = _rows(args)
    if args.json:
        report.print_json({}, "peers", (_to_json(row, labels) for row in rows))
        return 0
    lines = ((peer, labels[said.label].name, said.lasts) for peer, said in rows)
    peer_file.write(lines, sys.stdout)
    return 0


def _to_json(row: tuple[bytes, Said], labels: "dict[int, Label]") -> dict[str, Any]:
    peer, said = row
    return {
        "peer": peer_text.show(peer),
        "label": labels[said.label].name,
        "kind": labels[said.label].kind,
        "method": "prefix" if peer_text.is_prefix(peer) else "peer",
        "expires": said.lasts or None,
    }
