# SPDX-License-Identifier: Apache-2.0
"""What one reading of the tables holds, and nothing about how it was read.

An attached probe (`probe.py`) and a replay (`replay.py`) both end in a `Snapshot`; flows, totals
and views are computed from it alone, so they need no kernel to be tested.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
AGE_SLACK = 1 << 16  # jiffies; as in bpf/abi.h, which says why


def words(records: Array) -> npt.NDArray[np.uint64]:
    """(n, k): records as the u64 words they are made of; the same memory.

    NumPy copies and compares records field by field, and words twenty times as fast.
    """
    return records.view(np.uint64).reshape(len(records), records.dtype.itemsize // 8)


def pick(records: Array, indexes: npt.NDArray[np.intp]) -> Array:
    """Copies of these records."""
    picked: Array = words(records).take(indexes, axis=0).view(records.dtype).reshape(-1)
    return picked


@dataclass(frozen=True)
class Label:
    """A protocol or an application: what a number in the tables is called."""

    id: int
    name: str
    category: str
    kind: str  # "protocol" or "application"


UNKNOWN = Label(0, "unknown", "unknown", "protocol")


@dataclass(frozen=True)
class ClockReading:
    """The clocks at the moment of the reading.

    jiffies: low 32 bits; hz: jiffies a second; monotonic_ns and realtime_ns: ns.
    """

    jiffies: int
    hz: int
    monotonic_ns: int
    realtime_ns: int

    def age_seconds(self, seen: Array) -> Array:
        """Seconds since `seen` (u32 jiffies, as in flow_hot.seen), 0 for the future; f64."""
        # The low 32 bits wrap, five minutes after boot for the first time.
        age = np.uint32(self.jiffies) - seen.astype(np.uint32)
        return np.where(age < 2**32 - AGE_SLACK, age, 0) / float(self.hz)


@dataclass(frozen=True)
class Snapshot:
    """One reading. Arrays have the NumPy dtypes of the structs in bpf/abi.h (see `abi.py`).

    hot, cold: flow_hot and flow_cold, same length, same index (free entries included).
    names: name_entry, indexed by nothing: look `cold["name"]` up in `names["hash"]`.
    hellos: hello_entry, to be looked up likewise by `cold["hello"]`; None: none were read.
    retired: retired_value, one a label (stripes already summed), length 8192.
    counters: counter name as in enum counter -> (packets, bytes), CPUs summed.
    ports: interface name -> ((packets, bytes) ingress, (packets, bytes) egress).
    slots: interface slot -> interface name.
    trouble: interface slot -> what it is instead of up (down, gone...), where somebody has looked.
    idle: enum flow_state -> seconds of silence that end such a flow; what is missing: endless.
    last_ns: when each entry's last packet came, on the scale of clock.monotonic_ns; None: its
    `seen` tells.
    """

    hot: Array
    cold: Array
    names: Array
    retired: Array
    clock: ClockReading
    labels: dict[int, Label]
    enums: dict[str, dict[str, int]]
    counters: dict[str, tuple[int, int]] = field(default_factory=dict)
    ports: dict[str, tuple[tuple[int, int], tuple[int, int]]] = field(default_factory=dict)
    slots: dict[int, str] = field(default_factory=dict)
    trouble: dict[int, str] = field(default_factory=dict)
    idle: dict[str, float] = field(default_factory=dict)
    info: dict[str, int] = field(default_factory=dict)
    last_ns: npt.NDArray[np.int64] | None = None
    hellos: Array | None = None

    def label(self, number: int) -> Label:
        """The label of a number; one that no table knows keeps its number as its name."""
        if number == 0:
            return UNKNOWN
        return self.labels.get(number) or Label(number, f"label-{number}", "unknown", "application")
