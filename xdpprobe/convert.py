# SPDX-License-Identifier: Apache-2.0
"""nDPI's custom rules (`protos.txt`) as a signature file.

A line is a list of rules, an `@`, and a name: `tcp:81,tcp:8181@HTTP`, `host:"example.com"@Example`,
`ip:192.0.2.0/24@Example`. Names that the catalogue has are used as they are; the others become
applications of the user's own. What has no counterpart is said, with its line.
"""

import ipaddress
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from xdpprobe import signature_file
from xdpprobe.catalogue import Catalogue
from xdpprobe.errors import DataError
from xdpprobe.signature_file import APP_IDS, TITLE_LIMIT, Entry
from xdpprobe.signature_values import NAME_LIMIT, Bad, brief, domains

OWN_IDS = range(7168, APP_IDS[-1] + 1)
LINE_LIMIT = 65536
_WIDTH = 100

_ITEM = re.compile(r'\s*([A-Za-z0-9_]+):("[^"]*"|[^",@]*)\s*')
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_L4 = ("tcp", "udp")
_ADDRESSES = ("ip", "ipv6")
_WITHOUT = {  # key -> why there is nothing that would mean the same
    "nbpf": "packet filters are no signatures",
    "ja3": "no signature goes by a fingerprint",
    "ja3c": "no signature goes by a fingerprint",
    "ja4": "no signature goes by a fingerprint",
    "url": "no signature goes by a whole address",
    "http": "no signature goes by a whole address",
    "tls": "no signature goes by a certificate's fields",
    "trusted_issuer_dn": "no signature goes by a certificate's fields",
    "ip_risk_mask": "there are no flow risks",
    "host_risk_mask": "there are no flow risks",
}


@dataclass
class _Target:
    """What all lines say of one name."""

    title: str
    app: Entry | None
    protocol: Entry | None
    id: int = 0
    lines: list[int] = field(default_factory=list)
    domains: list[str] = field(default_factory=list)
    exact: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    ports: dict[str, list[str]] = field(default_factory=lambda: {l4: [] for l4 in _L4})

    @property
    def named(self) -> bool:
        """Whether names or addresses lead to it: that is an application's to have."""
        return bool(self.domains or self.exact or self.prefixes)


@dataclass(frozen=True)
class Converted:
    """The signature file as text, "" where nothing could be converted; complaints: lines."""

    text: str
    complaints: list[str]


def convert(path: Path, known: Catalogue, category: str) -> Converted:
    """Converts a file. category: of the applications that are new.

    Raises DataError where it cannot be read.
    """
    data = signature_file.read(path)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        broken = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{broken}", "is not UTF-8") from error
    reader = _Reader(path, known)
    for number, line in enumerate(text.split("\n"), 1):
        reader.line(number, line.strip())
    parts = list(_written(reader, path, category))
    return Converted("\n".join(parts), reader.complaints)


