# SPDX-License-Identifier: Apache-2.0
"""A file, pipe or standard input that can be read from its start again.

What comes out of a pipe comes once, and nobody knows before the end whether it will be needed
again. So it is kept, as it is read, in a file without a name, which goes with the process however
that ends. A regular file is only rewound.
"""

import os
import select
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import IO

from xdpprobe.errors import DataError

STANDARD_INPUT = Path("-")


@contextmanager
def refusals_named(name: str) -> Iterator[None]:
    """Says of which file the system complains."""
    try:
        yield
    except OSError as error:
        raise DataError(name, (error.strerror or str(error)).lower()) from error


def capture_path(text: str) -> Path:
    """A path as it was written; `./-` is a file of that name, which as a Path would be `-`."""
    path = Path(text)
    return path.absolute() if path == STANDARD_INPUT and text != str(STANDARD_INPUT) else path


def name_of(path: Path) -> str:
    """What messages call it."""
    return "standard input" if path == STANDARD_INPUT else str(path)


class Rereadable:
    """Opened for reading from the start; `-` is standard input. Raises OSError as files do."""

    def __init__(self, path: Path) -> None:
        self._name = name_of(path)
        with ExitStack() as stack:
            # Who reads large pieces needs no buffer, which would copy everything twice.
            standard = path == STANDARD_INPUT
            file = FileIO(0, closefd=False) if standard else path.open("rb", buffering=0)
            self._file = stack.enter_context(file)
            self._start = 0
            self._kept: IO[bytes] | None = None
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                self._start = file.tell()
            else:
                self._kept = stack.enter_context(tempfile.TemporaryFile(buffering=0))
            self._opened = stack.pop_all()

    def close(self) -> None:
        """Closes it, and gives up what was kept."""
        self._opened.close()

    def rewind(self) -> None:
        """The next read begins at the start."""
        (self._kept or self._file).seek(self._start)

    def read(self, count: int) -> bytes:
        """Up to `count` bytes; none at the end."""
        kept = self._kept.read(count) if self._kept else b""
        return kept or self._fresh(count)

    def _fresh(self, count: int) -> bytes:
        while (data := self._file.read(count)) is None:
            select.select([self._file], [], [])  # whose end of the pipe was made non-blocking
        if self._kept:
            self._keep(self._kept, data)
        return data

    def _keep(self, kept: IO[bytes], data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[kept.write(left) :]
        except OSError as error:
            raise DataError(
                self._name,
                f"no copy can be kept in {tempfile.gettempdir()}: {error.strerror}",
                "save the capture to a file and replay that, or set TMPDIR",
            ) from error


@contextmanager
def opened(path: Path) -> Iterator[Rereadable]:
    """Opens it, closes it in the end. Raises DataError where the system refuses."""
    with refusals_named(name_of(path)):
        file = Rereadable(path)
    try:
        yield file
    finally:
        file.close()
