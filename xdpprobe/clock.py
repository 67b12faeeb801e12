# SPDX-License-Identifier: Apache-2.0
"""Jiffies, the clock of the data plane's time stamps, against CLOCK_MONOTONIC; and the wall clock.

User space cannot read jiffies, and nothing tells it the tick rate that the kernel was built
with. The program clock_read tells both; it is only ever test-run.

No table holds a time of the wall clock: that may be stepped (a machine without a battery begins
in 1970). What is shown as one is computed from an age at the moment of the reading.
"""

import struct
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from xdpprobe import syscall
from xdpprobe.abi import Abi
from xdpprobe.errors import KernelError
from xdpprobe.libbpf import Object
from xdpprobe.snapshot import ClockReading

_FRAME = bytes(64)  # a test run wants a packet; the program does not look at it
_VALUE = struct.Struct("<QQQ")
_RATES = (100, 250, 300, 1000)  # kernel/Kconfig.hz
_SPAN_NS = 24_000_000  # more than two ticks of the slowest rate
_PATIENCE_S = 2.0
_OFFSETS = Path("/proc/self/timens_offsets")
_OWN, _OF_CHILDREN = Path("/proc/self/ns/time"), Path("/proc/self/ns/time_for_children")


@cache
def _namespace_offset(clock: str) -> int:
    """By how many ns this process's time namespace is ahead; `clock`: monotonic, boottime.

    The kernel tells the offsets of the namespace that children are made in. Behind an unshare(2)
    without a fork that is another one than the process's own, which is taken for the machine's.
    """
    try:
        if _OWN.readlink() != _OF_CHILDREN.readlink():
            return 0
        rows = [line.split() for line in _OFFSETS.read_text().splitlines()]
    except OSError:  # a kernel without such namespaces
        return 0
    return sum(int(s) * 1_000_000_000 + int(ns) for name, s, ns in rows if name == clock)


def lasting_ns() -> int:
    """The kernel's CLOCK_BOOTTIME, which nobody can step: what tables say of when something was."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - _namespace_offset("boottime")


def wall_time(moment_ns: int) -> float:
    """A moment of `lasting_ns` as Unix seconds, by what the wall clock says now.

    To a tenth of a second. The two clocks are read one after the other: while nobody steps the
    wall clock, readings of one moment are mostly the same, and a tenth apart where it lies
    between two tenths.
    """
    return round((time.time_ns() - lasting_ns() + moment_ns) / 1e9, 1)


@dataclass(frozen=True)
class Ticks:
    """The kernel's clocks at one moment; `coarse_ns` is CLOCK_MONOTONIC at the last tick."""

    jiffies: int
    ktime_ns: int
    coarse_ns: int


@dataclass(frozen=True)
class Clock:
    """Reads the kernel's clocks through descriptors of clock_read and its map `clock`."""

    program: int
    table: int

    def ticks(self) -> Ticks:
        """One reading. Raises KernelError when the kernel refuses the test run."""
        syscall.test_run(self.program, _FRAME)
        value = syscall.lookup(self.table, 0, _VALUE.size)
        if value is None:
            raise KernelError("the kernel's clocks cannot be read")
        return Ticks(*_VALUE.unpack(value))

    def reading(self, hz: int) -> ClockReading:
        """One reading, with the wall clock, as snapshots carry it."""
        ticks = self.ticks()
        offset = time.time_ns() - time.monotonic_ns() + _namespace_offset("monotonic")
        return ClockReading(
            jiffies=ticks.jiffies & 0xFFFFFFFF,
            hz=hz,
            monotonic_ns=ticks.ktime_ns,
            realtime_ns=ticks.ktime_ns + offset,
        )

    def rate(self) -> int:
        """Jiffies a second, from the distance of two ticks (takes 25 to 35 ms)."""
        first = self._edge()
        last = self._edge()
        while last.coarse_ns - first.coarse_ns < _SPAN_NS:
            last = self._edge()
        measured = (last.jiffies - first.jiffies) * 1e9 / (last.coarse_ns - first.coarse_ns)
        # A reading may fall between the two steps of one tick; the rates are further apart.
        return min(_RATES, key=lambda rate: abs(rate - measured))

    def _edge(self) -> Ticks:
        """Waits for a tick; returns the first reading after it."""
        deadline = time.monotonic() + _PATIENCE_S
        before = self.ticks()
        while time.monotonic() < deadline:
            now = self.ticks()
            if now.jiffies != before.jiffies and now.coarse_ns != before.coarse_ns:
                return now
        raise KernelError("the kernel's tick does not advance")


def measure_rate(abi: Abi) -> int:
    """Jiffies a second of the running kernel; loads clock_read alone for it."""
    with Object(abi.path) as program:
        program.choose_programs({"clock_read"})
        program.choose_maps({"clock"})
        program.load()
        return Clock(program.program_fd("clock_read"), program.map_fd("clock")).rate()
