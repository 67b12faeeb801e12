# SPDX-License-Identifier: Apache-2.0
"""Attaches the probe to interfaces, or updates it there, and leaves: no process stays.

Whatever fails, everything made on the way is undone, in the reverse order, and what ran before
runs on. What is pinned where: `pins.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xdpprobe import catalogue as catalogues
from xdpprobe import detach, kernel, netdev, netns, privileges
from xdpprobe.abi import Abi, load_abi
from xdpprobe.advice import command
from xdpprobe.catalogue import Catalogue
from xdpprobe.errors import StateError, UsageError
from xdpprobe.hooks import Plan, choose, plan_notes, show_tags
from xdpprobe.instance import Instance, Slot
from xdpprobe.libbpf import uninterrupted
from xdpprobe.memory import MapMemory
from xdpprobe.netdev import Interface
from xdpprobe.pins import DEFAULT, Pins
from xdpprobe.placement import Placement
from xdpprobe.running import Code, adopt, begin, shapes_fit
from xdpprobe.settings import Settings
from xdpprobe.tables import text
from xdpprobe.version import VERSION

_COMPANY = "another xdpprobe counts here too, perhaps under another --bpffs"


@dataclass(frozen=True)
class Attached:
    """One interface. updated: it was attached before. notes: what its counts do not show."""

    interface: str
    hooks: str
    why: str
    updated: bool
    notes: tuple[str, ...]


@dataclass
class Outcome:
    """What an attach did.

    rules: name rules in force. memory: kernel memory a map, bytes. erased: whether the server
    names known so far were erased, for the sake of a stricter privacy. replaced: whether what a
    load of signatures left that was broken off gave way to those of this attach, unasked.
    """

    attached: list[Attached] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)
    rules: int = 0
    memory: list[MapMemory] = field(default_factory=list)
    erased: bool = False
    replaced: bool = False


@dataclass(frozen=True)
class _Request:
    hook: str | None
    mode: str | None
    direction: str | None
    space: netns.Namespace

    def plan(self, interface: Interface) -> Plan:
        return choose(interface, self.hook or "auto", self.mode, self.direction or "both")

    def fits(self, slot: Slot, interface: Interface) -> bool:
        """Whether an attached interface is attached as asked; what was not asked fits."""
        if self.hook is None and self.mode is None and self.direction is None:
            return True
        plan: Plan | None = self.plan(interface)
        while plan is not None:
            if set(plan.hooks) == set(slot.hooks) and plan.mode == slot.mode:
                return True
            plan = plan.fallback
        return False


def attach(
    interfaces: Sequence[str],
    *,
    bpffs: Path = DEFAULT,
    hook: str | None = None,
    mode: str | None = None,
    direction: str | None = None,
    netns_name: str | None = None,
    options: Mapping[str, Any] | None = None,
    signatures: Sequence[Path] | None = None,
    path: Path | None = None,
    committing: Callable[[], object] = lambda: None,
) -> Outcome:
    """Attaches to every interface named, or to none; one that is attached is updated in place.

    hook: "auto" (None), "xdp" or "tc". mode: "native" or "skb". direction: "both" (None),
    "ingress" or "egress". netns_name: network namespace of the interfaces. options: fields of
    `Settings` that are to differ from the running probe's, or from the defaults. signatures:
    directories above the shipped one; None keeps those that a running probe of this version has.
    path: another BPF object. committing: called when the new code is in place, and what cannot be
    undone comes next.

    Raises UsageError, PrivilegeError, StateError, DataError or KernelError; nothing has changed
    then.
    """
    if not interfaces:
        raise UsageError("name an interface to attach to", "`ip -br link` lists them")
    Settings(**(options or {}))  # values out of range: before anything is done
    privileges.require("cannot attach")
    kernel.require()
    abi = load_abi(path)
    catalogue = catalogues.load(signatures)
    request = _Request(hook, mode, direction, netns.named(netns_name))
    with netns.entered(request.space):
        found = [netdev.look_up(name) for name in dict.fromkeys(interfaces)]
        for interface in found:
            request.plan(interface)  # options that exclude each other: before anything is done
    pins = Pins(bpffs, abi.hash)
    with pins.lock():
        _refuse_other_versions(pins)
        undo = ExitStack()
        try:
            return _Attach(abi, pins, request, catalogue, undo, committing).run(
                found, options or {}, signatures is not None
            )
        except BaseException:
            with uninterrupted():  # whoever is impatient presses Ctrl-C twice
                undo.close()
            raise


def _refuse_other_versions(pins: Pins) -> None:
    others = pins.other_versions()
    if others:
        raise StateError(
            f"a probe of another xdpprobe version is attached ({others[0]})",
            f"`{command('detach', '--all', bpffs=pins.bpffs)}` removes it",
        )


class _Attach:
    """One attach, under the lock; `undo` gets a callback for every step taken."""

    def __init__(
        self,
        abi: Abi,
        pins: Pins,
        request: _Request,
        catalogue: Catalogue,
        undo: ExitStack,
        committing: Callable[[], object],
    ) -> None:
        self._abi = abi
        self._pins = pins
        self._request = request
        self._catalogue = catalogue
        self._undo = undo
        self._committing = committing

    def run(self, found: list[Interface], options: Mapping[str, Any], reload: bool) -> Outcome:
        with ExitStack() as closing:
            instance = closing.enter_context(Instance(self._pins, self._abi))
            kept, running = self._prune(instance, options)
            updates = {
                i.index: slot for i in found for slot in running if self._same(instance, slot, i)
            }
            for interface in found:
                self._check(interface, updates.get(interface.index))
            stages = self._stages(found, updates)
            if kept:
                whole = len(updates) == len(running)
                code = adopt(instance, options, self._catalogue, stages, whole)
                load = self._must_load(instance, code, reload)
                replaced = not reload and self._broken_off(instance)
            else:
                load = replaced = False  # `begin` has done so
                code = begin(instance, options, self._catalogue, stages, self._undo)
            closing.callback(code.close)
            if kept and code.settings.privacy != instance.settings().privacy:
                instance.tables().expect_names()
            placement = Placement(instance, code, self._request.space, self._undo)
            attached = [
                self._one(placement, interface, updates.get(interface.index)) for interface in found
            ]
            self._committing()
            if kept:
                # The settings first: the rules that `--privacy cut` needs follow from them.
                code.record(instance, self._undo)
            if load:
                instance.tables().load(self._catalogue)
            self._undo.pop_all()
            erased = instance.tables().clear_names(code.settings.privacy)
            placement.commit()
            self._pins.remove(self._pins.aside)
            return self._outcome(instance, code, attached, erased and kept, replaced)

    def _must_load(self, instance: Instance, code: Code, asked: bool) -> bool:
        """Whether tables that go on get this attach's signatures.

        Those in force stay, whoever loaded them, unless other ones are asked for, or they came with
        another xdpprobe, or the last load of any was broken off. Raises StateError where
        they would have to be compiled anew and are not at hand.
        """
        info = instance.tables().read("info")
        if asked or self._broken_off(instance) or text(info["version"]) != VERSION:
            return True
        if code.settings.privacy != "cut" or info["suffixes"]:
            return False
        # The registered domains stand in the same table as the names of applications.
        if info["signatures"].tobytes() != self._catalogue.digest:
            raise StateError(
                f"--privacy {code.settings.privacy} needs the signatures that the probe runs with",
                "name them again: --signatures DIR",
            )
        return True

    def _broken_off(self, instance: Instance) -> bool:
        """Whether tables that go on may have labels of one load and rules of another."""
        return not instance.tables().read("info")["loaded_ns"]

    def _prune(self, instance: Instance, options: Mapping[str, Any]) -> tuple[bool, list[Slot]]:
        """Clears away what is left of interfaces that are gone.

        Returns whether there are tables to go on with, and the slots that are attached. Tables
        whose interfaces are all gone are kept, with their totals, if they fit the options.
        """
        detach.recover(self._pins, self._abi)
        if not self._pins.exists():
            return False, []
        slots = instance.slots() if instance.complete() else []
        running = [slot for slot in slots if detach.live(instance, slot)]
        for slot in slots:
            if slot not in running:
                detach.remove_slot(instance, slot)
        if running or (instance.complete() and shapes_fit(instance.settings(), options)):
            return True, running
        instance.close()
        self._pins.put_aside(self._undo)
        return False, []

    def _stages(self, found: list[Interface], updates: Mapping[int, Slot]) -> set[str]:
        """The PROG_ARRAYs that the interfaces' programs may call into."""
        hooks = {hook for slot in updates.values() for hook in slot.hooks}
        for interface in found:
            plan = None if interface.index in updates else self._request.plan(interface)
            while plan is not None:
                hooks.update(plan.hooks)
                plan = plan.fallback
        return {hook.stages for hook in hooks}

    def _same(self, instance: Instance, slot: Slot, interface: Interface) -> bool:
        # Not by number alone: an interface takes its programs along when it is moved to another
        # namespace, and one that is made there may get the number it had.
        recorded = slot.ifindex == interface.index and slot.netns == self._request.space.inode
        with netns.entered(self._request.space):
            return detach.carries(instance, slot, interface, recorded)

    def _check(self, interface: Interface, slot: Slot | None) -> None:
        if slot is not None and not self._request.fits(slot, interface):
            as_it_is = Plan(slot.hooks, slot.mode, "").text
            space, bpffs = self._request.space.name, self._pins.bpffs
            undo = command("detach", interface.name, bpffs=bpffs, netns=space)
            raise StateError(
                f"{interface.name} is attached otherwise ({as_it_is})",
                f"`{undo}` first",
            )

    def _one(self, placement: Placement, interface: Interface, slot: Slot | None) -> Attached:
        with netns.entered(self._request.space):
            if slot is not None:
                plan = placement.update(slot, interface)
            else:
                plan = placement.create(interface, self._request.plan(interface))
            show = netns.inside(self._request.space, show_tags(interface.name))
            notes = plan_notes(plan, interface, show)
            if placement.has_company(interface, plan.hooks):
                notes = (*notes, _COMPANY)
        return Attached(interface.name, plan.text, plan.why, slot is not None, notes)

    def _outcome(
        self,
        instance: Instance,
        code: Code,
        attached: list[Attached],
        erased: bool,
        replaced: bool,
    ) -> Outcome:
        rules = int(instance.tables().read("info")["rules"])
        return Outcome(attached, code.settings, rules, instance.memory(), erased, replaced)
