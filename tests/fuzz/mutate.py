# SPDX-License-Identifier: Apache-2.0
"""Batches of mutated packets, by NumPy: some 100,000 packets a second.

`Seedbed` has the seeds as arrays; `Mutator` draws batches from it. Nothing here sends anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tests.fuzz.batch import Array, Batch
from tests.fuzz.seeds import Group

Random = np.random.Generator
FIELDS = 48  # of a seed, chosen where it has more
HOSTS = 2  # pairs of addresses: outer and inner
# First of the client address's last four bytes; TAME: its first two, so that damage makes none.
ORDINARY, TAME = 0x0A, 0xEEDD
SPECIAL = np.array([0, 1, 2, 3, 4, 5, 8, 20, 0x3F, 0x40, 0x7F, 0x80, 0xFF, 0xFFFF], np.int64)


@dataclass
class Seedbed:
    """Seeds as arrays, a row a seed; a group's rows follow each other.

    at, width: of the fields, width 0 where there is none. hosts: offset of the last four
    bytes of the client's addresses, 0 where there is none.
    """

    data: Array
    length: Array
    at: Array
    width: Array
    hosts: Array
    starts: Array  # first row of each group
    sizes: Array  # rows of each group

    def __len__(self) -> int:
        return len(self.length)


def seedbed(groups: Sequence[Group], room: int, source: Random) -> Seedbed:
    """Lays seeds out in rows of `room` bytes."""
    seeds = [one for group in groups for one in group]
    data = np.zeros((len(seeds), room), np.uint8)
    at, width = (np.zeros((len(seeds), FIELDS), np.int64) for _ in range(2))
    hosts = np.zeros((len(seeds), HOSTS), np.int64)
    row = 0
    for group in groups:
        client: bytes | None = None
        for one in group:
            frame = one.frame[:room]
            data[row, : len(frame)] = np.frombuffer(frame, np.uint8)
            fields = [f for f in one.layout.fields if f[0] + f[1] <= len(frame)]
            if len(fields) > FIELDS:
                chosen = source.permutation(len(fields))[:FIELDS]
                fields = [fields[i] for i in chosen]
            for i, (offset, octets) in enumerate(fields):
                at[row, i], width[row, i] = offset, octets
            pairs = [p for p in one.layout.hosts if max(p) + 4 <= len(frame)][:HOSTS]
            for i, (near, far) in enumerate(pairs):
                # The client is who sends a group's first packet.
                client = client or frame[near : near + 4]
                hosts[row, i] = far if frame[far : far + 4] == client else near
            row += 1
    sizes = np.array([len(group) for group in groups])
    length = np.array([min(len(one.frame), room) for one in seeds])
    return Seedbed(data, length, at, width, hosts, np.cumsum(sizes) - sizes, sizes)


def write(data: Array, rows: Array, at: Array, value: Array, width: Array) -> None:
    """Puts a number of `width` bytes at an offset of each of these rows."""
    for i in range(4):
        chosen = width > i
        shift = (width[chosen] - 1 - i) * 8
        data[rows[chosen], at[chosen] + i] = value[chosen] >> shift & 0xFF


def read(data: Array, rows: Array, at: Array, width: Array) -> Array:
    """The number of `width` bytes at an offset of each of these rows."""
    value = np.zeros(len(rows), np.int64)
    for i in range(4):
        here = data[rows, np.minimum(at + i, data.shape[1] - 1)].astype(np.int64)
        value = np.where(width > i, value << 8 | here, value)
    return value


class Mutator:
    """Draws batches. shortest: bytes that every packet has at least; of IPv6 over tc, see
    `Plane.shortest`. linear: may packets be handed over in pieces."""

    def __init__(self, bed: Seedbed, source: Random, shortest: int, linear: bool) -> None:
        self._bed, self._source = bed, source
        self._shortest, self._linear = shortest, linear
        self._flows = 0

    def draw(self, count: int) -> Batch:
        """About so many packets."""
        source, bed = self._source, self._bed
        groups = source.integers(0, len(bed.sizes), 2 * count // max(int(bed.sizes.mean()), 1))
        rows = np.concatenate([np.arange(s, s + n) for s, n in self._extents(groups)])
        flow = np.repeat(np.arange(len(groups)), bed.sizes[groups])
        keep = self._order(len(rows))[:count]
        rows, flow = rows[keep], flow[keep]
        data, length = bed.data[rows], bed.length[rows].copy()
        number = self.new_flows(len(groups))[flow]
        set_clients(data, bed.hosts[rows], number, ORDINARY)
        # A third of the flows stays as it is but for order, so that deep paths are reached.
        wild = source.random(len(groups))[flow] > 0.33
        self._bytes(data, length, wild)
        self._fields(data, rows, length, wild)
        self._chunks(data, length, wild)
        self._cuts(data, length, wild)
        length = np.clip(length, self.least(data), data.shape[1])
        linear = self._pieces(data, length)
        return Batch(data, length, linear, np.zeros(len(length), np.int64))

    def new_flows(self, count: int) -> Array:
        """Numbers that no flow has had yet (of the last 16 million)."""
        self._flows += count
        return np.arange(self._flows - count, self._flows) & 0xFFFFFF

    def least(self, data: Array) -> Array:
        """The shortest length that a test run takes, of each row."""
        six = (data[:, 12] == 0x86) & (data[:, 13] == 0xDD)
        return np.where(six & (self._shortest > 14), 54, self._shortest)

    def _extents(self, groups: Array) -> list[tuple[int, int]]:
        bed = self._bed
        return list(zip(bed.starts[groups].tolist(), bed.sizes[groups].tolist(), strict=True))

    def _order(self, count: int) -> Array:
        """Mostly in order; some come late, some twice, some never."""
        source = self._source
        copies = source.choice([1, 1, 1, 1, 1, 1, 1, 1, 0, 2], count)
        indexes = np.repeat(np.arange(count), copies)
        late = source.random(len(indexes)) < 0.1
        place = indexes + np.where(late, source.normal(0, 6, len(indexes)), 0)
        return indexes[np.argsort(place, kind="stable")]

    def _bytes(self, data: Array, length: Array, wild: Array) -> None:
        """Flips bits and overwrites bytes, mostly in the headers."""
        source = self._source
        for _ in range(3):
            rows = np.flatnonzero(wild & (source.random(len(length)) < 0.25))
            near = source.random(len(rows)) < 0.6
            limit = np.where(near, np.minimum(length[rows], 120), length[rows])
            at = (source.random(len(rows)) * limit).astype(np.int64)
            flip = 1 << source.integers(0, 8, len(rows))
            other = source.integers(0, 256, len(rows))
            was = data[rows, at]
            data[rows, at] = np.where(source.random(len(rows)) < 0.5, was ^ flip, other)

    def _fields(self, data: Array, seeds: Array, length: Array, wild: Array) -> None:
        """Makes fields lie: by a little, by as much as there is room, by all."""
        source, bed = self._source, self._bed
        for _ in range(2):
            rows = np.flatnonzero(wild & (source.random(len(length)) < 0.4))
            which = source.integers(0, FIELDS, len(rows))
            # Fields fill the row from its start: an empty place stands for one of them.
            filled = np.maximum((bed.width[seeds[rows]] > 0).sum(axis=1), 1)
            which %= filled
            at, width = bed.at[seeds[rows], which], bed.width[seeds[rows], which]
            was = read(data, rows, at, width)
            rest = np.maximum(length[rows] - at - width, 0)
            near = source.integers(-3, 4, len(rows))
            choices = np.stack(
                (
                    was + near,
                    source.choice(SPECIAL, len(rows)),
                    rest + near,
                    source.integers(0, 1 << 31, len(rows)),
                    was ^ (1 << source.integers(0, 16, len(rows))),
                    (rest * source.random(len(rows))).astype(np.int64),
                )
            )
            value = choices[source.integers(0, len(choices), len(rows)), np.arange(len(rows))]
            write(data, rows, at, value, width)

    def _chunks(self, data: Array, length: Array, wild: Array) -> None:
        """Takes out, doubles, moves and transplants pieces of packets, one packet at a time."""
        source = self._source
        rows = np.flatnonzero(wild & (source.random(len(length)) < 0.15))
        room = data.shape[1]
        draws = source.random((len(rows), 4)).tolist()
        others = source.integers(0, len(length), len(rows)).tolist()
        for row, other, (kind, first, second, third) in zip(
            rows.tolist(), others, draws, strict=True
        ):
            size = int(length[row])
            old = data[row, :size].tobytes()
            a, b = sorted((int(first * size), int(second * size)))
            if kind < 0.25:  # cut out
                new = old[:a] + old[b:]
            elif kind < 0.5:  # twice
                new = old[:b] + old[a:]
            elif kind < 0.75:  # the end of another one
                tail = data[other, : length[other]].tobytes()
                new = old[:a] + tail[int(third * len(tail)) :]
            else:  # moved
                c = b + int(third * (size - b))
                new = old[:a] + old[b:c] + old[a:b] + old[c:]
            new = new[:room]
            data[row, : len(new)] = np.frombuffer(new, np.uint8)
            length[row] = len(new)

    def _cuts(self, data: Array, length: Array, wild: Array) -> None:
        """Ends packets early, anywhere; or goes on with rubbish behind them."""
        source = self._source
        chance = source.random(len(length))
        shorter = wild & (chance < 0.2)
        length[shorter] = (source.random(shorter.sum()) * length[shorter]).astype(np.int64)
        for row in np.flatnonzero(wild & (chance > 0.95)).tolist():
            end = min(int(length[row]) + int(source.integers(1, 64)), data.shape[1])
            data[row, length[row] : end] = source.integers(0, 256, end - length[row])
            length[row] = end

    def _pieces(self, data: Array, length: Array) -> Array:
        source = self._source
        if not self._linear:
            return np.zeros(len(length), np.int64)
        least = self.least(data)
        some = source.random(len(length)) < 0.2
        near = least + (source.random(len(length)) ** 2 * (length - least)).astype(np.int64)
        return np.where(some & (length > least), np.maximum(near, least), 0)


def set_clients(data: Array, hosts: Array, number: Array, first: int) -> None:
    """Gives each row's client an address of its own, outside and inside of a tunnel."""
    rows = np.arange(len(number))
    value = first << 24 | number
    for i in range(HOSTS):
        width = np.where(hosts[:, i] > 0, 4, 0)
        write(data, rows, hosts[:, i], value, width)
