# SPDX-License-Identifier: Apache-2.0
"""The table of a set of peers: where each slot's place is, as bpf/peers.h looks for it.

Each slot has two buckets of PEER_WAYS that its hash names. In a table made anew who finds both
full pushes out another one, which goes to its own other bucket; a table in use is never moved
about in: there a slot is put where one is free, or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xdpprobe.abi import Abi

Array = npt.NDArray[Any]
_HALF = np.uint64(32)
_WHAT = np.uint64((1 << 48) - 1)  # PEER_WHAT of bpf/peers.h
_FIRST, _SECOND, _THIRD, _LAST = range(4)  # words of struct peer_slot
_ROUNDS = 100


@dataclass(frozen=True)
class Slots:
    """Slots for a table, which they say nothing of: struct peer_slot, and its kinds."""

    records: Array
    kinds: Mapping[str, int]

    @classmethod
    def none(cls, count: int, abi: Abi) -> "Slots":
        """So many free ones."""
        return cls(np.zeros(count, abi.dtype("peer_slot")), abi.enums["peer_slot_kind"])

    @property
    def words(self) -> Array:
        """The same as (n, 4) words."""
        return self.records.view("<u8").reshape(-1, 4)

    @property
    def blocks(self) -> Array:
        """Which are blocks of prefixes."""
        found: Array = self.records["kind"] >= self.kinds["PEER_SLOT_BLOCK_4"]
        return found

    @property
    def known_by(self) -> tuple[Array, Array]:
        """The two words that each is looked up by."""
        words = self.words
        v4 = self.records["kind"] == self.kinds["PEER_SLOT_BLOCK_4"]
        return (
            np.where(v4, np.uint64(0), words[:, _FIRST]),
            np.where(self.blocks, np.where(v4, words[:, _FIRST], 0), words[:, _SECOND]),
        )


def hashes(record: Array, first: Array, second: Array) -> Array:
    """As peer_hash() of bpf/peers.h; record: the set's struct peer_filter."""
    one, two = record["factors"]
    found: Array = (first ^ second * one) * two
    return found


def homes(record: Array, slots: Slots) -> tuple[Array, Array]:
    """The two buckets of each slot, as peer_find() of bpf/peers.h has them."""
    found = hashes(record, *slots.known_by)
    one, two = record["factors"]
    found = (found ^ found >> _HALF ^ slots.words[:, _THIRD] & _WHAT) * one
    found = (found ^ found >> _HALF) * two
    found ^= found >> _HALF
    mask = np.uint64(record["mask"])
    return (found & mask).astype(np.intp), (found >> _HALF & mask).astype(np.intp)


def filled(record: Array, slots: Slots, ways: int) -> Array | None:
    """A new table with these slots, no two of which are alike; None: not all find room."""
    both = np.stack(homes(record, slots))
    buckets = int(record["mask"]) + 1
    places = _places(both, buckets, ways)
    if places is None:
        return None
    words = np.zeros((buckets * ways, slots.words.shape[1]), np.uint64)
    words[places] = slots.words  # several times as fast as by records
    table: Array = words.view(slots.records.dtype).reshape(-1)
    away = places // ways != both[0]
    table["away"][both[0][away] * ways] = 1
    return table


def _places(both: Array, buckets: int, ways: int) -> Array | None:
    """A slot number for each, of its first bucket or its second one."""
    owner = np.full(buckets * ways, -1, np.intp)
    fill = np.zeros(buckets, np.intp)
    side = np.zeros(both.shape[1], np.intp)  # which of its two each is in, or tries next
    waiting = np.arange(both.shape[1])
    chance = np.random.default_rng(0)  # in turns some would chase each other for ever
    for turn in range(_ROUNDS):
        target = both[side[waiting], waiting]
        order = np.argsort(target, kind="stable")
        waiting, target = waiting[order], target[order]
        rank = np.arange(len(target)) - np.searchsorted(target, target)
        free = ways - fill[target]
        fits = rank < free
        owner[target[fits] * ways + fill[target[fits]] + rank[fits]] = waiting[fits]
        np.add.at(fill, target[fits], 1)
        if fits.all():
            placed = np.flatnonzero(owner >= 0)
            places = np.empty(both.shape[1], np.intp)
            places[owner[placed]] = placed
            return places
        pushes = ~fits & (rank == free) & (turn > 0)
        at = target[pushes] * ways + chance.integers(ways, size=np.count_nonzero(pushes))
        pushed = owner[at]
        owner[at] = waiting[pushes]
        waiting = np.concatenate([waiting[~fits & ~pushes], pushed])
        side[waiting] ^= 1
    return None


@dataclass(frozen=True)
class Addition:
    """Where slots go in a table that is in use: `old` are there already, `new` are not."""

    table: Slots
    more: Slots
    places: Array
    old: Array  # of bool
    away: Array  # first slots of buckets that some of them belong to and are not in

    def prepare(self) -> None:
        """Writes what packets do not look at yet, and what is there already."""
        table, more, new = self.table.words, self.more.words, ~self.old
        for word in (_FIRST, _SECOND, _LAST):
            table[self.places[new], word] = more[new, word]
        blocks = self.old & self.more.blocks
        for word in (_SECOND, _LAST):
            table[self.places[blocks], word] |= more[blocks, word]
        others = self.old & ~blocks
        table[self.places[others], _LAST] = more[others, _LAST]
        self.table.records["away"][self.away] = 1

    def publish(self) -> None:
        """Shows the new ones. Blocks first: whoever is killed has let no prefix go unseen."""
        table, more = self.table.words, self.more.words
        for chosen in (~self.old & self.more.blocks, ~self.old & ~self.more.blocks):
            at = self.places[chosen]
            table[at, _THIRD] = table[at, _THIRD] & ~_WHAT | more[chosen, _THIRD]


def addition(record: Array, table: Slots, more: Slots, ways: int) -> Addition | None:
    """How slots, no two of which are alike, go into a table; None: one of them finds no room."""
    first, second = homes(record, more)
    candidates = np.concatenate(
        [first[:, None] * ways + range(ways), second[:, None] * ways + range(ways)], axis=1
    )
    there, wanted = table.words[candidates], more.words[:, None]
    alike = (there[..., _THIRD] & _WHAT == wanted[..., _THIRD]) & (
        there[..., _FIRST] == wanted[..., _FIRST]
    )
    alike &= more.blocks[:, None] | (there[..., _SECOND] == wanted[..., _SECOND])
    old = alike.any(axis=1)
    places = candidates[np.arange(len(candidates)), alike.argmax(axis=1)]
    free = table.records["kind"][candidates] == 0
    taken: set[int] = set()
    for number in np.flatnonzero(~old):
        found = (int(at) for at in candidates[number][free[number]] if int(at) not in taken)
        place = next(found, None)
        if place is None:
            return None
        taken.add(place)
        places[number] = place
    away = first[~old & (places // ways != first)] * ways
    return Addition(table, more, places, old, away)
