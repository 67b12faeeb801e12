# SPDX-License-Identifier: Apache-2.0
"""The three standard streams, made so that no command has to think of how it was started.

A stream that is closed reads and writes as /dev/null: the command does its work and its exit code
says what came of it. Else a map's descriptor would get the number, and a message end up there.
"""

import io
import os
import sys
from contextlib import suppress
from typing import Literal, TextIO, cast


def prepare() -> None:
    """Opens what is closed; lets no character that the locale lacks raise an exception."""
    for number in range(3):
        _fill(number)
    # Python has None where a stream was closed when it started.
    sys.stdin = cast(TextIO | None, sys.stdin) or _nowhere("r")
    sys.stdout = cast(TextIO | None, sys.stdout) or _nowhere("w")
    sys.stderr = cast(TextIO | None, sys.stderr) or _nowhere("w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # One character for one: tables keep their columns. JSON is ASCII anyway.
            stream.reconfigure(errors="replace")


def _nowhere(mode: Literal["r", "w"]) -> TextIO:
    return open(os.devnull, mode)


def _fill(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        # The lowest number that is free, which is this one; children are to have it too.
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def printable(message: str) -> str:
    """A message that may quote a name of any bytes, as standard error can show it."""
    encoding = sys.stderr.encoding or "ascii"
    text = "".join(c if c.isprintable() or c == "\n" else _escaped(c) for c in message)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _escaped(c: str) -> str:
    """A control character, or a byte that was no text (PEP 383)."""
    return f"\\x{ord(c) & 0xFF:02x}" if "\udc80" <= c <= "\udcff" else ascii(c)[1:-1]


def say(message: str) -> None:
    """Writes an error to standard error, if that can be written to: the exit code tells too."""
    with suppress(OSError):
        print(f"xdpprobe: {printable(message)}", file=sys.stderr)
    give_up(sys.stderr)


def give_up(stream: TextIO) -> None:
    """Drops what the stream cannot take, or Python would complain at exit."""
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
