# SPDX-License-Identifier: Apache-2.0
"""BTF, the type information that clang puts into a BPF object, read without a kernel.

The layouts of `bpf/abi.h` reach Python this way, so that none is written down twice. Format:
Linux, Documentation/bpf/btf.rst.
"""

import struct
from dataclasses import dataclass

from xdpprobe.errors import DataError

INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT = range(1, 12)
FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT, DECL_TAG, TYPE_TAG, ENUM64 = range(12, 20)

_MAGIC = 0xEB9F
_TYPE = struct.Struct("<III")  # name offset, info, size or type
_TRANSPARENT = (TYPEDEF, VOLATILE, CONST, RESTRICT, TYPE_TAG)
_SIGNED = 1  # INT encoding bit


@dataclass(frozen=True)
class Member:
    """A member of a STRUCT, UNION or DATASEC; `offset` in bits (DATASEC: bytes)."""

    name: str
    type: int
    offset: int
    bitfield: bool = False


@dataclass(frozen=True)
class Type:
    """One type record. `size` in bytes for kinds that have one, `type` for those that refer."""

    kind: int
    name: str
    size: int = 0
    type: int = 0
    count: int = 0
    signed: bool = False
    members: tuple[Member, ...] = ()
    values: tuple[tuple[str, int], ...] = ()


class Btf:
    """The types of one `.BTF` section. Raises DataError, naming `where`, on a broken one."""

    def __init__(self, data: bytes, where: str) -> None:
        self._where = where
        try:
            self._read(data)
        except (struct.error, IndexError, ValueError, UnicodeDecodeError) as error:
            raise self._broken(f"its type information cannot be read ({error})") from error

    def _broken(self, why: str) -> DataError:
        return DataError(self._where, why, "build the object again with `make bpf`")

    def _read(self, data: bytes) -> None:
        magic, _, _, header, types, types_len, strings, strings_len = struct.unpack_from(
            "<HBBIIIII", data
        )
        if magic != _MAGIC:
            raise self._broken("its .BTF section does not begin with the BTF magic")
        begin = header + strings
        self._strings = data[begin : begin + strings_len]
        self.types: list[Type] = [Type(0, "void")]
        offset, end = header + types, header + types + types_len
        while offset < end:
            offset = self._read_type(data, offset)
        self._named = {
            (entry.kind, entry.name): number
            for number, entry in enumerate(self.types)
            if entry.name and number
        }

    def _string(self, offset: int) -> str:
        return self._strings[offset : self._strings.index(b"\0", offset)].decode()

    def _read_type(self, data: bytes, offset: int) -> int:
        """Appends the type at `offset`; returns where the next one begins."""
        name_offset, info, size = _TYPE.unpack_from(data, offset)
        offset += _TYPE.size
        name, length, kind, flag = (
            self._string(name_offset),
            info & 0xFFFF,
            info >> 24 & 0x1F,
            info >> 31,
        )
        made: Type
        if kind == INT:
            (encoding,) = struct.unpack_from("<I", data, offset)
            made = Type(kind, name, size=size, signed=bool(encoding >> 24 & _SIGNED))
            offset += 4
        elif kind == ARRAY:
            element, _, count = struct.unpack_from("<III", data, offset)
            made = Type(kind, name, type=element, count=count)
            offset += 12
        elif kind in (STRUCT, UNION):
            made = Type(kind, name, size=size, members=self._members(data, offset, length, flag))
            offset += 12 * length
        elif kind in (ENUM, ENUM64):
            width = 8 if kind == ENUM else 12
            made = Type(kind, name, size=size, values=self._values(data, offset, length, kind))
            offset += width * length
        elif kind == FUNC_PROTO:
            made = Type(kind, name, type=size)
            offset += 8 * length
        elif kind == DATASEC:
            members = (struct.unpack_from("<III", data, offset + 12 * i) for i in range(length))
            made = Type(
                kind, name, size=size, members=tuple(Member("", t, o) for t, o, _ in members)
            )
            offset += 12 * length
        elif kind in (VAR, DECL_TAG):
            made = Type(kind, name, type=size)
            offset += 4
        elif kind in (PTR, FWD, FUNC, *_TRANSPARENT):
            made = Type(kind, name, type=size)
        elif kind == FLOAT:
            made = Type(kind, name, size=size)
        else:
            raise self._broken(f"its type information has the unknown kind {kind}")
        self.types.append(made)
        return offset

    def _members(self, data: bytes, offset: int, length: int, flag: int) -> tuple[Member, ...]:
        found = []
        for index in range(length):
            name, kind, bits = struct.unpack_from("<III", data, offset + 12 * index)
            width, bits = (bits >> 24, bits & 0xFFFFFF) if flag else (0, bits)
            found.append(Member(self._string(name), kind, bits, bool(width or bits % 8)))
        return tuple(found)

    def _values(
        self, data: bytes, offset: int, length: int, kind: int
    ) -> tuple[tuple[str, int], ...]:
        found = []
        for index in range(length):
            if kind == ENUM:
                name, value = struct.unpack_from("<Ii", data, offset + 8 * index)
            else:
                name, low, high = struct.unpack_from("<III", data, offset + 12 * index)
                value = high << 32 | low
            found.append((self._string(name), value))
        return tuple(found)

    def find(self, kind: int, name: str) -> int | None:
        """The number of the type of that kind and name, None where there is none."""
        return self._named.get((kind, name))

    def resolve(self, number: int) -> Type:
        """The type behind typedefs and qualifiers."""
        entry = self.types[number]
        while entry.kind in _TRANSPARENT:
            entry = self.types[entry.type]
        return entry

    def size(self, number: int) -> int:
        """Size of a type in bytes."""
        entry = self.resolve(number)
        if entry.kind == ARRAY:
            return entry.count * self.size(entry.type)
        return 8 if entry.kind == PTR else entry.size
