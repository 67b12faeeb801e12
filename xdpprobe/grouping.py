# SPDX-License-Identifier: Apache-2.0
"""Totals by server name and by address, of the flows in the table.

`retired` keeps what flows that have left the table left behind by label only, so nothing is added
to these. The few heaviest of many names or addresses are found without adding up all of them: top
does so every second.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xdpprobe.aggregate import U64, exact_sum
from xdpprobe.flows import (
    Indexes,
    Mask,
    address_text,
    initiator,
    labels,
    resolve_names,
    turn,
)
from xdpprobe.snapshot import Snapshot

Weights = npt.NDArray[np.floating[Any]]

# Odd constants with well spread bits, for multiplicative hashing (Knuth, TAOCP 6.4).
_SPREAD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], dtype=np.uint64)
_CHUNK = 1 << 15
# So few flows are grouped as fast as looked over.
_FEW = 4096


@dataclass(frozen=True, slots=True)
class HostTotal:
    """A line of `hosts`: a server name or an address. `label`: of its heaviest flow."""

    host: str
    label: int
    app: str
    category: str
    flows: int
    packets: tuple[int, int]
    bytes: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `hosts --json`."""
        return {
            "host": self.host,
            "app": self.app,
            "category": self.category,
            "flows": self.flows,
            "packets": list(self.packets),
            "bytes": list(self.bytes),
        }


@dataclass(frozen=True)
class Keys:
    """What flows are grouped by. rows: their indexes.

    words: (n, k) u64 of some of these rows; equal words make a group.
    text: names of groups, given the index of a flow of each; None for one that has been lost.
    """

    rows: Indexes
    words: Callable[[Indexes], U64]
    text: Callable[[Indexes], list[str | None]]


def name_keys(snapshot: Snapshot, rows: Indexes, memo: dict[int, str] | None = None) -> Keys:
    """Flows that have a server name, by it. memo: names found before; grows by those found now."""
    known = {} if memo is None else memo

    def words(some: Indexes) -> U64:
        column: U64 = snapshot.cold["name"][some].reshape(-1, 1)
        return column

    def text(some: Indexes) -> list[str | None]:
        hashes = snapshot.cold["name"][some].tolist()
        known.update(resolve_names(snapshot, (h for h in hashes if h not in known)))
        return [known.get(h) for h in hashes]

    return Keys(rows[snapshot.cold["name"][rows] != 0], words, text)


def address_keys(snapshot: Snapshot, rows: Indexes, server: bool = False) -> Keys:
    """Flows by the address that opened them, or (server) by the one that answered."""

    def words(some: Indexes) -> U64:
        end = initiator(snapshot, some) ^ int(server)
        # Both addresses of a flow lie together: to pick one of two pairs of words is far cheaper
        # than to index the bytes.
        pair = np.ascontiguousarray(snapshot.cold["address"][some]).view(np.uint64)
        pair = pair.reshape(len(some), 2, 2)
        return np.where((end != 0)[:, None], pair[:, 1], pair[:, 0])

    def text(some: Indexes) -> list[str | None]:
        end = initiator(snapshot, some) ^ int(server)
        found = np.ascontiguousarray(snapshot.cold["address"][some, end])
        return [address_text(raw.tobytes()) for raw in found]

    return Keys(rows, words, text)


def _bucket(words: U64) -> npt.NDArray[np.uint16]:
    """A number below 2^16 for each row of words, equal for equal rows."""
    mixed = words[:, 0] * _SPREAD[0]
    for column in range(1, words.shape[1]):
        mixed = (mixed ^ (mixed >> np.uint64(29)) ^ words[:, column]) * _SPREAD[1]
    bucket: npt.NDArray[np.uint16] = (mixed >> np.uint64(48)).astype(np.uint16)
    return bucket


