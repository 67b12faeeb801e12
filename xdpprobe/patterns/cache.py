# SPDX-License-Identifier: Apache-2.0
"""Match tables that were compiled before, by a hash of all they were made from.

Compiling a thousand signatures takes half a second, reading their tables back a tenth of that. The
cache is of use, never needed: what cannot be read or written is compiled. A file is only believed
where nobody but its owner, who is also this process's, could have written it.
"""

import contextlib
import hashlib
import os
import stat
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xdpprobe.patterns.compiler import Layouts, compile_signatures
from xdpprobe.signature_table import Signature

KEPT = 8  # files; older ones go
SIZE_LIMIT = 1 << 24  # bytes of a file

Array = npt.NDArray[Any]


class Described(Layouts, Protocol):
    """What `abi.Abi` has and the tables depend on."""

    @property
    def digest(self) -> bytes: ...


def directory() -> Path:
    """Where this user's tables are kept."""
    if os.geteuid() == 0:
        return Path("/var/cache/xdpprobe")
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "xdpprobe"


def tables_of(
    signatures: Sequence[Signature], digest: bytes, abi: Described
) -> tuple[Array, Array]:
    """(four records of struct match_class, one of struct match_automaton).

    digest: of the files that the signatures stand in, `Catalogue.digest`. Raises DataError as
    `compile_signatures` does.
    """
    # Their number, for who takes a catalogue without its signatures.
    number = len(signatures).to_bytes(4, "little")
    key = hashlib.sha256(digest + number + abi.digest + _compiler_digest()).hexdigest()
    dtypes = [abi.dtype("match_class"), abi.dtype("match_automaton")]
    path = directory() / f"{key}.tables"
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        return _read(path, dtypes)
    compiled = compile_signatures(signatures, abi)
    with contextlib.suppress(OSError, RuntimeError):
        _write(path, compiled.classes.tobytes() + compiled.automaton.tobytes())
    return compiled.classes, compiled.automaton.reshape(1)


@cache
def _compiler_digest() -> bytes:
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.read_bytes())
    return found.digest()


def _read(path: Path, dtypes: list[np.dtype[Any]]) -> tuple[Array, Array]:
    """Raises ValueError for what is not to be believed."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        for status in (os.stat(path.parent), os.fstat(file.fileno())):
            if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise ValueError("others may write it")
        data = file.read(SIZE_LIMIT)
    sum_, packed = data[:32], data[32:]
    if hashlib.sha256(packed).digest() != sum_:
        raise ValueError("cut short")
    sizes = [4 * dtypes[0].itemsize, dtypes[1].itemsize]
    unpacked = zlib.decompressobj().decompress(packed, sum(sizes) + 1)
    if len(unpacked) != sum(sizes):
        raise ValueError("of another size")
    return (
        np.frombuffer(unpacked[: sizes[0]], dtypes[0]),
        np.frombuffer(unpacked[sizes[0] :], dtypes[1]),
    )


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    packed = zlib.compress(data, 1)
    with _new_file(path) as file:
        os.write(file, hashlib.sha256(packed).digest())
        with open(file, "wb", closefd=False) as stream:
            stream.write(packed)
    old = sorted(path.parent.glob("*.tables"), key=lambda one: one.stat().st_mtime)
    for one in old[:-KEPT]:
        one.unlink(missing_ok=True)


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[int]:
    """A file that takes its name when it is whole, or never."""
    file, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        try:
            yield file
        finally:
            os.close(file)
        os.rename(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
