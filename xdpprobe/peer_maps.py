# SPDX-License-Identifier: Apache-2.0
"""The kernel's tables of one set of peers: how they are made, and where they are kept."""

import os
from pathlib import Path
from typing import Protocol

from xdpprobe import syscall
from xdpprobe.abi import Abi, MapDefinition
from xdpprobe.peer_sets import Pairs, PeerSet
from xdpprobe.pins import Pins, pinned

NAMES = ("addresses", "prefixes")  # of a set's maps
# First of a source's two elements in `peer_prefixes` and `peer_filters`: see bpf/abi.h.
PUSHED, PUBLISHED = 0, 2


def inner(abi: Abi, name: str) -> MapDefinition:
    """What the maps are like that an array of maps takes."""
    found = abi.maps[name].inner
    assert found is not None
    return found


def make_trie(abi: Abi, peers: PeerSet) -> int:
    """A trie with the prefixes; the caller closes the descriptor."""
    definition = inner(abi, "peer_prefixes")
    return _make(definition, "peer_prefixes", definition.max_entries, peers.prefixes)


def make_hash(abi: Abi, peers: PeerSet, room: int) -> int:
    """A hash with the addresses, and room for so many; the caller closes the descriptor."""
    return _make(inner(abi, "peers"), "peers", room, peers.addresses)


def _make(definition: MapDefinition, name: str, room: int, pairs: Pairs) -> int:
    keys, values = pairs
    sizes = definition.key_size, definition.value_size
    fd = syscall.create_map(definition.type, name, *sizes, room, definition.flags)
    try:
        syscall.update_arrays(fd, keys, values, f"cannot store {len(keys)} peers")
    except BaseException:
        os.close(fd)
        raise
    return fd


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
