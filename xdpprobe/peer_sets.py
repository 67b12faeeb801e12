# SPDX-License-Identifier: Apache-2.0
"""Peers as the data plane wants them: addresses in a hash, prefixes in a trie, a filter for both.

The filter has a bit for each hash of what the other two hold, so that for most flows one look says
that there is nothing to look for. What its bits stand for: bpf/peers.h.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xdpprobe import peer_text
from xdpprobe.abi import Abi
from xdpprobe.peer_file import Said
from xdpprobe.signature_file import APP_IDS

Array = npt.NDArray[Any]
Pairs = tuple[Array, Array]  # keys and values, one of each a peer
_WORD_BITS = 64
_BITS_A_PEER = 16  # a look-up in vain for each 16th end that is in no set
_BITS_LEAST = 1 << 12
_BLOCK_BITS_4, _BLOCK_BITS_6 = 96 + 16, 32
_SPREAD_BITS = 8  # a prefix that is wider by so much is noted block by block
_BLOCK_4, _BLOCK_6 = np.uint64((1 << 48) - 1), np.uint64((1 << 32) - 1)


@dataclass(frozen=True)
class PeerSet:
    """A set as it goes into the tables: keys and values of both kinds, and the filter's record."""

    addresses: Pairs
    prefixes: Pairs
    filter: Array


@dataclass(frozen=True)
class Packed:
    """Peers as arrays: (n, 20) octets, and what is said of each as struct peer_value."""

    octets: npt.NDArray[np.uint8]
    values: Array

    @classmethod
    def of(cls, peers: Mapping[bytes, Said], abi: Abi) -> "Packed":
        """Of peers whose `lasts` are moments."""
        count = len(peers)
        octets = np.frombuffer(b"".join(peers), np.uint8).reshape(count, peer_text.SIZE)
        values = np.zeros(count, abi.dtype("peer_value"))
        labels = np.fromiter((said.label for said in peers.values()), np.uint16, count)
        values["expires"] = np.fromiter((said.lasts for said in peers.values()), np.uint32, count)
        values["app"] = np.where(labels >= APP_IDS.start, labels, 0)
        values["protocol"] = np.where(labels < APP_IDS.start, labels, 0)
        return cls(octets, values)

    def addresses(self, abi: Abi) -> Pairs:
        """(keys, values) of those that are no prefixes."""
        chosen = self.octets[:, 19] == 0
        keys = np.ascontiguousarray(self.octets[chosen]).view(abi.dtype("peer_key")).reshape(-1)
        return keys, self.values[chosen]

    def prefixes(self, abi: Abi) -> Pairs:
        """(keys, values) of those that are."""
        chosen = self.octets[:, 19] != 0
        keys = np.zeros(int(np.count_nonzero(chosen)), abi.dtype("peer_prefix"))
        keys["address"] = self.octets[chosen, :16]
        keys["prefix_bits"] = self.octets[chosen, 19] - 1
        return keys, self.values[chosen]


def unpacked(keys: Array, values: Array) -> dict[bytes, Said]:
    """Peers as they were before `Packed`, from the keys and values of either table."""
    octets = np.zeros((len(keys), peer_text.SIZE), np.uint8)
    octets[:, :16] = keys["address"]
    if "prefix_bits" in (keys.dtype.names or ()):
        octets[:, 19] = keys["prefix_bits"] + 1
    else:
        octets[:, 16:18], octets[:, 18] = keys["port"], keys["l4"]
    data = octets.tobytes()
    labels = (values["app"] | values["protocol"]).tolist()
    shared: dict[tuple[int, int], Said] = {}
    pairs = zip(labels, values["expires"].tolist(), strict=True)
    said = (shared.setdefault(pair, Said(*pair)) for pair in pairs)
    starts = range(0, len(data), peer_text.SIZE)
    return {data[at : at + peer_text.SIZE]: what for at, what in zip(starts, said, strict=True)}


def compile_set(peers: Mapping[bytes, Said], abi: Abi, room: int) -> PeerSet:
    """A set of these peers; `room`: how many of them its filter is to be good for."""
    record = np.zeros((), abi.dtype("peer_filter"))
    most = record["bits"].size * _WORD_BITS
    size = min(max(_BITS_LEAST, 1 << (_BITS_A_PEER * max(room, 1) - 1).bit_length()), most)
    record["shift"] = _WORD_BITS - (size.bit_length() - 1)
    record["factors"] = [secrets.randbits(_WORD_BITS) | 1 for _ in range(2)]
    made = PeerSet(*parts(peers, abi), record)
    extend_filter(record, made.addresses, made.prefixes, abi.enums["peer_kind"])
    return made


