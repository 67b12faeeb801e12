# SPDX-License-Identifier: Apache-2.0
"""The order of flows: sort keys as whole columns, and the first few of many without sorting all."""

from collections.abc import Callable

import numpy as np

from xdpprobe.flows import Indexes, duration, first_age, initiator, labels, last_age
from xdpprobe.snapshot import Array, Snapshot


def _address_words(snapshot: Snapshot, indexes: Indexes, endpoint: Indexes) -> Array:
    raw = np.ascontiguousarray(snapshot.cold["address"][indexes, endpoint])
    words: Array = raw.view(">u8").astype(np.uint64)
    return words


def _by_counter(field: str) -> Callable[[Snapshot, Indexes], Array]:
    def column(snapshot: Snapshot, indexes: Indexes) -> Array:
        total: Array = snapshot.hot[field][indexes].sum(axis=1)
        return total

    return column


def _by_direction(responder: int) -> Callable[[Snapshot, Indexes], Array]:
    def column(snapshot: Snapshot, indexes: Indexes) -> Array:
        end = initiator(snapshot, indexes) ^ responder
        sent: Array = snapshot.hot["bytes"][indexes, end]
        return sent

    return column


def _by_app(snapshot: Snapshot, indexes: Indexes) -> Array:
    numbers, inverse = np.unique(labels(snapshot, indexes), return_inverse=True)
    names = [snapshot.label(int(n)).name for n in numbers]
    rank = np.empty(len(names), dtype=np.intp)
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    column: Array = rank[inverse]
    return column


def _by_end(responder: int) -> Callable[[Snapshot, Indexes], Array]:
    def column(snapshot: Snapshot, indexes: Indexes) -> Array:
        end = initiator(snapshot, indexes) ^ responder
        words = _address_words(snapshot, indexes, end)
        order = np.lexsort((words[:, 1], words[:, 0]))
        rank = np.empty(len(indexes), dtype=np.intp)
        rank[order] = np.arange(len(indexes))
        return rank

    return column


# Sort keys of `flows` and of top's flow view -> (column, largest first by default).
SORT_KEYS: dict[str, tuple[Callable[[Snapshot, Indexes], Array], bool]] = {
    "bytes": (_by_counter("bytes"), True),
    "packets": (_by_counter("packets"), True),
    "up": (_by_direction(0), True),
    "down": (_by_direction(1), True),
    "first": (lambda s, i: -first_age(s, i), True),
    "last": (lambda s, i: -last_age(s, i), True),
    "duration": (duration, True),
    "app": (_by_app, False),
    "src": (_by_end(0), False),
    "dst": (_by_end(1), False),
}


def order(
    snapshot: Snapshot, indexes: Indexes, key: str, reverse: bool = False, count: int | None = None
) -> Indexes:
    """`indexes` sorted by a key of SORT_KEYS: all of them, or the first `count`."""
    column, descending = SORT_KEYS[key]
    return ranked(indexes, column(snapshot, indexes), descending != reverse, count)


def ranked(indexes: Indexes, values: Array, descending: bool, count: int | None = None) -> Indexes:
    """`indexes` by their `values`; equal ones keep their places. All, or the first `count`."""
    if count is not None and 0 < count < len(values):
        # Sorting a few is cheap; finding where they end is cheaper than sorting all.
        if descending:
            kept = values >= np.partition(values, len(values) - count)[len(values) - count]
        else:
            kept = values <= np.partition(values, count - 1)[count - 1]
        indexes, values = indexes[kept], values[kept]
    if descending:
        # Flip twice: a stable descending order, and no negative of an unsigned number.
        indexes = indexes[::-1][np.argsort(values[::-1], kind="stable")[::-1]]
    else:
        indexes = indexes[np.argsort(values, kind="stable")]
    return indexes[:count]
