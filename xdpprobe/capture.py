# SPDX-License-Identifier: Apache-2.0
"""Packets out of capture files, which anybody may have written, or cut, or damaged.

pcap as in draft-ietf-opsawg-pcap (both byte orders, micro- and nanoseconds, and Kuznetzov's variant
with its longer record header), pcapng as in draft-ietf-opsawg-pcapng (any number of sections and
interfaces). A file is read once, front to back, in pieces, so that a pipe serves as well and one
that shrinks meanwhile does no harm. No length in a file is believed before the bytes are there.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from xdpprobe.errors import DataError
from xdpprobe.rereadable import Rereadable, name_of, refusals_named

CHUNK = 1 << 20
# libpcap itself accepts 256 KiB for Ethernet; what is far above is damage.
MAX_PACKET = 1 << 20
MAX_BLOCK = 256 << 20
# An old packet block has sixteen bits for their number; real files have a few.
MAX_INTERFACES = 1 << 16
MAX_TIME_NS = (1 << 63) - 1

PCAP_HEADER_LENGTH = 24
PCAP_MAGICS = {  # first four bytes, read big-endian: (record header in bytes, ns a unit)
    0xA1B2C3D4: (16, 1000),
    0xA1B23C4D: (16, 1),
    0xA1B2CD34: (24, 1000),  # Kuznetzov: interface, protocol and packet type follow the lengths
}
NG_SECTION = 0x0A0D0D0A
NG_INTERFACE = 1
NG_OLD_PACKET = 2
NG_SIMPLE_PACKET = 3
NG_ENHANCED_PACKET = 6
NG_BYTE_ORDER = 0x1A2B3C4D
OPTION_END = 0
OPTION_TSRESOL = 9
OPTION_FCSLEN = 13
OPTION_TSOFFSET = 14


class Packet(NamedTuple):
    """One captured packet.

    time_ns: since the epoch, 0 where the file has none. wire_length: bytes it had on the wire,
    without FCS where the file says that one was there. data: what was kept of it.
    """

    time_ns: int
    wire_length: int
    data: bytes
    link_type: int


class _Damage(Exception):
    """From here on the file makes no sense; what came before does."""


@dataclass(slots=True)
class _Interface:
    """What an interface description block promises for the packets that name it."""

    link_type: int
    snap_length: int
    units: int = 1_000_000  # a second
    offset_s: int = 0
    fcs_length: int = 0

    def time_ns(self, ticks: int) -> int:
        ns = ticks * 1_000_000_000 // self.units + self.offset_s * 1_000_000_000
        return min(max(ns, 0), MAX_TIME_NS)


class _Source:
    """A window over a file: `buffer[position:]` is what was read and not yet used."""

    def __init__(self, file: Rereadable) -> None:
        self.file = file
        self.buffer = b""
        self.position = 0

    def have(self, count: int) -> bool:
        """Make `count` bytes available from `position` on; False where the file ends before."""
        missing = count - (len(self.buffer) - self.position)
        if missing <= 0:
            return True
        pieces = [self.buffer[self.position :]]
        while missing > 0:
            # A length in the file must not decide how much memory is asked for.
            piece = self.file.read(CHUNK)
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
        self.buffer = b"".join(pieces)
        self.position = 0
        return missing <= 0

    def skip(self, count: int) -> bool:
        """Leave `count` bytes out without keeping them; False where the file ends before."""
        while count > 0:
            here = min(count, len(self.buffer) - self.position)
            self.position += here
            count -= here
            if count and not self.have(1):
                return False
        return True

    def left(self) -> int:
        """Bytes in the window that nobody has used."""
        return len(self.buffer) - self.position


class Capture:
    """An open capture: iterate over it, once, for its packets; close it, or use `with`.

    After the iteration `damage` says in words where and how the file breaks off, None if it is
    whole; every packet before that place was yielded. Raises DataError at opening for what is no
    capture at all. With `file` it reads that, which somebody else opened and will close, from
    where it stands.
    """

    def __init__(self, path: Path, file: Rereadable | None = None) -> None:
        self.name = name_of(path)
        self.damage: str | None = None
        with refusals_named(self.name):
            self._file = file or Rereadable(path)
            self._own = file is None
            self._source = _Source(self._file)
            try:
                self._packets = self._recognise()
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> "Capture":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, unless it was given."""
        if self._own:
            self._file.close()

    def __iter__(self) -> Iterator[Packet]:
        count = 0
        try:
            with refusals_named(self.name):
                for packet in self._packets:
                    count += 1
                    yield packet
        except _Damage as error:
            self.damage = f"{error}, after {count} whole packet{'' if count == 1 else 's'}"

    def _recognise(self) -> Iterator[Packet]:
        source = self._source
        if not source.have(4):
            empty = source.left() == 0
            raise DataError(self.name, "empty file" if empty else "too short for a capture")
        magic = int.from_bytes(source.buffer[:4], "big")
        swapped = int.from_bytes(source.buffer[:4], "little")
        if magic == NG_SECTION:
            if not source.have(12):
                raise DataError(self.name, "pcapng file ends inside its first block")
            if _section_order(source.buffer[8:12]) is None:
                raise DataError(self.name, "pcapng file without a byte-order mark")
            return _pcapng_packets(source)
        for order, number in ((">", magic), ("<", swapped)):
            if number in PCAP_MAGICS:
                if not source.have(PCAP_HEADER_LENGTH):
                    raise DataError(self.name, "pcap file ends inside its header")
                return _pcap_packets(source, order, *PCAP_MAGICS[number])
        hint = "compressed: unpack it first" if source.buffer[:2] in _PACKED else ""
        raise DataError(self.name, "neither a pcap nor a pcapng file", hint)


