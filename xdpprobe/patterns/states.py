# SPDX-License-Identifier: Apache-2.0
"""All automata in one table: states that accept the same stand in it once, whoever's they are.

States outside of loops (but for loops onto themselves) are numbered from the end on, so that what
comes next is known; then equal moves mean equal states. Longer loops are minimized before.
"""

from xdpprobe.patterns.automaton import ACCEPT, Dfa, Moves
from xdpprobe.patterns.effort import Effort
from xdpprobe.patterns.regex import ANY
from xdpprobe.signature_values import Bad

DEAD_STATE, ACCEPT_STATE, FIRST_STATE = 0, 1, 2  # as the data plane counts them
_SELF = -2

Row = dict[int, int]  # next state -> set of bytes


class StateTable:
    """Numbered states. `rows[n]`: the moves of state n, by next state."""

    def __init__(self, limit: int, effort: Effort) -> None:
        self._limit = limit
        self._effort = effort
        self.rows: list[Row] = [{}, {ACCEPT_STATE: ANY}]
        self._by_row: dict[frozenset[tuple[int, int]], int] = {}
        self._automata: dict[tuple[tuple[tuple[int, int], ...], ...], int] = {}

    def add(self, dfa: Dfa) -> int:
        """The number of an automaton's first state; raises Bad where the table is full."""
        key = tuple(map(tuple, dfa.moves))
        if (known := self._automata.get(key)) is not None:
            return known
        loops = _components(dfa)
        if any(len(loop) > 1 for loop in loops):
            dfa = _minimized(dfa, self._effort)
            loops = _components(dfa)
        numbers = {ACCEPT: ACCEPT_STATE}
        for loop in loops:
            self._effort.spend(len(loop))
            if len(loop) == 1:
                numbers[loop[0]] = self._single(dfa.moves[loop[0]], loop[0], numbers)
            else:
                self._loop(dfa, loop, numbers)
        self._automata[key] = numbers[0]
        return numbers[0]

    def _single(self, moves: Moves, state: int, numbers: dict[int, int]) -> int:
        row: Row = {}
        for mask, target in moves:
            number = _SELF if target == state else numbers[target]
            row[number] = row.get(number, 0) | mask
        for number in row:
            # The state may be one that it leads to, entered a step earlier.
            if number >= FIRST_STATE and _with_self(row, number) == self.rows[number]:
                return number
        key = frozenset(row.items())
        if (known := self._by_row.get(key)) is not None:
            return known
        number = self._new()
        self._by_row[key] = number
        self.rows[number] = _with_self(row, number)
        return number

    def _loop(self, dfa: Dfa, loop: list[int], numbers: dict[int, int]) -> None:
        for state in loop:
            numbers[state] = self._new()
        for state in loop:
            row = self.rows[numbers[state]]
            for mask, target in dfa.moves[state]:
                number = numbers[target]
                row[number] = row.get(number, 0) | mask

    def _new(self) -> int:
        if len(self.rows) >= self._limit:
            raise Bad(
                f"all automata together need more than {self._limit} states",
                "loops and what stands behind the first bytes take them: shorten those",
            )
        self.rows.append({})
        return len(self.rows) - 1


def _with_self(row: Row, number: int) -> Row:
    """The row with a state's number instead of 'itself'."""
    if _SELF not in row:
        return row
    resolved = {target: mask for target, mask in row.items() if target != _SELF}
    resolved[number] = resolved.get(number, 0) | row[_SELF]
    return resolved


def _components(dfa: Dfa) -> list[list[int]]:
    """Loops and single states, each after all that it leads to (Tarjan's algorithm)."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[list[int]] = []
    visits = [(0, iter(dfa.moves[0]))]
    index[0] = low[0] = 0
    stack.append(0)
    on_stack.add(0)
    while visits:
        state, moves = visits[-1]
        for _, target in moves:
            if target == ACCEPT:
                continue
            if target not in index:
                index[target] = low[target] = len(index)
                stack.append(target)
                on_stack.add(target)
                visits.append((target, iter(dfa.moves[target])))
                break
            if target in on_stack:
                low[state] = min(low[state], index[target])
        else:
            visits.pop()
            if visits:
                low[visits[-1][0]] = min(low[visits[-1][0]], low[state])
            if low[state] == index[state]:
                loop = []
                while True:
                    top = stack.pop()
                    on_stack.discard(top)
                    loop.append(top)
                    if top == state:
                        break
                found.append(loop)
    return found


def _minimized(dfa: Dfa, effort: Effort) -> Dfa:
    """The same with equal states as one (Moore's algorithm)."""
    classes = [0] * len(dfa.moves)
    count = 1
    while True:
        seen: dict[frozenset[tuple[int, int]], int] = {}
        refined = []
        for moves in dfa.moves:
            effort.spend(1 + len(moves))
            row: Row = {}
            for mask, target in moves:
                to = ACCEPT if target == ACCEPT else classes[target]
                row[to] = row.get(to, 0) | mask
            refined.append(seen.setdefault(frozenset(row.items()), len(seen)))
        classes = refined
        if len(seen) == count:
            break
        count = len(seen)
    chosen: list[Moves] = [[] for _ in range(count)]
    for state, moves in enumerate(dfa.moves):
        merged: Row = {}
        for mask, target in moves:
            to = ACCEPT if target == ACCEPT else classes[target]
            merged[to] = merged.get(to, 0) | mask
        chosen[classes[state]] = [(mask, to) for to, mask in merged.items()]
    return Dfa(chosen)
