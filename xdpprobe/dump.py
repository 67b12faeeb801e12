# SPDX-License-Identifier: Apache-2.0
"""Every map as it is, for `dump`: sizes of all, contents of the small ones.

Small arrays are read through bcc's table classes, set on the pinned maps' descriptors. bcc is the
distribution's python3-bpfcc; it is imported here only, since it brings LLVM along (75 MB).
"""

import os
from typing import Any

import numpy as np

from xdpprobe import abi, syscall
from xdpprobe.errors import StateError
from xdpprobe.filter import Filter
from xdpprobe.flows import Indexes
from xdpprobe.instance import Array
from xdpprobe.libbpf import possible_cpus
from xdpprobe.probe import Probe
from xdpprobe.snapshot import Snapshot
from xdpprobe.wire_text import printable

SCHEMA = 1
# Chosen flows whose records are shown: what is made of a whole table would fill a gigabyte.
LISTED = 1000
_SHOWN = ("counters", "ports", "slots", "control", "info")
_TEXT = ("name", "netns_name", "version", "category", "text")
_USED = {"flow_hot": "tag", "flow_cold": "tag", "names": "hash", "hellos": "hash", "labels": "kind"}


def _table_module() -> Any:
    try:
        from bcc import table
    except ImportError as error:
        raise StateError(
            f"bcc cannot be imported ({error})", "install it: apt install python3-bpfcc"
        ) from error
    return table


def _table(probe: Probe, name: str) -> Any:
    """A bcc table on a pinned map. bcc's constructors want a module that they compiled."""
    module, definition = _table_module(), probe.abi.maps[name]
    per_cpu = definition.type == abi.PERCPU_ARRAY
    made = object.__new__(module.PerCpuArray if per_cpu else module.Array)
    leaf = np.ctypeslib.as_ctypes_type(probe.abi.element_dtype(name))
    fd = probe.instance.map_fd(name)
    made.bpf, made.map_id, made.map_fd, made._name = None, None, fd, name.encode()
    made.Key = np.ctypeslib.as_ctypes_type(np.uint32)
    made.Leaf, made.ttype, made.flags = leaf, definition.type, definition.flags
    made.max_entries, made._cbs = syscall.map_info(fd).max_entries, {}
    if per_cpu:
        made.sLeaf, made.total_cpu, made.alignment, made.reducer = leaf, possible_cpus(), 0, None
        made.Leaf = leaf * made.total_cpu
    return made


def _plain(record: Array) -> dict[str, Any]:
    """A record as JSON takes it: texts as text, other bytes as hexadecimal."""
    found: dict[str, Any] = {}
    for field in record.dtype.names or ():
        value = record[field]
        if value.dtype == np.uint8 and value.ndim:
            raw = value.tobytes()
            found[field] = printable(raw.partition(b"\0")[0]) if field in _TEXT else raw.hex()
        elif not field.startswith("reserved"):
            found[field] = value.tolist()
    return found


def _entries(probe: Probe, name: str) -> dict[str, Any]:
    """Key -> record of a small array's elements that are not zero, CPUs summed."""
    dtype = probe.abi.element_dtype(name)
    counters = {value: key.lower() for key, value in probe.abi.enums["counter"].items()}
    found = {}
    for key, leaf in _table(probe, name).items():
        records = np.frombuffer(bytes(leaf), dtype)
        if not np.any(records.view(np.uint8)):
            continue
        index = key.value
        label = counters[index] if name == "counters" else str(index)
        found[label] = _plain(_sum(records) if name in ("counters", "ports") else records[0])
    return found


def _sum(records: Array) -> Array:
    total: Array = records.view(np.uint64).reshape(len(records), -1).sum(axis=0, dtype=np.uint64)
    record: Array = total.view(records.dtype)[0]
    return record


def _retired(probe: Probe) -> dict[str, Any]:
    snapshot = probe.snapshot()
    labels = np.flatnonzero(snapshot.retired["flows"])
    return {snapshot.label(int(i)).name: _plain(snapshot.retired[i]) for i in labels}


def matching(snapshot: Snapshot, rows: Indexes) -> dict[str, tuple[int, dict[str, Any]]]:
    """Map -> how many of its elements belong to these flows, and the first ones: index -> record.

    For the maps that hold flows: what is counted of them, their details, names and hellos.
    """
    hashes = np.unique(snapshot.cold["name"][rows])
    named = np.flatnonzero(np.isin(snapshot.names["hash"], hashes[hashes > 1]))
    chosen = {
        "flow_hot": (snapshot.hot, rows),
        "flow_cold": (snapshot.cold, rows),
        "names": (snapshot.names, named),
    }
    if snapshot.hellos is not None:
        said = np.isin(snapshot.hellos["hash"], np.unique(snapshot.cold["hello"][rows]))
        chosen["hellos"] = (snapshot.hellos, np.flatnonzero(said & (snapshot.hellos["hash"] > 1)))
    return {
        name: (len(at), {str(i): _plain(records[i]) for i in at[:LISTED].tolist()})
        for name, (records, at) in chosen.items()
    }


def _stages(probe: Probe, sizes: dict[str, int]) -> dict[str, Any]:
    """The PROG_ARRAYs; interfaces whose code was made from the same share one."""
    found = {}
    for name, pins in probe.instance.stage_pins().items():
        definition = probe.abi.maps[name]
        found[name] = {
            "type": definition.kind,
            "key_size": definition.key_size,
            "value_size": definition.value_size,
            "max_entries": definition.max_entries,
            "memory": sizes[name],
            "pins": [str(pin) for pin in pins],
        }
    return found


def dump(probe: Probe, wanted: Filter | None = None) -> dict[str, Any]:
    """Every map: type, sizes and kernel memory in bytes, elements in use, contents if small.

    wanted: what the large ones hold of the flows that it lets through is shown as well. Raises
    UsageError for names in it that are unknown, StateError where python3-bpfcc is missing.
    """
    chosen = {}
    if wanted is not None:
        snapshot = probe.snapshot()
        wanted.check(snapshot)
        chosen = matching(snapshot, wanted.rows(snapshot))
    sizes = {entry.name: entry.bytes for entry in probe.instance.memory()}
    maps = {}
    for name, fd in probe.instance.map_fds().items():
        info = syscall.map_info(fd)
        maps[name] = {
            "type": probe.abi.maps[name].kind,
            "id": info.id,
            "key_size": info.key_size,
            "value_size": info.value_size,
            "max_entries": info.max_entries,
            "flags": info.flags,
            "memory": sizes[name] + sizes.get(f"{name}.inner", 0),
            "pin": str(probe.instance.pins.map(name)),
        }
        if name in _USED:
            values = probe.tables().array(name)[_USED[name]]
            maps[name] |= {"elements": len(values), "used": int(np.count_nonzero(values))}
        if name in _SHOWN:
            maps[name]["entries"] = _entries(probe, name)
        if name in chosen:
            maps[name]["matching"], maps[name]["entries"] = chosen[name]
    maps.update(_stages(probe, sizes))
    maps["retired"]["entries"] = _retired(probe)
    return {"schema": SCHEMA, "abi": probe.abi.hash, "cpus": os.cpu_count(), "maps": maps}
