# SPDX-License-Identifier: Apache-2.0
"""What can be read once only is read twice."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from xdpprobe.errors import DataError
from xdpprobe.rereadable import opened

CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def pipe() -> Iterator[Path]:
    """The reading end of a pipe through which the content comes."""
    reading, writing = os.pipe()

    def write() -> None:
        with open(writing, "wb") as file:
            file.write(CONTENT)

    writer = Thread(target=write)
    writer.start()
    path = Path(f"/dev/fd/{reading}")
    try:
        yield path
    finally:
        while os.read(reading, 1 << 16):
            pass
        writer.join()
        os.close(reading)


@pytest.fixture(params=["file", "pipe"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "pipe":
        found: Path = request.getfixturevalue("pipe")
        return found
    (tmp_path / "file").write_bytes(CONTENT)
    return tmp_path / "file"


def test_it_begins_anew_in_the_middle_and_at_the_end(path: Path) -> None:
    with opened(path) as file:
        assert CONTENT.startswith(file.read(1000))
        file.rewind()
        for _ in range(3):
            assert b"".join(iter(lambda: file.read(100_000), b"")) == CONTENT
            file.rewind()


def test_a_copy_that_has_no_room_is_said(pipe: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with opened(pipe) as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
            with pytest.raises(DataError, match=r"no copy can be kept in .*; save the capture"):
                b"".join(iter(lambda: file.read(100_000), b""))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such file"), opened(tmp_path / "nowhere"):
        pass
