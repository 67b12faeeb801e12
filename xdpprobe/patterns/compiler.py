# SPDX-License-Identifier: Apache-2.0
"""All signatures as the data plane's match tables.

A signature is a row, or a few, in each class of packets that it applies to; a row is a bit. Every
condition is a column of bits for each value there may be, so that one look at each column leaves
the rows that match. What no column can say is an automaton's, and a length field's.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from xdpprobe.errors import DataError
from xdpprobe.patterns.effort import Effort
from xdpprobe.patterns.regex import ANY
from xdpprobe.patterns.rows import Row, rows_of
from xdpprobe.patterns.states import ACCEPT_STATE, StateTable
from xdpprobe.signature_table import Signature, Span
from xdpprobe.signature_values import Bad

Array = npt.NDArray[Any]
Bits = npt.NDArray[np.bool_]

LITTLE, WITHIN = 1, 2  # match_row.field_flags
CLASS_NAMES = ("TCP, initiator", "TCP, responder", "UDP, initiator", "UDP, responder")
_SIDES = {"": (0, 1), "initiator": (0,), "responder": (1,)}


class Layouts(Protocol):
    """What `abi.Abi` has and the tables need."""

    @property
    def enums(self) -> Mapping[str, Mapping[str, int]]: ...
    def dtype(self, name: str) -> np.dtype[Any]: ...


@dataclass(frozen=True)
class Compiled:
    """The tables.

    classes: four records of struct match_class, by (l4 is UDP) * 2 + (from the responder).
    automaton: one record of struct match_automaton, of shape (). rows: of each class, in order of
    precedence. stages: name that an `after` refers to -> its number. states: in use.
    """

    signatures: tuple[Signature, ...]
    classes: Array
    automaton: Array
    rows: tuple[list[Row], ...]
    stages: Mapping[str, int]
    states: int


def compile_signatures(signatures: Sequence[Signature], layouts: Layouts) -> Compiled:
    """The tables of `Catalogue.signatures`; `layouts` is the object's `Abi`.

    Of `layouts`, struct match_class and struct match_automaton give layouts and limits, and
    `enum method` the numbers of the evidence. Raises DataError with file, line and reason for a
    signature that can never match or that the tables cannot hold, and for too many of them.
    """
    class_dtype, automaton_dtype = layouts.dtype("match_class"), layouts.dtype("match_automaton")
    effort = Effort()
    stages = _stages(signatures, class_dtype["stage"].shape[0])
    width = class_dtype["byte"].shape[0]
    rows = [
        row
        for number, signature in enumerate(signatures)
        if not signature.texts
        for row in rows_of(signature, number, width, effort)
    ]
    rows.sort(key=_precedence)
    table = StateTable(automaton_dtype["next"].shape[0], effort)
    first = _first_states(rows, table)
    by_class = tuple(
        [row for row in rows if _in_class(row.signature, number)]
        for number in range(len(CLASS_NAMES))
    )
    classes = np.zeros(len(by_class), class_dtype)
    for number, members in enumerate(by_class):
        _Class(classes[number], members, number, stages).fill(first, layouts.enums["method"])
    automaton = np.zeros((), automaton_dtype)
    _fill_states(automaton["next"], table)
    return Compiled(tuple(signatures), classes, automaton, by_class, stages, len(table.rows))


def _precedence(row: Row) -> tuple[bool, bool, int, float, int]:
    """The better evidence first: the lowest bit that is left is the answer.

    What only notes that it matched stands behind what names the flow, or the first of two alike
    packets would hide the second.
    """
    signature = row.signature
    by_port, notes = signature.by_port, not signature.names
    return by_port, notes, -signature.confidence, -row.bits, row.number


def _in_class(signature: Signature, number: int) -> bool:
    return number // 2 == (signature.l4 == "udp") and number % 2 in _SIDES[signature.sender]


def _stages(signatures: Iterable[Signature], limit: int) -> dict[str, int]:
    """Numbers, from 1, for the names that an `after` refers to."""
    stages: dict[str, int] = {}
    for signature in signatures:
        if signature.after and signature.after not in stages:
            stages[signature.after] = len(stages) + 1
            if len(stages) >= limit:
                raise DataError(
                    signature.where("after"),
                    f"more than {limit - 1} names that an 'after' refers to",
                    "let signatures share a name",
                )
    return stages


def _first_states(rows: Iterable[Row], table: StateTable) -> dict[int, int]:
    """id() of a row -> the number of its automaton's first state."""
    first: dict[int, int] = {}
    for row in rows:
        if row.dfa is None:
            continue
        try:
            first[id(row)] = table.add(row.dfa)
        except Bad as bad:
            raise DataError(row.signature.where("match"), bad.why, bad.hint) from None
        assert first[id(row)] > ACCEPT_STATE
    return first


def _fill_states(table: Array, states: StateTable) -> None:
    """The rows of the automata's table; a byte without a move leads to 0, which is dead."""
    moves = [
        (number, target, mask)
        for number, row in enumerate(states.rows)
        for target, mask in row.items()
    ]
    sets = _unpacked([mask for _, _, mask in moves])
    for (number, target, _), held in zip(moves, sets, strict=True):
        table[number][held] = target


