# SPDX-License-Identifier: Apache-2.0
"""Doubts about signatures that the tables can hold: what can hardly be meant so.

None of them keeps signatures from being loaded. What is certainly wrong is refused earlier, by
those who read and compile.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xdpprobe.patterns.compiler import CLASS_NAMES, Compiled
from xdpprobe.patterns.odds import column_odds
from xdpprobe.patterns.rows import Row
from xdpprobe.patterns.texts import texts_of
from xdpprobe.signature_table import FINAL_CONFIDENCE, Signature

ODDS_LIMIT = 1e-9  # for one signature that decides a flow at any port
EFFORT_LIMIT = 0.05  # of random packets that one signature's second look may be taken at

# As far as browsers of one system have it in common, of what texts are held against. They hardly
# change any more: browsers keep the versions of systems in them as they are.
_BROWSERS = (
    b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (K",
    b"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:1",
    b"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/",
    b"Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:1",
    b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like",
    b"Mozilla/5.0 (X11; Linux x86_64; rv:1",
    b"Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:1",
    b"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KH",
    b"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, l",
    b"Mozilla/5.0 (Android 1",
    b"Mozilla/5.0 (iPhone; CPU iPhone OS 1",
    b"Mozilla/5.0 (iPad; CPU OS 1",
)

Words = npt.NDArray[np.uint64]
_COLUMNS = ("packet", "stage", "port", "length")


class Doubt(NamedTuple):
    """`where` is file:line."""

    where: str
    why: str


def doubts(compiled: Compiled) -> list[Doubt]:
    """All doubts, in the order of the files."""
    found: list[tuple[int, Doubt]] = []
    numbers = {id(signature): n for n, signature in enumerate(compiled.signatures)}
    for signature, why in (
        *_never_after(compiled.signatures),
        *_without_use(compiled),
        *_by_chance(compiled),
        *_dear(compiled),
        *_shadowed(compiled),
    ):
        found.append((numbers[id(signature)], Doubt(signature.where(), why)))
    return [doubt for _, doubt in sorted(found, key=lambda pair: pair[0])]


def text_doubts(signatures: Iterable[Signature]) -> list[Doubt]:
    """Those about texts; in the order of the signatures."""
    return [
        Doubt(
            signature.where(text.kind, text.shown),
            f"{text.kind}: {text.shown!r} is what browsers begin with",
        )
        for signature, text in texts_of(signatures)
        if text.kind == "user_agent" and any(own.startswith(text.data) for own in _BROWSERS)
    ]


def odds(compiled: Compiled) -> dict[int, float]:
    """Number of a signature -> the part of random packets that it takes, at most.

    Where there is an `after`, that is multiplied with the odds of what has to come before.
    """
    alone: dict[int, float] = defaultdict(float)
    for row in {id(row): row for rows in compiled.rows for row in rows}.values():
        alone[row.number] += row.odds
    named: dict[str, list[int]] = defaultdict(list)
    for number, signature in enumerate(compiled.signatures):
        named[signature.name].append(number)

    def chained(number: int, seen: frozenset[int]) -> float:
        signature = compiled.signatures[number]
        share = min(alone[number], 1.0)
        if not signature.after:
            return share
        before = [n for n in named[signature.after] if n not in seen][:8]
        return share * min(1.0, sum(chained(n, seen | {number}) for n in before))

    return {n: chained(n, frozenset()) for n in range(len(compiled.signatures))}


def chance(compiled: Compiled) -> float:
    """The part of random packets, at any port, that would decide a flow."""
    return sum(part for _, part in _deciding(compiled))


def sizes(compiled: Compiled) -> list[str]:
    """How full the tables are, in lines to print."""
    dtype = compiled.classes.dtype
    used = max(len(rows) for rows in compiled.rows)
    lines = [
        f"rows: {', '.join(f'{name} {len(rows)}' for name, rows in _named_rows(compiled))}"
        f"; {dtype['row'].shape[0]} each at most",
        *(
            f"classes of {what}s: at most {1 + int(compiled.classes[f'{what}_class'].max())}"
            f" of {dtype[what].shape[0]}"
            for what in ("length", "port")
        ),
        f"states of automata: {compiled.states} of {compiled.automaton.dtype['next'].shape[0]}",
        f"names for 'after': {len(compiled.stages)} of {dtype['stage'].shape[0] - 1}",
        f"random packets at any port that would decide a flow: {chance(compiled):.1e}",
        "automata and length fields looked at in a random packet:"
        f" {max(sum(map(_second_look, rows)) for rows in compiled.rows):.2g}",
        f"bytes: {compiled.classes.nbytes + compiled.automaton.nbytes}",
    ]
    return lines if used else []


def _deciding(compiled: Compiled) -> Iterator[tuple[Signature, float]]:
    """Those that decide a flow at any port, and the part of random packets that each takes."""
    for number, part in odds(compiled).items():
        signature = compiled.signatures[number]
        if signature.final and not signature.port:
            yield signature, part


def _named_rows(compiled: Compiled) -> Iterator[tuple[str, list[Row]]]:
    return zip(CLASS_NAMES, compiled.rows, strict=True)


def _never_after(signatures: Iterable[Signature]) -> Iterator[tuple[Signature, str]]:
    """Those behind something that is never noted."""
    signatures = list(signatures)
    reached: set[str] = set()
    decided = {signature.name for signature in signatures if signature.final}
    while True:
        new = {
            signature.name
            for signature in signatures
            if not signature.final and (not signature.after or signature.after in reached)
        }
        if new <= reached:
            break
        reached |= new
    for signature in signatures:
        if signature.after and signature.after not in reached:
            why = f"can never match: nothing leads to {signature.after!r}"
            if signature.after in decided:
                why += f", as a match with confidence >= {FINAL_CONFIDENCE} ends the inspection"
            yield signature, why


def _without_use(compiled: Compiled) -> Iterator[tuple[Signature, str]]:
    for signature in compiled.signatures:
        if not (signature.names or signature.name in compiled.stages):
            yield signature, f"has no use: no 'after' refers to {signature.name!r}"


def _by_chance(compiled: Compiled) -> Iterator[tuple[Signature, str]]:
    for signature, part in _deciding(compiled):
        if part > ODDS_LIMIT:
            yield (
                signature,
                f"matches one of {1 / part:.2g} packets of random bytes ({part:.1e}); with"
                f" confidence >= {FINAL_CONFIDENCE} and no port at most {ODDS_LIMIT:.0e} is meant",
            )


def _second_look(row: Row) -> float:
    """The part of random packets in which a row's automaton or length field is looked at."""
    if row.dfa is None and row.signature.field is None:
        return 0.0
    return column_odds(row.masks, row.signature, row.length)