_PACKED = (b"\x1f\x8b", b"BZ", b"\xfd7", b"\x28\xb5", b"PK")


def _pcap_packets(
    source: _Source, order: str, header_length: int, unit_ns: int
) -> Iterator[Packet]:
    link_field = struct.unpack_from(order + "I", source.buffer, 20)[0]
    link_type = link_field & 0xFFFF
    # Bit 26 says that the top four bits hold the FCS length, in 16-bit words.
    fcs_length = (link_field >> 28) * 2 if link_field & 1 << 26 else 0
    source.position = PCAP_HEADER_LENGTH
    unpack = struct.Struct(order + "IIII").unpack_from
    while True:
        if source.left() < header_length and not source.have(header_length):
            if source.left():
                raise _Damage("ends inside a packet's header")
            return
        seconds, fraction, kept, length = unpack(source.buffer, source.position)
        if kept > MAX_PACKET:
            raise _Damage(f"a packet claims {kept} bytes")
        end = header_length + kept
        if source.left() < end and not source.have(end):
            raise _Damage("ends inside a packet")
        start = source.position
        data = source.buffer[start + header_length : start + end]
        source.position = start + end
        if fcs_length:
            length, data = _without_fcs(length, data, fcs_length)
        yield Packet(seconds * 1_000_000_000 + fraction * unit_ns, length, data, link_type)


def _without_fcs(length: int, data: bytes, fcs_length: int) -> tuple[int, bytes]:
    length = max(length - fcs_length, 0)
    return length, data[:length]


def _section_order(mark: bytes) -> str | None:
    for order in "<>":
        if struct.unpack(order + "I", mark)[0] == NG_BYTE_ORDER:
            return order
    return None


def _pcapng_packets(source: _Source) -> Iterator[Packet]:
    interfaces: list[_Interface] = []
    order = "<"
    head = struct.Struct(order + "II").unpack_from
    while True:
        if source.left() < 12 and not source.have(12):
            if source.left():
                raise _Damage("ends inside a block's header")
            return
        kind, length = head(source.buffer, source.position)
        if kind == NG_SECTION:  # reads the same in both orders, its length does not
            mark = source.buffer[source.position + 8 : source.position + 12]
            new_order = _section_order(mark)
            if new_order is None:
                raise _Damage("a section without a byte-order mark")
            order, interfaces = new_order, []
            head = struct.Struct(order + "II").unpack_from
            kind, length = head(source.buffer, source.position)
        if not 12 <= length <= MAX_BLOCK or length % 4:
            raise _Damage(f"a block claims {length} bytes")
        if kind in _READERS or kind == NG_INTERFACE:
            if length > MAX_PACKET + CHUNK:
                raise _Damage(f"a packet's block claims {length} bytes")
            if source.left() < length and not source.have(length):
                raise _Damage("ends inside a block")
            start, end = source.position + 8, source.position + length - 4
            source.position += length
            if kind == NG_INTERFACE:
                if len(interfaces) == MAX_INTERFACES:
                    raise _Damage(f"a section of more than {MAX_INTERFACES} interfaces")
                interfaces.append(_interface(order, source.buffer[start:end]))
            else:
                yield _READERS[kind](order, source.buffer, start, end, interfaces)
        elif not source.skip(length):
            raise _Damage("ends inside a block")


