# SPDX-License-Identifier: Apache-2.0
"""Regexes as automata: Thompson's construction, then sets of states as states.

A state's moves are pairs (set of bytes, next state) whose sets are disjoint; a byte in none of them
ends in DEAD. ACCEPT is reached with the first match and never left.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

from xdpprobe.patterns.effort import Effort
from xdpprobe.patterns.expand import SEQUENCES, trimmed
from xdpprobe.patterns.regex import ANY, Byte, Choice, Node, Regex, Repeat, Sequence
from xdpprobe.signature_values import Bad

ACCEPT = -1
NFA_LIMIT = 4096
DFA_LIMIT = 8192  # states of one automaton before the equal ones fall together

Moves = list[tuple[int, int]]
Key = TypeVar("Key")


@dataclass(frozen=True)
class Dfa:
    """A deterministic automaton; state 0 is the first one."""

    moves: list[Moves]


class Nfa:
    """States with moves on bytes or on nothing; `first` and `last` of the whole regex."""

    def __init__(self, node: Node, effort: Effort) -> None:
        self._effort = effort
        self.byte: list[tuple[int, int] | None] = []
        self._free: list[list[int]] = []
        self.first = self._state()
        self.last = self._add(node, self.first)
        self._closures: dict[int, int] = {}

    def closure(self, state: int) -> int:
        """The states with a move on a byte (and the last) that are reached on nothing, as bits."""
        known = self._closures.get(state)
        if known is None:
            known, seen, waiting = 0, {state}, [state]
            while waiting:
                at = waiting.pop()
                if self.byte[at] is not None or at == self.last:
                    known |= 1 << at
                for other in self._free[at]:
                    if other not in seen:
                        seen.add(other)
                        waiting.append(other)
            self._effort.spend(2 * len(seen))
            self._closures[state] = known
        return known

    def _state(self) -> int:
        if len(self.byte) >= NFA_LIMIT:
            raise Bad("stands for too much", "use smaller counts or fewer alternatives")
        self._effort.spend(1)
        self.byte.append(None)
        self._free.append([])
        return len(self.byte) - 1

    def _add(self, node: Node, begin: int) -> int:
        """Adds what matches a node, from a state on; returns the state behind it."""
        if isinstance(node, Byte):
            end = self._state()
            if self.byte[begin] is not None:
                between = self._state()
                self._free[begin].append(between)
                begin = between
            self.byte[begin] = (node.mask, end)
            return end
        if isinstance(node, Sequence):
            for part in node.parts:
                begin = self._add(part, begin)
            return begin
        if isinstance(node, Choice):
            end = self._state()
            for branch in node.branches:
                start = self._state()
                self._free[begin].append(start)
                self._free[self._add(branch, start)].append(end)
            return end
        return self._add_repeat(node, begin)

    def _add_repeat(self, node: Repeat, begin: int) -> int:
        for _ in range(node.low):
            begin = self._add(node.node, begin)
        if node.high is None:
            loop = self._state()
            self._free[begin].append(loop)
            behind = self._add(node.node, loop)
            self._free[behind].append(loop)
            end = self._state()
            self._free[loop].append(end)
            return end
        end = self._state()
        self._free[begin].append(end)
        for _ in range(node.high - node.low):
            begin = self._add(node.node, begin)
            self._free[begin].append(end)
        return end


def search_automaton(regex: Regex, effort: Effort) -> Dfa:
    """Accepts as soon as a match is complete."""
    nfa = Nfa(trimmed(regex.node), effort)
    last = 1 << nfa.last

    def moves(states: int) -> Iterator[tuple[int, int | None]]:
        for mask, target in _pieces(nfa, states, effort):
            yield mask, None if target & last else target

    return _build(nfa.closure(nfa.first), moves, effort)


def whole_automata(regex: Regex, effort: Effort) -> dict[int, Dfa]:
    """For each length that a match may have: what accepts the matches of that length."""
    lengths = _lengths(regex.node, effort)
    if len(lengths) > SEQUENCES:
        raise Bad(
            f"'$' after a match of {len(lengths)} lengths; at most {SEQUENCES} can be told apart",
            "leave '$' away, or say with 'length' how long the payload may be",
        )
    return {length: _whole_automaton(regex, length, effort) for length in lengths}


def both(first: Dfa, second: Dfa, effort: Effort) -> Dfa | None:
    """Accepts as soon as both have; None where that cannot be."""

    def moves(pair: tuple[int, int]) -> Iterator[tuple[int, tuple[int, int] | None]]:
        a, b = pair
        sides = [
            [(ANY, ACCEPT)] if s == ACCEPT else d.moves[s] for d, s in ((first, a), (second, b))
        ]
        effort.spend(len(sides[0]) * len(sides[1]))
        for (mask_a, to_a), (mask_b, to_b) in product(*sides):
            if mask := mask_a & mask_b:
                yield mask, None if to_a == to_b == ACCEPT else (to_a, to_b)

    return _without_dead(_build((0, 0), moves, effort))


def _whole_automaton(regex: Regex, length: int, effort: Effort) -> Dfa:
    nfa = Nfa(regex.node, effort)
    last = 1 << nfa.last

    def moves(key: tuple[int, int]) -> Iterator[tuple[int, tuple[int, int] | None]]:
        states, depth = key
        for mask, target in _pieces(nfa, states, effort):
            if depth + 1 < length:
                yield mask, (target, depth + 1)
            elif target & last:
                yield mask, None

    dfa = _without_dead(_build((nfa.closure(nfa.first), 0), moves, effort))
    assert dfa is not None
    return dfa


def _lengths(node: Node, effort: Effort) -> list[int]:
    """Lengths of its matches. Only for what has an end, within what is looked at."""

    def lengths(node: Node) -> set[int]:
        if isinstance(node, Byte):
            return {1}
        if isinstance(node, Choice):
            return set().union(*map(lengths, node.branches))
        if isinstance(node, Sequence):
            found = {0}
            for part in node.parts:
                found = joined(found, lengths(part))
            return found
        once, found, times = lengths(node.node), set(), {0}
        for count in range((node.high or 0) + 1):
            if count:
                times = joined(times, once)
            if count >= node.low:
                found |= times
        return found

    def joined(first: set[int], second: set[int]) -> set[int]:
        effort.spend(len(first) * len(second))
        return {a + b for a in first for b in second}

    return sorted(lengths(node))


def _pieces(nfa: Nfa, states: int, effort: Effort) -> list[tuple[int, int]]:
    """Disjoint sets of bytes, and the NFA's states that each leads to."""
    targets: dict[int, int] = {}
    effort.spend(states.bit_count() + 1)
    while states:
        lowest = states & -states
        states ^= lowest
        if move := nfa.byte[lowest.bit_length() - 1]:
            mask, target = move
            targets[mask] = targets.get(mask, 0) | nfa.closure(target)
    pieces = [(ANY, 0)]
    for mask, target in targets.items():
        effort.spend(len(pieces))
        split = []
        for piece, reached in pieces:
            if inside := piece & mask:
                split.append((inside, reached | target))
            if outside := piece & ~mask:
                split.append((outside, reached))
        pieces = split
    return [(piece, reached) for piece, reached in pieces if reached]


