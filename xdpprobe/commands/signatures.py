# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe signatures`: checks signature files, shows what they say, puts them into the probe."""

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from xdpprobe import catalogue as catalogues
from xdpprobe.catalogue import Catalogue
from xdpprobe.rules import RuleIndex
from xdpprobe.signature_file import Entry
from xdpprobe.views import report

_DESCRIPTION = """\
Signatures say which names belong to which application. The shipped ones are always there; your own
directories or files stand above them, later ones above earlier ones: they may add applications (ids
7168 to 8191), redefine one (same name and id), or take a domain over. docs/signatures.md has the
format."""
_CHECK = """\
Reads the files and says the first mistake with file, line and reason. Without one, says what can
hardly be meant so: patterns that are never reached, or that random bytes match too often; and how
full the tables for patterns are. Needs no privilege."""
_LIST = """\
Lists what is known: applications and protocols, with their domains ("=" in front: that name only)
and prefixes of addresses.

JSON: {"schema": 1, "signatures": [{"id": number, "name": word, "title": text, "category": word,
"kind": "application" or "protocol", "domains": [...], "exact": [...], "prefix": [...],
"l4": [IP protocol numbers], "source": text, "file": name}, ...]}"""
_MATCH = """\
Says which application a server name belongs to, and the rule that decides. Needs no probe.

JSON: {"schema": 1, "names": [{"name": text, "app": word or null, "category": word or null,
"rule": text or null}, ...]}"""
_LOAD = """\
Replaces the running probe's signatures: in one step, while traffic runs. With a mistake in a file
nothing changes. Flows that have a name keep it. Names for IP protocol numbers (`l4`) are taken
up by the next `attach`."""
_PATHS = "directory with .toml files, or one file, above the shipped ones"


def add_parser(subparsers: Any) -> None:
    """Adds the command and its four verbs."""
    parser = subparsers.add_parser(
        "signatures",
        help="check, list and load what names belong to which application",
        description=_DESCRIPTION,
        epilog="example:\n  xdpprobe signatures load /etc/xdpprobe/signatures",
    )
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    check = _verb(verbs, "check", "look for mistakes", _CHECK, "check ./my.toml", _check)
    check.add_argument("paths", nargs="*", type=Path, metavar="DIR|FILE", help=_PATHS)

    listing = _verb(verbs, "list", "show what is known", _LIST, "list --filter video", _list)
    listing.add_argument(
        "--filter",
        metavar="TEXT",
        help="only where a name, title, category, domain or prefix has TEXT",
    )
    match = _verb(verbs, "match", "name a server name", _MATCH, "match i.ytimg.com", _match)
    match.add_argument("names", nargs="+", metavar="NAME", help="server name")
    for verb in (listing, match):
        verb.add_argument("--json", action="store_true", help="one JSON object, schema 1")
        verb.add_argument(
            "--signatures",
            action="append",
            type=Path,
            default=[],
            metavar="DIR|FILE",
            dest="paths",
            help=_PATHS,
        )

    load = _verb(verbs, "load", "replace the running probe's", _LOAD, "load ./signatures", _load)
    load.add_argument("paths", nargs="*", type=Path, metavar="DIR|FILE", help=_PATHS)


