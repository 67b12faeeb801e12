# SPDX-License-Identifier: Apache-2.0
"""The wheel is complete: modules, knowledge and the built data plane."""

import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from tests.repo.tree import ROOT, files

OBJECTS = [f"xdpprobe/data/{name}.bpf.o" for name in ("classify", "bench")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of the project's files alone, so that nothing built earlier gets into it."""
    source = tmp_path_factory.mktemp("source")
    for name in files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, source / name)
    target = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(target), str(source)],
        check=True,
        capture_output=True,
    )
    (path,) = target.glob("xdpprobe-*.whl")
    return zipfile.ZipFile(path)


def test_wheel_has_every_module_and_signature(wheel: zipfile.ZipFile) -> None:
    expected = {str(name) for name in files() if name.parts[0] == "xdpprobe"}
    assert expected - set(wheel.namelist()) == set()


def test_wheel_has_no_more_than_the_package(wheel: zipfile.ZipFile) -> None:
    rooms = {Path(name).parts[0] for name in wheel.namelist()}
    assert {room for room in rooms if not room.endswith(".dist-info")} == {"xdpprobe"}


@pytest.mark.parametrize("name", OBJECTS)
def test_wheel_carries_bpf_objects_with_types(wheel: zipfile.ZipFile, name: str) -> None:
    elf = ELFFile(io.BytesIO(wheel.read(name)))
    assert elf["e_machine"] == "EM_BPF"
    assert elf.get_section_by_name(".BTF") is not None


@pytest.mark.parametrize("name", OBJECTS)
def test_no_object_says_where_it_was_built(wheel: zipfile.ZipFile, name: str) -> None:
    body = wheel.read(name)
    assert f"bpf/{Path(name).stem}.c".encode() in body
    assert str(ROOT).encode() not in body
    assert b"pytest-of-" not in body


def test_wheel_carries_the_licences(wheel: zipfile.ZipFile) -> None:
    texts = {Path(name).name for name in wheel.namelist() if "/licenses/" in name}
    assert texts >= {"LICENSE", "Apache-2.0.txt", "GPL-2.0-only.txt", "BSD-2-Clause.txt"}
