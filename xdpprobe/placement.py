# SPDX-License-Identifier: Apache-2.0
"""Puts code onto interfaces: slots, pins, links; with an undo for every step.

Every call works in the network namespace that is current.
"""

import errno
import os
from contextlib import ExitStack
from pathlib import Path

from xdpprobe import clsact, detach, links, netns, syscall
from xdpprobe.clock import lasting_ns
from xdpprobe.errors import KernelError, StateError
from xdpprobe.hooks import BY_CLSACT, MODE_NUMBERS, OWN_QDISC, Hook, Plan
from xdpprobe.instance import Instance, Slot
from xdpprobe.libbpf import possible_cpus
from xdpprobe.loader import Programs
from xdpprobe.netdev import Interface
from xdpprobe.pins import pinned
from xdpprobe.running import Code
from xdpprobe.tables import Array, set_text


class Placement:
    """The interfaces of one attach. `undo` collects what would take each step back.

    Whatever touches an interface is recorded before, and its undo is registered before: an attach
    may end at any instruction.
    """

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
        slot = self._free_slot()
        try:
            self._connect(interface, plan, slot)
        except KernelError as error:
            if plan.fallback is None or error.code in (errno.EPERM, errno.ENOMEM):
                raise
            self._forget(slot)
            plan = plan.fallback_for(error)
            self._connect(interface, plan, slot)
        return plan

    def _free_slot(self) -> int:
        """The slot that has been free for longest: old flows may still name it."""
        tables = self._instance.tables()
        limit = self._instance.abi.maps["slots"].max_entries
        free = set(range(limit)).difference(self._pins.used_slots())
        if not free:
            raise StateError(f"{limit} interfaces are attached, and that is the limit")
        return min(free, key=lambda slot: (int(tables.read("slots", slot)["since_ns"]), slot))

    def _forget(self, slot: int) -> None:
        detach.remove_slot(self._instance, Slot(slot, self._instance.tables().read("slots", slot)))

    def _connect(self, interface: Interface, plan: Plan, slot: int) -> None:
        for hook in plan.hooks:
            links.refuse_foreign(interface, hook)
        self._clear_totals(slot)
        self._undo.callback(self._forget, slot)
        self._write_slot(slot, interface, plan)
        self._pins.make_directory(self._pins.slot(slot))
        with self._code.entries(self._instance, slot, plan.hooks, interface.raw_ip) as entries:
            self._pin_generation(slot, 1, plan.hooks, entries)
            for hook in plan.hooks:
                program = entries.program_fd(hook.value)
                pin = self._pins.slot(slot) / hook.link
                if links.by_clsact(hook):
                    links.attach_clsact(interface, hook, program)
                else:
                    links.attach(interface, hook, plan.mode, program, pin)

    def _pin_generation(
        self, slot: int, number: int, hooks: tuple[Hook, ...], entries: Programs
    ) -> None:
        """Pins the entry programs and the PROG_ARRAYs that they call into: all, or nothing."""
        whole = self._pins.slot(slot) / str(number)
        part = whole.with_name("new")
        self._pins.remove(part)  # of an attach that was killed
        self._undo.callback(self._pins.remove, part)
        self._undo.callback(self._pins.remove, whole)
        self._pins.make_directory(part)
        for hook in hooks:
            syscall.pin(entries.program_fd(hook.value), part / hook.value)
        for stages in {hook.stages for hook in hooks}:
            syscall.pin(self._code.shared[stages], part / stages)
        self._pins.mark_code(part, self._code.hash)
        part.rename(whole)

    def _clear_totals(self, slot: int) -> None:
        size = self._instance.abi.element_dtype("ports").itemsize * possible_cpus()
        ports = self._instance.map_fd("ports")
        syscall.update(ports, slot, bytes(size), "cannot clear the interface's totals")

    def _write_slot(self, slot: int, interface: Interface, plan: Plan) -> None:
        tables = self._instance.tables()
        record = tables.blank("slots")
        record["hook"] = sum(hook.bit for hook in plan.hooks)
        if any(links.by_clsact(hook) for hook in plan.hooks):
            record["hook"] |= BY_CLSACT
            if not clsact.has_qdisc(interface.index):
                record["hook"] |= OWN_QDISC
        record["mode"] = MODE_NUMBERS[plan.mode]
        record["since_ns"] = lasting_ns()
        self._write_place(record, interface)
        tables.write("slots", record, slot)

    def _write_place(self, record: Array, interface: Interface) -> None:
        record["ifindex"] = interface.index
        record["netns"] = self._space.inode
        set_text(record, "name", interface.name)
        set_text(record, "netns_name", self._space.name)

    def update(self, slot: Slot, interface: Interface) -> Plan:
        """Replaces the programs of an attached interface; no packet passes without one."""
        before = self._pins.generations(slot.number)
        number = int(before[-1].name) + 1 if before else 1
        with self._code.entries(
            self._instance, slot.number, slot.hooks, interface.raw_ip
        ) as entries:
            self._pin_generation(slot.number, number, slot.hooks, entries)
            self._rewrite_slot(slot, interface)
            for hook in slot.hooks:
                self._replace(slot, interface, hook, before, entries.program_fd(hook.value))
        self._superseded += before
        return Plan(slot.hooks, slot.mode, "updated in place")

    def _rewrite_slot(self, slot: Slot, interface: Interface) -> None:
        """Notes the name and the namespace that the interface has now, and whose its qdisc is."""
        tables = self._instance.tables()
        before = tables.read("slots", slot.number)
        self._undo.callback(tables.write, "slots", before, slot.number)
        record = before.copy()
        self._write_place(record, interface)
        if slot.bits & BY_CLSACT and not clsact.has_qdisc(interface.index):
            record["hook"] |= OWN_QDISC
        tables.write("slots", record, slot.number)

    def _replace(
        self, slot: Slot, interface: Interface, hook: Hook, before: list[Path], program: int
    ) -> None:
        pin = self._pins.slot(slot.number) / hook.link
        if hook is not Hook.XDP and slot.bits & BY_CLSACT:
            former = _pin_of(clsact.program(interface.index, hook), hook, before)
            self._undo.callback(self._back, former, hook, interface)
            links.attach_clsact(interface, hook, program)
        elif links.alive(pin):
            former = _pin_of(links.program(pin), hook, before)
            self._undo.callback(self._back, former, hook, pin)
            links.replace(pin, program)
        else:  # an attach was killed half way
            pin.unlink(missing_ok=True)
            self._undo.callback(links.detach, pin)
            links.attach(interface, hook, slot.mode, program, pin)

    def has_company(self, interface: Interface, hooks: tuple[Hook, ...]) -> bool:
        """Whether another xdpprobe's tc program stands beside ours, as far as names are told."""
        slots = [self._pins.slot(number) for number in self._pins.used_slots()]
        for hook in hooks:
            ours = {links.program(slot / hook.link) for slot in slots}
            others = set(links.programs(interface, hook)) - ours
            if any(syscall.program_name(number) == hook.value for number in others):
                return True
        return False

    def _back(self, former: Path | None, hook: Hook, where: Interface | Path) -> None:
        """Puts the former program back, in the interfaces' namespace."""
        program = pinned(former) if former else None
        if program is None:
            # There was none of ours. (A link is not touched then: see _replace.)
            if isinstance(where, Interface):
                with netns.entered(self._space):
                    clsact.remove(where.index, hook)
            return
        try:
            if isinstance(where, Path):
                links.replace(where, program)
            else:
                with netns.entered(self._space):
                    links.attach_clsact(where, hook, program)
        finally:
            os.close(program)


def _pin_of(number: int, hook: Hook, generations: list[Path]) -> Path | None:
    """Where the program of that id is pinned. To open it by its id would take CAP_SYS_ADMIN."""
    for directory in reversed(generations):
        program = pinned(directory / hook.value)
        if program is None:
            continue
        try:
            if syscall.program_info(program).id == number:
                return directory / hook.value
        finally:
            os.close(program)
    return None
