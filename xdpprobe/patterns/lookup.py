# SPDX-License-Identifier: Apache-2.0
"""Which rows of the match tables fit a packet, and why one of them decides.

The data plane stops at the first row that fits; who wants to know what else would have fitted, and
which bytes it was, asks here. Same tables, read in Python.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from xdpprobe.patterns.automaton import ACCEPT, Dfa, search_automaton
from xdpprobe.patterns.compiler import LITTLE, WITHIN, Array, Compiled
from xdpprobe.patterns.effort import Effort
from xdpprobe.patterns.regex import ANY, Regex
from xdpprobe.patterns.rows import Row
from xdpprobe.patterns.states import ACCEPT_STATE, FIRST_STATE
from xdpprobe.signature_table import DEPTH, LENGTH_MAX

Span = tuple[int, int]  # bytes of a payload, the second not taken in


@dataclass(frozen=True, slots=True)
class Payload:
    """A payload packet as patterns see it.

    head: its first DEPTH bytes, if it has so many. length: of all of it. ports: source and
    destination. number: in its direction, from 1. stage: what was noted of the flow before.
    """

    head: bytes
    length: int
    udp: bool
    responder: bool
    ports: tuple[int, int]
    number: int = 1
    stage: int = 0

    @property
    def kind(self) -> int:
        """Number of its class of packets."""
        return self.udp * 2 + self.responder


def fitting(compiled: Compiled, payload: Payload) -> list[int]:
    """Numbers of the rows (of its class) that a packet fits, in order of precedence."""
    table = compiled.classes[payload.kind]
    rows = table["row"]
    return [
        number
        for number in _alive(table, payload)
        if _field_agrees(rows[number], payload)
        and _accepted(compiled.automaton["next"], int(rows[number]["state"]), payload.head)
    ]


def _alive(table: Array, payload: Payload) -> list[int]:
    """The rows whose columns all fit."""
    near, far = (table["port"][table["port_class"][port]] for port in payload.ports)
    alive = table["length"][table["length_class"][min(payload.length, LENGTH_MAX)]] & (near | far)
    alive &= table["packet"][min(payload.number, len(table["packet"])) - 1]
    alive &= table["stage"][payload.stage]
    for at in range(min(int(table["width"]), len(payload.head))):
        if not alive.any():
            return []
        alive &= table["byte"][at][payload.head[at]]
    alive[int(table["words"]) :] = 0
    found: list[int] = np.flatnonzero(
        np.unpackbits(alive.view(np.uint8), bitorder="little")
    ).tolist()
    return found


def _field_agrees(row: Array, payload: Payload) -> bool:
    size, at, flags = int(row["field_size"]), int(row["field_at"]), int(row["field_flags"])
    if not size:
        return True
    if at + size > payload.length:
        return False
    value = int.from_bytes(payload.head[at : at + size], "little" if flags & LITTLE else "big")
    said = value * int(row["multiplier"]) + int(row["plus"])
    return said <= payload.length if flags & WITHIN else said == payload.length


def _accepted(table: Array, state: int, head: bytes) -> bool:
    if not state:
        return True
    for byte in head[:DEPTH]:
        if state < FIRST_STATE:
            break
        state = int(table[state][byte])
    return state == ACCEPT_STATE


def marks(row: Row, payload: Payload) -> list[Span]:
    """The bytes of a packet by which a row fits it: those that may not be any."""
    signature = row.signature
    places: set[int] = set()
    if row.dfa is None:
        places.update(at for at, mask in enumerate(row.masks) if mask != ANY)
    else:
        for regex in signature.match:
            places.update(_matched(regex, signature.search, payload))
    if (field := signature.field) is not None:
        places.update(range(field.at, field.at + field.size))
    return _spans(place for place in places if place < len(payload.head))


def _matched(regex: Regex, search: int, payload: Payload) -> range:
    """Where a regex begins and ends. The automaton in the tables does not tell the beginning."""
    if regex.end:
        return range(min(payload.length, DEPTH))
    dfa = search_automaton(regex, Effort())
    for begin in range(search):
        if (end := _end(dfa, payload.head, begin)) is not None:
            return range(begin, end)
    return range(0)


def _end(dfa: Dfa, head: bytes, begin: int) -> int | None:
    state = 0
    for at in range(begin, min(len(head), DEPTH)):
        bit = 1 << head[at]
        following = next((target for mask, target in dfa.moves[state] if mask & bit), None)
        if following is None:
            return None
        if following == ACCEPT:
            return at + 1
        state = following
    return None


def _spans(places: Iterable[int]) -> list[Span]:
    spans: list[Span] = []
    for place in sorted(places):
        if spans and spans[-1][1] == place:
            spans[-1] = (spans[-1][0], place + 1)
        else:
            spans.append((place, place + 1))
    return spans


def why_behind(first: Row, other: Row) -> str:
    """Why a row that fits as well stands behind the one that decides."""
    a, b = first.signature, other.signature
    if b.by_port and not a.by_port:
        return "weaker method: by port alone"
    if a.names and not b.names:
        return "only notes that it matched"
    if b.confidence < a.confidence:
        return f"lower confidence: {b.confidence}, not {a.confidence}"
    if other.bits < first.bits:
        return f"says less: {other.bits:.1f} bits, not {first.bits:.1f}"
    return "stands later in the files"
