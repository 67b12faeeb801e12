# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe signatures`: checks signature files, shows what they say and do, loads them."""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from xdpprobe import catalogue as catalogues
from xdpprobe.catalogue import Catalogue
from xdpprobe.rereadable import capture_path
from xdpprobe.rules import RuleIndex
from xdpprobe.signature_file import Entry
from xdpprobe.signature_values import CATEGORIES
from xdpprobe.streams import say
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
"ech_public_names": [...], "l4": [IP protocol numbers], "source": text, "file": name}, ...]}"""
_MATCH = """\
Says which application a server name belongs to, and the rule that decides. Needs no probe.

JSON: {"schema": 1, "names": [{"name": text, "app": word or null, "category": word or null,
"rule": text or null}, ...]}"""
_LOAD = """\
Replaces the running probe's signatures: in one step, while traffic runs. With a mistake in a file
nothing changes. Flows that have a name keep it. Names for IP protocol numbers (`l4`) are taken
up by the next `attach`."""
_TEST = """\
Runs a capture through the program that runs on interfaces, as `replay` does, and says for each flow
what gave it its name: the signature with file and line, the payload packet of which direction, its
bytes with those that the signature is about in [brackets], and which signatures fitted that packet
as well and why they lost. Of flows without a name it shows the first payloads. The verdict is the
kernel's; the reason is looked up in the same tables, and where the two disagree it says so (a
defect; exit code 1).

JSON: {"schema": 1, "flows": [FLOW, ...]}. A FLOW has src, sport, dst, dport, l4, protocol, app,
host, method, confidence (as `xdpprobe flows --help` says), and
    decided           what named it, newest first: {"labels": [names], "method", "confidence",
                      "current": false where something better came, "rule": text or null,
                      "signature": SIGNATURE or null, "packet": PACKET or null, "others":
                      [SIGNATURE with "lost": reason], "others_left_out": number}
    payloads          the first PACKETs of a flow that nothing named
    disagreements     texts
    watched           false where there were too many flows
A SIGNATURE: {"title", "name", "where": file:line, "source", "match": [regexes], "texts": [{"kind":
user_agent, stun_attribute..., "text": as in the file}], "confidence"}; a PACKET: {"from", "number",
"length", "hex", "marked": [[first byte, byte behind the last], ...]}."""
_EXPLAIN = """\
Says of flows in the running probe what their label, method and confidence mean, and which
signatures may have given them that label. The kernel keeps no bytes of packets and not which
signature it was, so there may be several; `signatures test` says it exactly, of a capture. FLOW is
a filter (see `xdpprobe flows --help`), or both ends as `flows` prints them.

