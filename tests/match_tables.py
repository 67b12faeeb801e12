# SPDX-License-Identifier: Apache-2.0
"""The layouts of the match tables, and what the data plane does with them, in plain Python.

Slow, and as near to what bpf/match.h does as Python allows: tests hold the compiler against the
reference matcher with it, without a kernel.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from xdpprobe.signature_texts import KEYS

DEPTH = 256
LENGTH_MAX = 2047
ROW = np.dtype(
    [
        ("protocol", "<u2"),
        ("app", "<u2"),
        ("method", "u1"),
        ("confidence", "u1"),
        ("final", "u1"),
        ("stage", "u1"),
        ("state", "<u2"),
        ("field_size", "u1"),
        ("field_flags", "u1"),
        ("field_at", "<u2"),
        ("multiplier", "<u2"),
        ("plus", "<i4"),
        ("signature", "<u4"),
    ]
)
CLASS = np.dtype(
    [
        ("words", "<u4"),
        ("width", "<u4"),
        ("length_class", "u1", LENGTH_MAX + 1),
        ("port_class", "u1", 65536),
        ("length", "<u8", (256, 16)),
        ("port", "<u8", (256, 16)),
        ("packet", "<u8", (8, 16)),
        ("stage", "<u8", (64, 16)),
        ("byte", "<u8", (32, 256, 16)),
        ("row", ROW, 1024),
    ]
)
AUTOMATON = np.dtype([("next", "<u2", (4096, 256))])
TEXT_KEY = np.dtype([("prefix_bits", "<u4"), ("kind", "u1"), ("text", "u1", 63)])
TEXT_VALUE = np.dtype(
    [
        ("protocol", "<u2"),
        ("app", "<u2"),
        ("confidence", "u1"),
        ("final", "u1"),
        ("in_place", "u1"),
        ("reserved", "u1"),
    ]
)
_DTYPES = {
    "match_class": CLASS,
    "match_automaton": AUTOMATON,
    "match_row": ROW,
    "text_key": TEXT_KEY,
    "text_value": TEXT_VALUE,
}


@dataclass(frozen=True)
class Layouts:
    """Stands for an `Abi`."""

    enums: dict[str, dict[str, int]] = field(
        default_factory=lambda: {
            "method": {"METHOD_PORT": 1, "METHOD_PATTERN": 6},
            "text_kind": {f"TEXT_{key.upper()}": n for n, key in enumerate(KEYS, 1)},
        }
    )

    def dtype(self, name: str) -> np.dtype[Any]:
        return _DTYPES[name]


@dataclass(frozen=True)
class Packet:
    """What a payload packet brings; `number` counts in its direction, from 1.

    ports: the sender's and the other's.
    """

    payload: bytes
    l4: str = "udp"
    responder: bool = False
    ports: tuple[int, int] = (40000, 50000)
    number: int = 1
    stage: int = 0


class Tables(Protocol):
    """What of `Compiled` the kernel is given."""

    @property
    def classes(self) -> Any: ...
    @property
    def automaton(self) -> Any: ...


def answer(compiled: Tables, packet: Packet) -> Any:
    """The row that answers, or None."""
    table = compiled.classes[(packet.l4 == "udp") * 2 + packet.responder]
    length = len(packet.payload)
    alive = table["length"][table["length_class"][min(length, LENGTH_MAX)]].copy()
    one, other = (table["port"][table["port_class"][port]] for port in packet.ports)
    alive &= one | other
    alive &= table["packet"][packet.number - 1]
    alive &= table["stage"][packet.stage]
    for at in range(min(int(table["width"]), length)):
        alive &= table["byte"][at][packet.payload[at]]
    alive[int(table["words"]) :] = 0
    bits = np.unpackbits(alive.view(np.uint8), bitorder="little")
    for number in np.flatnonzero(bits):
        row = table["row"][number]
        if row["method"] == 1 and not _of_responder(table, packet, int(number)):
            continue
        if _field_agrees(row, packet.payload) and _accepted(compiled, row, packet.payload):
            return row
    return None


def _of_responder(table: Any, packet: Packet, number: int) -> bool:
    """Whether a port that only hints is the responder's."""
    port = packet.ports[not packet.responder]
    return bool(int(table["port"][table["port_class"][port]][number // 64]) >> number % 64 & 1)


def _field_agrees(row: Any, payload: bytes) -> bool:
    size, at, flags = int(row["field_size"]), int(row["field_at"]), int(row["field_flags"])
    if not size:
        return True
    value = int.from_bytes(payload[at : at + size], "little" if flags & 1 else "big")
    total = value * int(row["multiplier"]) + int(row["plus"])
    return total <= len(payload) if flags & 2 else total == len(payload)


def _accepted(compiled: Tables, row: Any, payload: bytes) -> bool:
    if not row["state"]:
        return True
    state = int(row["state"])
    for byte in payload[:DEPTH]:
        if state < 2:
            break
        state = int(compiled.automaton["next"][state][byte])
    return state == 1