def _build(
    first: Key, moves: Callable[[Key], Iterator[tuple[int, Key | None]]], effort: Effort
) -> Dfa:
    """Numbers what is reached from a first state; a next state of None means ACCEPT."""
    numbers = {first: 0}
    waiting = [first]
    made: list[Moves] = []
    for key in waiting:  # grows on the way
        to: dict[int, int] = {}
        for mask, target in moves(key):
            if target is None:
                number = ACCEPT
            elif (number := numbers.setdefault(target, len(numbers))) == len(waiting):
                waiting.append(target)
                if len(waiting) > DFA_LIMIT:
                    raise Bad(
                        f"needs more than {DFA_LIMIT} states",
                        "use smaller counts, or loops over fewer bytes",
                    )
            to[number] = to.get(number, 0) | mask
        effort.spend(4 + len(to))
        made.append([(mask, number) for number, mask in to.items()])
    return Dfa(made)


def _without_dead(dfa: Dfa) -> Dfa | None:
    """Without states from which nothing is accepted; None if the first is one of them."""
    before: list[list[int]] = [[] for _ in dfa.moves]
    alive: set[int] = set()
    for state, moves in enumerate(dfa.moves):
        for _, target in moves:
            if target == ACCEPT:
                alive.add(state)
            else:
                before[target].append(state)
    waiting = list(alive)
    while waiting:
        for state in before[waiting.pop()]:
            if state not in alive:
                alive.add(state)
                waiting.append(state)
    if 0 not in alive:
        return None
    numbers = {state: number for number, state in enumerate(sorted(alive))} | {ACCEPT: ACCEPT}
    return Dfa(
        [
            [(mask, numbers[target]) for mask, target in dfa.moves[state] if target in numbers]
            for state in sorted(alive)
        ]
    )
