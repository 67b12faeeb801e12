# SPDX-License-Identifier: Apache-2.0
"""One signature file: TOML in, checked entries out, or the line that is wrong and why.

Everything that can be said of a file alone is checked here; what takes all files together (ids,
names and domains used twice) is `catalogue.py`'s. The format is described in docs/signatures.md.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from xdpprobe import signature_values as values
from xdpprobe.errors import DataError
from xdpprobe.signature_source import HEADER, SourceText, toml, top_level_line
from xdpprobe.signature_table import Signature, signature
from xdpprobe.signature_values import Bad, brief

PROTOCOL_IDS = range(1, 512)
APP_IDS = range(512, 8192)
OWN_IDS = range(7168, 8192)  # of users' files
FILE_LIMIT = 1 << 20
TITLE_LIMIT, SOURCE_LIMIT = 40, 100


@dataclass(eq=False, slots=True)  # frozen would cost a tenth of the time that loading takes
class Entry:
    """A protocol or an application as a file defines it; not to be changed."""

    kind: str  # "protocol" or "app": the name of its TOML table
    index: int  # of the table among those of its kind in the file
    file: SourceText = field(repr=False)
    id: int
    name: str
    title: str
    category: str
    source: str = ""
    domains: tuple[str, ...] = ()
    exact: tuple[str, ...] = ()
    ech_public_names: tuple[str, ...] = ()
    l4: tuple[int, ...] = ()
    prefix: tuple[str, ...] = ()

    def where(self, key: str = "", value: object = None) -> str:
        """`file:line` of the entry, or of a key or string in it."""
        return self.file.where(self.kind, self.index, key, value)


def read(path: Path) -> bytes:
    """A signature file's bytes; raises DataError for what is no plain, readable, small file."""
    try:
        # Without O_NONBLOCK a FIFO in the directory would hang the reader.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise DataError(str(path), "is no regular file")
            data = stream.read(FILE_LIMIT + 1)
    except OSError as error:
        raise DataError(str(path), error.strerror or "cannot be read") from error
    if len(data) > FILE_LIMIT:
        raise DataError(str(path), f"is larger than {FILE_LIMIT} bytes", "split it by family")
    return data


class Contents(NamedTuple):
    """What a file holds; protocols stand before applications, signatures as in the file."""

    entries: list[Entry]
    signatures: list[Signature]


def parse(path: Path, data: bytes) -> Contents:
    """What a file says; raises DataError with file, line and reason."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}", "is not UTF-8") from error
    document = toml(path, text)
    source = SourceText(path, text)
    kinds = (*_KEYS, "signature")
    for key in document:
        if key not in kinds:
            raise DataError(
                f"{path}:{top_level_line(text, key)}",
                f"unknown table or key {brief(repr(key))}",
                "only [[app]], [[protocol]] and [[signature]] tables stand in a signature file",
            )
    headers = HEADER.findall(text)
    tables = {}
    for kind in kinds:
        tables[kind] = document.get(kind, [])
        if not _is_tables(tables[kind]) or len(tables[kind]) != headers.count(kind):
            raise DataError(str(path), f"{kind} is not written as [[{kind}]] tables")
    return Contents(
        [_entry(source, kind, n, table) for kind in _KEYS for n, table in enumerate(tables[kind])],
        [signature(source, n, table) for n, table in enumerate(tables["signature"])],
    )


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(table, dict) for table in value)


def _entry(source: SourceText, kind: str, index: int, table: dict[str, object]) -> Entry:
    for key in table:
        if key not in _KEYS[kind]:
            known = ", ".join(_KEYS[kind])
            where = source.where(kind, index, key)
            raise DataError(
                where, f"unknown key {brief(repr(key))} in [[{kind}]]", f"known are {known}"
            )
    for key in ("id", "name", "title", "category"):
        if key not in table:
            raise DataError(source.where(kind, index), f"[[{kind}]] has no {key!r}")
    checked: dict[str, Any] = {}
    for key, value in table.items():
        try:
            checked[key] = _KEYS[kind][key](value)
        except Bad as bad:
            where = source.where(kind, index, key, bad.value)
            raise DataError(where, f"{key}: {brief(bad.why)}", bad.hint) from None
    return Entry(kind=kind, index=index, file=source, **checked)


_COMMON: dict[str, Callable[[object], Any]] = {
    "name": values.slug,
    "title": values.line_of_text(TITLE_LIMIT),
    "category": values.category,
    "source": values.line_of_text(SOURCE_LIMIT),
}
_KEYS: dict[str, dict[str, Callable[[object], Any]]] = {
    "protocol": {
        "id": values.number(PROTOCOL_IDS),
        **_COMMON,
        "l4": values.l4,
        "prefix": values.prefix,
    },
    "app": {
        "id": values.number(APP_IDS),
        **_COMMON,
        "domains": values.domains,
        "exact": values.domains,
        "ech_public_names": values.domains,
        "prefix": values.prefix,
    },
}
