# SPDX-License-Identifier: Apache-2.0
"""Does random data match the shipped signatures as rarely as they say themselves?"""

import math

import numpy as np

from tests.effort import examples
from tests.match_tables import Layouts
from tests.random_payloads import CLASSES, matched
from tests.unit.test_patterns import made
from xdpprobe import catalogue
from xdpprobe.patterns import odds
from xdpprobe.patterns.compiler import Compiled, compile_signatures

COMPILED = compile_signatures(catalogue.load().signatures, Layouts())


def expected(compiled: Compiled, kind: int) -> float:
    """At most this part of random packets fits a row of a class, by the rows' own odds."""
    return sum(
        row.odds * odds.port_odds(row.signature.port)
        for row in compiled.rows[kind]
        if not row.signature.by_port and not row.signature.after
        if row.signature.packet.low == 1
    )


def test_random_packets_decide_no_flow() -> None:
    """XDPPROBE_EFFORT=100 makes it ten million."""
    dice = np.random.default_rng(1)
    count = len(examples(100_000)) // CLASSES
    found = [
        (COMPILED.rows[kind][row].signature.where(), payload)
        for kind in range(CLASSES)
        for payload, row in matched(COMPILED, kind, count, True, dice)
    ]
    assert not found


def test_weak_signs_are_as_frequent_as_computed() -> None:
    """That none decides would also be so if none were looked at."""
    dice = np.random.default_rng(2)
    count = len(examples(16_000)) // CLASSES
    for kind in range(CLASSES):
        fits = sum(1 for _ in matched(COMPILED, kind, count, False, dice))
        most = expected(COMPILED, kind) * count
        assert fits <= most + 5 * math.sqrt(most) + 1
        assert count < 4000 or fits > 0 or most < 10


def test_a_row_that_random_packets_fit_is_found() -> None:
    tables = made({"match": r"\m{e0:20}", "protocol": "p", "l4": "udp"})
    fits = list(matched(tables, 2, 8000, True, np.random.default_rng(3)))
    assert abs(len(fits) - 1000) < 5 * math.sqrt(1000)
    assert all(payload.head[0] & 0xE0 == 0x20 for payload, _ in fits)
