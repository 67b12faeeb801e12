# SPDX-License-Identifier: Apache-2.0
"""How likely a packet that means nothing matches: how much a row says, and whether that is enough.

Such a packet has random bytes, a random length from 1 to 1400, and random ports at both ends.
"""

import math

import numpy as np
import numpy.typing as npt

from xdpprobe.patterns.automaton import ACCEPT, Dfa
from xdpprobe.patterns.effort import Effort
from xdpprobe.patterns.regex import ANY
from xdpprobe.signature_table import DEPTH, LengthField, Signature, Span

LONGEST = 1400
_PORTS = 65536
_NOTHING = 1e-40  # of all that may come, not worth following
_AFTER_BITS = 6  # what a condition on the flow's past counts for; it cannot be computed

Floats = npt.NDArray[np.float64]


def payload_odds(
    masks: tuple[int, ...],
    dfa: Dfa | None,
    length: Span,
    field: LengthField | None,
    effort: Effort,
) -> float:
    """The part of random payloads that match."""
    lengths = np.arange(length.low, min(length.high, LONGEST) + 1)
    if not len(lengths):
        return 0.0
    odds = np.ones(len(lengths))
    if dfa is not None:
        accepted = np.array(acceptance(dfa, effort))
        odds = accepted[np.minimum(lengths, DEPTH)]
    else:
        odds *= _bytes_odds(masks)
    if field is not None:
        odds = odds * _field_odds(field, masks, lengths)
    return float(odds.sum()) / LONGEST


def column_odds(masks: tuple[int, ...], signature: Signature, length: Span) -> float:
    """The part of random packets that a row's columns fit, so that the rest is looked at."""
    lengths = max(0, min(length.high, LONGEST) - length.low + 1) / LONGEST
    return lengths * _bytes_odds(masks) * port_odds(signature.port)


def _bytes_odds(masks: tuple[int, ...]) -> float:
    return math.prod(mask.bit_count() / 256 for mask in masks)


def port_odds(ports: tuple[Span, ...]) -> float:
    """The part of random pairs of ports that match."""
    if not ports:
        return 1.0
    covered = np.zeros(_PORTS, bool)
    for span in ports:
        covered[span.low : span.high + 1] = True
    return float(1 - (1 - covered.mean()) ** 2)


def bits(odds: float, signature: Signature) -> float:
    """How much a row says, in bits."""
    odds *= port_odds(signature.port)
    # Of rows that say the same, the order of the files decides, not the last digit.
    found = round(-math.log2(max(odds, _NOTHING)), 3)
    return found + _AFTER_BITS if signature.after else found


def acceptance(dfa: Dfa, effort: Effort) -> list[float]:
    """Of random bytes: the part that is accepted within the first 0, 1, ... DEPTH of them."""
    steps = [[(target, mask.bit_count() / 256) for mask, target in moves] for moves in dfa.moves]
    at = {0: 1.0}
    accepted = [0.0]
    for _ in range(DEPTH):
        total = accepted[-1]
        reached: dict[int, float] = {}
        effort.spend(len(at))
        for state, share in at.items():
            for target, part in steps[state]:
                if target == ACCEPT:
                    total += share * part
                else:
                    reached[target] = reached.get(target, 0.0) + share * part
        at = {state: share for state, share in reached.items() if share > _NOTHING}
        accepted.append(total)
        if not at:
            break
    return accepted + [accepted[-1]] * (DEPTH + 1 - len(accepted))


def field_masks(field: LengthField, masks: tuple[int, ...]) -> list[int]:
    """What the bytes of a length field may be, the lowest byte first."""
    found = [masks[at] if at < len(masks) else ANY for at in range(field.at, field.at + field.size)]
    return found if field.little else found[::-1]


def _field_odds(
    field: LengthField, masks: tuple[int, ...], lengths: npt.NDArray[np.int64]
) -> Floats:
    """For each length, the part of the field's possible values that agree with it."""
    allowed = field_masks(field, masks)
    top = (int(lengths[-1]) - field.plus) // field.multiplier
    possible = math.prod(mask.bit_count() for mask in allowed)
    if top < 0:
        return np.zeros(len(lengths))
    values = np.arange(min(top + 1, 1 << (8 * field.size)))
    good = np.ones(len(values), bool)
    for place, mask in enumerate(allowed):
        if mask != ANY:
            table = np.unpackbits(
                np.frombuffer(mask.to_bytes(32, "little"), np.uint8), bitorder="little"
            )
            good &= table[values >> (8 * place) & 0xFF].astype(bool)
    product = lengths - field.plus
    wanted, rest = product // field.multiplier, product % field.multiplier
    if field.within:
        counts = np.concatenate(([0], np.cumsum(good)))
        return counts[np.clip(wanted + 1, 0, len(values))] / possible
    inside = (wanted >= 0) & (wanted < len(values)) & (rest == 0)
    return np.where(inside, good[np.clip(wanted, 0, len(values) - 1)], False) / possible