def _unpacked(masks: list[int]) -> Bits:
    """Sets of bytes as rows of 256 booleans."""
    packed = np.frombuffer(b"".join([mask.to_bytes(32, "little") for mask in masks]), np.uint8)
    unpacked = np.unpackbits(packed.reshape(-1, 32), axis=1, bitorder="little")
    return unpacked.astype(bool)


class _Class:
    """One class of packets: its rows, and the record that they go to."""

    def __init__(self, record: Array, rows: list[Row], number: int, stages: dict[str, int]) -> None:
        self._record = record
        self._rows = rows
        self._name = CLASS_NAMES[number]
        self._stages = stages
        dtype = record.dtype
        if len(rows) > dtype["row"].shape[0]:
            raise self._full(f"{len(rows)} rows", dtype["row"].shape[0])

    def fill(self, first: Mapping[int, int], methods: Mapping[str, int]) -> None:
        """Writes everything."""
        if not self._rows:
            return
        record, rows = self._record, self._rows
        record["words"] = -(-len(rows) // 64)
        record["width"] = max(len(row.masks) for row in rows)
        self._fill_rows(first, methods)
        self._fill_bytes()
        lengths = [(row.length,) for row in rows]
        self._fill_classes("length", "length_class", lengths)
        self._fill_classes("port", "port_class", [row.signature.port for row in rows])
        packets, stages = (np.zeros((record[name].shape[0], len(rows)), bool) for name in _SMALL)
        for at, row in enumerate(rows):
            low, high = row.signature.packet
            packets[low - 1 : high, at] = True
            after = row.signature.after
            stages[self._stages[after] if after else slice(None), at] = True
        record["packet"] = self._words(packets)
        record["stage"] = self._words(stages)

    def _fill_rows(self, first: Mapping[int, int], methods: Mapping[str, int]) -> None:
        pattern, port = methods["METHOD_PATTERN"], methods["METHOD_PORT"]
        for at, row in enumerate(self._rows):
            signature, target = row.signature, self._record["row"][at]
            target["protocol"], target["app"] = signature.protocol_id, signature.app_id
            target["method"] = port if signature.by_port else pattern
            target["confidence"] = signature.confidence
            target["final"] = signature.final
            target["stage"] = self._stages.get(signature.name, 0)
            target["state"] = first.get(id(row), 0)
            target["signature"] = row.number
            if (field := signature.field) is not None:
                target["field_at"], target["field_size"] = field.at, field.size
                target["field_flags"] = LITTLE * field.little | WITHIN * field.within
                target["plus"], target["multiplier"] = field.plus, field.multiplier

    def _fill_bytes(self) -> None:
        width, rows = int(self._record["width"]), self._rows
        allowed = np.ones((width, len(rows), 256), bool)
        places = [
            (at, number, mask)
            for number, row in enumerate(rows)
            for at, mask in enumerate(row.masks)
            if mask != ANY
        ]
        if places:
            at, number, masks = zip(*places, strict=True)
            allowed[list(at), list(number)] = _unpacked(list(masks))
        for column in range(width):
            self._record["byte"][column] = self._words(allowed[column].T)

    def _fill_classes(self, name: str, index: str, spans: Sequence[tuple[Span, ...]]) -> None:
        """Values between which no row tells are a class; a row without spans takes all."""
        values = self._record[index].shape[0]
        edges = {0, values}
        for row_spans in spans:
            for low, high in row_spans:
                edges |= {low, high + 1}
        begins = np.array(sorted(edges))
        held = np.zeros((len(begins) - 1, len(spans)), bool)
        places = {edge: place for place, edge in enumerate(begins.tolist())}
        for at, row_spans in enumerate(spans):
            for low, high in row_spans:
                held[places[low] : places[high + 1], at] = True
            if not row_spans:
                held[:, at] = True
        numbers: dict[bytes, int] = {}
        classes = [numbers.setdefault(part.tobytes(), len(numbers)) for part in held]
        limit = self._record[name].shape[0]
        if len(numbers) > limit:
            raise self._full(f"{len(numbers)} classes of {name}s", limit)
        self._record[index] = np.repeat(np.array(classes), np.diff(begins))
        columns = np.array([np.frombuffer(part, bool) for part in numbers])
        self._record[name][: len(numbers)] = self._words(columns)

    def _words(self, columns: Bits) -> Array:
        """Columns of booleans, a row's each, as columns of 64-bit words."""
        words = self._record["packet"].shape[1]
        padded = np.zeros((len(columns), 64 * words), bool)
        padded[:, : columns.shape[1]] = columns
        return np.packbits(padded, axis=1, bitorder="little").view("<u8")

    def _full(self, what: str, limit: int) -> DataError:
        return DataError(
            "signatures",
            f"{what} of signatures for {self._name}; there is room for {limit}",
            "load fewer files, or let alternatives share a signature's regex",
        )


_SMALL = ("packet", "stage")
