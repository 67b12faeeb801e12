# SPDX-License-Identifier: Apache-2.0
"""One signature file: TOML in, checked entries out, or the line that is wrong and why.

Everything that can be said of a file alone is checked here; what takes all files together (ids,
names and domains used twice) is `catalogue.py`'s. The format is described in docs/signatures.md.
"""

import os
import re
import stat
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xdpprobe.errors import DataError

# The only place that lists them. bpf/abi.h leaves a name 31 bytes and a category 23.
# fmt: off
CATEGORIES = frozenset((
    "adult", "ads", "ai", "cdn", "cloud", "conferencing", "dating", "dev", "education", "finance",
    "games", "government", "iot", "mail", "media", "messaging", "music", "name-resolution",
    "network", "news", "remote-access", "routing", "search", "security", "shopping", "social",
    "sports", "storage", "travel", "tunnel", "updates", "video", "vpn", "web", "work",
))
# fmt: on
PROTOCOL_IDS = range(1, 512)
APP_IDS = range(512, 8192)
NAME_LIMIT = 31
DOMAIN_LIMIT = 63  # NAME_KEY_LEN of bpf/abi.h, less the dot that ends a reversed name
FILE_LIMIT = 1 << 20
TITLE_LIMIT, SOURCE_LIMIT = 40, 100

_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*(app|protocol)[ \t]*\]\]", re.MULTILINE)
# Possessive, and one without its end goes to the line's: nothing is looked at twice.
_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\\n]++|\\.)*+"?|\'[^\'\n]*+\'?|#.*')


@dataclass(frozen=True, eq=False)
class SourceText:
    """A file's text, kept to turn a mistake found later into a line number."""

    path: Path
    text: str

    def where(self, kind: str, index: int, key: str = "", value: object = None) -> str:
        """`file:line` of table number `index` (from 0) of a kind, or of a key or string in it."""
        lines = self.text.split("\n")
        starts = [(n, m[1]) for n, line in enumerate(lines) if (m := _HEADER.match(line))]
        start = [n for n, name in starts if name == kind][index]
        end = min((n for n, _ in starts if n > start), default=len(lines))
        found = start
        assignment = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
        if key:
            found = next((n for n in range(start, end) if assignment.match(lines[n])), start)
        if isinstance(value, str):
            found = next((n for n in range(found, end) if value in _strings(lines[n])), found)
        return f"{self.path}:{found + 1}"


def _strings(line: str) -> list[str]:
    """The quoted strings of a line, as written between the quotes."""
    tokens = _STRING_OR_COMMENT.findall(line)
    return [token[1:-1] for token in tokens if not token.startswith("#")]


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
    l4: tuple[int, ...] = ()

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