def _dear(compiled: Compiled) -> Iterator[tuple[Signature, str]]:
    """Those that the columns leave over too often; only some of these are tried in a packet."""
    parts: dict[int, float] = defaultdict(float)
    for row in {id(row): row for rows in compiled.rows for row in rows}.values():
        parts[row.number] += _second_look(row)
    for number, part in parts.items():
        if part > EFFORT_LIMIT:
            yield (
                compiled.signatures[number],
                f"costs much: its automaton or length field is looked at in {min(part, 1):.0%} of"
                " random packets; fixed bytes at the start, a length or a port save that",
            )


def _shadowed(compiled: Compiled) -> Iterator[tuple[Signature, str]]:
    """Those whose every row stands behind one that matches whatever it matches."""
    open_rows: set[int] = set()
    before: dict[int, Signature] = {}
    for record, rows in zip(compiled.classes, compiled.rows, strict=True):
        for at, row in enumerate(rows):
            if row.number in open_rows:
                continue
            wider = _wider(record, rows, at)
            if wider is None:
                open_rows.add(row.number)
            else:
                before.setdefault(row.number, wider.signature)
    for number, other in before.items():
        if number not in open_rows:
            yield (
                compiled.signatures[number],
                f"is never reached: whatever it matches, {other.title} matches before"
                f" ({other.where()})",
            )


def _wider(record: Any, rows: list[Row], at: int) -> Row | None:
    """A row of another signature, before that one, with no condition that it has not."""
    word, bit = at // 64, np.uint64(at % 64)
    left = np.zeros(record["packet"].shape[1], np.uint64)
    left[:word] = ~np.uint64(0)
    left[word] = (np.uint64(1) << bit) - np.uint64(1)
    columns = [record["byte"][n] for n in range(int(record["width"]))]
    for column in (*columns, *(record[name] for name in _COLUMNS)):
        held = (column[:, word] >> bit & np.uint64(1)).astype(bool)
        left &= np.bitwise_and.reduce(column[held], axis=0)
        if not left.any():
            return None
    for other in np.flatnonzero(np.unpackbits(left.view(np.uint8), bitorder="little")).tolist():
        if rows[other].number != rows[at].number and _implied(record["row"], other, at):
            return rows[other]
    return None


def _implied(table: Any, wide: int, narrow: int) -> bool:
    """Whether the automaton and length field of one row ask for nothing that another's do not."""
    a, b = table[wide], table[narrow]
    if a["state"] not in (0, b["state"]):
        return False
    fields = ("field_at", "field_size", "field_flags", "plus")
    return not a["field_size"] or all(a[name] == b[name] for name in fields)
