# SPDX-License-Identifier: Apache-2.0
"""The peers that the operator has pushed: read, added to in place, replaced whole.

A set is a table, made for it and as large as it needs. An array of maps makes it the data plane's;
here it is reached by a pin of its own, since opening a map by its number takes CAP_SYS_ADMIN.
There are two places, and `control.peers` says which one counts: what is made anew is complete
in the other one before that number changes.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import numpy as np

from xdpprobe import peer_maps, peer_sets, peer_table, syscall
from xdpprobe.clock import Clock
from xdpprobe.errors import StateError
from xdpprobe.instance import Instance
from xdpprobe.peer_file import Said
from xdpprobe.peer_maps import PinShelf, Shelf
from xdpprobe.peer_table import Slots
from xdpprobe.tables import Tables

_LEAST_ROOM = 4096
_TABLE = "table"  # what a set's map is kept as
_FULLEST = 3 / 4  # of slots; beyond that many would be in their second bucket


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
        with self._table() as fd:
            found = peer_sets.unpacked(self._slots(fd))
        now = self.now()
        return {peer: said for peer, said in found.items() if not said.lasts or said.lasts > now}

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
        if not self._added(more):
            self.replace({**self.read(), **more})

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
        # Of twice as many slots as peers most are where they are looked for first.
        room = max(_LEAST_ROOM, len(peers) * 2)
        with ExitStack() as undo:
            undo.callback(self._give_up, new)
            made = peer_sets.compile_set(peers, self._abi, room)
            self._install(new, made)
            self._filters[new] = made.filter
            undo.pop_all()
        others = int(self._control["peers"][0]) & self._bits["PEERS_PUBLISHED"]
        self._control["peers"][0] = new | self._bits["PEERS_PUSHED"] | others
        with self._table() as fd:
            self._show(new, fd)  # no packet looks at the old ones any more
        self._give_up(old)

    def _install(self, place: int, made: peer_sets.PeerSet) -> None:
        """Makes the table and shows it to the data plane, which does not look there yet."""
        fd = peer_maps.make_table(self._abi, made)
        try:
            self._shelf.put(place, _TABLE, fd)
            self._show(place, fd)
        finally:
            os.close(fd)

    def _show(self, place: int, fd: int) -> None:
        """Makes a table the one of a place.

        Each update of an array of maps waits for programs that run: those are gone then that still
        used this place's filter, and who comes later sees all that was written before.
        """
        outer, value = self._tables.map_fd("peers"), fd.to_bytes(4, "little")
        syscall.update(outer, place, value, "cannot install the peers")

    def _give_up(self, place: int) -> None:
        """Frees what a place holds."""
        syscall.delete(self._tables.map_fd("peers"), place)
        self._shelf.clear(place)

    def _added(self, more: Mapping[bytes, Said]) -> bool:
        """Adds to the table in use, if there is room: by counts that are rather too high."""
        if not self._in_force():
            return False
        place, record = self._place, self._filters[self._place]
        if int(record["addresses"]) + int(record["prefixes"]) + len(more) > self.most:
            return False
        parts, ways = peer_sets.parts(more, self._abi), peer_sets.ways_of(self._abi)
        with self._table() as fd:
            table = self._slots(fd, writable=True)
            held = np.count_nonzero(table.records["kind"])
            if held + len(parts.slots.records) > _FULLEST * len(table.records):
                return False
            addition = peer_table.addition(record, table, parts.slots, ways)
            if addition is None:
                return False
            # The filter first: a peer that it does not let through would never be found.
            before = record.copy()
            peer_sets.extend_filter(record, parts, self._abi.enums["peer_kind"])
            try:
                addition.prepare()
                self._show(place, fd)
            except BaseException:
                self._filters[place] = before
                raise
            addition.publish()
        return True

    def _slots(self, fd: int, writable: bool = False) -> Slots:
        return peer_maps.slots_of(self._abi, fd, writable)

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
    def _table(self) -> Iterator[int]:
        """Descriptor of the table in force."""
        fd = self._shelf.get(self._place, _TABLE)
        if fd is None:
            raise StateError(
                "the peers' table is not pinned where it should be",
                "`xdpprobe peers flush`, then import them again",
            )
        try:
            yield fd
        finally:
            os.close(fd)


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