class _Reader:
    """Goes over the lines and gathers what they say of each name."""

    def __init__(self, path: Path, known: Catalogue) -> None:
        self.targets: dict[str, _Target] = {}
        self.complaints: list[str] = []
        self._path = path
        self._apps = _by_word(known, "app")
        self._protocols = _by_word(known, "protocol")
        self._ids = (number for number in OWN_IDS if number not in known.entries)
        self._taken: dict[tuple[str, str], tuple[_Target, int]] = {}

    def line(self, number: int, line: str) -> None:
        """One line, whose rules may be of several kinds."""
        if not line or line.startswith("#"):
            return
        try:
            rules, name = _split(line)
        except Bad as bad:
            self._complain(number, bad)
            return
        for key, value in rules:
            try:
                self._rule(number, key, value, name)
            except Bad as bad:
                self._complain(number, bad)

    def _complain(self, number: int, bad: Bad) -> None:
        hint = f"; {bad.hint}" if bad.hint else ""
        self.complaints.append(f"{self._path}:{number}: {brief(bad.why)}{hint}")

    def _rule(self, number: int, key: str, value: str, name: str) -> None:
        if key in _WITHOUT:
            raise Bad(f"{key}: cannot be converted: {_WITHOUT[key]}")
        if key in _L4:
            kind, text = key, _ports(key, value)
        elif key == "host":
            kind, text = _host(value)
        elif key in _ADDRESSES:
            kind, text = "prefix", _prefix(value)
        else:
            raise Bad(f"{key}: cannot be converted: no such rule is known here")
        if not name:
            raise Bad(f"{key}: has no @ with a name behind it")
        target = self._target(name)
        if kind not in _L4:
            owner, before = self._taken.setdefault((kind, text), (target, number))
            if owner is not target:
                raise Bad(f"{key}: {text!r} belongs to {owner.title} already (line {before})")
        if not (target.id or target.app or (target.protocol and kind in _L4)):
            target.id = next(self._ids, 0)
            if not target.id:
                raise Bad(f"{name!r} gets no id: {OWN_IDS[0]}..{OWN_IDS[-1]} are all taken")
        rows = target.ports[kind] if kind in _L4 else _rows(target, kind)
        if text not in rows:
            rows.append(text)
        if number not in target.lines:
            target.lines.append(number)

    def _target(self, name: str) -> _Target:
        word = _word(name)
        if not word or not _slug(name):
            raise Bad(f"{name!r} has no letter or digit that a name could be made of")
        if word not in self.targets:
            self.targets[word] = _Target(name, self._apps.get(word), self._protocols.get(word))
        return self.targets[word]

    def others(self, target: _Target, kind: str, text: str) -> bool:
        """Whether a rule gives that name to another target."""
        owner, _ = self._taken.get((kind, text), (target, 0))
        return owner is not target


def _rows(target: _Target, kind: str) -> list[str]:
    return {"domains": target.domains, "exact": target.exact, "prefix": target.prefixes}[kind]


def _by_word(known: Catalogue, kind: str) -> dict[str, Entry]:
    """Entries by name and by title, as both write names their own way (DisneyPlus, disney-plus)."""
    entries = [entry for entry in known.entries.values() if entry.kind == kind]
    titles = {_word(entry.title): entry for entry in entries}
    return titles | {_word(entry.name): entry for entry in entries}


def _word(name: str) -> str:
    """Letters and digits alone, in lower case: what is alike then is the same name."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("+", "plus"))


def _slug(name: str) -> str:
    words = re.findall(r"[a-z0-9]+", name.lower().replace("+", "plus"))
    return "-".join(words)[:NAME_LIMIT].strip("-")


def _split(line: str) -> tuple[list[tuple[str, str]], str]:
    """(key, value) of each rule, and the name behind the @, "" where there is none."""
    if len(line) > LINE_LIMIT:
        raise Bad(f"is longer than {LINE_LIMIT} characters")
    rules, at = [], 0
    while True:
        found = _ITEM.match(line, at)
        if not found:
            raise Bad(f"is no rule from column {at + 1} on", 'rules look like host:"example.com"')
        value = found[2].strip('"').strip()
        rules.append((found[1].lower(), value))
        at = found.end()
        if line[at : at + 1] != ",":
            break
        at += 1
    rest = line[at:].strip()
    if rest.startswith("="):  # risk masks have no name
        return rules, ""
    if rest and not rest.startswith("@"):
        raise Bad(f"is no rule from column {at + 1} on", 'rules look like host:"example.com"')
    return rules, _name(rest[1:])


def _name(text: str) -> str:
    """The name, without nDPI's own number or category behind a `=`."""
    name = text.partition("=")[0].strip().strip('"')
    if not name.isprintable():
        raise Bad("has a name with characters that cannot be printed")
    return name


def _ports(key: str, value: str) -> str:
    found = _PORTS.fullmatch(value)
    low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not found or not 0 < low <= high < 65536:
        raise Bad(f"{key}: {value!r} is no port and no range of ports")
    return f"{low}-{high}" if low < high else str(low)


def _host(value: str) -> tuple[str, str]:
    """("domains" or "exact", name)."""
    name = value.lower().rstrip(".")
    begins, ends = name.startswith("^"), name.endswith("$")
    name = name.removeprefix("^").removesuffix("$")
    if begins and not ends:
        raise Bad(f"host: {value!r} is the beginning of names", "rules are about their end")
    name = name.removeprefix("*").removeprefix(".")
    try:
        domains([name])
    except Bad as bad:
        raise Bad(f"host: {bad.why}", bad.hint) from None
    return ("exact" if begins else "domains"), name


