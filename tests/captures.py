# SPDX-License-Identifier: Apache-2.0
"""Capture files for tests, written byte by byte, in every form that the reader knows."""

import struct
from collections.abc import Iterable, Sequence

LINKTYPE_ETHERNET = 1
ENHANCED, OLD, SIMPLE = 6, 2, 3


def pcap(
    packets: Iterable[bytes],
    *,
    link_type: int = LINKTYPE_ETHERNET,
    order: str = "<",
    magic: int = 0xA1B2C3D4,
    start: tuple[int, int] = (1000, 0),
    lengths: Sequence[int] = (),
) -> bytes:
    """`start`: seconds and fraction of the first packet, one second more for each that follows.
    `lengths`: lengths on the wire where they differ from what is kept."""
    out = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link_type)
    for i, data in enumerate(packets):
        length = lengths[i] if i < len(lengths) else len(data)
        out += struct.pack(order + "IIII", start[0] + i, start[1], len(data), length)
        if magic == 0xA1B2CD34:
            out += struct.pack(order + "IHBB", 0, 0, 0, 0)
        out += data
    return out


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = len(body) + 12
    return struct.pack(order + "II", kind, length) + body + struct.pack(order + "I", length)


def section(order: str = "<") -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(
    order: str = "<",
    link_type: int = LINKTYPE_ETHERNET,
    *,
    snap_length: int = 0,
    options: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    body = struct.pack(order + "HHI", link_type, 0, snap_length)
    return block(order, 1, body + b"".join(option(order, *one) for one in options))


def packet(
    data: bytes,
    order: str = "<",
    *,
    kind: int = ENHANCED,
    interface: int = 0,
    ticks: int = 0,
    length: int | None = None,
) -> bytes:
    """`ticks`: the time in units of the interface; `length`: on the wire."""
    length = len(data) if length is None else length
    high, low = ticks >> 32, ticks & 0xFFFFFFFF
    if kind == SIMPLE:
        return block(order, kind, struct.pack(order + "I", length) + data)
    if kind == OLD:
        head = struct.pack(order + "HHIIII", interface, 0, high, low, len(data), length)
    else:
        head = struct.pack(order + "IIIII", interface, high, low, len(data), length)
    return block(order, kind, head + data)
