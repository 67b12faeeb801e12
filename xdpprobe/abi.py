# SPDX-License-Identifier: Apache-2.0
"""The layouts that kernel and user space share, taken from the built BPF object.

Structs of `bpf/abi.h` become NumPy dtypes, enums become dicts, map definitions become
`MapDefinition`. `Abi.hash` names the version of all of them together: pins of another hash are
never read.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from xdpprobe import btf
from xdpprobe.btf import Btf, Type
from xdpprobe.elf import read_object
from xdpprobe.errors import DataError

OBJECT = Path(__file__).parent / "data" / "classify.bpf.o"
_ENUMS = (
    "counter",
    "protocol",
    "method",
    "flow_state",
    "flow_flag",
    "tls_flag",
    "record_kind",
    "tunnel",
)

# enum bpf_map_type of linux/bpf.h: those that have a say in sizes or handling.
HASH, ARRAY, PROG_ARRAY = 1, 2, 3
PERCPU_HASH, PERCPU_ARRAY = 5, 6
LRU_HASH, LRU_PERCPU_HASH, LPM_TRIE, ARRAY_OF_MAPS, HASH_OF_MAPS = 9, 10, 11, 12, 13
RINGBUF = 27
BPF_F_MMAPABLE = 1 << 10

_MAP_TYPES = {
    HASH: "hash",
    ARRAY: "array",
    PROG_ARRAY: "prog_array",
    PERCPU_HASH: "percpu_hash",
    PERCPU_ARRAY: "percpu_array",
    LRU_HASH: "lru_hash",
    LRU_PERCPU_HASH: "lru_percpu_hash",
    LPM_TRIE: "lpm_trie",
    ARRAY_OF_MAPS: "array_of_maps",
    HASH_OF_MAPS: "hash_of_maps",
    RINGBUF: "ringbuf",
}


@dataclass(frozen=True)
class MapDefinition:
    """A map as the object declares it; sizes in bytes. `value` names the value's struct or ""."""

    name: str
    type: int
    key_size: int
    value_size: int
    max_entries: int
    flags: int
    value: str = ""
    inner: "MapDefinition | None" = None

    @property
    def kind(self) -> str:
        """The type's name, as bpftool writes it."""
        return _MAP_TYPES.get(self.type, str(self.type))

    @property
    def mappable(self) -> bool:
        """Whether user space can map its values."""
        return bool(self.flags & BPF_F_MMAPABLE)


@dataclass(frozen=True)
class Abi:
    """One object's layouts.

    dtypes: struct name -> dtype. enums: enum name -> {enumerator: value}.
    constants: load-time constant -> (offset, size) in .rodata. programs: name -> ELF section.
    digest: SHA-256 of the object file. hash: 16 hex digits over maps, their structs and enums.
    """

    path: Path
    dtypes: Mapping[str, np.dtype[Any]]
    enums: Mapping[str, Mapping[str, int]]
    maps: Mapping[str, MapDefinition]
    constants: Mapping[str, tuple[int, int]]
    programs: Mapping[str, str]
    digest: bytes
    hash: str

    def dtype(self, name: str) -> np.dtype[Any]:
        """The dtype of a struct. Raises DataError where the object has none of that name."""
        try:
            return self.dtypes[name]
        except KeyError:
            raise DataError(
                str(self.path),
                f"the BPF object does not describe struct {name}",
                "build the object again with `make bpf`",
            ) from None

    def element_dtype(self, map_name: str) -> np.dtype[Any]:
        """The dtype of a map's values; where a value is a set of structs, that struct's."""
        dtype = self.dtype(self.maps[map_name].value)
        if dtype.names and len(dtype.names) == 1:
            inner = dtype[0]
            if inner.subdtype is not None and inner.base.names:
                return inner.base
        return dtype


@lru_cache(maxsize=4)
def load_abi(path: Path | None = None) -> Abi:
    """Reads the layouts from an object file, by default the one that the package carries.

    Raises DataError when the file is missing, broken, or lacks what user space relies on.
    """
    source = read_object(path or OBJECT)
    types = Btf(source.btf, str(source.path))
    enums = {
        entry.name: dict(entry.values)
        for entry in types.types
        if entry.kind in (btf.ENUM, btf.ENUM64) and entry.name
    }
    missing = [name for name in _ENUMS if name not in enums]
    if missing:
        raise DataError(
            str(source.path),
            f"the BPF object does not describe enum {', '.join(missing)}",
            "build the object again with `make bpf`",
        )
    definitions = _map_definitions(types, str(source.path))
    return Abi(
        path=source.path,
        dtypes=_struct_dtypes(types),
        enums=enums,
        maps={name: _definition(types, name, number) for name, number in definitions.items()},
        constants=source.constants,
        programs=source.programs,
        digest=source.digest,
        hash=_hash(types, definitions, enums),
    )


