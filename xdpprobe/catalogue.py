# SPDX-License-Identifier: Apache-2.0
"""All signature files together: what a label number means, and which names belong to it.

The shipped files come first, then what the user adds. The catalogue is made whole or not at all:
a mistake anywhere raises one DataError, so that running tables are never replaced by half of what
was meant.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from xdpprobe import signature_file
from xdpprobe.errors import DataError
from xdpprobe.patterns.texts import add_layer
from xdpprobe.rules import NameRule
from xdpprobe.signature_file import Entry
from xdpprobe.signature_table import Signature
from xdpprobe.snapshot import Label

SHIPPED = Path(__file__).parent / "signatures"
RULE_LIMIT = 200_000
PREFIX_LIMIT = 200_000
_KIND = {"protocol": "protocol", "app": "application"}
_YOURS = {"protocol": "448..511", "app": "7168..8191"}  # ids that no shipped file takes


@dataclass(frozen=True)
class Catalogue:
    """What the signature files say, checked.

    labels: label id -> label, as `snapshot.Snapshot` has it. rules: for `rules.compile_rules`.
    l4: IP protocol number -> label id. digest: SHA-256 over the files' names and contents.
    files: as read, in order. entries: label id -> the definition in force.
    signatures: of a higher layer before those of a lower one, else as in the files.
    prefixes: of addresses -> label id. ech_names: server names that stand for encrypted ones.
    """

    labels: dict[int, Label]
    rules: list[NameRule]
    l4: dict[int, int]
    digest: bytes
    files: tuple[Path, ...]
    entries: dict[int, Entry]
    signatures: tuple[Signature, ...] = ()
    prefixes: dict[str, int] = field(default_factory=dict)
    ech_names: frozenset[str] = frozenset()


def load(directories: Sequence[Path] | None = None) -> Catalogue:
    """The shipped files and, above them, each of `directories` (or single files) in turn.

    What stands later may redefine an earlier entry (same name and id) or take a domain over.
    Raises DataError with file, line and reason.
    """
    layers = [_layer(path) for path in (SHIPPED, *(directories or ()))]
    digest = hashlib.sha256()
    merged = _Merged()
    signatures: list[Signature] = []
    texts: set[tuple[str, bytes]] = set()
    for files in layers:
        entries: list[Entry] = []
        added: list[Signature] = []
        for path in files:
            data = signature_file.read(path)
            digest.update(
                b"%d %s %d\n" % (len(path.name), os.fsencode(path.name), len(data)) + data
            )
            contents = signature_file.parse(path, data)
            entries += contents.entries
            added += contents.signatures
        merged.add(entries)
        add_layer(texts, added)
        signatures = added + signatures
    signatures = list(merged.resolve(signatures))
    merged.check_apps({signature.app for signature in signatures})
    return Catalogue(
        labels={
            entry.id: Label(entry.id, entry.name, entry.category, _KIND[entry.kind])
            for entry in merged.by_id.values()
        },
        rules=merged.rules(),
        l4={number: entry.id for entry in merged.by_id.values() for number in entry.l4},
        digest=digest.digest(),
        files=tuple(path for files in layers for path in files),
        entries=dict(sorted(merged.by_id.items())),
        signatures=tuple(signatures),
        prefixes=merged.prefixes(),
        ech_names=merged.ech_names(),
    )


def verify_protocols(entries: Mapping[int, Entry], enum: Mapping[str, int]) -> None:
    """Raise DataError unless the files call the data plane's own protocols what it means by them.

    entries: of a Catalogue. enum: `enum protocol` of bpf/abi.h, e.g. {"PROTOCOL_TLS": 1}.
    """
    for constant, number in enum.items():
        name = constant.removeprefix("PROTOCOL_").lower().replace("_", "-")
        if number == 0:
            continue
        entry = entries.get(number)
        if entry is None:
            raise DataError("signatures", f"protocol {number} ({name}) is defined in no file")
        if entry.name != name:
            raise DataError(entry.where("id"), f"protocol {number} is {name}, not {entry.name}")


def _layer(path: Path) -> list[Path]:
    """The files of a directory, by name; or the one file."""
    if not path.exists():
        raise DataError(str(path), "does not exist", "name a directory with .toml files, or a file")
    if not path.is_dir():
        return [path]
    try:
        files = sorted(p for p in path.iterdir() if p.suffix == ".toml" and p.name[0] != ".")
    except OSError as error:
        raise DataError(str(path), error.strerror or "cannot be read") from error
    if not files:
        raise DataError(str(path), "holds no .toml file", "name the directory of the signatures")
    return files


class _Merged:
    """Entries of the layers added so far; every index is by what must be used once."""

    def __init__(self) -> None:
        self.by_id: dict[int, Entry] = {}
        self._by_name: dict[tuple[str, str], Entry] = {}
        self._domains: dict[tuple[str, bool], Entry] = {}
        self._l4: dict[int, Entry] = {}
        self._prefixes: dict[str, Entry] = {}

    def add(self, entries: list[Entry]) -> None:
        """Put a layer above those that are there; within a layer nothing may stand twice."""
        new = _Merged()
        for entry in entries:
            new._insert(entry)
        for entry in entries:
            self._check_against_lower(entry)
        redefined = {self.by_id[entry.id] for entry in entries if entry.id in self.by_id}
        self._domains = {k: e for k, e in self._domains.items() if e not in redefined}
        self._l4 = {k: e for k, e in self._l4.items() if e not in redefined}
        self._prefixes = {k: e for k, e in self._prefixes.items() if e not in redefined}
        self.by_id |= new.by_id
        self._by_name |= new._by_name
        self._domains |= new._domains
        self._l4 |= new._l4
        self._prefixes |= new._prefixes
        if len(self._prefixes) > PREFIX_LIMIT:
            raise DataError(
                entries[-1].where(), f"more than {PREFIX_LIMIT} prefixes in all", "load fewer files"
            )
        # Each takes a place of the kernel's table.
        if len(self._domains) + len(self.ech_names()) > RULE_LIMIT:
            raise DataError(
                entries[-1].where(), f"more than {RULE_LIMIT} domains in all", "load fewer files"
            )

    def rules(self) -> list[NameRule]:
        return [NameRule(name, entry.id, exact) for (name, exact), entry in self._domains.items()]

    def prefixes(self) -> dict[str, int]:
        return {prefix: entry.id for prefix, entry in self._prefixes.items()}

    def ech_names(self) -> frozenset[str]:
        return frozenset(name for entry in self.by_id.values() for name in entry.ech_public_names)

    def check_apps(self, named: set[str]) -> None:
        """Refuse an application that nothing can lead to; `named`: those that signatures name."""
        for entry in self.by_id.values():
            # Users' own may be for `xdpprobe peers` alone.
            needed = entry.kind == "app" and entry.id not in signature_file.OWN_IDS
            led_to = entry.domains or entry.exact or entry.prefix or entry.name in named
            if needed and not led_to:
                raise DataError(
                    entry.where(),
                    f"app {entry.name!r} has neither 'domains' nor 'exact' nor 'prefix'",
                    "and no signature names it",
                )

    def resolve(self, signatures: Sequence[Signature]) -> Iterable[Signature]:
        """The signatures with the label ids of what they name."""
        names = {signature.name for signature in signatures}
        for signature in signatures:
            if signature.after and signature.after not in names:
                raise DataError(
                    signature.where("after"), f"after: no signature is named {signature.after!r}"
                )
            protocol = self._label(signature, "protocol", signature.protocol)
            yield replace(
                signature, protocol_id=protocol, app_id=self._label(signature, "app", signature.app)
            )

    def _label(self, signature: Signature, kind: str, name: str) -> int:
        entry = self._by_name.get((kind, name))
        if name and entry is None:
            other = self._by_name.get(("app" if kind == "protocol" else "protocol", name))
            hint = f"it is written as {other.kind} = {name!r}" if other else ""
            raise DataError(signature.where(kind), f"{kind}: no [[{kind}]] is named {name!r}", hint)
        return entry.id if entry else 0

    def _insert(self, entry: Entry) -> None:
        if (other := self.by_id.setdefault(entry.id, entry)) is not entry:
            raise _twice(entry, "id", entry.id, other)
        key = (entry.kind, entry.name)
        if (other := self._by_name.setdefault(key, entry)) is not entry:
            raise _twice(entry, "name", entry.name, other)
        for exact, domains in ((False, entry.domains), (True, entry.exact)):
            for domain in domains:
                if (other := self._domains.setdefault((domain, exact), entry)) is not entry:
                    raise _twice(entry, "exact" if exact else "domains", domain, other)
        for number in entry.l4:
            if (other := self._l4.setdefault(number, entry)) is not entry:
                raise _twice(entry, "l4", number, other)
        for prefix in entry.prefix:
            if (other := self._prefixes.setdefault(prefix, entry)) is not entry:
                raise _twice(entry, "prefix", prefix, other)

    def _check_against_lower(self, entry: Entry) -> None:
        """Numbers never change their meaning: counters of running probes carry them."""
        same_id = self.by_id.get(entry.id)
        same_name = self._by_name.get((entry.kind, entry.name))
        if same_id and same_id is not same_name:
            raise DataError(
                entry.where("id"),
                f"id {entry.id} is {same_id.name} in {same_id.where()}",
                f"take another number ({_YOURS[entry.kind]} are yours)",
            )
        if same_name and same_name.id != entry.id:
            raise DataError(
                entry.where("id"),
                f"{entry.name} has id {same_name.id} in {same_name.where()}",
                "keep that number to redefine it, or choose another name",
            )


def _twice(entry: Entry, key: str, value: object, other: Entry) -> DataError:
    owner = f"{other.name} already ({other.where(key, value)})"
    return DataError(
        entry.where(key, value), f"{key}: {value!r} of {entry.name} belongs to {owner}"
    )
