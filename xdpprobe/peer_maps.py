# SPDX-License-Identifier: Apache-2.0
"""The kernel's tables of one set of peers: how they are made, and where they are kept."""

import os
from pathlib import Path
from typing import Protocol

from xdpprobe import memory, syscall
from xdpprobe.abi import BPF_F_MMAPABLE, Abi
from xdpprobe.peer_sets import Array, PeerSet
from xdpprobe.peer_table import Slots
from xdpprobe.pins import Pins, pinned

# First of a source's two elements in `peers` and `peer_filters`: see bpf/abi.h.
PUSHED, PUBLISHED = 0, 2


def make_table(abi: Abi, peers: PeerSet) -> int:
    """A map with a set's slots; the caller closes the descriptor."""
    inner = abi.maps["peers"].inner
    assert inner is not None
    assert inner.flags & BPF_F_MMAPABLE
    buckets = peers.table.nbytes // inner.value_size
    sizes = inner.key_size, inner.value_size
    fd = syscall.create_map(inner.type, "peers", *sizes, buckets, inner.flags)
    try:
        slots = slots_of(abi, fd, writable=True)
        slots.words[:] = Slots(peers.table, slots.kinds).words
    except BaseException:
        os.close(fd)
        raise
    return fd


def slots_of(abi: Abi, fd: int, writable: bool) -> Slots:
    """A table's slots, live."""
    info, slot = syscall.map_info(fd), abi.dtype("peer_slot")
    count = info.max_entries * info.value_size // slot.itemsize
    return Slots(syscall.map_values(fd, slot, count, writable), abi.enums["peer_slot_kind"])


def table_bytes(abi: Abi, record: Array) -> int:
    """Kernel memory of the table that a struct peer_filter is of."""
    bucket = abi.dtype("peer_bucket").itemsize
    return memory.array_bytes(int(record["mask"]) + 1, bucket, mapped=True)


class Shelf(Protocol):
    """Keeps the maps of the two places."""

    def get(self, place: int, name: str) -> int | None:
        """Descriptor of a map, which the caller closes."""

    def put(self, place: int, name: str, fd: int) -> None:
        """Keeps a map."""

    def clear(self, place: int) -> None:
        """Keeps nothing there any more."""


class PinShelf:
    """As pins: DIR/xdpprobe/ABI-HASH/peers/PLACE/NAME."""

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._root = pins.path / "peers"

    def _place(self, place: int) -> Path:
        return self._root / str(place)

    def get(self, place: int, name: str) -> int | None:
        return pinned(self._place(place) / name)

    def put(self, place: int, name: str, fd: int) -> None:
        for directory in (self._root, self._place(place)):
            self._pins.make_directory(directory)
        syscall.pin(fd, self._place(place) / name)

    def clear(self, place: int) -> None:
        self._pins.remove(self._place(place))
