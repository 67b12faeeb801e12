# SPDX-License-Identifier: Apache-2.0
"""Settings, the constants that follow from them, and what tables cost."""

import pytest

from xdpprobe import abi as abis
from xdpprobe import memory
from xdpprobe.abi import load_abi
from xdpprobe.errors import UsageError
from xdpprobe.loader import encode_constants, stage_programs
from xdpprobe.settings import Settings, constants, stripes, table_sizes
from xdpprobe.syscall import MapInfo

needs_object = pytest.mark.skipif(
    not abis.OBJECT.exists(), reason="the BPF object is not built: make bpf"
)


@pytest.mark.parametrize("flows", [1 << bits for bits in range(10, 25)])
@needs_object
def test_a_flow_has_more_sets_than_one(flows: int) -> None:
    values = constants(load_abi(), Settings(flows=flows), 1, hz=1000, seed=(0, 0), l4={})
    sets, locks = values["set_mask"], values["lock_mask"]
    assert isinstance(sets, int)
    assert isinstance(locks, int)
    assert (sets + 1) // (locks + 1) >= 32


def test_sizes_are_rounded_up_to_powers_of_two() -> None:
    settings = Settings(flows=5000, names=1025)
    assert (settings.flows, settings.names) == (8192, 2048)
    assert Settings(flows=8192).flows == 8192


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"flows": 8}, "--flows 8 is out of range"),
        ({"flows": 1 << 30}, "out of range"),
        ({"names": -1}, "--names -1 is out of range"),
        ({"idle_new": 0.0}, "--idle-new 0.0 is out of range"),
        ({"active": 1e9}, "--active"),
        ({"idle_closed": float("nan")}, "--idle-closed nan is out of range"),
        ({"privacy": "some"}, "--privacy some is unknown"),
    ],
)
def test_out_of_range(values: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Settings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(("cpus", "expected"), [(1, 1), (2, 2), (3, 4), (16, 16), (256, 16)])
def test_stripes(cpus: int, expected: int) -> None:
    assert stripes(cpus) == expected


@needs_object
def test_masks_fit_the_tables() -> None:
    abi, settings = load_abi(), Settings(flows=16384, names=4096)
    sizes = table_sizes(abi, settings, cpus=3)
    assert sizes["flow_hot"] * 8 == sizes["flow_cold"] * 8 == 16384
    assert sizes["names"] * 4 == 4096
    assert sizes["retired"] == 4 * abi.maps["retired"].max_entries
    values = constants(abi, settings, 3, hz=1000, seed=(7, 8), l4={1: 20, 255: 300})
    assert values["set_mask"] == sizes["flow_hot"] - 1
    assert values["name_mask"] == sizes["names"] - 1
    assert values["idle_new"] == 30_000
    labels = values["l4_protocol"]
    assert isinstance(labels, bytes)
    assert (labels[2:4], labels[510:]) == (b"\x14\0", b"\x2c\x01")
    offsets = [(offset, len(data)) for offset, data in encode_constants(abi, values)]
    assert len(set(offsets)) == len(values)


@needs_object
def test_every_stage_has_its_program_at_both_hooks() -> None:
    abi = load_abi()
    programs = stage_programs(abi)
    stages = {name: value for name, value in abi.enums["stage"].items() if name != "STAGE_MAX"}
    for hook in ("xdp", "tc"):
        assert set(programs[f"{hook}_stages"]) == set(stages.values())
    assert programs["xdp_stages"][stages["STAGE_INSPECT"]] == "xdp_inspect"


def info(type: int, value: int, entries: int, flags: int = 0) -> MapInfo:
    return MapInfo(1, type, "map", 4, value, entries, flags)


def test_memory_counts_every_cpu_and_page() -> None:
    assert memory.map_bytes(info(abis.ARRAY, 10, 100), cpus=4) == 1600
    assert memory.map_bytes(info(abis.ARRAY, 512, 8, abis.BPF_F_MMAPABLE), cpus=4) == 2 * 4096
    assert memory.map_bytes(info(abis.PERCPU_ARRAY, 16, 10), cpus=4) == 10 * (8 + 64)
    assert memory.map_bytes(info(abis.RINGBUF, 0, 1 << 20), cpus=4) > 1 << 20


def test_memory_of_a_trie_is_that_of_its_nodes() -> None:
    """100,000 rules of a 64-byte key took 30 MB when measured."""
    size = memory.trie_bytes(100_000, key_size=68, value_size=8)
    assert 20e6 < size < 35e6
    assert memory.trie_bytes(0, 68, 8) == 0
