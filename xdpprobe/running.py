# SPDX-License-Identifier: Apache-2.0
"""The code of one attach: stages loaded once, entry programs once an interface.

`begin` makes a probe's maps and pins them, `adopt` takes over those of a running one, and its
stages where they are what would be loaded: to verify them is most of the work of an attach.
"""

import hashlib
import os
import secrets
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from typing import Any

from xdpprobe import settings as configuration
from xdpprobe import syscall
from xdpprobe.abi import PROG_ARRAY, Abi
from xdpprobe.advice import command
from xdpprobe.catalogue import Catalogue
from xdpprobe.clock import lasting_ns, measure_rate
from xdpprobe.errors import DataError, StateError
from xdpprobe.hooks import Hook
from xdpprobe.instance import Instance
from xdpprobe.libbpf import possible_cpus
from xdpprobe.loader import Programs, load, stage_names, wire_stages, wired
from xdpprobe.settings import PRIVACY, TUNNELS, Settings
from xdpprobe.tables import set_text
from xdpprobe.version import VERSION

_TABLE_SHAPES = ("flows", "names")
_SEED_BYTES = 16


@dataclass
class Code:
    """The stages of this attach, in PROG_ARRAYs, and what entry programs need.

    base: the maps, and those of the stages that were loaded. hz: jiffies a second. shared: map
    name -> descriptor. constants: all but the slot's own. hash: of what the stages are made from.
    """

    base: Programs
    settings: Settings
    hz: int
    constants: dict[str, int | bytes]
    shared: dict[str, int]
    hash: str

    def close(self) -> None:
        """Closes the descriptors; what is pinned stays."""
        self.base.close()

    def entries(
        self, instance: Instance, slot: int, hooks: tuple[Hook, ...], raw_ip: bool
    ) -> Programs:
        """The entry programs of an interface slot; the caller closes them.

        raw_ip: packets of this interface have no link header.
        """
        return load(
            instance.abi,
            {hook.value for hook in hooks},
            {**self.constants, "slot": slot, "raw_ip": int(raw_ip)},
            {},
            self.shared,
        )

    def record(self, instance: Instance, undo: ExitStack) -> None:
        """Writes the settings into `info`, where status and the next attach find them."""
        tables = instance.tables()
        info = tables.read("info")
        undo.callback(tables.restore_settings, info.copy())
        set_text(info, "version", VERSION)
        info["since_ns"] = info["since_ns"] or lasting_ns()
        info["hz"] = self.hz
        info["stripes"] = configuration.stripes(possible_cpus())
        _write_settings(info, self.settings)
        tables.write("info", info)


def _write_settings(info: Any, settings: Settings) -> None:
    info["flows"] = settings.flows
    info["names"] = settings.names
    info["privacy"] = PRIVACY.index(settings.privacy)
    info["tunnels"] = TUNNELS.index(settings.tunnels)
    for field, seconds in (
        ("idle_new_ms", settings.idle_new),
        ("idle_established_ms", settings.idle_established),
        ("idle_closed_ms", settings.idle_closed),
        ("active_ms", settings.active),
    ):
        info[field] = round(seconds * 1000)


def _load_stages(
    instance: Instance,
    settings: Settings,
    hz: int,
    seed: bytes,
    catalogue: Catalogue,
    stages: Collection[str],
    existing: Mapping[str, int],
) -> Code:
    abi, cpus = instance.abi, possible_cpus()
    keys = (int.from_bytes(seed[:8], "little"), int.from_bytes(seed[8:], "little"))
    constants = configuration.constants(abi, settings, cpus, hz, keys, catalogue.l4)
    sizes = configuration.table_sizes(abi, settings, cpus)
    code = _hash(abi, constants)
    with ExitStack() as closing:
        there = dict(existing)
        for name in stages:
            pin = instance.pins.stages(name, code)
            if pin is not None:
                fd = syscall.open_pin(pin)
                closing.callback(os.close, fd)
                if wired(abi, name, fd):
                    there[name] = fd
        new = set(stages) - set(there)
        base = load(abi, {*stage_names(abi, new), "clock_read"}, constants, sizes, there)
    try:
        wire_stages(abi, base, new)
        shared = {name: base.map_fd(name) for name in abi.maps}
    except BaseException:
        base.close()
        raise
    return Code(base, settings, hz, constants, shared, code)


def _hash(abi: Abi, constants: Mapping[str, int | bytes]) -> str:
    """16 hex digits over the BPF object and the constants that are written into it.

    The object as it is now, not as it was when the ABI was read from it: libbpf reads it anew.
    """
    try:
        made = hashlib.sha256(abi.path.read_bytes())
    except OSError as error:
        raise DataError(str(abi.path), error.strerror or "cannot be read") from error
    made.update(repr(sorted(constants.items())).encode())
    return made.hexdigest()[:16]


def begin(
    instance: Instance,
    options: Mapping[str, Any],
    catalogue: Catalogue,
    stages: Collection[str],
    undo: ExitStack,
) -> Code:
    """Makes the maps of a new probe, pins them and fills the tables. Nothing is attached yet.

    stages: the PROG_ARRAYs that will be called into.
    """
    pins, abi = instance.pins, instance.abi
    settings = Settings(**options)
    seed = secrets.token_bytes(_SEED_BYTES)
    undo.callback(pins.remove, pins.path)
    pins.make()
    code = _load_stages(instance, settings, measure_rate(abi), seed, catalogue, stages, {})
    try:
        for name, definition in abi.maps.items():
            if definition.type != PROG_ARRAY:
                syscall.pin(code.base.map_fd(name), pins.map(name))
        syscall.pin(code.base.program_fd("clock_read"), pins.clock)
        syscall.update(code.base.map_fd("seed"), 0, seed, "cannot write map seed")
        code.record(instance, undo)
        instance.tables().load(catalogue)
    except BaseException:
        code.close()
        raise
    return code


def adopt(
    instance: Instance,
    options: Mapping[str, Any],
    catalogue: Catalogue,
    stages: Collection[str],
    whole: bool,
) -> Code:
    """Loads code for the tables of a running probe.

    stages: the PROG_ARRAYs that will be called into. whole: every attached interface will get
    this code, so that options which live in it (times, privacy, tunnels) may change. Raises
    StateError for an option that may not.
    """
    detach = command("detach", "--all", bpffs=instance.pins.bpffs)
    settings = _merged(instance.settings(), options, whole, detach)
    info = instance.tables().read("info")
    seed = syscall.lookup(instance.map_fd("seed"), 0, _SEED_BYTES) or bytes(_SEED_BYTES)
    existing = instance.map_fds()
    return _load_stages(instance, settings, int(info["hz"]), seed, catalogue, stages, existing)


def shapes_fit(current: Settings, options: Mapping[str, Any]) -> bool:
    """Whether tables made for `current` serve with these options."""
    wanted = replace(current, **options)
    return all(getattr(wanted, name) == getattr(current, name) for name in _TABLE_SHAPES)


def _merged(current: Settings, options: Mapping[str, Any], whole: bool, detach: str) -> Settings:
    wanted = replace(current, **options)
    before, after = asdict(current), asdict(wanted)
    for name, value in after.items():
        if value == before[name] or (whole and name not in _TABLE_SHAPES):
            continue
        option = f"--{name.replace('_', '-')}"
        hint = (
            f"`{detach}` first, or leave the option out"
            if name in _TABLE_SHAPES
            else "attach all its interfaces in one command to change that"
        )
        raise StateError(f"the probe runs with {option} {before[name]}, not {value}", hint)
    return wanted
