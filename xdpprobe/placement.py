# SPDX-License-Identifier: Apache-2.0
"""Puts code onto interfaces: slots, pins, links; with an undo for every step.

Every call works in the network namespace that is current.
"""

import errno
import os
import time
from contextlib import ExitStack
from pathlib import Path

from xdpprobe import clsact, links, netns, syscall
from xdpprobe.errors import KernelError, StateError
from xdpprobe.hooks import BY_CLSACT, MODE_NUMBERS, OWN_QDISC, Hook, Plan
from xdpprobe.instance import Instance, Slot
from xdpprobe.libbpf import possible_cpus
from xdpprobe.loader import Programs
from xdpprobe.netdev import Interface
from xdpprobe.pins import pinned
from xdpprobe.running import Code
from xdpprobe.tables import set_text


class Placement:
    """The interfaces of one attach. `undo` collects what would take each step back."""

    def __init__(
        self, instance: Instance, code: Code, space: netns.Namespace, undo: ExitStack
    ) -> None:
        self._instance = instance
        self._pins = instance.pins
        self._code = code
        self._space = space
        self._undo = undo
        self._superseded: list[Path] = []

    def commit(self) -> None:
        """Removes the code that was replaced."""
        for path in self._superseded:
            self._pins.remove(path)

    def create(self, interface: Interface, plan: Plan) -> Plan:
        """Attaches to an interface; returns the plan that worked, perhaps the fallback."""
        if Hook.XDP in plan.hooks:
            links.refuse_foreign(interface)
        slot = self._free_slot()
        with ExitStack() as undo:
            undo.callback(self._forget, slot)
            try:
                self._connect(interface, plan, slot, undo)
            except KernelError as error:
                if plan.fallback is None or error.code in (errno.EPERM, errno.ENOMEM):
                    raise
                undo.pop_all().close()
                undo.callback(self._forget, slot)
                plan = plan.fallback
                self._connect(interface, plan, slot, undo)
            self._undo.push(undo.pop_all())
        return plan

    def _free_slot(self) -> int:
        used = set(self._pins.used_slots())
        limit = self._instance.abi.maps["slots"].max_entries
        for number in range(limit):
            if number not in used:
                return number
        raise StateError(f"{limit} interfaces are attached, and that is the limit")

    def _forget(self, slot: int) -> None:
        for hook in Hook:
            links.detach(self._pins.slot(slot) / hook.link)
        self._pins.remove(self._pins.slot(slot))
        tables = self._instance.tables()
        tables.write("slots", tables.blank("slots"), slot)

    def _connect(self, interface: Interface, plan: Plan, slot: int, undo: ExitStack) -> None:
        bits = sum(hook.bit for hook in plan.hooks)
        self._clear_totals(slot)
        self._write_slot(slot, interface, bits, plan.mode)
        self._pins.make_directory(self._pins.slot(slot))
        with self._code.entries(self._instance, slot, plan.hooks, interface.raw_ip) as entries:
            self._pin_generation(slot, 1, plan.hooks, entries)
            for hook in plan.hooks:
                bits |= self._connect_hook(interface, hook, plan.mode, slot, entries, undo)
        self._write_slot(slot, interface, bits, plan.mode)

    def _connect_hook(
        self,
        interface: Interface,
        hook: Hook,
        mode: str,
        slot: int,
        entries: Programs,
        undo: ExitStack,
    ) -> int:
        """Attaches one program; returns the further bits for slot_info.hook."""
        program = entries.program_fd(hook.value)
        if hook is Hook.XDP or not links.use_clsact():
            links.attach(interface, hook, mode, program, self._pins.slot(slot) / hook.link)
            return 0
        links.refuse_foreign_filter(interface, hook)
        made = links.attach_clsact(interface, hook, program)
        if made:
            undo.callback(self._here, clsact.remove_empty_qdisc, interface.index)
        undo.callback(self._here, clsact.remove, interface.index, hook)
        return BY_CLSACT | (OWN_QDISC if made else 0)

    def _here(self, function: object, *arguments: object) -> None:
        """Runs an undo in the interfaces' namespace, wherever the failure left us."""
        assert callable(function)
        with netns.entered(self._space):
            function(*arguments)

    def _pin_generation(
        self, slot: int, number: int, hooks: tuple[Hook, ...], entries: Programs
    ) -> Path:
        """Pins the entry programs and the PROG_ARRAYs that they call into."""
        directory = self._pins.slot(slot) / str(number)
        self._pins.make_directory(directory)
        for hook in hooks:
            syscall.pin(entries.program_fd(hook.value), directory / hook.value)
        for stages in {hook.stages for hook in hooks}:
            syscall.pin(self._code.shared[stages], directory / stages)
        return directory

    def _clear_totals(self, slot: int) -> None:
        size = self._instance.abi.element_dtype("ports").itemsize * possible_cpus()
        ports = self._instance.map_fd("ports")
        syscall.update(ports, slot, bytes(size), "cannot clear the interface's totals")

    def _write_slot(self, slot: int, interface: Interface, bits: int, mode: str) -> None:
        tables = self._instance.tables()
        record = tables.blank("slots")
        record["ifindex"] = interface.index
        record["hook"] = bits
        record["mode"] = MODE_NUMBERS[mode]
        record["since_ns"] = time.time_ns()
        record["netns"] = self._space.inode
        set_text(record, "name", interface.name)
        set_text(record, "netns_name", self._space.name)
        tables.write("slots", record, slot)

    def update(self, slot: Slot, interface: Interface) -> Plan:
        """Replaces the programs of an attached interface; no packet passes without one."""
        before = self._pins.generations(slot.number)
        number = int(before[-1].name) + 1 if before else 1
        plan = Plan(slot.hooks, slot.mode, "updated in place")
        with self._code.entries(
            self._instance, slot.number, slot.hooks, interface.raw_ip
        ) as entries:
            directory = self._pins.slot(slot.number) / str(number)
            self._undo.callback(self._pins.remove, directory)
            self._pin_generation(slot.number, number, slot.hooks, entries)
            for hook in slot.hooks:
                self._replace(slot, interface, hook, before, entries)
        self._superseded += before
        self._rename(slot, interface)
        return plan

    def _replace(
        self, slot: Slot, interface: Interface, hook: Hook, before: list[Path], entries: Programs
    ) -> None:
        program = entries.program_fd(hook.value)
        pin = self._pins.slot(slot.number) / hook.link
        if hook is not Hook.XDP and slot.bits & BY_CLSACT:
            links.attach_clsact(interface, hook, program)
            self._undo.callback(self._back, before, hook, interface)
        elif links.alive(pin):
            links.replace(pin, program)
            self._undo.callback(self._back, before, hook, pin)
        else:  # an attach was killed half way
            pin.unlink(missing_ok=True)
            links.attach(interface, hook, slot.mode, program, pin)
            self._undo.callback(links.detach, pin)

    def _back(self, before: list[Path], hook: Hook, where: Interface | Path) -> None:
        """Puts the former program back."""
        program = pinned(before[-1] / hook.value) if before else None
        if program is None:
            return
        try:
            if isinstance(where, Path):
                links.replace(where, program)
            else:
                self._here(links.attach_clsact, where, hook, program)
        finally:
            os.close(program)

    def _rename(self, slot: Slot, interface: Interface) -> None:
        """Notes the name that the interface has now."""
        if slot.name == interface.name:
            return
        tables = self._instance.tables()
        record = tables.read("slots", slot.number)
        set_text(record, "name", interface.name)
        tables.write("slots", record, slot.number)
