# SPDX-License-Identifier: Apache-2.0
"""The peers that the operator has pushed: read, added to in place, replaced whole.

A set is a hash of addresses and a trie of prefixes, made for it and as large as it needs. Arrays of
maps make them the data plane's; here they are reached by pins of their own, since opening a map
by its number takes CAP_SYS_ADMIN. There are two places, and `control.peers` says which one
counts: what is made anew is complete in the other one before that number changes.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np

from xdpprobe import peer_maps, peer_sets, syscall
from xdpprobe.clock import Clock
from xdpprobe.errors import StateError
from xdpprobe.instance import Instance
from xdpprobe.peer_file import Said
from xdpprobe.peer_maps import NAMES, PinShelf, Shelf
from xdpprobe.tables import Tables

_LEAST_ROOM = 4096


class Peers:
    """The pushed peers of one instance; who changes them holds the probe's lock.

    clock, hz: how moments are told.
    """

    def __init__(self, tables: Tables, shelf: Shelf, clock: Clock, hz: int) -> None:
        self._tables, self._shelf, self._abi = tables, shelf, tables.abi
        self._clock, self._hz = clock, hz
        self._control = tables.array("control", writable=True)
        self._filters = tables.array("peer_filters", writable=True)
        self._bits: Mapping[str, int] = self._abi.enums["peers"]

    @property
    def most(self) -> int:
        """How many there may be."""
        return self._bits["PEERS_MAX"]

    @property
    def _place(self) -> int:
        return int(self._control["peers"][0]) & self._bits["PEERS_GENERATION"]

    def _in_force(self) -> bool:
        return bool(int(self._control["peers"][0]) & self._bits["PEERS_PUSHED"])

    def moments(self, peers: Mapping[bytes, Said]) -> dict[bytes, Said]:
        """Peers as a list has them, with the moments of their ends in place of seconds."""
        now, shift = self._clock.ticks().jiffies, self._bits["PEER_AGE_SHIFT"]
        shared: dict[Said, Said] = {}
        for said in set(peers.values()):
            end = (now + said.lasts * self._hz >> shift) + 1  # never too early
            shared[said] = Said(said.label, said.lasts and end)
        return {peer: shared[said] for peer, said in peers.items()}

    def seconds_left(self, peers: Mapping[bytes, Said]) -> Iterator[tuple[bytes, Said]]:
        """The other way round; 0 still means for ever."""
        now, shift = self._clock.ticks().jiffies, self._bits["PEER_AGE_SHIFT"]
        for peer, said in peers.items():
            left = ((said.lasts << shift) - now) // self._hz
            yield peer, Said(said.label, said.lasts and max(left, 1))

    def now(self) -> int:
        """This moment, as `lasts` of what is in tables."""
        return self._clock.ticks().jiffies >> self._bits["PEER_AGE_SHIFT"]

    def read(self) -> dict[bytes, Said]:
        """Those that have not expired, with the moments of their ends."""
        if not self._in_force():
            return {}
        with self._maps() as (addresses, prefixes):
            value = self._abi.dtype("peer_value")
            found = [
                peer_sets.unpacked(*syscall.lookup_arrays(fd, self._abi.dtype(key), value))
                for fd, key in ((addresses, "peer_key"), (prefixes, "peer_prefix"))
            ]
        now = self.now()
        return {
            peer: said
            for part in found
            for peer, said in part.items()
            if not said.lasts or said.lasts > now
        }

    def prune(self) -> dict[bytes, Said]:
        """Removes what has expired; returns what has not."""
        peers = self.read()
        if self._stale():
            self.replace(peers)
        return peers

    def add(self, more: Mapping[bytes, Said]) -> None:
        """Adds peers, or says something else of those that are there; `lasts` are moments.

        Raises StateError, with nothing changed, where there is no room.
        """
        if not self._fits(more):
            peers = {**self.read(), **more}
            self._check(len(peers))
            self.replace(peers)
            return
        # The filter first: a peer that it does not let through would never be found.
        parts = peer_sets.parts(more, self._abi)
        record = self._filters[self._place]
        peer_sets.extend_filter(record, *parts, self._abi.enums["peer_kind"])
        with self._maps() as fds:
            for fd, (keys, values) in zip(fds, parts, strict=True):
                syscall.update_arrays(fd, keys, values, "cannot add peers")

    def replace(self, peers: Mapping[bytes, Said]) -> None:
        """Puts these in force, whole and at once, in place of all that there are."""
        self._check(len(peers))
        old = self._place
        if not peers:
            self._control["peers"][0] &= ~np.uint32(self._bits["PEERS_PUSHED"])
            self._give_up(old)
            return
        new = old ^ 1
        self._give_up(new)  # what is left of an import that was killed
        # Twice as many places as peers keep chains short, and `add` has some left.
        room = max(_LEAST_ROOM, len(peers) * 2)
        with ExitStack() as undo:
            undo.callback(self._give_up, new)
            made = peer_sets.compile_set(peers, self._abi, room)
            self._install(new, made, room)
            self._filters[new] = made.filter
            undo.pop_all()
        others = int(self._control["peers"][0]) & self._bits["PEERS_PUBLISHED"]
        self._control["peers"][0] = new | self._bits["PEERS_PUSHED"] | others
        self._give_up(old)

    def _install(self, place: int, made: peer_sets.PeerSet, room: int) -> None:
        """Makes the maps and shows them to the data plane, which does not look there yet.

        Each update of an array of maps waits for programs that run: those too are gone then that
        still used this place's filter.
        """
        fds = (peer_maps.make_hash(self._abi, made, room), peer_maps.make_trie(self._abi, made))
        try:
            for name, outer, fd in zip(NAMES, ("peers", "peer_prefixes"), fds, strict=True):
                self._shelf.put(place, name, fd)
                value, outer_fd = fd.to_bytes(4, "little"), self._tables.map_fd(outer)
                syscall.update(outer_fd, place, value, "cannot install the peers")
        finally:
            for fd in fds:
                os.close(fd)

    def _give_up(self, place: int) -> None:
        """Frees what a place holds."""
        for outer in ("peers", "peer_prefixes"):
            syscall.delete(self._tables.map_fd(outer), place)
        self._shelf.clear(place)

    def _fits(self, more: Mapping[bytes, Said]) -> bool:
        """Whether there is room where the peers are now, by counts that are rather too high."""
        if not self._in_force():
            return False
        record = self._filters[self._place]
        held = int(record["addresses"]) + int(record["prefixes"])
        with self._maps() as (addresses, _):
            room = syscall.map_info(addresses).max_entries
        return held + len(more) <= min(room, self.most)

    def _check(self, count: int) -> None:
        if count > self.most:
            raise StateError(
                f"{count} peers would be too many, {self.most} is the most; nothing has changed",
                "a prefix stands for all addresses in it; `xdpprobe peers flush` removes all",
            )

    def _stale(self) -> bool:
        """Whether a peer has expired."""
        if not self._in_force():
            return False
        earliest = int(self._filters[self._place]["earliest"])
        return bool(earliest) and earliest <= self.now()

    @contextmanager
    def _maps(self) -> Iterator[tuple[int, int]]:
        """Descriptors of the hash and the trie in force."""
        with ExitStack() as stack:
            fds = []
            for name in NAMES:
                fd = self._shelf.get(self._place, name)
                if fd is None:
                    raise StateError(
                        "the peers' tables are not pinned where they should be",
                        "`xdpprobe peers flush`, then import them again",
                    )
                stack.callback(os.close, fd)
                fds.append(fd)
            yield fds[0], fds[1]


@contextmanager
def opened(instance: Instance) -> Iterator[Peers]:
    """The peers of an attached probe."""
    instance.require_complete()
    program = syscall.open_pin(instance.pins.clock)
    try:
        tables = instance.tables()
        clock = Clock(program, instance.map_fd("clock"))
        yield Peers(tables, PinShelf(instance.pins), clock, int(tables.read("info")["hz"]))
    finally:
        os.close(program)
