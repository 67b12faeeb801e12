# SPDX-License-Identifier: Apache-2.0
"""The shipped signatures in the kernel: the same answer as the tables read in Python."""

import random
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests import effort
from tests.bpf.plane import Plane
from tests.effort import examples
from tests.match_tables import Packet, answer
from tests.packets import UDP, Conversation, Endpoint
from xdpprobe import catalogue as catalogues
from xdpprobe.catalogue import Catalogue
from xdpprobe.loader import Loaded
from xdpprobe.patterns import cache
from xdpprobe.patterns.compiler import compile_signatures


class Tables(NamedTuple):
    """What the kernel is given."""

    classes: Any
    automaton: Any


@pytest.fixture(scope="module")
def knowledge() -> Catalogue:
    return catalogues.load()


@pytest.fixture(scope="module")
def tables(loaded: Loaded, knowledge: Catalogue) -> Tables:
    """Compiled anew, where that does not take long: the kernel is given what a cache may hold."""
    if effort.SHARE == 1:
        compiled = compile_signatures(knowledge.signatures, loaded.abi)
        return Tables(compiled.classes, compiled.automaton)
    classes, automaton = cache.tables_of(knowledge.signatures, knowledge.digest, loaded.abi)
    return Tables(classes, automaton[0])


def fitting(table: Any, row: int, dice: random.Random) -> tuple[bytes, tuple[int, int]]:
    """A payload that the columns let a row have, and ports; the row's automaton may object."""
    word, bit = row // 64, np.uint64(1 << row % 64)
    lengths = np.flatnonzero(table["length"][table["length_class"]][:, word] & bit)[:1400]
    length = int(dice.choice(lengths[lengths > 0].tolist() or [1]))
    payload = bytearray(dice.randbytes(length))
    for at in range(min(length, int(table["width"]))):
        allowed = np.flatnonzero(table["byte"][at][:, word] & bit)
        if len(allowed) < 256:
            payload[at] = int(dice.choice(allowed.tolist() or [0]))
    ports = np.flatnonzero(table["port"][table["port_class"]][:, word] & bit)
    port = int(dice.choice(ports.tolist())) or 1
    return bytes(payload), (40000, port)


PARSED = {53, 5353, 5355}  # ports whose datagrams are read as DNS first


@pytest.mark.parametrize("part", range(4))
def test_the_kernel_says_what_the_tables_say(plane: Plane, tables: Tables, part: int) -> None:
    """Payloads that fit a row, fit it nearly, are cut short, or are any."""
    dice = random.Random(part)
    table = tables.classes[2]
    rows = np.count_nonzero(table["row"]["method"])
    named = 0
    for _ in examples(250):
        payload, ports = fitting(table, dice.randrange(rows), dice)
        shape = dice.randrange(4)
        if shape == 1:
            payload = payload[: dice.randint(1, len(payload))]
        elif shape == 2:
            at = dice.randrange(len(payload))
            payload = payload[:at] + dice.randbytes(1) + payload[at + 1 :]
        if PARSED & set(ports):
            continue
        number = plane.new_talk().client.address
        talk = Conversation(Endpoint(number, ports[0]), Endpoint("198.51.100.9", ports[1]))
        plane.send(talk.udp(payload))
        flow, row = plane.flow(talk, UDP), answer(tables, Packet(payload, "udp", False, ports))
        expected = (0, 0) if row is None else (int(row["protocol"]), int(row["app"]))
        assert flow is not None
        assert (flow.protocol, flow.app) == expected, (payload, ports)
        named += row is not None
    assert named