def _interface(order: str, body: bytes) -> _Interface:
    if len(body) < 8:
        raise _Damage("an interface description of less than eight bytes")
    link_type, _, snap_length = struct.unpack_from(order + "HHI", body)
    interface = _Interface(link_type, snap_length)
    position = 8
    while position + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, position)
        value = body[position + 4 : position + 4 + length]
        position += 4 + (length + 3 & ~3)
        if code == OPTION_END:
            break
        if code == OPTION_TSRESOL and len(value) == 1:
            power = value[0] & 0x7F
            interface.units = 2**power if value[0] & 0x80 else 10**power
        elif code == OPTION_FCSLEN and len(value) == 1:
            interface.fcs_length = value[0]
        elif code == OPTION_TSOFFSET and len(value) == 8:
            interface.offset_s = struct.unpack(order + "q", value)[0]
    return interface


_STRUCTS = {
    order: (struct.Struct(order + "IIIII").unpack_from, struct.Struct(order + "HHIIII").unpack_from)
    for order in "<>"
}


def _enhanced(
    order: str, buffer: bytes, start: int, end: int, interfaces: list[_Interface]
) -> Packet:
    if end - start < 20:
        raise _Damage("a packet block of less than twenty bytes")
    number, high, low, kept, length = _STRUCTS[order][0](buffer, start)
    return _timed(buffer, start, end, interfaces, number, high << 32 | low, kept, length)


def _old(order: str, buffer: bytes, start: int, end: int, interfaces: list[_Interface]) -> Packet:
    if end - start < 20:
        raise _Damage("a packet block of less than twenty bytes")
    number, _, high, low, kept, length = _STRUCTS[order][1](buffer, start)
    return _timed(buffer, start, end, interfaces, number, high << 32 | low, kept, length)


def _timed(
    buffer: bytes,
    start: int,
    end: int,
    interfaces: list[_Interface],
    number: int,
    ticks: int,
    kept: int,
    length: int,
) -> Packet:
    if number >= len(interfaces):
        raise _Damage(f"a packet of interface {number}, which is nowhere described")
    if kept > end - start - 20:
        raise _Damage(f"a packet of {kept} bytes in a block of {end - start + 12}")
    interface = interfaces[number]
    data = buffer[start + 20 : start + 20 + kept]
    if interface.fcs_length:
        length, data = _without_fcs(length, data, interface.fcs_length)
    return Packet(interface.time_ns(ticks), length, data, interface.link_type)


def _simple(
    order: str, buffer: bytes, start: int, end: int, interfaces: list[_Interface]
) -> Packet:
    if not interfaces:
        raise _Damage("a packet of interface 0, which is nowhere described")
    if end - start < 4:
        raise _Damage("a packet block of less than four bytes")
    interface = interfaces[0]
    length = struct.unpack_from(order + "I", buffer, start)[0]
    # The block says only how long the packet was; how much of it is here follows from the rest.
    kept = min(length, interface.snap_length or length, end - start - 4)
    data = buffer[start + 4 : start + 4 + kept]
    if interface.fcs_length:
        length, data = _without_fcs(length, data, interface.fcs_length)
    return Packet(0, length, data, interface.link_type)


_READERS = {NG_ENHANCED_PACKET: _enhanced, NG_OLD_PACKET: _old, NG_SIMPLE_PACKET: _simple}