def _verb(verbs: Any, name: str, what: str, description: str, example: str, run: Any) -> Any:
    parser = verbs.add_parser(
        name,
        help=what,
        description=description,
        epilog=f"example:\n  xdpprobe signatures {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, offline=run is not _load)
    return parser


def _check(args: argparse.Namespace) -> int:
    catalogue = catalogues.load(args.paths)
    lines = _patterns(catalogue) if catalogue.signatures else []
    print(f"no mistake: {_summary(catalogue)}")
    for line in lines:
        print(line)
    return 0


def _patterns(catalogue: Catalogue) -> list[str]:
    """Doubts about the patterns, then what there is to know of all of them."""
    # NumPy and the object's layouts: only where there are patterns.
    from xdpprobe.abi import load_abi
    from xdpprobe.patterns import check
    from xdpprobe.patterns.compiler import compile_signatures

    compiled = compile_signatures(catalogue.signatures, load_abi())
    return [
        *(f"doubt: {where}: {why}" for where, why in check.doubts(compiled)),
        *(f"patterns: {line}" for line in check.sizes(compiled)),
    ]


def _summary(catalogue: Catalogue) -> str:
    kinds = [label.kind for label in catalogue.labels.values()]
    return (
        f"{kinds.count('application')} applications, {kinds.count('protocol')} protocols,"
        f" {len(catalogue.rules)} domains, {len(catalogue.prefixes)} prefixes,"
        f" {len(catalogue.signatures)} patterns"
        f" in {len(catalogue.files)} files"
    )


def _list(args: argparse.Namespace) -> int:
    catalogue = catalogues.load(args.paths)
    # Of an entry's domains, those that no higher layer has taken over.
    owner = {(rule.name, rule.exact): rule.app for rule in catalogue.rules}
    rows = [
        _Row(
            entry,
            [name for name in entry.domains if owner[name, False] == number],
            [name for name in entry.exact if owner[name, True] == number],
            [prefix for prefix in entry.prefix if catalogue.prefixes[prefix] == number],
        )
        for number, entry in catalogue.entries.items()
    ]
    if args.filter:
        rows = [row for row in rows if row.has(args.filter.lower())]
    if args.json:
        report.print_json({}, "signatures", (row.to_json(catalogue) for row in rows))
        return 0
    # rich takes long to import: only where it is needed.
    from xdpprobe.views.sheet import Column, Sheet

    columns = [
        Column("ID", 4, right=True, style="dim"),
        Column("NAME", 24),
        Column("CATEGORY", 15, style="dim"),
        Column("DOMAINS"),
    ]
    shown = Sheet(columns, [row.cells() for row in rows])
    report.print_table(shown, len(rows), len(rows), "signatures")
    return 0


class _Row:
    """An entry with the domains and prefixes that are in force for it."""

    def __init__(
        self, entry: Entry, domains: list[str], exact: list[str], prefixes: list[str]
    ) -> None:
        self.entry, self.domains, self.exact, self.prefixes = entry, domains, exact, prefixes

    def has(self, text: str) -> bool:
        entry = self.entry
        words = (entry.name, entry.title.lower(), entry.category)
        return any(text in word for word in (*words, *self.domains, *self.exact, *self.prefixes))

    def cells(self) -> tuple[str, str, str, str]:
        names = [*self.domains, *(f"={name}" for name in self.exact), *self.prefixes]
        names += [f"IP protocol {number}" for number in self.entry.l4]
        return str(self.entry.id), self.entry.name, self.entry.category, " ".join(names)

    def to_json(self, catalogue: Catalogue) -> dict[str, Any]:
        entry = self.entry
        return {
            "id": entry.id,
            "name": entry.name,
            "title": entry.title,
            "category": entry.category,
            "kind": catalogue.labels[entry.id].kind,
            "domains": self.domains,
            "exact": self.exact,
            "prefix": self.prefixes,
            "l4": entry.l4,
            "source": entry.source,
            "file": entry.file.path.name,
        }


def _match(args: argparse.Namespace) -> int:
    rows = list(_matches(catalogues.load(args.paths), args.names))
    if args.json:
        report.print_json({}, "names", rows)
        return 0
    for row in rows:
        if row["app"] is None:
            print(f"{row['name']}: no application")
        else:
            print(f"{row['name']}: {row['app']} ({row['category']}), by {row['rule']}")
    return 0


def _matches(catalogue: Catalogue, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    index = RuleIndex(catalogue.rules)
    for name in names:
        app, rule = index.match(name)
        label = catalogue.labels.get(app)
        yield {
            "name": name,
            "app": label and label.name,
            "category": label and label.category,
            "rule": rule or None,
        }


def _load(args: argparse.Namespace) -> int:
    catalogue = catalogues.load(args.paths)
    # The loader needs libbpf, which checking files must not.
    from xdpprobe import privileges
    from xdpprobe.loader import load_tables
    from xdpprobe.probe import open_instance

    privileges.require("cannot load signatures")
    with open_instance(args.bpffs) as instance, instance.pins.lock():
        load_tables(instance, catalogue)
    print(f"in force: {_summary(catalogue)}")
    return 0