def parse(path: Path, data: bytes) -> list[Entry]:
    """The entries of a file, protocols first; raises DataError with file, line and reason."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}", "is not UTF-8") from error
    document = _toml(path, text)
    source = SourceText(path, text)
    for key in document:
        if key not in _KEYS:
            raise DataError(
                f"{path}:{_top_level_line(text, key)}",
                f"unknown table or key {_brief(repr(key))}",
                "only [[app]] and [[protocol]] tables stand in a signature file",
            )
    entries = []
    headers = _HEADER.findall(text)
    for kind in ("protocol", "app"):
        tables = document.get(kind, [])
        if not isinstance(tables, list) or len(tables) != headers.count(kind):
            raise DataError(str(path), f"{kind} is not written as [[{kind}]] tables")
        entries += [_entry(source, kind, n, table) for n, table in enumerate(tables)]
    return entries


def _toml(path: Path, text: str) -> dict[str, Any]:
    if multi_line := re.search("\"\"\"|'''", text):
        # With them a line that looks like a header need not be one, and no line could be named.
        number = text.count("\n", 0, multi_line.start()) + 1
        raise DataError(f"{path}:{number}", "multi-line strings are not used in this format")
    bare = _STRING_OR_COMMENT.sub("", text)
    if (dot := bare.find(".")) >= 0:
        # The time that tomllib takes for a.a.a.a... grows with its square.
        number = bare.count("\n", 0, dot) + 1
        raise DataError(
            f"{path}:{number}",
            "a dot outside of quotes",
            "names stand in quotes; dotted keys and fractions are not used in this format",
        )
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        found = re.match(r"line (\d+)", place)
        at = int(found[1]) if found else text.rstrip("\n").count("\n") + 1
        raise DataError(f"{path}:{at}", f"is not valid TOML: {reason}") from error
    except (ValueError, RecursionError) as error:  # numbers of 5,000 digits, 1,000 brackets
        raise DataError(str(path), "is not valid TOML: a value is too long or too deep") from error


def _top_level_line(text: str, key: str) -> int:
    pattern = re.compile(rf"\s*+\[*+\s*+[\"']?{re.escape(key)}\b")
    lines = text.split("\n")
    return next((n for n, line in enumerate(lines, 1) if pattern.match(line)), 1)


class _Bad(Exception):
    """A value that is wrong: why, what to try, and (as far as known) the string at fault."""

    def __init__(self, why: str, hint: str = "", value: object = None) -> None:
        super().__init__(why)
        self.why, self.hint, self.value = why, hint, value


def _brief(why: str) -> str:
    """A reason that quotes a value of any length, in one line that can be read."""
    return why if len(why) <= 300 else f"{why[:100]}...{why[-190:]}"


def _entry(source: SourceText, kind: str, index: int, table: object) -> Entry:
    if not isinstance(table, dict):
        raise DataError(str(source.path), f"{kind} is not written as [[{kind}]] tables")
    for key in table:
        if key not in _KEYS[kind]:
            known = ", ".join(_KEYS[kind])
            where = source.where(kind, index, key)
            raise DataError(
                where, f"unknown key {_brief(repr(key))} in [[{kind}]]", f"known are {known}"
            )
    for key in ("id", "name", "title", "category"):
        if key not in table:
            raise DataError(source.where(kind, index), f"[[{kind}]] has no {key!r}")
    values: dict[str, Any] = {}
    for key, value in table.items():
        try:
            values[key] = _KEYS[kind][key](value)
        except _Bad as bad:
            where = source.where(kind, index, key, bad.value)
            raise DataError(where, f"{key}: {_brief(bad.why)}", bad.hint) from None
    entry = Entry(kind=kind, index=index, file=source, **values)
    if kind == "app" and not (entry.domains or entry.exact):
        raise DataError(entry.where(), f"app {entry.name!r} has neither 'domains' nor 'exact'")
    return entry


def _id(numbers: range) -> Callable[[object], int]:
    def check(value: object) -> int:
        if type(value) is not int:
            raise _Bad("is not a whole number")
        if value not in numbers:
            raise _Bad(f"{value} is not within {numbers[0]}..{numbers[-1]}")
        return value

    return check


def _slug(value: object) -> str:
    if not isinstance(value, str) or not _SLUG.fullmatch(value) or len(value) > NAME_LIMIT:
        raise _Bad(
            f"{value!r} is not 1 to {NAME_LIMIT} lower-case letters and digits,"
            " in groups joined by '-'"
        )
    return value


def _category(value: object) -> str:
    if not isinstance(value, str) or value not in CATEGORIES:
        raise _Bad(f"{value!r} is not a category", "known are " + ", ".join(sorted(CATEGORIES)))
    return value


def _line_of_text(limit: int) -> Callable[[object], str]:
    def check(value: object) -> str:
        if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= limit:
            raise _Bad(f"{value!r} is not 1 to {limit} printable characters")
        return value

    return check


def _items(value: object) -> list[object]:
    if not isinstance(value, list) or not value:
        raise _Bad("is not a list with something in it")
    return value


def _once(items: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(items)) < len(items):
        counts = Counter(items)
        twice = next(item for item in items if counts[item] > 1)
        raise _Bad(f"{twice!r} stands in it twice", value=twice)
    return items


def _domains(value: object) -> tuple[str, ...]:
    return _once(tuple([_domain(item) for item in _items(value)]))


def _domain(value: object) -> str:
    if not isinstance(value, str):
        raise _Bad(f"{value!r} is not a string")
    if len(value) <= DOMAIN_LIMIT and _DOMAIN.fullmatch(value):
        if value.rpartition(".")[2].isdigit():
            raise _Bad(f"{value!r} is an address, not a name", value=value)
        return value
    why, hint = _domain_mistake(value)
    raise _Bad(f"{value!r} {why}", hint, value)


def _domain_mistake(value: str) -> tuple[str, str]:
    if "*" in value:
        return "has a wildcard", "'domains' match all names below them as they are"
    if not value.isascii():
        return "is not ASCII", "write it as it goes over the wire (punycode, xn--...)"
    if value != value.lower():
        return "has capital letters", "write it in lower case"
    if len(value) > DOMAIN_LIMIT:
        return f"is longer than {DOMAIN_LIMIT} bytes", "a shorter suffix of it will do"
    return "is not a domain name", "labels of letters, digits, '-' and '_', with dots between"


def _l4(value: object) -> tuple[int, ...]:
    numbers = []
    for item in _items(value):
        if type(item) is not int or item not in range(256):
            raise _Bad(f"{item!r} is not an IP protocol number (0..255)")
        if item in (6, 17):
            raise _Bad(f"{item} is TCP or UDP, whose flows are named by what they carry")
        numbers.append(item)
    return _once(tuple(numbers))


_COMMON: dict[str, Callable[[object], Any]] = {
    "name": _slug,
    "title": _line_of_text(TITLE_LIMIT),
    "category": _category,
    "source": _line_of_text(SOURCE_LIMIT),
}
_KEYS: dict[str, dict[str, Callable[[object], Any]]] = {
    "protocol": {"id": _id(PROTOCOL_IDS), **_COMMON, "l4": _l4},
    "app": {"id": _id(APP_IDS), **_COMMON, "domains": _domains, "exact": _domains},
}