def heaviest(keys: Keys, weight: Weights, count: int) -> Mask:
    """Flows of the `count` heaviest groups (and of some more), without grouping all.

    Flows go to 2^16 buckets by a hash of their words. A bucket weighs no less than any group in it:
    once the `count`-th heaviest group found is no lighter than the heaviest bucket left out, the
    answer is exact. Where hundreds of groups weigh nearly alike (a flood), the search ends early,
    and who of the equals is shown is chance.
    """
    if len(keys.rows) <= _FEW:
        return np.ones(len(keys.rows), dtype=np.bool_)
    bucket = np.empty(len(keys.rows), dtype=np.uint16)
    weights = np.zeros(1 << 16)
    for start in range(0, len(bucket), _CHUNK):
        part = slice(start, start + _CHUNK)
        bucket[part] = _bucket(keys.words(keys.rows[part]))
        weights += np.bincount(bucket[part], weight[part], len(weights))
    filled = weights[weights > 0]
    for take in (2 * count, 32 * count):
        enough = take < len(filled)
        threshold = np.partition(filled, len(filled) - take)[len(filled) - take] if enough else 0.0
        chosen: Mask = ((weights >= threshold) & (weights > 0))[bucket]
        codes = group_codes(keys.words(keys.rows[chosen]))
        sums = np.bincount(codes, weight[chosen])
        if threshold == 0 or np.count_nonzero(sums >= threshold) >= count:
            break
    return chosen


def group_codes(words: U64) -> Indexes:
    """Numbers the distinct rows of (n, k) words from 0; equal rows have equal numbers."""
    if len(words) == 0:
        return np.zeros(0, dtype=np.intp)
    by = np.lexsort(words.T) if words.shape[1] > 1 else np.argsort(words[:, 0])
    ordered = words[by]
    new = np.zeros(len(words), dtype=np.intp)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    codes = np.empty(len(words), dtype=np.intp)
    codes[by] = np.cumsum(new)
    return codes


@dataclass(frozen=True)
class Groups:
    """Names or addresses, heaviest first.

    texts: their names. samples: the index of each one's heaviest flow. rows: the flows of all of
    them; codes: for each of `rows`, the place of its group in texts.
    """

    texts: list[str]
    samples: Indexes
    rows: Indexes
    codes: Indexes


def groups(keys: Keys, weight: Weights, count: int | None = None) -> Groups:
    """Groups by descending weight (one a flow, as keys.rows): all, or the `count` heaviest.

    With `count`, those without any weight are left out, and see `heaviest`.
    """
    rows = keys.rows
    if count is not None:
        kept = heaviest(keys, weight, count) & (weight > 0)
        rows, weight = rows[kept], weight[kept]
    codes = group_codes(keys.words(rows))
    # Order by group, the heaviest flow of a group first; then groups are runs.
    by = np.lexsort((-weight, codes))
    samples = rows[by[np.flatnonzero(np.diff(codes[by], prepend=-1))]]
    ranked = np.argsort(-np.bincount(codes, weight), kind="stable")
    place = np.empty(len(ranked), dtype=np.intp)
    place[ranked] = np.arange(len(ranked))
    codes, samples = place[codes], samples[ranked][:count]
    if count is not None:
        shown = codes < count
        rows, codes = rows[shown], codes[shown]
    return Groups([t or "(name lost)" for t in keys.text(samples)], samples, rows, codes)


def group_sums(snapshot: Snapshot, found: Groups, field: str) -> list[tuple[int, int]]:
    """`packets` or `bytes` of each group, (from, to) the initiators."""
    pair = turn(snapshot.hot[field][found.rows], initiator(snapshot, found.rows))
    up, down = (exact_sum(found.codes, side, len(found.texts)).tolist() for side in pair)
    return list(zip(up, down, strict=True))


def host_rows(snapshot: Snapshot, keys: Keys) -> list[HostTotal]:
    """A row for each name or address, most bytes first."""
    weight = snapshot.hot["bytes"][keys.rows].sum(axis=1).astype(np.float64)
    found = groups(keys, weight)
    length = len(found.texts)
    packets, octets = group_sums(snapshot, found, "packets"), group_sums(snapshot, found, "bytes")
    flows = np.bincount(found.codes, minlength=length).tolist()
    numbers = labels(snapshot, found.samples).tolist()
    result = []
    for i, text in enumerate(found.texts):
        label = snapshot.label(numbers[i])
        result.append(
            HostTotal(
                text,
                numbers[i],
                label.name,
                label.category,
                flows[i],
                packets[i],
                octets[i],
            )
        )
    return result
