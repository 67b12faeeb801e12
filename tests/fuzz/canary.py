# SPDX-License-Identifier: Apache-2.0
"""A name that must never be seen, laid wherever a parser that reads too far would find it.

Tame flows (the last four bytes of their client's address begin with TAME) send the whole of
a message with the name, and so leave it in the program's per-CPU memory and in its slots. Then
others send the same message up to a byte before the name, and the rest
 - is not there (SHORT), but in memory from the run before;
 - is link padding behind the end that an IP header (PADDED) or a UDP header (SURPLUS) declares;
 - was taken off before the program began, and lies behind the packet (BEHIND);
 - comes as a later segment that leaves a hole where the name would be (HOLE).
No flow but the tame ones may get the name.
"""

import random

from tests.fuzz.batch import Batch, batch_of
from tests.fuzz.layout import Layout
from tests.fuzz.mutate import ORDINARY, TAME
from tests.fuzz.seeds import CANARY, Seed
from tests.fuzz.trim import AMOUNTS

SHORT, PADDED, SURPLUS, BEHIND, HOLE, WHOLE_NAME = range(6)


class Canaries:
    """Draws canaries' packets. room: of a packet; trimming: can bytes be behind packets?"""

    def __init__(
        self, seeds: list[Seed], source: random.Random, *, room: int, trimming: bool, linear: bool
    ) -> None:
        # In a batch with a bound, what is too long for it is of no use.
        self._seeds = [one for one in seeds if len(one.frame) <= room]
        self._source, self._room = source, room
        self._kinds = [SHORT, PADDED, SURPLUS, HOLE] + [BEHIND] * trimming
        self._linear = linear
        self._flows = 0

    def draw(self, count: int) -> Batch:
        """Packets of so many flows that must not get the name, some tame ones among them."""
        packets: list[tuple[bytes, int]] = []
        for number in range(count):
            one = self._source.choice(self._seeds)
            if number % 4 == 0:
                packets.append((self._address(one, one.frame, TAME << 16), 0))
            kind = self._source.choice(self._kinds)
            packets += [
                (self._address(one, frame, ORDINARY << 24 | 0x800000), trim)
                for frame, trim in self._flow(one, kind)
            ]
            self._flows += 1
        batch = batch_of([packet for packet, _ in packets], self._room)
        batch.trim[:] = [trim for _, trim in packets]
        if self._linear:
            for row in range(len(batch)):
                least, size = 54, int(batch.length[row] - batch.trim[row])
                if size > least and self._source.random() < 0.2:
                    batch.linear[row] = self._source.randint(least, size)
        return batch

    def _address(self, one: Seed, frame: bytes, first: int) -> bytes:
        """With a client of its own, behind any that other batches have."""
        changed = bytearray(frame)
        room = 0xFFFF if first & 0xFF0000 == TAME << 16 & 0xFF0000 else 0x7FFFFF
        value = (first | self._flows & room).to_bytes(4, "big")
        for source, _ in one.layout.hosts:
            changed[source : source + 4] = value
        return bytes(changed)

    def _flow(self, one: Seed, kind: int) -> list[tuple[bytes, int]]:
        """(packet, bytes to trim), a flow that must not have the name."""
        source, layout = self._source, one.layout
        end = one.name_at - (source.randrange(4) if source.random() < 0.5 else 0)
        if source.random() < 0.3:
            end = source.randint(layout.payload, one.name_at)
        end = max(end, layout.payload)
        if kind == PADDED:
            at, base = source.choice(layout.lengths)
            return [(self._damage(_with(one.frame, at, end - base), layout.payload, end), 0)]
        if kind == SURPLUS and layout.udp_length:
            at = layout.udp_length
            declared = _with(one.frame, at, end - (at - 4))
            return [(self._damage(declared, layout.payload, end), 0)]
        if kind == BEHIND:
            amount = source.choice(AMOUNTS)
            if end + amount <= self._room:
                whole = one.frame[: end + amount].ljust(end + amount, b"\0")
                return [(self._damage(whole, 0, end), amount)]
        if kind == HOLE and _is_stream(one):
            return self._hole(one, end)
        return [(self._damage(one.frame[:end], 0, end), 0)]

    def _damage(self, frame: bytes, first: int, end: int) -> bytes:
        """Overwrites up to two of the bytes [first, end), or none."""
        changed = bytearray(frame)
        for _ in range(self._source.choice((0, 0, 1, 2))):
            if first < end:
                changed[self._source.randrange(max(first, 12), end)] = self._source.randrange(256)
        return bytes(changed)

    def _hole(self, one: Seed, end: int) -> list[tuple[bytes, int]]:
        """Two segments, the name's bytes between them missing."""
        layout = one.layout
        behind = one.name_at + len(CANARY)
        at = layout.transport + 4
        sequence = int.from_bytes(one.frame[at : at + 4], "big") + behind - layout.payload
        later = bytearray(one.frame[: layout.payload] + one.frame[behind:])
        later[at : at + 4] = (sequence & 0xFFFFFFFF).to_bytes(4, "big")
        both = [(_fitting(one.frame[:end], layout), 0), (_fitting(bytes(later), layout), 0)]
        return both if self._source.random() < 0.7 else both[::-1]


def _is_stream(one: Seed) -> bool:
    """TCP, and no DNS message in it, whose name is longer over the wire than as a text."""
    behind = one.name_at + len(CANARY)
    return one.frame.find(CANARY.encode()) > 0 and behind < len(one.frame)


def _with(frame: bytes, at: int, value: int) -> bytes:
    """With a field of two bytes changed."""
    return frame[:at] + value.to_bytes(2, "big") + frame[at + 2 :]


def _fitting(frame: bytes, layout: Layout) -> bytes:
    """With IP length fields that say what is there."""
    for at, base in layout.lengths:
        frame = _with(frame, at, len(frame) - base)
    return frame
