# SPDX-License-Identifier: Apache-2.0
"""Takes the probe off interfaces, and clears away what is left of one.

Links go with their pins. With the last interface the tables go too, and the totals in them.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xdpprobe import clsact, links, netdev, netns
from xdpprobe.abi import Abi, load_abi
from xdpprobe.advice import command
from xdpprobe.clock import lasting_ns
from xdpprobe.errors import KernelError, PrivilegeError, ProbeError, StateError, UsageError
from xdpprobe.hooks import BY_CLSACT, OWN_QDISC, Hook
from xdpprobe.instance import Instance, Slot
from xdpprobe.netdev import Interface
from xdpprobe.pins import DEFAULT, Pins

_COULD_NOT_LOOK = (errno.EPERM, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@dataclass
class Detached:
    """What a detach did. tables: whether the last interface went, and the tables with it."""

    interfaces: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    tables: bool = False


def live(instance: Instance, slot: Slot) -> bool:
    """Whether an interface of that slot still exists with our program on it."""
    directory = instance.pins.slot(slot.number)
    if not slot.bits & BY_CLSACT:
        return any(links.alive(directory / hook.link) for hook in slot.hooks)
    if any(links.alive(directory / hook.link) for hook in slot.hooks):
        return True
    where = netns.find(slot.netns, slot.netns_name)
    if where is None:
        return False
    with netns.entered(where):
        return any(_filter(slot, hook) for hook in slot.hooks)


def carries(instance: Instance, slot: Slot, interface: Interface, recorded: bool) -> bool:
    """Whether the slot's programs are on this interface of the namespace that is current.

    recorded: whether it is where the slot was attached; filters are looked for there only.
    """
    pins = instance.pins.slot(slot.number)
    if recorded and slot.bits & BY_CLSACT and any(_filter(slot, hook) for hook in slot.hooks):
        return True
    return any(
        links.program(pins / hook.link) in links.programs(interface, hook) for hook in slot.hooks
    )


def _filter(slot: Slot, hook: Hook) -> bool:
    return hook is not Hook.XDP and clsact.present(slot.ifindex, hook)


def remove_slot(instance: Instance, slot: Slot) -> None:
    """Takes everything of one slot away; an interface or namespace that is gone is fine."""
    if slot.bits & BY_CLSACT:
        _remove_filters(slot)
    pins = instance.pins
    for hook in Hook:
        links.detach(pins.slot(slot.number) / hook.link)
    pins.remove(pins.slot(slot.number))
    tables = instance.tables()
    record = tables.blank("slots")
    record["since_ns"] = lasting_ns()  # since when it is free
    tables.write("slots", record, slot.number)


def recover(pins: Pins, abi: Abi) -> None:
    """Ends what an attach began that was killed while older tables were put aside.

    If its new probe counts on an interface already, that one goes on; else its remains go, filters
    among them, which no pin holds, and the older tables come back.
    """
    if not pins.aside.exists():
        return
    with Instance(pins, abi) as instance:
        # Slots are written when the tables are complete.
        slots = instance.slots() if pins.path.is_dir() and instance.complete() else []
        if any(live(instance, slot) for slot in slots):
            pins.remove(pins.aside)
            return
        for slot in slots:
            remove_slot(instance, slot)
    pins.recover()


def _remove_filters(slot: Slot) -> None:
    where = netns.find(slot.netns, slot.netns_name)
    if where is None:
        return
    with netns.entered(where):
        for hook in slot.hooks:
            if hook.value.startswith("tc"):
                clsact.remove(slot.ifindex, hook)
        if slot.bits & OWN_QDISC:
            clsact.remove_empty_qdisc(slot.ifindex)


def _wanted(slots: list[Slot], names: Sequence[str], netns_name: str | None) -> list[Slot]:
    """The slots of the interfaces named, by present or former name. Raises StateError."""
    if netns_name is not None and _gone(slots, netns_name):
        here, present = [slot for slot in slots if slot.netns_name == netns_name], {}
    else:
        space = netns.named(netns_name)
        here = [slot for slot in slots if slot.netns == space.inode]
        present = _present_names(here, space)
    found = []
    for name in dict.fromkeys(names):
        match = [s for s in here if s.ifindex == present.get(name)]
        match = match or [s for s in here if s.name == name]
        match = match or [s for s in slots if s.name == name and netns.find(s.netns, "") is None]
        if not match:
            place = f" in namespace {netns_name}" if netns_name else ""
            attached = ", ".join(_full_name(slot) for slot in slots)
            raise StateError(
                f"{name} is not attached{place}",
                f"attached: {attached}" if attached else "nothing is",
            )
        found += match
    return found


def _gone(slots: list[Slot], netns_name: str) -> bool:
    """Whether a namespace is remembered by slots alone."""
    return any(s.netns_name == netns_name for s in slots) and not netns.exists(netns_name)


def _present_names(slots: list[Slot], space: netns.Namespace) -> dict[str, int]:
    with netns.entered(space):
        found = (netdev.by_index(slot.ifindex) for slot in slots)
        return {facts.name: facts.index for facts in found if facts is not None}


def _full_name(slot: Slot) -> str:
    return f"{slot.name} (--netns {slot.netns_name})" if slot.netns_name else slot.name


def _refuse_to_guess(error: Exception) -> None:
    """Raises it anew where it says that this process could not look, not that nothing is there.

    Removing the pins would leave filters on interfaces that nobody knows any more.
    """
    code = error.code if isinstance(error, KernelError) else getattr(error, "errno", 0)
    if isinstance(error, PrivilegeError) or code in _COULD_NOT_LOOK:
        raise error


def _remove_version(path: Path, abi: Abi) -> str:
    """Removes another version's probe: its links go with its pins, its filters by their name."""
    instance = Instance(Pins(path.parent.parent, path.name), abi)
    try:
        slots = instance.slots()
    except (ProbeError, OSError, ValueError) as error:
        _refuse_to_guess(error)
        slots = []  # its records cannot be read by this version
    for slot in slots:
        if slot.bits & BY_CLSACT:
            _remove_filters(slot)
    instance.close()
    instance.pins.remove(path)
    return path.name


