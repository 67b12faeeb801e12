# SPDX-License-Identifier: Apache-2.0
"""Peers as the data plane wants them: one table for addresses and prefixes, a filter before it.

The filter has a bit for each hash of what the table is asked for first, so that for most flows one
look says that there is nothing to look for. What its bits stand for: bpf/peers.h.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt

from xdpprobe import peer_table, peer_text
from xdpprobe.abi import Abi
from xdpprobe.peer_file import Said
from xdpprobe.peer_table import Slots
from xdpprobe.signature_file import APP_IDS

Array = npt.NDArray[Any]
_WORD_BITS = 64
_BITS_A_PEER = 16  # a look-up in vain for each 16th end that is in no set
_BITS_LEAST = 1 << 12
_BLOCK_BITS_4, _BLOCK_BITS_6 = 96 + 16, 32
_SPREAD_BITS = 8  # a prefix that is wider by so much is noted block by block
_SPREAD_MOST = 1 << 16  # IPv6 blocks that are made so at most
_BLOCK_4, _BLOCK_6 = np.uint64((1 << 48) - 1), np.uint64((1 << 32) - 1)
_ALL_BITS = 128
_TRIES = 3  # with other factors, before a table is made larger


@dataclass(frozen=True)
class PeerSet:
    """A set as the data plane gets it: the table's slots, and the filter's record."""

    table: Array
    filter: Array


@dataclass(frozen=True)
class Parts:
    """Slots of peers and of the blocks of their prefixes; lengths that each end is asked for."""

    slots: Slots
    wide: Array  # peer_filter.wide


def parts(peers: Mapping[bytes, Said], abi: Abi) -> Parts:
    """Slots of peers whose `lasts` are moments."""
    slots = Slots.none(len(peers), abi)
    records, kinds = slots.records, slots.kinds
    octets = np.frombuffer(b"".join(peers), np.uint8).reshape(-1, peer_text.SIZE)
    records.view(np.uint8).reshape(-1, records.itemsize)[:, : peer_text.SIZE] = octets
    prefixes = records["prefix"] != 0
    records["kind"] = np.where(prefixes, kinds["PEER_SLOT_PREFIX"], kinds["PEER_SLOT_ADDRESS"])
    values = records["value"]
    labels = np.fromiter((said.label for said in peers.values()), np.uint16, len(peers))
    values["expires"] = np.fromiter((said.lasts for said in peers.values()), np.uint32, len(peers))
    values["app"] = np.where(labels >= APP_IDS.start, labels, 0)
    values["protocol"] = np.where(labels < APP_IDS.start, labels, 0)
    blocks, wide = _blocks(records[prefixes], abi)
    words = np.concatenate([slots.words, blocks.words])
    return Parts(Slots(words.view(records.dtype).reshape(-1), kinds), wide)


def unpacked(slots: Slots) -> dict[bytes, Said]:
    """The peers in a table, as they were before `parts`."""
    prefix, address = slots.kinds["PEER_SLOT_PREFIX"], slots.kinds["PEER_SLOT_ADDRESS"]
    kind = slots.records["kind"]
    records = slots.records[(kind == address) | (kind == prefix)]
    octets = records.view(np.uint8).reshape(-1, records.itemsize)
    data = octets[:, : peer_text.SIZE].tobytes()
    labels = (records["value"]["app"] | records["value"]["protocol"]).tolist()
    shared: dict[tuple[int, int], Said] = {}
    pairs = zip(labels, records["value"]["expires"].tolist(), strict=True)
    said = (shared.setdefault(pair, Said(*pair)) for pair in pairs)
    starts = range(0, len(data), peer_text.SIZE)
    return {data[at : at + peer_text.SIZE]: what for at, what in zip(starts, said, strict=True)}


def compile_set(peers: Mapping[bytes, Said], abi: Abi, room: int) -> PeerSet:
    """A set of these peers; `room`: how many of them it is to be good for."""
    made = parts(peers, abi)
    record = np.zeros((), abi.dtype("peer_filter"))
    most = record["bits"].size * _WORD_BITS
    size = min(max(_BITS_LEAST, 1 << (_BITS_A_PEER * max(room, 1) - 1).bit_length()), most)
    record["shift"] = _WORD_BITS - (size.bit_length() - 1)
    ways = ways_of(abi)
    buckets = 1 << (max(room, 2 * len(made.slots.records), ways) // ways - 1).bit_length()
    table = None
    for tries in count():
        record["mask"] = (buckets << tries // _TRIES) - 1
        record["factors"] = [secrets.randbits(_WORD_BITS) | 1 for _ in range(2)]
        table = peer_table.filled(record, made.slots, ways)
        if table is not None:
            break
    assert table is not None
    extend_filter(record, made, abi.enums["peer_kind"])
    return PeerSet(table, record)


def extend_filter(record: Array, more: Parts, kinds: Mapping[str, int]) -> None:
    """Makes a filter let these through too; it may be in use. kinds: enum peer_kind."""
    slots = more.slots
    prefixes = slots.records["kind"] == slots.kinds["PEER_SLOT_PREFIX"]
    addresses = slots.records["kind"] == slots.kinds["PEER_SLOT_ADDRESS"]
    hashes = peer_table.hashes(record, *slots.known_by)[~prefixes] >> np.uint64(record["shift"])
    bits = np.zeros(record["bits"].shape, np.uint64)
    at = (hashes >> np.uint64(6)).astype(np.intp)
    np.bitwise_or.at(bits, at, np.uint64(1) << (hashes & np.uint64(63)))
    record["bits"] |= bits
    record["wide"] |= more.wide
    ends = np.append(slots.records["value"]["expires"][prefixes | addresses], record["earliest"])
    record["earliest"] = ends[ends > 0].min() if ends.any() else 0
    held = int(np.count_nonzero(addresses))
    with_port = int(np.count_nonzero(slots.records["l4"]))
    record["addresses"] += held
    record["prefixes"] += int(np.count_nonzero(prefixes))
    record["kinds"] |= (
        (kinds["PEER_PORT"] if with_port else 0)
        | (kinds["PEER_ADDRESS"] if with_port < held else 0)
        | (kinds["PEER_PREFIX"] if prefixes.any() else 0)
    )


def ways_of(abi: Abi) -> int:
    """PEER_WAYS."""
    return int(abi.dtype("peer_bucket")["slot"].shape[0])


def _blocks(prefixes: Array, abi: Abi) -> tuple[Slots, Array]:
    """Slots of the blocks that prefixes lie in, or have; the lengths of those in none.

    A length that is in `wide` is asked for with each new flow, so that is for very wide ones.
    """
    mapped = np.frombuffer(peer_text.MAPPED, np.uint8)
    v4 = (prefixes["address"][:, : len(mapped)] == mapped).all(axis=1)
    words = prefixes.view("<u8").reshape(-1, 4)
    first = np.where(v4, words[:, 1] & _BLOCK_4, words[:, 0] & _BLOCK_6)
    missing = _ALL_BITS + 1 - prefixes["prefix"].astype(np.int64)
    short = missing - (_ALL_BITS - np.where(v4, _BLOCK_BITS_4, _BLOCK_BITS_6))
    most = np.where(v4 | (_made(short[~v4]) <= _SPREAD_MOST), _SPREAD_BITS, 0)
    wide = np.zeros(2, np.uint64)
    for bit in np.unique(missing[short > most]).tolist():
        wide[bit // _WORD_BITS] |= np.uint64(1 << bit % _WORD_BITS)
    chosen = short <= most
    parts = [
        _spread(first[some], missing[some], is_v4, int(bits))
        for is_v4 in (True, False)
        for bits in np.unique(np.maximum(short[chosen & (v4 == is_v4)], 0))
        for some in [chosen & (v4 == is_v4) & (np.maximum(short, 0) == bits)]
    ]
    return _merged(parts, abi), wide


def _made(short: Array) -> int:
    """Blocks that IPv6 prefixes would be taken apart into."""
    spread = short[(short > 0) & (short <= _SPREAD_BITS)]
    return int((1 << spread).sum())


def _spread(first: Array, missing: Array, v4: bool, bits: int) -> tuple[Array, Array, bool]:
    """(blocks' words, missing bits, v4) of prefixes that have 2 ** bits blocks each."""
    others = np.arange(1 << bits, dtype=np.uint64) << np.uint64(16 if v4 else 32)
    words = (first.byteswap()[:, None] + others).reshape(-1).byteswap()
    return words, np.repeat(missing, 1 << bits), v4


def _merged(parts: list[tuple[Array, Array, bool]], abi: Abi) -> Slots:
    """A slot for each block, with the lengths of all its prefixes."""
    kinds = abi.enums["peer_slot_kind"]
    made = [Slots.none(0, abi)]
    for v4, kind in ((True, "PEER_SLOT_BLOCK_4"), (False, "PEER_SLOT_BLOCK_6")):
        chosen = [part for part in parts if part[2] == v4]
        if not chosen:
            continue
        words = np.concatenate([part[0] for part in chosen])
        missing = np.concatenate([part[1] for part in chosen])
        blocks, which = np.unique(words, return_inverse=True)
        slots = Slots.none(len(blocks), abi)
        slots.records["kind"] = kinds[kind]
        slots.words[:, 0] = blocks
        for word, low in ((3, 0), (1, _WORD_BITS)):
            some = (missing >= low) & (missing < low + _WORD_BITS)
            bits = np.uint64(1) << (missing[some] - low).astype(np.uint64)
            np.bitwise_or.at(slots.words[:, word], which[some], bits)
        made.append(slots)
    return Slots(np.concatenate([slots.records for slots in made]), kinds)
