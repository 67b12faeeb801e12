# SPDX-License-Identifier: Apache-2.0
"""Lists of peers as text: one a line, then its application or protocol, then perhaps seconds.

    # what a tracker said
    192.0.2.7:6881/udp   bittorrent   3600
    198.51.100.0/24      intranet

A list is read whole or not at all: the first mistake ends it, with file, line and reason.
"""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from xdpprobe import peer_text
from xdpprobe.errors import DataError
from xdpprobe.rereadable import STANDARD_INPUT, name_of, refusals_named

FILE_LIMIT = 100_000_000  # bytes
LINE_LIMIT = 1000
SECONDS_LIMIT = 10 * 365 * 86400


class Said(NamedTuple):
    """What is said of a peer: its label's number, and for how many seconds from now; 0: for ever.

    In tables and what is read from them `lasts` is the moment of the end instead, in the unit that
    struct peer_value of bpf/abi_knowledge.h has.
    """

    label: int
    lasts: int


class _Line(NamedTuple):
    peer: str
    label: str
    seconds: str


def read(
    path: Path, label_id: Callable[[str], int | None], label: str, seconds: int, most: int
) -> dict[bytes, Said]:
    """The peers of a list, `-` for standard input.

    label_id: the number of a label's name, None for one that is unknown. label, seconds: of lines
    that do not say, "" where they have to. most: peers that there may be. Raises DataError.
    """
    peers: dict[bytes, Said] = {}
    known: dict[tuple[str, str], Said] = {}  # a list has few of them: each is kept once
    name = name_of(path)
    for number, line in _lines(path):
        where = f"{name}:{number}"
        fields = _fields(where, line, label, seconds)
        if fields is None:
            continue
        said = known.get(fields[1:])
        if said is None:
            said = known[fields[1:]] = _said(where, fields, label_id)
        try:
            meant = peer_text.parse(fields.peer)
        except peer_text.Mistake as mistake:
            raise DataError(where, mistake.why, mistake.hint) from None
        for peer in meant:
            other = peers.setdefault(peer, said)
            if other.label != said.label:
                raise DataError(
                    where,
                    f"{peer_text.show(peer)} stands in a line before, with another application",
                    "a peer has one",
                )
            peers[peer] = said
        if len(peers) > most:
            raise DataError(where, f"more than {most} peers", "there is no room for more")
    return peers


def write(peers: Iterable[tuple[bytes, str, int]], stream: IO[str]) -> None:
    """Writes (peer, label's name, seconds left or 0) as `read` takes them."""
    for peer, label, seconds in peers:
        stream.write(f"{peer_text.show(peer)} {label}{f' {seconds}' if seconds else ''}\n")


def unknown_label(name: str) -> tuple[str, str]:
    """What is wrong with a name that no label has, and what to do about it."""
    return (
        f"no application or protocol is called {name!r}",
        "`xdpprobe signatures list` has them; to define one, write an [[app]] with an id from"
        " 7168 to 8191 into a file and run `xdpprobe signatures load FILE`",
    )


def _said(where: str, fields: _Line, label_id: Callable[[str], int | None]) -> Said:
    number = label_id(fields.label)
    if number is None:
        raise DataError(where, *unknown_label(fields.label))
    text = fields.seconds
    if not text.isdigit() or len(text) > 9 or int(text) > SECONDS_LIMIT:
        raise DataError(
            where, f"{text!r} is no number of seconds", f"0 (for ever) to {SECONDS_LIMIT}"
        )
    return Said(number, int(text))


def _fields(where: str, line: bytes, label: str, seconds: int) -> _Line | None:
    """A line's words, with what it leaves open; None of one that says nothing."""
    try:
        words = line.partition(b"#")[0].decode("ascii").split()
    except UnicodeDecodeError:
        raise DataError(where, "is not ASCII", "a peer, its application, seconds") from None
    if not words:
        return None
    if len(words) > 3:
        raise DataError(where, f"{len(words)} words", "at most: a peer, its application, seconds")
    if len(words) == 1:
        if not label:
            raise DataError(
                where, "names no application", "write it behind the peer, or give --label NAME"
            )
        words.append(label)
    return _Line(words[0], words[1], words[2] if len(words) > 2 else str(seconds))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number, line); bounded, whatever the file is."""
    name = name_of(path)
    with _opened(path) as stream:
        number = size = 0
        while line := stream.readline(LINE_LIMIT + 1):
            number += 1
            size += len(line)
            if size > FILE_LIMIT:
                raise DataError(
                    f"{name}:{number}", f"is larger than {FILE_LIMIT} bytes", "split it"
                )
            if len(line) > LINE_LIMIT:
                raise DataError(f"{name}:{number}", f"is longer than {LINE_LIMIT} bytes")
            yield number, line


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    with refusals_named(name_of(path)), ExitStack() as stack:
        if path == STANDARD_INPUT:
            yield stack.enter_context(open(0, "rb", closefd=False))
            return
        # Without O_NONBLOCK a FIFO that nobody writes to would hang the reader.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        stream = stack.enter_context(open(descriptor, "rb"))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DataError(str(path), "is no regular file", "`-` reads standard input")
        yield stream
