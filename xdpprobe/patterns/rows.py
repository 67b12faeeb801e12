# SPDX-License-Identifier: Apache-2.0
"""A signature as rows: conditions that hold together, the rows of one signature joined by "or"."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

from xdpprobe.errors import DataError
from xdpprobe.patterns import odds
from xdpprobe.patterns.automaton import ACCEPT, Dfa, both, search_automaton, whole_automata
from xdpprobe.patterns.effort import Effort
from xdpprobe.patterns.expand import SEQUENCES, Masks, sequences
from xdpprobe.patterns.regex import ANY, Byte, Regex, Repeat, Sequence
from xdpprobe.signature_table import DEPTH, LENGTH_MAX, LengthField, Signature, Span
from xdpprobe.signature_values import Bad

_LONGEST_PAYLOAD = 65535


@dataclass(frozen=True, slots=True)
class Row:
    """One row. `masks`: what each of the first bytes may be; `odds`: see odds.py, without ports."""

    signature: Signature
    number: int  # of the signature among all
    masks: Masks
    length: Span
    dfa: Dfa | None
    odds: float
    bits: float


@dataclass(frozen=True, slots=True)
class _Way:
    """One way in which a payload may match. `length`: of the payload, where it is known."""

    masks: Masks = ()
    need: int = 0
    length: int | None = None
    dfa: Dfa | None = None


def rows_of(signature: Signature, number: int, width: int, effort: Effort) -> list[Row]:
    """The rows of a signature; `width`: the first bytes that have a column.

    Raises DataError where there are none, or where the tables cannot hold it.
    """
    try:
        ways = _ways(signature, width, effort)
        rows = [row for way in ways if (row := _row(signature, number, way, effort))]
    except Bad as bad:
        raise DataError(_where(signature), f"match: {bad.why}", bad.hint) from None
    if not rows:
        raise DataError(
            _where(signature),
            "can never match: its conditions exclude each other",
            "compare 'match', 'length' and 'field': how long the payload may be, and which bytes",
        )
    return rows


def _where(signature: Signature) -> str:
    return signature.where("match" if signature.match else "")


def _ways(signature: Signature, width: int, effort: Effort) -> list[_Way]:
    regexes = _regexes(signature)
    fixed = [(regex.end, sequences(regex, width, effort)) for regex in regexes]
    ways = [_Way()]
    for end, found in fixed:
        if found is None:
            return _automata(regexes, width, effort)
        effort.spend(len(ways) * len(found))
        ways = [way for old in ways for masks in found if (way := _and_sequence(old, masks, end))]
        if len(ways) > SEQUENCES:
            return _automata(regexes, width, effort)
    return [_Way(_without_any(way.masks[:width]), way.need, way.length) for way in ways]


def _and_sequence(way: _Way, masks: Masks, end: bool) -> _Way | None:
    both_masks = tuple(a & b for a, b in zip_longest(way.masks, masks, fillvalue=ANY))
    length = way.length
    if end:
        if length not in (None, len(masks)):
            return None
        length = len(masks)
    need = max(way.need, len(masks))
    if not all(both_masks) or (length is not None and need > length):
        return None
    return _Way(both_masks, need, length)


def _regexes(signature: Signature) -> list[Regex]:
    """What has to match from the first byte on; other offsets to begin at become part of it."""
    if signature.search == 1:
        return list(signature.match)
    before = Repeat(Byte(ANY), 0, signature.search - 1)
    return [
        Regex(regex.text, Sequence((before, regex.node)), regex.end) for regex in signature.match
    ]


def _automata(regexes: list[Regex], width: int, effort: Effort) -> list[_Way]:
    """One automaton for all regexes, or, with '$', one a length."""
    common: Dfa | None = None
    by_length: dict[int, Dfa] | None = None
    for regex in regexes:
        if not regex.end:
            dfa = search_automaton(regex, effort)
            joined = dfa if common is None else both(common, dfa, effort)
            if joined is None:
                return []
            common = joined
            continue
        whole = whole_automata(regex, effort)
        if by_length is not None:
            shared = by_length.keys() & whole.keys()
            pairs = {n: both(by_length[n], whole[n], effort) for n in shared}
            whole = {n: pair for n, pair in pairs.items() if pair is not None}
        by_length = whole
    if by_length is None:
        assert common is not None
        return _automaton_ways({None: common}, width, effort)
    if common is not None:
        pairs = {n: both(common, dfa, effort) for n, dfa in by_length.items()}
        by_length = {n: pair for n, pair in pairs.items() if pair is not None}
    return _automaton_ways(by_length, width, effort)


def _automaton_ways(
    automata: Mapping[int, Dfa] | Mapping[None, Dfa], width: int, effort: Effort
) -> list[_Way]:
    ways = []
    for length, dfa in automata.items():
        masks, need = _first_bytes(dfa, width, effort)
        if need <= DEPTH:  # several together may want more than each
            ways.append(_Way(masks, need, length, dfa))
    return ways


def _first_bytes(dfa: Dfa, width: int, effort: Effort) -> tuple[Masks, int]:
    """What the first bytes of everything accepted have in common, and how long the shortest is."""
    masks: list[int] = []
    states, depth = {0}, 0
    while True:
        effort.spend(len(states))
        mask, reached = 0, set()
        for state in states:
            for piece, target in dfa.moves[state]:
                mask |= piece
                reached.add(target)
        depth += 1
        if depth <= width:
            masks.append(mask)
        if ACCEPT in reached:
            return _without_any(tuple(masks)), depth
        states = reached


def _without_any(masks: Masks) -> Masks:
    """Without conditions at the end that are none."""
    last = max((at for at, mask in enumerate(masks, 1) if mask != ANY), default=0)
    return masks[:last]


def _row(signature: Signature, number: int, way: _Way, effort: Effort) -> Row | None:
    low, high = signature.length
    if high == LENGTH_MAX:
        high = _LONGEST_PAYLOAD
    low = max(low, way.need)
    if way.length is not None:
        low, high = max(low, way.length), min(high, way.length)
    if signature.field is not None:
        low, high = _by_field(signature.field, way.masks, low, high)
    if low > high:
        return None
    length = Span(min(low, LENGTH_MAX), min(high, LENGTH_MAX))
    chance = odds.payload_odds(way.masks, way.dfa, length, signature.field, effort)
    bits = odds.bits(chance, signature)
    return Row(signature, number, way.masks, length, way.dfa, chance, bits)


def _by_field(field: LengthField, masks: Masks, low: int, high: int) -> tuple[int, int]:
    """Lengths that the field can agree with, as far as its bytes are known."""
    least = most = 0
    for place, mask in enumerate(odds.field_masks(field, masks)):
        least += ((mask & -mask).bit_length() - 1) << (8 * place)
        most += (mask.bit_length() - 1) << (8 * place)
    low = max(low, field.at + field.size, least * field.multiplier + field.plus)
    if not field.within:
        high = min(high, most * field.multiplier + field.plus)
    return low, high
