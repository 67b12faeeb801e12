# SPDX-License-Identifier: Apache-2.0
"""A probe as it is pinned: its maps by name, its slots, its settings. For attach and readers."""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from xdpprobe import memory, peer_maps, syscall
from xdpprobe.abi import PROG_ARRAY, Abi
from xdpprobe.advice import command
from xdpprobe.errors import ProbeError, StateError
from xdpprobe.hooks import MODE_NUMBERS, Hook, hooks_of
from xdpprobe.libbpf import possible_cpus
from xdpprobe.memory import MapMemory
from xdpprobe.pins import Pins, pinned
from xdpprobe.settings import PRIVACY, TUNNELS, Settings
from xdpprobe.tables import Tables, text

Array = npt.NDArray[Any]


class Slot:
    """What is attached to one interface, as recorded."""

    def __init__(self, number: int, record: Array) -> None:
        self.number = number
        self.ifindex = int(record["ifindex"])
        self.bits = int(record["hook"])
        self.hooks = hooks_of(self.bits)
        modes = {number: mode for mode, number in MODE_NUMBERS.items()}
        self.mode = modes.get(int(record["mode"]), "")
        self.since_ns = int(record["since_ns"])
        self.netns = int(record["netns"])
        self.name = text(record["name"])
        self.netns_name = text(record["netns_name"])


