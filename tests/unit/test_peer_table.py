# SPDX-License-Identifier: Apache-2.0
"""Where the slots of a table of peers go; what packets find there is in tests/bpf."""

import random

import numpy as np
import pytest

from xdpprobe import abi as abis
from xdpprobe import peer_sets, peer_table, peer_text
from xdpprobe.abi import Abi, load_abi
from xdpprobe.peer_file import Said
from xdpprobe.peer_table import Array, Slots

SAID = Said(7168, 0)
COUNT = 6000


@pytest.fixture(scope="module")
def abi() -> Abi:
    if not abis.OBJECT.exists():
        pytest.skip("the BPF object is not built: make bpf")
    return load_abi()


def in_a_row(count: int) -> dict[bytes, Said]:
    first = 10 << 24
    return {
        peer_text.MAPPED + (first + n).to_bytes(4, "big") + bytes(4): SAID for n in range(count)
    }


def by_chance(count: int) -> dict[bytes, Said]:
    source = random.Random(count)
    return {source.randbytes(18) + b"\x06\0": SAID for _ in range(count)}


def prefixes(count: int) -> dict[bytes, Said]:
    """Each in a block of its own."""
    return {
        (0x20000000 + n).to_bytes(4, "big") + bytes(12) + bytes((0, 0, 0, 33)): SAID
        for n in range(count)
    }


def record_of(buckets: int, abi: Abi, seed: int = 1) -> Array:
    record = np.zeros((), abi.dtype("peer_filter"))
    source = random.Random(seed)
    record["mask"] = buckets - 1
    record["factors"] = [source.getrandbits(64) | 1 for _ in range(2)]
    return record


def held(table: Array, abi: Abi) -> Slots:
    return Slots(table, abi.enums["peer_slot_kind"])


@pytest.mark.parametrize("made", [in_a_row, by_chance, prefixes])
def test_each_is_where_it_is_looked_for(made: object, abi: Abi) -> None:
    """Even where nearly three of four slots are taken."""
    assert callable(made)
    ways = peer_sets.ways_of(abi)
    slots = peer_sets.parts(made(COUNT if made is not prefixes else COUNT // 2), abi).slots
    record = record_of(4096, abi)
    table = peer_table.filled(record, slots, ways)
    assert table is not None
    taken = np.flatnonzero(table["kind"])
    assert len(taken) == len(slots.records) == COUNT
    first, second = peer_table.homes(record, held(table[taken], abi))
    at_home = taken // ways == first
    assert (at_home | (taken // ways == second)).all()
    assert at_home.mean() > 0.6
    assert set(np.flatnonzero(table["away"]) // ways) == set(first[~at_home])
    assert not table["away"][1::ways].any()


def test_most_are_at_home_in_a_table_half_full(abi: Abi) -> None:
    for made in (in_a_row, by_chance):
        table = peer_sets.compile_set(made(4096), abi, 8192)
        slots = held(table.table, abi)
        taken = np.flatnonzero(table.table["kind"])
        first, _ = peer_table.homes(table.filter, Slots(slots.records[taken], slots.kinds))
        assert len(table.table) == 8192
        assert (taken // peer_sets.ways_of(abi) == first).mean() > 0.8


def test_too_many_for_a_table(abi: Abi) -> None:
    slots = peer_sets.parts(by_chance(30), abi).slots
    assert peer_table.filled(record_of(8, abi), slots, 2) is None


def test_a_set_makes_its_table_as_large_as_it_needs(
    abi: Abi, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    filled = peer_table.filled

    def narrow(record: Array, slots: Slots, ways: int) -> Array | None:
        sizes.append(int(record["mask"]) + 1)
        return filled(record, slots, ways) if len(sizes) > 3 else None

    monkeypatch.setattr(peer_table, "filled", narrow)
    made = peer_sets.compile_set(by_chance(100), abi, 1)
    assert sizes == [128, 128, 128, 256]
    assert len(made.table) == 512
    assert peer_sets.unpacked(held(made.table, abi)) == by_chance(100)


def test_what_finds_no_room_is_not_added(abi: Abi) -> None:
    """And nothing is, of what comes with it."""
    slots = peer_sets.parts(by_chance(12), abi).slots
    record = record_of(8, abi)
    table = peer_table.filled(record, slots, 2)
    assert table is not None
    before = table.copy()
    more = peer_sets.parts(in_a_row(5), abi).slots
    assert peer_table.addition(record, held(table, abi), more, 2) is None
    assert (table == before).all()


def test_blocks_gain_lengths(abi: Abi) -> None:
    ways = peer_sets.ways_of(abi)
    made = peer_sets.compile_set(dict.fromkeys(peers("10.9.0.0/24"), SAID), abi, 64)
    table = held(made.table, abi)
    before = np.count_nonzero(table.records["kind"])
    more = peer_sets.parts(dict.fromkeys(peers("10.9.0.0/16", "10.9.7.0/30"), SAID), abi)
    addition = peer_table.addition(made.filter, table, more.slots, ways)
    assert addition is not None
    addition.prepare()
    addition.publish()
    (block,) = np.flatnonzero(table.blocks)
    assert int(table.words[block, 3]) == 1 << 8 | 1 << 16 | 1 << 2
    assert int(table.words[block, 1]) == 0
    assert np.count_nonzero(table.records["kind"]) == before + 2


def test_wide_prefixes_of_ipv6_are_not_taken_apart_without_end(abi: Abi) -> None:
    few = peer_sets.parts(dict.fromkeys(peers("2001:db0::/28", "10.0.0.0/9"), SAID), abi)
    assert few.wide.tolist() == [0, 0]
    assert np.count_nonzero(few.slots.blocks) == 16 + 128
    many = {
        (0x20000000 + (n << 8)).to_bytes(4, "big") + bytes(12) + bytes((0, 0, 0, 25)): SAID
        for n in range(1000)
    }
    made = peer_sets.parts({**many, **dict.fromkeys(peers("10.0.0.0/7", "a::/100"), SAID)}, abi)
    assert made.wide.tolist() == [1 << 25, 1 << 104 - 64]
    assert np.count_nonzero(made.slots.blocks) == 1


def peers(*texts: str) -> list[bytes]:
    return [peer for text in texts for peer in peer_text.parse(text)]