JSON: {"schema": 1, "same_signatures": whether the probe runs the files that are read here,
"not_kept": text, "flows": [FLOW, ...]}. A FLOW is as `xdpprobe flows --help` says, and has
    evidence          {"kind": "app" or "protocol", "label", "title", "category", "method",
                      "meaning": text, "confidence", "rule": text or null, "candidates":
                      [SIGNATURE as of `signatures test`], "candidates_left_out": number}
    inspection        {"decided": whether it is over, "payloads": [packets looked at of the
                      initiator, of the responder], "at_most": number}"""
_CONVERT = """\
Writes rules in nDPI's format (protos.txt) as a signature file to standard output:
host:"example.com"@Name, tcp:81,udp:5000-5010@Name, ip:192.0.2.0/24@Name. Names that are known keep
their ids; new applications get ids from 7168 up. Each line that cannot be converted is said on
standard error, with its number. Exit code 1 if none could be."""
_PATHS = "directory with .toml files, or one file, above the shipped ones"


def add_parser(subparsers: Any) -> None:
    """Adds the command and its verbs."""
    parser = subparsers.add_parser(
        "signatures",
        help="check, list, test and load what flows are named by",
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
        _add_paths(verb)

    _add_test(verbs)
    _add_explain(verbs)
    _add_convert(verbs)

    load = _verb(verbs, "load", "replace the running probe's", _LOAD, "load ./signatures", _load)
    load.add_argument("paths", nargs="*", type=Path, metavar="DIR|FILE", help=_PATHS)


def _add_paths(verb: Any) -> None:
    verb.add_argument(
        "--signatures",
        action="append",
        type=Path,
        default=[],
        metavar="DIR|FILE",
        dest="paths",
        help=_PATHS,
    )


def _add_limit(verb: Any, default: str) -> None:
    verb.add_argument(
        "--limit",
        type=report.natural,
        metavar="N",
        help=f"flows to show, 0: all (default: {default})",
    )


def _add_test(verbs: Any) -> None:
    test = _verb(
        verbs, "test", "why a capture's flows are named so", _TEST, "test capture.pcap", _test
    )
    test.add_argument("file", type=capture_path, help="capture file or pipe; -: standard input")
    test.add_argument("--json", action="store_true", help="one JSON object, schema 1")
    _add_limit(test, f"{report.LIMIT} for people, all in JSON")
    _add_paths(test)
    report.add_filter(test)


def _add_explain(verbs: Any) -> None:
    explain = _verb(
        verbs,
        "explain",
        "what the labels of live flows mean",
        _EXPLAIN,
        "explain port:51820\n"
        "  xdpprobe signatures explain 'udp 10.0.0.1:40000 > 198.51.100.9:51820'",
        _explain,
    )
    explain.add_argument("flow", nargs="+", metavar="FLOW", help="a filter, or both ends")
    explain.add_argument("--json", action="store_true", help="one JSON object, schema 1")
    _add_limit(explain, "10")
    _add_paths(explain)


def _add_convert(verbs: Any) -> None:
    convert = _verb(
        verbs,
        "convert",
        "rules of nDPI as a signature file",
        _CONVERT,
        "convert protos.txt > my.toml",
        _convert,
    )
    convert.add_argument("file", type=Path, help="file with rules")
    convert.add_argument(
        "--category",
        choices=sorted(CATEGORIES),
        default="network",
        metavar="NAME",
        help="category of new applications (default: network)",
    )
    _add_paths(convert)


def _verb(verbs: Any, name: str, what: str, description: str, example: str, run: Any) -> Any:
    parser = verbs.add_parser(
        name,
        help=what,
        description=description,
        epilog=f"example:\n  xdpprobe signatures {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, offline=run not in (_load, _explain))
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
    from xdpprobe.patterns.texts import compile_texts
    from xdpprobe.signature_texts import TEXTS_LIMIT

    layouts = load_abi()
    compiled = compile_signatures(catalogue.signatures, layouts)
    texts = compile_texts(catalogue.signatures, layouts)
    doubts = check.doubts(compiled) + check.text_doubts(catalogue.signatures)
    return [
        *(f"doubt: {where}: {why}" for where, why in doubts),
        *(f"patterns: {line}" for line in check.sizes(compiled)),
        f"texts: {len(texts)} of {TEXTS_LIMIT}",
    ]


def _summary(catalogue: Catalogue) -> str:
    kinds = [label.kind for label in catalogue.labels.values()]
    return (
        f"{kinds.count('application')} applications, {kinds.count('protocol')} protocols,"
        f" {len(catalogue.rules)} domains, {len(catalogue.prefixes)} prefixes,"
        f" {sum(not one.texts for one in catalogue.signatures)} patterns"
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
            "ech_public_names": entry.ech_public_names,
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


def _test(args: argparse.Namespace) -> int:
    from xdpprobe.explain import capture

    return capture.run(args)


def _explain(args: argparse.Namespace) -> int:
    from xdpprobe.explain import live

    return live.run(args)


def _convert(args: argparse.Namespace) -> int:
    from xdpprobe.convert import convert

    done = convert(args.file, catalogues.load(args.paths), args.category)
    for line in done.complaints:
        say(line)
    if not done.text:
        say(f"{args.file}: no line could be converted")
        return 1
    sys.stdout.write(done.text)
    return 0


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
