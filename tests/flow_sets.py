# SPDX-License-Identifier: Apache-2.0
"""Where a flow may live, by its tag, as bpf/flow.h has it; here for all entries of a table."""

from typing import Any

import numpy as np
import numpy.typing as npt

from xdpprobe.abi import Abi
from xdpprobe.settings import lock_stripes

Array = npt.NDArray[Any]

WAYS = 8


def homes(tags: Array) -> Array:
    """Index of the entry that is each tag's home, in a table of which `tags` are all."""
    sets = tags & np.uint64(len(tags) // WAYS - 1)
    return (sets * np.uint64(WAYS) + (tags >> np.uint64(61))).astype(np.int64)


def second_sets(tags: Array, abi: Abi) -> Array:
    """Of each tag, likewise."""
    sets = len(tags) // WAYS
    locks = lock_stripes(abi, sets)
    other = (tags >> np.uint64(24)).astype(np.int64) & (sets - 1) & ~(locks - 1)
    return homes(tags) // WAYS ^ np.where(other, other, locks)


def third_sets(tags: Array, abi: Abi) -> Array:
    """Of each tag, likewise."""
    sets = len(tags) // WAYS
    locks = lock_stripes(abi, sets)
    return homes(tags) // WAYS ^ (
        (tags >> np.uint64(40)).astype(np.int64) & (sets - 1) & ~(locks - 1)
    )


def expected_away(tags: Array, abi: Abi) -> Array:
    """What every entry must say of the flows whose home it is; -1 where one of them lives where
    none of them may, or too many do."""
    index, home = np.arange(len(tags)), homes(tags)
    live, sets = tags != 0, index // WAYS
    near = live & (home // WAYS == sets) & (home != index)
    second = live & (home // WAYS != sets) & (second_sets(tags, abi) == sets)
    third = live & (home // WAYS != sets) & ~second
    counts = [np.bincount(home[lives], minlength=len(tags)) for lives in (near, second, third)]
    units = [abi.enums["away"][name] for name in ("AWAY_NEAR", "AWAY_SECOND", "AWAY_THIRD")]
    away = sum(count * unit for count, unit in zip(counts, units, strict=True))
    astray = np.bincount(home[third & (third_sets(tags, abi) != sets)], minlength=len(tags))
    return np.where((counts[2] > 1) | (astray > 0), -1, away)