def detach(
    interfaces: Sequence[str],
    *,
    everything: bool = False,
    bpffs: Path = DEFAULT,
    netns_name: str | None = None,
    path: Path | None = None,
) -> Detached:
    """Detaches the interfaces named, or everything, probes of other versions included.

    Raises UsageError when neither or both are given, StateError when one is not attached.
    """
    if interfaces and everything:
        raise UsageError("--all is every interface", "name some, or give --all")
    if not interfaces and not everything:
        hint = f"`{command('status', bpffs=bpffs)}` lists them"
        raise UsageError("name the interfaces to detach, or --all", hint)
    abi = load_abi(path)
    pins = Pins(bpffs, abi.hash)
    done = Detached()
    with pins.lock():
        recover(pins, abi)
        if pins.exists():
            _detach_here(Instance(pins, abi), interfaces, everything, netns_name, done)
        elif not everything:
            netns.named(netns_name)  # that it is misspelt says more
            hint = f"`{command('status', bpffs=bpffs)}` shows what is"
            raise StateError("nothing is attached", hint)
        if everything:
            done.versions = [_remove_version(other, abi) for other in pins.other_versions()]
    return done


def _detach_here(
    instance: Instance,
    interfaces: Sequence[str],
    everything: bool,
    netns_name: str | None,
    done: Detached,
) -> None:
    with instance:
        try:
            slots = instance.slots()
        except ProbeError as error:
            if not everything:
                raise
            _refuse_to_guess(error)
            slots = []  # half a probe: what is left of it goes with the directory
        for slot in slots if everything else _wanted(slots, interfaces, netns_name):
            (done.interfaces if live(instance, slot) else done.gone).append(slot.name)
            remove_slot(instance, slot)
        if everything or not instance.slots():
            instance.pins.remove(instance.pins.path)
            done.tables = True