def _map_definitions(types: Btf, where: str) -> dict[str, int]:
    """Map name -> number of the struct type that defines it."""
    section = types.find(btf.DATASEC, ".maps")
    if section is None:
        raise DataError(where, "the BPF object declares no map")
    variables = [types.types[member.type] for member in types.types[section].members]
    return {variable.name: variable.type for variable in variables}


def _struct_dtypes(types: Btf) -> dict[str, np.dtype[Any]]:
    found: dict[str, np.dtype[Any]] = {}
    for number, entry in enumerate(types.types):
        if entry.kind != btf.STRUCT or not entry.name:
            continue
        dtype = _dtype(types, number)
        if dtype is not None:
            found[entry.name] = dtype
    return found


def _dtype(types: Btf, number: int) -> np.dtype[Any] | None:
    """The dtype of a type; None for what NumPy cannot express (bit fields, empty structs)."""
    entry = types.resolve(number)
    if entry.kind in (btf.INT, btf.ENUM, btf.ENUM64):
        return np.dtype(f"{'i' if entry.signed else 'u'}{entry.size}")
    if entry.kind == btf.PTR:
        return np.dtype("u8")
    if entry.kind == btf.FLOAT:
        return np.dtype(f"f{entry.size}")
    if entry.kind == btf.ARRAY:
        element = _dtype(types, entry.type)
        if element is None:
            return None
        return np.dtype((element.base, (entry.count, *element.shape)))
    if entry.kind in (btf.STRUCT, btf.UNION):
        return _record_dtype(types, entry)
    return None


def _record_dtype(types: Btf, entry: Type) -> np.dtype[Any] | None:
    names, formats, offsets = [], [], []
    for index, member in enumerate(entry.members):
        dtype = _dtype(types, member.type)
        if member.bitfield or dtype is None:
            return None
        names.append(member.name or f"anonymous_{index}")
        formats.append(dtype)
        offsets.append(member.offset // 8)
    if not names:
        return None
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": entry.size}
    )


def _definition(types: Btf, name: str, number: int) -> MapDefinition:
    """Reads a map definition in libbpf's notation: numbers are array lengths behind pointers."""
    numbers: dict[str, int] = {}
    pointed: dict[str, int] = {}
    inner: MapDefinition | None = None
    for member in types.resolve(number).members:
        target = types.resolve(member.type)
        if member.name == "values":
            element = types.resolve(types.resolve(target.type).type)
            if element.kind == btf.STRUCT:
                inner = _definition(types, f"{name}.inner", types.resolve(target.type).type)
        elif member.name in ("key", "value"):
            pointed[member.name] = target.type
        else:
            numbers[member.name] = types.resolve(target.type).count
    value = types.resolve(pointed["value"]) if "value" in pointed else None
    key_size = types.size(pointed["key"]) if "key" in pointed else numbers.get("key_size", 0)
    value_size = (
        types.size(pointed["value"]) if "value" in pointed else numbers.get("value_size", 0)
    )
    kind = numbers.get("type", 0)
    if kind in (ARRAY_OF_MAPS, HASH_OF_MAPS, PROG_ARRAY):
        value_size = 4
    return MapDefinition(
        name=name,
        type=kind,
        key_size=key_size,
        value_size=value_size,
        max_entries=numbers.get("max_entries", 0),
        flags=numbers.get("map_flags", 0),
        value=value.name if value is not None and value.kind == btf.STRUCT else "",
        inner=inner,
    )


def _layout(types: Btf, number: int) -> Any:
    """A type without what may change at will: its own name and the order of declarations."""
    entry = types.resolve(number)
    if entry.kind in (btf.STRUCT, btf.UNION):
        members = [[m.name, m.offset, _layout(types, m.type)] for m in entry.members]
        return [entry.kind, entry.size, members]
    if entry.kind == btf.ARRAY:
        return [entry.kind, entry.count, _layout(types, entry.type)]
    return [entry.kind, entry.size, entry.signed]


def _map_layout(types: Btf, number: int) -> Any:
    described: list[Any] = []
    for member in types.resolve(number).members:
        target = types.resolve(member.type)
        if member.name == "values":
            definition = types.resolve(target.type).type
            if types.resolve(definition).kind == btf.STRUCT:
                described.append([member.name, _map_layout(types, definition)])
        else:
            described.append([member.name, _layout(types, target.type)])
    return described


def _hash(types: Btf, definitions: dict[str, int], enums: dict[str, dict[str, int]]) -> str:
    described = {
        "maps": {name: _map_layout(types, number) for name, number in definitions.items()},
        "enums": {name: enums[name] for name in _ENUMS},
    }
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
