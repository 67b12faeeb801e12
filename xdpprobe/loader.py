# SPDX-License-Identifier: Apache-2.0
"""Puts the data plane into the kernel: constants, maps, programs, tail calls. Attaches nothing.

`load_object` gives a complete instance that lives as long as its `Loaded`: for replay, benchmarks
and tests. `attach.py` uses the same parts for one that stays.
"""

import secrets
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy.typing as npt

from xdpprobe import kernel, syscall
from xdpprobe import settings as configuration
from xdpprobe.abi import Abi, load_abi
from xdpprobe.clock import measure_rate
from xdpprobe.errors import DataError
from xdpprobe.libbpf import Object, possible_cpus, uninterrupted
from xdpprobe.settings import Settings
from xdpprobe.tables import Knowledge, Tables

Constants = Mapping[str, int | bytes]
ENTRIES = ("xdp_entry", "tc_ingress", "tc_egress")
_HOOKS = ("xdp", "tc")


def stage_programs(abi: Abi) -> dict[str, dict[int, str]]:
    """PROG_ARRAY name -> {index: program}: enum stage's STAGE_NAME is the program HOOK_name."""
    stages = abi.enums.get("stage", {})
    found: dict[str, dict[int, str]] = {}
    for hook in _HOOKS:
        programs = {
            index: f"{hook}_{stage.removeprefix('STAGE_').lower()}"
            for stage, index in stages.items()
        }
        found[f"{hook}_stages"] = {
            index: name for index, name in programs.items() if name in abi.programs
        }
    return found


def encode_constants(abi: Abi, constants: Constants) -> list[tuple[int, bytes]]:
    """(offset, bytes) in .rodata of each constant. Raises DataError for one that is unknown."""
    encoded = []
    for name, value in constants.items():
        if name not in abi.constants:
            raise DataError(str(abi.path), f"the BPF object has no constant {name}")
        offset, size = abi.constants[name]
        data = value if isinstance(value, bytes) else value.to_bytes(size, "little")
        if len(data) != size:
            raise DataError(str(abi.path), f"constant {name} has {size} bytes, not {len(data)}")
        encoded.append((offset, data))
    return encoded


class Programs:
    """Loaded programs and the maps that they share; a context manager.

    Each program is an object of its own, so that the verifier works at several at a time: it takes
    most of the time of an attach.
    """

    def __init__(self, base: Object, more: Mapping[str, Object]) -> None:
        self._base = base
        self._more = more

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
        """Closes the descriptors; what is pinned or attached stays."""
        for part in (*self._more.values(), self._base):
            part.close()

    def map_fd(self, name: str) -> int:
        """Descriptor of a map; valid until close()."""
        return self._base.map_fd(name)

    def program_fd(self, name: str) -> int:
        """Descriptor of a program; valid until close()."""
        return self._more.get(name, self._base).program_fd(name)


def _load_object(
    abi: Abi,
    programs: set[str],
    constants: list[tuple[int, bytes]],
    sizes: Mapping[str, int],
    existing: Mapping[str, int],
) -> Object:
    loaded = Object(abi.path)
    try:
        loaded.choose_programs(programs)
        for offset, data in constants:
            loaded.set_constant(offset, data)
        for name in abi.maps:
            if name in existing:
                loaded.reuse(name, existing[name])
            elif name in sizes:
                loaded.resize(name, sizes[name])
        loaded.load()
    except BaseException:
        loaded.close()
        raise
    return loaded


def load(
    abi: Abi,
    programs: set[str],
    constants: Constants,
    sizes: Mapping[str, int],
    existing: Mapping[str, int],
) -> Programs:
    """Loads some of the object's programs; the caller closes the result.

    sizes: entries of the maps that are made anew. existing: map name -> descriptor to use.
    Raises DataError for a constant that is unknown, PrivilegeError, KernelError with the
    verifier's words.
    """
    encoded = encode_constants(abi, constants)
    base = _load_object(abi, set(), encoded, sizes, existing)
    parts: dict[str, Future[Object]] = {}
    try:
        maps = {name: base.map_fd(name) for name in abi.maps}
        with uninterrupted():  # an interrupt is lost in the pool's own callbacks
            with ThreadPoolExecutor(max_workers=max(len(programs), 1)) as pool:
                for name in sorted(programs):
                    parts[name] = pool.submit(_load_object, abi, {name}, encoded, {}, maps)
            del pool
        return Programs(base, {name: part.result() for name, part in parts.items()})
    except BaseException:
        for part in parts.values():
            if not part.exception():
                part.result().close()
        base.close()
        raise