def _prefix(value: str) -> str:
    """An address or network as a prefix."""
    text = value
    if text.startswith("["):  # as IPv6 stands where a port may follow
        address, _, behind = text[1:].partition("]")
        bits, colon, _ = behind.partition(":")
        text = address + bits
    elif text.count(":") == 1:
        text, colon, _ = text.partition(":")
    else:
        colon = ""
    if colon:
        raise Bad(f"ip: {value!r} has a port", "a prefix would take in all ports")
    try:
        if "%" in text:
            raise ValueError
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise Bad(f"ip: {value!r} is no address and no prefix") from None
    return str(network)


def _written(reader: _Reader, path: Path, category: str) -> Iterator[str]:
    """The file, table by table."""
    targets = [target for target in reader.targets.values() if target.lines]
    if not targets:
        return
    yield (
        f"# From {_comment(path.name)}, rules in nDPI's format.\n"
        "# host: names match with all names below them, on the boundaries of labels.\n"
        "# tcp:, udp: a port is a hint, the weakest evidence: whatever packets show counts more.\n"
    )
    slugs: set[str] = set()
    for target in targets:
        lines = ", ".join(map(str, target.lines[:10])) + (", ..." if target.lines[10:] else "")
        plural = "s" if target.lines[1:] else ""
        yield f"# {_comment(target.title)}: line{plural} {lines}"
        named = target.app.name if target.app else _unused(_slug(target.title), slugs)
        key = "app"
        if target.app is None and target.protocol and not target.named:
            key, named = "protocol", target.protocol.name
        elif target.named or target.app is None:
            yield _app(reader, target, named, category)
        for l4, ports in target.ports.items():
            if ports:
                yield _signature(key, named, l4, ports)


def _unused(slug: str, slugs: set[str]) -> str:
    """A name that no other target has got: long ones may be cut to the same."""
    name, number = slug, 2
    while name in slugs:
        end = f"-{number}"
        name, number = slug[: NAME_LIMIT - len(end)].strip("-") + end, number + 1
    slugs.add(name)
    return name


def _app(reader: _Reader, target: _Target, name: str, category: str) -> str:
    """An [[app]]: a new one, or one that is known with more domains."""
    old = target.app
    lines = []
    if old:
        lines.append(f"# Redefines {name}, which is known: its domains, and those of the rules.")
    title = old.title if old else re.sub(r"(['\"])\1+", r"\1", target.title)[:TITLE_LIMIT]
    lines += [
        "[[app]]",
        f"id = {old.id if old else target.id}",
        f"name = {_text(name)}",
        f"title = {_text(title)}",
        f"category = {_text(old.category if old else category)}"
        + ("" if old else "  # as you like; `signatures check` prints what there is"),
    ]
    for key in ("domains", "exact", "prefix"):
        before = getattr(old, key, ()) if old else ()
        kept = [text for text in before if not reader.others(target, key, text)]
        if values := [*dict.fromkeys((*kept, *_rows(target, key)))]:
            lines.append(_list(key, values))
    return "\n".join(lines) + "\n"


def _signature(key: str, name: str, l4: str, ports: list[str]) -> str:
    values = [port if "-" in port else int(port) for port in ports]
    return "\n".join(
        ("[[signature]]", f"{key} = {_text(name)}", f'l4 = "{l4}"', _list("port", values), "")
    )


def _list(key: str, values: list[str] | list[str | int]) -> str:
    texts = [_text(value) if isinstance(value, str) else str(value) for value in values]
    line = f"{key} = [{', '.join(texts)}]"
    if len(line) <= _WIDTH:
        return line
    return f"{key} = [\n" + "".join(f"    {text},\n" for text in texts) + "]"


def _text(value: str) -> str:
    """A TOML string; JSON's are the same."""
    return json.dumps(value, ensure_ascii=False)


def _comment(text: str) -> str:
    """Text that may stand in a comment: the reader looks for three quotes everywhere."""
    return "".join(c if c.isprintable() and c not in "'\"" else "_" for c in text)
