# SPDX-License-Identifier: Apache-2.0
"""Layouts read from the object, against what the compiler says of the header."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from xdpprobe import abi as abis
from xdpprobe.abi import Abi, load_abi
from xdpprobe.btf import Btf
from xdpprobe.elf import read_object
from xdpprobe.errors import DataError

BPF = Path(__file__).parents[2] / "bpf"
STRUCTS = [
    "counter_value",
    "flow_hot",
    "flow_cold",
    "name_entry",
    "retired_value",
    "port_totals",
    "control_value",
    "name_key",
    "name_rule",
    "peer_value",
    "peer_slot",
    "peer_filter",
    "flow_record",
    "replay_value",
    "slot_info",
    "label_info",
    "probe_info",
    "clock_value",
]


@pytest.fixture(scope="module")
def abi() -> Abi:
    if not abis.OBJECT.exists():
        pytest.skip("the BPF object is not built: make bpf")
    return load_abi()


def test_every_offset_is_the_compilers(abi: Abi, tmp_path: Path) -> None:
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("needs clang")
    lines = ["#include <stddef.h>", '#include "abi.h"']
    for name in STRUCTS:
        dtype = abi.dtype(name)
        lines.append(f'_Static_assert(sizeof(struct {name}) == {dtype.itemsize}, "{name}");')
        fields = dtype.fields
        assert fields
        for field, (inner, offset, *_) in fields.items():
            place, size = f"offsetof(struct {name}, {field})", f"((struct {name} *)0)->{field}"
            lines.append(f'_Static_assert({place} == {offset}, "{name}.{field}");')
            lines.append(f'_Static_assert(sizeof({size}) == {inner.itemsize}, "{name}.{field}");')
    source = tmp_path / "layout.c"
    source.write_text("\n".join(lines) + "\n")
    machine = subprocess.run(
        ["uname", "-m"], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()
    include = f"-I/usr/include/{machine}-linux-gnu"
    done = subprocess.run(
        [clang, "-target", "bpf", include, f"-I{BPF}", "-fsyntax-only", str(source)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_enums_are_complete(abi: Abi) -> None:
    assert abi.enums["counter"]["COUNTER_MAX"] == len(abi.enums["counter"]) - 1
    assert abi.enums["method"]["METHOD_NONE"] == 0
    assert abi.enums["flow_flag"]["FLOW_FINAL"] == 4


def test_map_definitions(abi: Abi) -> None:
    hot, rules = abi.maps["flow_hot"], abi.maps["name_rules"]
    assert hot.kind == "array"
    assert hot.mappable
    assert hot.value_size == 8 * abi.dtype("flow_hot").itemsize
    assert abi.element_dtype("flow_hot") == abi.dtype("flow_hot")
    assert rules.inner is not None
    assert rules.inner.kind == "lpm_trie"
    assert abi.maps["counters"].max_entries == abi.enums["counter"]["COUNTER_MAX"]
    assert not abi.maps["flow_lock"].mappable


def test_unknown_struct_is_named(abi: Abi) -> None:
    with pytest.raises(DataError, match="struct flow_warm"):
        abi.dtype("flow_warm")


def test_addresses_are_bytes(abi: Abi) -> None:
    assert abi.dtype("flow_cold")["address"].shape == (2, 16)
    assert abi.dtype("flow_cold")["address"].base == np.dtype("u1")


def damaged(data: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "broken.bpf.o"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "ELF"), (b"\x7fELF", "ELF"), (b"not an object" * 9, "ELF"), (bytes(4096), "ELF")],
)
def test_what_is_no_elf_file(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_abi(damaged(data, tmp_path))


def test_object_of_another_machine(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a little-endian BPF object"):
        load_abi(Path("/proc/self/exe").resolve())


def test_missing_object_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="make bpf") as caught:
        load_abi(tmp_path / "classify.bpf.o")
    assert "No such file" in caught.value.why


def test_object_cut_anywhere(abi: Abi, tmp_path: Path) -> None:
    """Its section table stands at the end: without it nothing can be read."""
    whole = abis.OBJECT.read_bytes()
    for length in range(0, len(whole), max(len(whole) // 97, 1)):
        with pytest.raises(DataError):
            load_abi(damaged(whole[:length], tmp_path))
        load_abi.cache_clear()


def test_type_information_cut_anywhere(abi: Abi) -> None:
    whole = read_object(abis.OBJECT).btf
    for length in [*range(64), *range(64, len(whole), 997)]:
        with pytest.raises(DataError, match=r"x\.o"):
            Btf(whole[:length], "x.o")


def test_hash_names_the_layout(abi: Abi, tmp_path: Path) -> None:
    """The same layout elsewhere has the same hash; other bytes in the code do not matter."""
    copy = tmp_path / "copy.bpf.o"
    copy.write_bytes(abis.OBJECT.read_bytes())
    assert load_abi(copy).hash == abi.hash
    assert len(abi.hash) == 16
