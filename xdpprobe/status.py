# SPDX-License-Identifier: Apache-2.0
"""What is attached, how full the tables are, and what could not be done: for `status`.

`report` gives plain data, as `status --json` prints it; `views` and commands make text of it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from xdpprobe import clsact, detach, flows, follow, memory, netdev, netns
from xdpprobe.abi import load_abi
from xdpprobe.clock import wall_time
from xdpprobe.hooks import BY_CLSACT, Hook, Plan
from xdpprobe.instance import Slot
from xdpprobe.pins import DEFAULT, Pins, check_bpffs
from xdpprobe.probe import Probe, slot_names
from xdpprobe.version import VERSION

SCHEMA = 1


def report(bpffs: Path = DEFAULT, path: Path | None = None) -> dict[str, Any]:
    """Everything that `status` shows; `attached` is False where nothing is.

    Times are Unix times in seconds (signatures_loaded is 0 where the last load was broken off),
    sizes bytes. Raises StateError without a BPF file system.
    """
    abi = load_abi(path)
    pins = Pins(bpffs, abi.hash)
    check_bpffs(bpffs)
    head = {
        "schema": SCHEMA,
        "version": VERSION,
        "abi": abi.hash,
        "bpffs": str(bpffs),
        "other_versions": [other.name for other in pins.other_versions()],
    }
    if not pins.exists():
        return {**head, "attached": False, "interfaces": []}
    with Probe.open(bpffs, path) as probe:
        return {**head, "attached": True, **_probe(probe)}


def troubles(probe: Probe) -> dict[int, str]:
    """Slot -> state, as `report` has it, of the interfaces that are not up."""
    found = {}
    for slot in probe.instance.slots():
        try:
            state = _state(probe, slot)[1]
        except OSError:  # its namespace went away while it was looked at
            state = "gone"
        if state != "up":
            found[slot.number] = state
    return found


def _probe(probe: Probe) -> dict[str, Any]:
    instance, tables = probe.instance, probe.tables()
    info = tables.read("info")
    slots = instance.slots()
    snapshot = probe.snapshot()
    taken = flows.used(snapshot)
    words = flows.state_words(snapshot)
    states = np.bincount(flows.states(snapshot, taken), minlength=len(words))
    names = int(np.count_nonzero(tables.array("names")["hash"] > 1))
    sizes = instance.memory()
    counters = probe.counters()
    settings, loaded = instance.settings(), int(info["loaded_ns"])
    return {
        "interfaces": [_interface(probe, slot) for slot in slots],
        "flows": {
            "capacity": settings.flows,
            "used": len(taken),
            "over": int(np.count_nonzero(flows.over(snapshot, taken))),
            **{word: int(states[number]) for number, word in words.items()},
        },
        "names": {"capacity": settings.names, "used": names},
        "rules": int(info["rules"]),
        "peers": dict(zip(("pushed", "published"), tables.peer_counts(), strict=True)),
        "signatures": info["signatures"].tobytes().hex(),
        "signatures_loaded": wall_time(loaded) if loaded else 0,
        "since": wall_time(int(info["since_ns"])),
        "hz": int(info["hz"]),
        "settings": {
            "idle_new": settings.idle_new,
            "idle_established": settings.idle_established,
            "idle_closed": settings.idle_closed,
            "active": settings.active,
            "privacy": settings.privacy,
            "tunnels": settings.tunnels,
        },
        "readers": follow.readers(instance),
        "memory": memory.total(sizes),
        "memory_maps": {entry.name: entry.bytes for entry in sizes},
        "counters": {
            name.lower(): {"packets": packets, "bytes": octets}
            for name, (packets, octets) in counters.items()
        },
    }


def _interface(probe: Probe, slot: Slot) -> dict[str, Any]:
    ingress, egress = probe.port(slot.number)
    generation = probe.instance.generation(slot.number)
    now, state = _state(probe, slot)
    return {
        "interface": slot_names([slot])[slot.number],
        "ifindex": slot.ifindex,
        "netns": slot.netns_name or None,
        "netns_inode": slot.netns,
        "hooks": [hook.text for hook in slot.hooks],
        "mode": slot.mode or None,
        "attached": Plan(slot.hooks, slot.mode, "").text,
        "tc": ("clsact" if slot.bits & BY_CLSACT else "tcx") if slot.hooks != (Hook.XDP,) else None,
        "since": wall_time(slot.since_ns),
        "state": state,
        "name_now": now,
        "packets": [ingress[0], egress[0]],
        "bytes": [ingress[1], egress[1]],
        "programs": {hook.value: str(generation / hook.value) for hook in slot.hooks}
        if generation
        else {},
    }


def _state(probe: Probe, slot: Slot) -> tuple[str | None, str]:
    """(name that the interface has now, "up", "down", "gone", "moved" or "incomplete")."""
    where = netns.find(slot.netns, slot.netns_name)
    if not detach.live(probe.instance, slot):
        return None, "gone"
    if where is None:
        return None, "moved"
    with netns.entered(where):
        facts = netdev.by_index(slot.ifindex)
        alive = [_alive(probe, slot, hook) for hook in slot.hooks]
        here = facts is not None and detach.carries(probe.instance, slot, facts, True)
    if facts is None or not here:
        return None, "moved"
    if not all(alive):
        return facts.name, "incomplete"
    return facts.name, "down" if facts.state == "down" else "up"


def _alive(probe: Probe, slot: Slot, hook: Hook) -> bool:
    if slot.bits & BY_CLSACT and hook is not Hook.XDP:
        return clsact.present(slot.ifindex, hook)
    return bool(probe.instance.link_alive(slot, hook))
