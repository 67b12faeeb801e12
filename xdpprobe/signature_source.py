# SPDX-License-Identifier: Apache-2.0
"""The text of a signature file: TOML without what has no line or takes too long, and its lines.

tomllib does not say where a value stood; the text is kept to find that again for a message.
"""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xdpprobe.errors import DataError

HEADER = re.compile(r"^[ \t]*\[\[[ \t]*(app|protocol|signature)[ \t]*\]\]", re.MULTILINE)
# Possessive, and one without its end goes to the line's: nothing is looked at twice.
_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\\n]++|\\.)*+"?|\'[^\'\n]*+\'?|#.*')
# What may be more than 64 bits can hold: Python would read hexadecimal numbers of any length, and
# then refuse to print them.
_LONG_NUMBER = re.compile(
    r"(?<![\w+-])[+-]?(?:0x[\dA-Fa-f_]{16,}+|0o[0-7_]{21,}+|0b[01_]{64,}+|\d[\d_]{18,}+)(?![\w-])",
    re.ASCII,
)
_NUMBERS = range(-(1 << 63), 1 << 63)


@dataclass(frozen=True, eq=False)
class SourceText:
    """A file's text, kept to turn a mistake found later into a line number."""

    path: Path
    text: str

    def where(self, kind: str, index: int, key: str = "", value: object = None) -> str:
        """`file:line` of table number `index` (from 0) of a kind, or of a key or string in it."""
        lines = self.text.split("\n")
        starts = [(n, m[1]) for n, line in enumerate(lines) if (m := HEADER.match(line))]
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


def toml(path: Path, text: str) -> dict[str, Any]:
    """The document; raises DataError with file, line and reason."""
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
    for long in _LONG_NUMBER.finditer(bare):
        if _is_too_wide(long[0]):
            number = bare.count("\n", 0, long.start()) + 1
            raise DataError(f"{path}:{number}", "a number that does not fit into 64 bits")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        found = re.match(r"line (\d+)", place)
        at = int(found[1]) if found else text.rstrip("\n").count("\n") + 1
        raise DataError(f"{path}:{at}", f"is not valid TOML: {reason}") from error
    except (ValueError, RecursionError) as error:  # 1,000 brackets; 5,000 digits and "-"
        raise DataError(str(path), "is not valid TOML: a value is too long or too deep") from error


def _is_too_wide(number: str) -> bool:
    """Of a long number as TOML writes it."""
    try:
        return int(number, 0) not in _NUMBERS
    except ValueError:
        # More digits than Python reads; or not TOML, which tomllib says better.
        return len(number) > 4000


def top_level_line(text: str, key: str) -> int:
    """The line of a key or table header, from 1."""
    pattern = re.compile(rf"\s*+\[*+\s*+[\"']?{re.escape(key)}\b")
    lines = text.split("\n")
    return next((n for n, line in enumerate(lines, 1) if pattern.match(line)), 1)
