# SPDX-License-Identifier: Apache-2.0
"""Kernel memory of maps, computed from what they are.

fdinfo's `memlock` counts a trie's pages too low (a fifth), and knows nothing of kmalloc's
rounding. Sizes of kernel structs as in Linux 6.1 to 6.18, 64 bit.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from xdpprobe import abi
from xdpprobe.syscall import MapInfo

_PAGE = 4096
_TRIE_NODE = 40  # struct lpm_trie_node without its data
_HASH_ELEMENT = 48  # struct htab_elem without key and value
_LRU_NODE = 32
_BUCKET = 16
_SLABS = (8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096)  # kmalloc's sizes


@dataclass(frozen=True)
class MapMemory:
    """A map's kernel memory in bytes."""

    name: str
    bytes: int


def _round(value: int, to: int) -> int:
    return -(-value // to) * to


def trie_bytes(rules: int, key_size: int, value_size: int) -> int:
    """At most so much for a trie: N prefixes need N nodes and up to N - 1 forks."""
    node = _TRIE_NODE + key_size - 4 + value_size
    slab = next((size for size in _SLABS if size >= node), _round(node, _PAGE))
    fork = next(size for size in _SLABS if size >= _TRIE_NODE + key_size - 4)
    return rules * slab + max(rules - 1, 0) * fork


def array_bytes(entries: int, value_size: int, mapped: bool) -> int:
    """An array's values; of one that can be mapped, whole pages."""
    size = entries * _round(value_size, 8)
    return _round(size, _PAGE) + _PAGE if mapped else size


def map_bytes(info: MapInfo, cpus: int, rules: int = 0) -> int:
    """Kernel memory of one map; `rules`: elements of a trie. Inner maps count for themselves."""
    value = _round(info.value_size, 8)
    key = _round(info.key_size, 8)
    entries = info.max_entries
    if info.type == abi.PERCPU_ARRAY:
        return entries * (8 + value * cpus)
    if info.type == abi.ARRAY:
        return array_bytes(entries, value, bool(info.flags & abi.BPF_F_MMAPABLE))
    if info.type in (abi.PROG_ARRAY, abi.ARRAY_OF_MAPS):
        return entries * 8
    if info.type in (abi.HASH, abi.LRU_HASH):
        buckets = 1 << max(entries - 1, 0).bit_length()
        extra = _LRU_NODE if info.type == abi.LRU_HASH else 0
        return buckets * _BUCKET + entries * (_HASH_ELEMENT + extra + key + value)
    if info.type == abi.RINGBUF:
        return entries + 3 * _PAGE
    if info.type == abi.LPM_TRIE:
        return trie_bytes(rules, info.key_size, info.value_size)
    return entries * (key + value)


def total(maps: Iterable[MapMemory]) -> int:
    """Sum in bytes."""
    return sum(entry.bytes for entry in maps)


def megabytes(size: int) -> str:
    """As printed: MB of 10^6 bytes."""
    return f"{size / 1e6:.1f} MB"