class Instance:
    """The pinned maps, opened when first asked for; a context manager.

    Raises StateError on opening one that is not there.
    """

    def __init__(self, pins: Pins, abi: Abi) -> None:
        self.pins = pins
        self.abi = abi
        self._fds: dict[str, int] = {}

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
        """Closes the descriptors; arrays that are mapped stay valid."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def map_fd(self, name: str) -> int:
        """Descriptor of a pinned map; valid until close()."""
        if name not in self._fds:
            path = self.pins.map(name)
            fd = pinned(path)
            if fd is None:
                error = self._incomplete(f"map {name} is missing")
                fd = pinned(path)  # the attach may have ended between the two looks
                if fd is None:
                    raise error
            self._fds[name] = fd
            # Under another version's name the sizes may differ, and the kernel writes its own.
            if syscall.map_info(fd).value_size != self.abi.maps[name].value_size:
                raise StateError(
                    f"the probe at {self.pins.path} has another layout",
                    f"`{command('detach', '--all', bpffs=self.pins.bpffs)}` removes it",
                )
        return self._fds[name]

    def _incomplete(self, lack: str) -> StateError:
        if self.pins.busy():
            return StateError(
                f"an attach or detach is going on (under {self.pins.bpffs})",
                "try again when it is done",
            )
        return StateError(
            f"the probe at {self.pins.path} is incomplete: {lack}",
            f"`{command('detach', '--all', bpffs=self.pins.bpffs)}` removes it",
        )

    def require_complete(self) -> None:
        """Raises StateError unless readers find everything: an attach pins one by one."""
        self.map_fds()
        if not self.pins.clock.exists():
            raise self._incomplete("its clock is missing")
        if not self.tables().read("info")["flows"]:
            raise self._incomplete("its settings are missing")

    def map_fds(self) -> dict[str, int]:
        """Every map that is pinned under maps/."""
        return {
            name: self.map_fd(name)
            for name, definition in self.abi.maps.items()
            if definition.type != PROG_ARRAY
        }

    def complete(self) -> bool:
        """Whether every map is there and described; not so when an attach was killed early."""
        try:
            self.map_fds()
        except StateError:
            return False
        return bool(self.tables().read("info")["flows"])

    def tables(self) -> Tables:
        """The tables that user space fills."""
        return Tables(self.abi, self.map_fd)

    def settings(self) -> Settings:
        """With what it was attached."""
        info = self.tables().read("info")
        return Settings(
            flows=int(info["flows"]),
            names=int(info["names"]),
            idle_new=int(info["idle_new_ms"]) / 1000,
            idle_established=int(info["idle_established_ms"]) / 1000,
            idle_closed=int(info["idle_closed_ms"]) / 1000,
            active=int(info["active_ms"]) / 1000,
            privacy=PRIVACY[int(info["privacy"])],
            tunnels=TUNNELS[int(info["tunnels"])],
        )

    def slots(self) -> list[Slot]:
        """The slots in use, interfaces that are gone among them."""
        tables = self.tables()
        found = (Slot(n, tables.read("slots", n)) for n in self.pins.used_slots())
        return [slot for slot in found if slot.hooks]

    def generation(self, slot: int) -> Path | None:
        """Directory of the programs that a slot uses."""
        found = self.pins.generations(slot)
        return found[-1] if found else None

    def stage_pins(self) -> dict[str, list[Path]]:
        """PROG_ARRAY -> where it is pinned, once for every interface whose code calls into it."""
        directories = [self.generation(number) for number in self.pins.used_slots()]
        return {
            name: [d / name for d in directories if d is not None and (d / name).exists()]
            for name, definition in self.abi.maps.items()
            if definition.type == PROG_ARRAY
        }

    def link_alive(self, slot: Slot, hook: Hook) -> bool | None:
        """Whether a link still has its interface; None where the hook has no link (clsact)."""
        fd = pinned(self.pins.slot(slot.number) / hook.link)
        if fd is None:
            return None
        try:
            return syscall.link_info(fd).ifindex != 0
        finally:
            os.close(fd)

    def memory(self) -> list[MapMemory]:
        """Kernel memory of every map, name rules and rings of readers among them; bytes."""
        cpus = possible_cpus()
        found = [
            MapMemory(name, memory.map_bytes(syscall.map_info(fd), cpus))
            for name, fd in self.map_fds().items()
        ]
        info = self.tables().read("info")
        for name, entries in (("name_rules", "rules"), ("texts", "texts")):
            inner = self.abi.maps[name].inner
            assert inner is not None
            size = memory.trie_bytes(int(info[entries]), inner.key_size, inner.value_size)
            found.append(MapMemory(f"{name}.inner", size))
        found.append(MapMemory("peers.inner", self._peer_bytes()))
        for name, pins in self.stage_pins().items():
            # Interfaces whose code was made from the same share one.
            sizes = dict(_pin_memory(pin, cpus) for pin in pins)
            found.append(MapMemory(name, sum(sizes.values())))
        rings = [self._ring_bytes(i) for i in range(self.abi.maps["readers"].max_entries)]
        found.append(MapMemory("readers.inner", sum(rings)))
        return found

    def _peer_bytes(self) -> int:
        """Size of the tables in `peers`: of pushed ones, and of published prefixes."""
        filters = self.tables().array("peer_filters")
        return sum(
            peer_maps.table_bytes(self.abi, filters[index])
            for index in self.tables().peer_places()
            if index is not None
        )

    def _ring_bytes(self, index: int) -> int:
        """Size of a reader's ring, 0 without one; the default size where it cannot be asked."""
        value = syscall.lookup(self.map_fd("readers"), index, 4)
        if value is None:
            return 0
        try:
            fd = syscall.open_map(int.from_bytes(value, "little"))
        except ProbeError:  # naming maps by id takes CAP_SYS_ADMIN
            inner = self.abi.maps["readers"].inner
            return inner.max_entries if inner else 0
        try:
            return memory.map_bytes(syscall.map_info(fd), 1)
        finally:
            os.close(fd)


def _pin_memory(pin: Path, cpus: int) -> tuple[int, int]:
    """Id and kernel memory of the map that is pinned there; 0 where it has just been replaced."""
    fd = pinned(pin)
    if fd is None:
        return 0, 0
    try:
        info = syscall.map_info(fd)
        return info.id, memory.map_bytes(info, cpus)
    finally:
        os.close(fd)
