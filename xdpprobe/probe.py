# SPDX-License-Identifier: Apache-2.0
"""An attached probe as a reader sees it: `Probe.open()`, then `snapshot()` as often as wanted.

A snapshot copies what every packet changes (`hot`: 17 MB and 1 ms for 262,144 flows). What changes
at a flow's birth and verdict only (`cold`, `names`) it shows as it is, mapped: copying that too
would cost 34 MB more. So a row is only sure to be of one flow where hot.tag equals cold.tag.
"""

import mmap
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from xdpprobe import syscall
from xdpprobe.abi import Abi, load_abi
from xdpprobe.advice import command
from xdpprobe.clock import Clock
from xdpprobe.errors import StateError
from xdpprobe.instance import Instance, Slot
from xdpprobe.pins import DEFAULT, Pins, check_bpffs
from xdpprobe.settings import idle_seconds
from xdpprobe.snapshot import Array, Label, Snapshot, words
from xdpprobe.tables import Tables

_INFO = ("since_ns", "loaded_ns", "flows", "names", "rules", "hz", "privacy", "cleared")


def open_instance(bpffs: Path = DEFAULT, path: Path | None = None) -> Instance:
    """The pinned maps of the attached probe.

    Raises StateError when none is, or one of another version.
    """
    abi = load_abi(path)
    pins = Pins(bpffs, abi.hash)
    check_bpffs(bpffs)
    if not pins.exists():
        others = pins.other_versions()
        if others:
            raise StateError(
                f"the probe that is attached is of another xdpprobe version ({others[0].name})",
                f"`{command('detach', '--all', bpffs=bpffs)}` removes it, then attach again",
            )
        raise StateError(
            f"nothing is attached (under {bpffs})",
            f"attach first: {command('attach', 'IFACE', bpffs=bpffs)}",
        )
    return Instance(pins, abi)


class Probe:
    """A reader of the attached probe; a context manager. Made by `open`."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        # Before the first map is opened: what comes in its place meanwhile is noticed.
        self._place = _identity(instance.pins.path)
        self._tables = instance.tables()
        self._hot = self._tables.array("flow_hot")
        self._cold = self._tables.array("flow_cold")
        self._names = self._tables.array("names")
        self._hellos = self._tables.array("hellos")
        self._retired = self._tables.array("retired")
        self._control = self._tables.array("control")
        self._labels: tuple[int, dict[int, Label]] = (-1, {})
        self._clock_program = syscall.open_pin(instance.pins.clock)
        self._clock = Clock(self._clock_program, instance.map_fd("clock"))
        self._hz = int(self._tables.read("info")["hz"])

    @classmethod
    def open(cls, bpffs: Path = DEFAULT, path: Path | None = None) -> Self:
        """Opens the probe attached under `bpffs`. Raises StateError when there is none."""
        instance = open_instance(bpffs, path)
        try:
            instance.require_complete()
            return cls(instance)
        except BaseException:
            instance.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the descriptors. Snapshots stay valid."""
        if self._clock_program >= 0:
            os.close(self._clock_program)
            self._clock_program = -1
        self.instance.close()

    @property
    def abi(self) -> Abi:
        """The layouts."""
        return self.instance.abi

    def tables(self) -> Tables:
        """The tables that user space fills."""
        return self._tables

    def check(self) -> None:
        """Raises StateError when the probe was detached, or another one stands in its place.

        The tables that were opened live on as they were: they must not be taken for the present.
        """
        if not self.instance.pins.exists():
            again = command("attach", "IFACE", bpffs=self.instance.pins.bpffs)
            raise StateError("the probe was detached", f"attach again: {again}")
        if _identity(self.instance.pins.path) != self._place:
            raise StateError("the probe was detached and attached anew", "start the command again")

    def snapshot(self) -> Snapshot:
        """One reading of everything. Raises StateError when the probe was detached meanwhile."""
        self.check()
        clock = self._clock.reading(self._hz)
        hot = self._copy_hot()
        slots = self.instance.slots()
        names = slot_names(slots)
        info = self._tables.read("info")
        return Snapshot(
            hot=hot,
            cold=self._cold,
            names=self._names,
            retired=self._tables.retired(self._retired),
            clock=clock,
            labels=self._current_labels(),
            enums={name: dict(values) for name, values in self.abi.enums.items()},
            counters=self.counters(),
            ports={names[slot.number]: self.port(slot.number) for slot in slots},
            slots=names,
            idle=idle_seconds(self.instance.settings()),
            info={name: int(info[name]) for name in _INFO},
            hellos=self._hellos,
        )

    def refreshed(self, base: Snapshot) -> Snapshot:
        """An earlier reading with what the clocks, labels and interfaces are now.

        Interfaces that were detached meanwhile keep their names: records of their flows may come.
        """
        slots = {**base.slots, **slot_names(self.instance.slots())}
        clock = self._clock.reading(self._hz)
        return replace(base, clock=clock, labels=self._current_labels(), slots=slots)

    def _copy_hot(self) -> Array:
        # Memory of its own goes back to the system with the snapshot; the heap would keep it.
        memory = mmap.mmap(-1, self._hot.nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(mmap.MADV_HUGEPAGE)
        hot = np.frombuffer(memory, self._hot.dtype)
        np.copyto(words(hot), words(self._hot))
        return hot

    def _current_labels(self) -> dict[int, Label]:
        generation = int(self._control["generation"][0])
        if self._labels[0] != generation:
            self._labels = (generation, self._tables.labels())
        return self._labels[1]

    def counters(self) -> dict[str, tuple[int, int]]:
        """Name of enum counter -> (packets, bytes), CPUs summed."""
        return self._tables.counters()

    def port(self, slot: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Totals of an interface slot: (packets, bytes) ingress, (packets, bytes) egress."""
        values = self._tables.per_cpu("ports", slot)
        packets, octets = values["packets"].sum(axis=0), values["bytes"].sum(axis=0)
        return (int(packets[0]), int(octets[0])), (int(packets[1]), int(octets[1]))


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a directory from one that is made at its place later; None: there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def slot_names(slots: list[Slot]) -> dict[int, str]:
    """Slot -> interface name; `name@namespace` where two interfaces share a name."""
    often = Counter(slot.name for slot in slots)
    return {
        slot.number: slot.name
        if often[slot.name] == 1
        else f"{slot.name}@{slot.netns_name or slot.netns}"
        for slot in slots
    }
