# SPDX-License-Identifier: Apache-2.0
"""Takes the probe off interfaces, and clears away what is left of one.

Links go with their pins. With the last interface the tables go too, and the totals in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xdpprobe import clsact, links, netdev, netns
from xdpprobe.abi import Abi, load_abi
from xdpprobe.errors import ProbeError, StateError, UsageError
from xdpprobe.hooks import BY_CLSACT, OWN_QDISC, Hook
from xdpprobe.instance import Instance, Slot
from xdpprobe.pins import DEFAULT, Pins


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
        return any(
            clsact.present(slot.ifindex, hook) for hook in slot.hooks if hook.value.startswith("tc")
        )


def remove_slot(instance: Instance, slot: Slot) -> None:
    """Takes everything of one slot away; an interface or namespace that is gone is fine."""
    if slot.bits & BY_CLSACT:
        _remove_filters(slot)
    pins = instance.pins
    for hook in Hook:
        links.detach(pins.slot(slot.number) / hook.link)
    pins.remove(pins.slot(slot.number))
    tables = instance.tables()
    tables.write("slots", tables.blank("slots"), slot.number)


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


def _wanted(slots: list[Slot], names: Sequence[str], space: netns.Namespace) -> list[Slot]:
    """The slots of the interfaces named, by present or former name. Raises StateError."""
    present: dict[str, int] = {}
    with netns.entered(space):
        for slot in slots:
            facts = netdev.by_index(slot.ifindex) if slot.netns == space.inode else None
            if facts is not None:
                present[facts.name] = slot.ifindex
    found = []
    for name in dict.fromkeys(names):
        here = [slot for slot in slots if slot.netns == space.inode]
        match = [s for s in here if s.ifindex == present.get(name)]
        match = match or [s for s in here if s.name == name]
        match = match or [s for s in slots if s.name == name and netns.find(s.netns, "") is None]
        if not match:
            place = f" in namespace {space.name}" if space.name else ""
            attached = ", ".join(_full_name(slot) for slot in slots)
            raise StateError(
                f"{name} is not attached{place}",
                f"attached: {attached}" if attached else "nothing is",
            )
        found += match
    return found


def _full_name(slot: Slot) -> str:
    return f"{slot.name} (--netns {slot.netns_name})" if slot.netns_name else slot.name


def _remove_version(path: Path, abi: Abi) -> str:
    """Removes another version's probe: its links go with its pins, its filters by their name."""
    instance = Instance(Pins(path.parent.parent, path.name), abi)
    try:
        slots = instance.slots()
    except (ProbeError, OSError, ValueError):
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
    if bool(interfaces) == everything:
        raise UsageError("name the interfaces to detach, or --all", "`xdpprobe status` lists them")
    abi = load_abi(path)
    pins = Pins(bpffs, abi.hash)
    space = netns.named(netns_name)
    done = Detached()
    with pins.lock():
        if pins.exists():
            _detach_here(Instance(pins, abi), interfaces, everything, space, done)
        elif not everything:
            raise StateError("nothing is attached", "`xdpprobe status` shows what is")
        if everything:
            done.versions = [_remove_version(other, abi) for other in pins.other_versions()]
    return done


def _detach_here(
    instance: Instance,
    interfaces: Sequence[str],
    everything: bool,
    space: netns.Namespace,
    done: Detached,
) -> None:
    with instance:
        try:
            slots = instance.slots()
        except ProbeError:
            if not everything:
                raise
            slots = []  # half a probe: what is left of it goes with the directory
        for slot in slots if everything else _wanted(slots, interfaces, space):
            (done.interfaces if live(instance, slot) else done.gone).append(slot.name)
            remove_slot(instance, slot)
        if everything or not instance.slots():
            instance.pins.remove(instance.pins.path)
            done.tables = True
