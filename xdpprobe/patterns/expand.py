# SPDX-License-Identifier: Apache-2.0
"""Regexes as a few sequences of byte sets, where that says exactly the same.

Such sequences need no automaton: the data plane looks at all of them at once, byte by byte. A match
is there as soon as its end is reached, so a regex may be cut behind what is sure to be enough.
"""

from xdpprobe.patterns.effort import Effort
from xdpprobe.patterns.regex import ANY, NOTHING, Choice, Node, Regex, Repeat, Sequence
from xdpprobe.patterns.regex import Byte as ByteNode

Masks = tuple[int, ...]

SEQUENCES = 16  # of one signature, a row each
_ON_THE_WAY = 64  # of which some fall together later
_LENGTH = 256


class _TooMany(Exception):
    """More sequences than there may be, or longer ones."""


def sequences(regex: Regex, width: int, effort: Effort) -> list[Masks] | None:
    """Sequences that match what the regex matches, or None where that takes too many.

    Only their first `width` bytes may be anything but ANY. A sequence is as long as its match.
    """
    node = regex.node if regex.end else trimmed(regex.node)
    try:
        found = _pruned(_expand(node, effort), regex.end, effort)
    except _TooMany:
        return None
    if len(found) > SEQUENCES or any(mask != ANY for masks in found for mask in masks[width:]):
        return None
    return found


def trimmed(node: Node) -> Node:
    """The shorter regex whose matches are reached first: without optional ends."""
    if isinstance(node, Repeat):
        if node.low == 0:
            return NOTHING
        rest = Repeat(node.node, node.low - 1, node.low - 1)
        return Sequence((rest, trimmed(node.node))) if node.low > 1 else trimmed(node.node)
    if isinstance(node, Choice):
        return Choice(tuple(trimmed(branch) for branch in node.branches))
    if isinstance(node, Sequence):
        parts = list(node.parts)
        while parts:
            last = trimmed(parts.pop())
            if last != NOTHING:
                return Sequence((*parts, last))
        return NOTHING
    return node


def _expand(node: Node, effort: Effort) -> list[Masks]:
    if isinstance(node, ByteNode):
        return [(node.mask,)]
    if isinstance(node, Choice):
        found: list[Masks] = []
        for branch in node.branches:
            found = _merged(found + _expand(branch, effort), effort)
        return found
    if isinstance(node, Sequence):
        found = [()]
        for part in node.parts:
            found = _joined(found, _expand(part, effort), effort)
        return found
    return _repeated(node, effort)


def _repeated(node: Repeat, effort: Effort) -> list[Masks]:
    if node.high is None:
        raise _TooMany
    once = _expand(node.node, effort)
    if once == [()]:
        return once
    times: list[Masks] = [()]
    found: list[Masks] = []
    for count in range(node.high + 1):
        if count:
            times = _joined(times, once, effort)
        if count >= node.low:
            found = _merged(found + times, effort)
    return found


def _joined(first: list[Masks], second: list[Masks], effort: Effort) -> list[Masks]:
    if len(first) * len(second) > _ON_THE_WAY * 4:
        raise _TooMany
    if len(first) == len(second) == 1:
        effort.spend(len(first[0]) // 16 + 1)
        if len(first[0]) + len(second[0]) > _LENGTH:
            raise _TooMany
        return [first[0] + second[0]]
    return _merged([a + b for a in first for b in second], effort)


def _merged(found: list[Masks], effort: Effort) -> list[Masks]:
    """Fewer sequences: those that differ in one byte are one, with both bytes in the set."""
    found = list(dict.fromkeys(found))
    if len(found) > 1:
        longest = max(map(len, found))
        for at in range(longest):
            effort.spend(len(found) * (longest // 16 + 1))
            groups: dict[tuple[Masks, Masks], int] = {}
            rest: list[Masks] = []
            for masks in found:
                if at < len(masks):
                    key = masks[:at], masks[at + 1 :]
                    groups[key] = groups.get(key, 0) | masks[at]
                else:
                    rest.append(masks)
            if len(groups) + len(rest) < len(found):
                found = rest + [(*head, mask, *tail) for (head, tail), mask in groups.items()]
    if len(found) > _ON_THE_WAY or max(map(len, found), default=0) > _LENGTH:
        raise _TooMany
    return found


def _pruned(found: list[Masks], end: bool, effort: Effort) -> list[Masks]:
    """Without those that match only where another one does."""
    effort.spend(len(found) ** 2)
    kept: list[Masks] = []
    for masks in sorted(found, key=len):
        if not any(_covers(other, masks, end) for other in kept):
            kept.append(masks)
    return kept


def _covers(wide: Masks, narrow: Masks, end: bool) -> bool:
    if len(wide) > len(narrow) or (end and len(wide) < len(narrow)):
        return False
    return all(b & ~a == 0 for a, b in zip(wide, narrow, strict=False))