def stage_names(abi: Abi, tables: Collection[str]) -> set[str]:
    """The programs that belong into these PROG_ARRAYs."""
    chosen = stage_programs(abi)
    return {name for table in tables for name in chosen[table].values()}


def wire_stages(abi: Abi, loaded: Programs, tables: Collection[str]) -> None:
    """Puts the inspection stages into these PROG_ARRAYs, deepest first.

    A stage is reached only through earlier ones, so no packet meets half a chain.
    """
    for table, programs in stage_programs(abi).items():
        if table not in tables:
            continue
        for index in sorted(programs, reverse=True):
            fd = loaded.program_fd(programs[index]).to_bytes(4, "little")
            syscall.update(loaded.map_fd(table), index, fd, f"cannot set stage {programs[index]}")


def wired(abi: Abi, table: str, fd: int) -> bool:
    """Whether a PROG_ARRAY still has all its stages: other tools may change it."""
    return all(syscall.lookup(fd, index, 4) is not None for index in stage_programs(abi)[table])


def new_seed() -> tuple[int, int]:
    """A hash key for a flow table, so that nobody can aim at one of its sets."""
    return secrets.randbits(64), secrets.randbits(64)


class Loaded:
    """A loaded data plane that is attached nowhere; a context manager."""

    def __init__(self, abi: Abi, settings: Settings, hz: int, programs: Programs) -> None:
        self.abi = abi
        self.settings = settings
        self.hz = hz
        self._programs = programs

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
        """Unloads it, unless arrays still refer to its maps."""
        self._programs.close()

    def map_fd(self, name: str) -> int:
        """Descriptor of a map; valid until close()."""
        return self._programs.map_fd(name)

    def prog_fd(self, name: str) -> int:
        """Descriptor of a program; valid until close()."""
        return self._programs.program_fd(name)

    def array(self, name: str, writable: bool = False) -> npt.NDArray[Any]:
        """A mappable map's values as records, live: flow_hot as one record a flow."""
        return self.tables().array(name, writable)

    def test_run(
        self, prog_fd: int, data: bytes, repeat: int = 1, ctx: bytes | None = None
    ) -> tuple[int, int, bytes]:
        """See `syscall.test_run`: (return value, ns a run, packet as it left)."""
        return syscall.test_run(prog_fd, data, repeat, ctx, room=len(data) + 256)

    def tables(self) -> Tables:
        """The tables that user space fills."""
        return Tables(self.abi, self.map_fd)


class Instance(Protocol):
    """A data plane in the kernel, attached (`probe.Probe`) or not (`Loaded`)."""

    def tables(self) -> Tables: ...


def load_tables(instance: Instance, catalogue: Knowledge) -> int:
    """Makes a catalogue the one in force, atomically; returns how many rules it became.

    Raises DataError, StateError or KernelError with the running tables still in force.
    """
    return instance.tables().load(catalogue)


def load_object(
    constants: Constants | None = None,
    *,
    flows: int = 262144,
    names: int = 32768,
    sizes: Mapping[str, int] | None = None,
    path: Path | None = None,
    programs: Sequence[str] = ENTRIES,
    l4: Mapping[int, int] | None = None,
    hz: int | None = None,
) -> Loaded:
    """Loads these entry points with all behind them, and attaches nothing.

    constants: override those that follow from the other arguments, by name (bpf/config.h).
    flows, names: capacities. sizes: entries of other maps, by name. path: an object file other
    than the package's. l4: IP protocol number -> label. hz: jiffies a second, measured (35 ms)
    when not given.
    Raises DataError for a broken object, PrivilegeError, KernelError with the verifier's words.
    """
    kernel.require()
    abi = load_abi(path)
    settings = Settings(flows=flows, names=names)
    cpus = possible_cpus()
    rate = hz or measure_rate(abi)
    values = configuration.constants(abi, settings, cpus, rate, new_seed(), l4 or {})
    stages = {f"{program.partition('_')[0]}_stages" for program in programs}
    loaded = load(
        abi,
        {*programs, *stage_names(abi, stages), "clock_read"},
        {**values, **(constants or {})},
        {**configuration.table_sizes(abi, settings, cpus), **(sizes or {})},
        {},
    )
    try:
        wire_stages(abi, loaded, stages)
    except BaseException:
        loaded.close()
        raise
    return Loaded(abi, settings, rate, loaded)