def parts(peers: Mapping[bytes, Said], abi: Abi) -> tuple[Pairs, Pairs]:
    """Keys and values of the peers that are addresses, and of those that are prefixes."""
    packed = Packed.of(peers, abi)
    return packed.addresses(abi), packed.prefixes(abi)


def extend_filter(
    record: Array, addresses: Pairs, prefixes: Pairs, kinds: Mapping[str, int]
) -> None:
    """Makes a filter let these through too; it may be in use. kinds: enum peer_kind."""
    blocks, wide = _blocks(prefixes[0], kinds)
    words = np.ascontiguousarray(addresses[0]["address"]).view("<u8").reshape(-1, 2)
    hashes = np.concatenate([_hashes(record, words), _hashes(record, blocks)])
    bits = np.zeros(record["bits"].shape, np.uint64)
    at = (hashes >> np.uint64(6)).astype(np.intp)
    np.bitwise_or.at(bits, at, np.uint64(1) << (hashes & np.uint64(63)))
    record["bits"] |= bits
    ends = np.concatenate([[record["earliest"]], addresses[1]["expires"], prefixes[1]["expires"]])
    record["earliest"] = ends[ends > 0].min() if ends.any() else 0
    record["addresses"] += len(addresses[0])
    record["prefixes"] += len(prefixes[0])
    with_port = np.count_nonzero(addresses[0]["l4"])
    record["kinds"] |= (
        wide
        | (kinds["PEER_PORT"] if with_port else 0)
        | (kinds["PEER_ADDRESS"] if with_port < len(addresses[0]) else 0)
        | (kinds["PEER_PREFIX"] if len(prefixes[0]) else 0)
    )


def _hashes(record: Array, words: Array) -> Array:
    """The bits' numbers of pairs of words, as peer_likely() of bpf/peers.h has them."""
    first, second = record["factors"]
    hashes: Array = (words[:, 0] ^ words[:, 1] * first) * second >> np.uint64(record["shift"])
    return hashes


def _spread(prefixes: Array) -> Array:
    """The same, with some that are wider than a block taken apart into blocks."""
    mapped = prefixes["address"][:, : len(peer_text.MAPPED)] == list(peer_text.MAPPED)
    block = np.where(mapped.all(axis=1), _BLOCK_BITS_4, _BLOCK_BITS_6)
    short = block - prefixes["prefix_bits"].astype(np.int64)
    wide = (short > 0) & (short <= _SPREAD_BITS)
    parts = [prefixes[~wide]]
    for prefix, bits, missing in zip(prefixes[wide], block[wide], short[wide], strict=True):
        made = np.repeat(prefix[None], 1 << int(missing))
        made["prefix_bits"] = bits
        first = int.from_bytes(prefix["address"].tobytes(), "big")
        step = 1 << 128 - int(bits)
        octets = b"".join((first + n * step).to_bytes(16, "big") for n in range(len(made)))
        made["address"] = np.frombuffer(octets, np.uint8).reshape(-1, 16)
        parts.append(made)
    return np.concatenate(parts)


def _blocks(prefixes: Array, kinds: Mapping[str, int]) -> tuple[Array, int]:
    """The words of the blocks that prefixes lie in, or have; the kinds of those that have too many.

    A kind that is set makes each new flow look into the trie, so that is for very wide ones.
    """
    prefixes = _spread(prefixes)
    words = np.ascontiguousarray(prefixes["address"]).view("<u8").reshape(-1, 2)
    mapped = np.frombuffer(peer_text.MAPPED, np.uint8)
    v4 = (prefixes["address"][:, : len(mapped)] == mapped).all(axis=1)
    wide = prefixes["prefix_bits"] < np.where(v4, _BLOCK_BITS_4, _BLOCK_BITS_6)
    blocks = np.zeros_like(words)
    blocks[v4, 1] = words[v4, 1] & _BLOCK_4
    blocks[~v4, 0] = words[~v4, 0] & _BLOCK_6
    return blocks[~wide], (
        (kinds["PEER_WIDE_4"] if (wide & v4).any() else 0)
        | (kinds["PEER_WIDE_6"] if (wide & ~v4).any() else 0)
    )
