# SPDX-License-Identifier: Apache-2.0
"""Patterns in the kernel: the same answer as the compiled tables read in Python, and nothing past
a payload's end."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.bpf.instances import ordinary
from tests.bpf.plane import HOOKS, Flow, Plane
from tests.effort import examples
from tests.match_tables import Packet, answer
from tests.packets import Conversation, Endpoint
from xdpprobe import catalogue as catalogues
from xdpprobe.catalogue import Catalogue
from xdpprobe.loader import Loaded
from xdpprobe.patterns.compiler import Compiled, compile_signatures

SIGNATURES = """
[[protocol]]
id = 500
name = "made-first"
title = "Made"
category = "network"

[[protocol]]
id = 501
name = "made-second"
title = "Made"
category = "network"

[[signature]]
l4 = "udp"
match = 'MADE.\\x01'
from = "initiator"
name = "made-request"

[[signature]]
protocol = "made-first"
l4 = "udp"
match = 'made'
after = "made-request"
confidence = 95

[[signature]]
protocol = "made-second"
l4 = "udp"
match = 'm[0-9]{40}z'
confidence = 60

[[signature]]
protocol = "made-second"
l4 = "tcp"
match = '\\x7fM'
field = { at = 2, size = 2, plus = 4 }

[[signature]]
protocol = "made-second"
l4 = "tcp"
match = '\\x7fW'
field = { at = 2, size = 1, multiplier = 4, plus = 8 }

[[signature]]
protocol = "made-first"
l4 = "udp"
port = 40999
"""


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    file = tmp_path_factory.mktemp("signatures") / "made.toml"
    file.write_text(SIGNATURES)
    return catalogues.load([file])


@pytest.fixture(scope="module")
def matching(known: Catalogue) -> Iterator[Loaded]:
    with ordinary() as loaded:
        loaded.tables().load(known)
        yield loaded


@pytest.fixture(scope="module")
def compiled(matching: Loaded, known: Catalogue) -> Compiled:
    return compile_signatures(known.signatures, matching.abi)


@pytest.fixture(params=list(HOOKS))
def plane(request: pytest.FixtureRequest, matching: Loaded) -> Plane:
    plane = Plane(matching, request.param)
    plane.clear()
    return plane


def only(plane: Plane, talk: Conversation, l4: int = 17) -> Flow:
    flow = plane.flow(talk, l4)
    assert flow is not None
    return flow


def numbers(known: Catalogue) -> dict[str, int]:
    return {entry.name: entry.id for entry in known.entries.values() if entry.kind == "protocol"}


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
def test_the_kernel_says_what_the_tables_say(plane: Plane, compiled: Compiled, part: int) -> None:
    """Payloads that fit a row, fit it nearly, are cut short, or are any."""
    dice = random.Random(part)
    table = compiled.classes[2]
    rows = len(compiled.rows[2])
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
        flow, row = only(plane, talk), answer(compiled, Packet(payload, "udp", False, ports))
        expected = (0, 0) if row is None else (int(row["protocol"]), int(row["app"]))
        assert (flow.protocol, flow.app) == expected, (payload, ports)
        named += row is not None
    assert named


def test_what_stands_behind_a_payload_is_not_read(plane: Plane, known: Catalogue) -> None:
    """The scratch buffer still holds a longer payload of before."""
    whole = b"m" + b"7" * 40 + b"z"
    first, second = plane.new_talk(), plane.new_talk()
    plane.send(first.udp(whole), second.udp(whole[:-1]))
    assert only(plane, first).protocol == numbers(known)["made-second"]
    assert only(plane, second).protocol == 0


def test_an_answer_counts_after_its_request(plane: Plane, known: Catalogue) -> None:
    talk, other = plane.new_talk(), plane.new_talk()
    plane.send(other.udp(b"hello"), other.udp(b"made", from_client=False))
    assert only(plane, other).protocol == 0
    plane.send(talk.udp(b"MADE!\x01"))
    assert only(plane, talk).protocol == 0
    plane.send(talk.udp(b"made", from_client=False))
    assert only(plane, talk).protocol == numbers(known)["made-first"]


def test_a_better_sign_replaces_a_weaker_one(plane: Plane, known: Catalogue) -> None:
    talk = plane.new_talk(port=40999)
    plane.send(talk.udp(b"anything"))
    hint = only(plane, talk)
    assert (hint.protocol, hint.app_method) == (numbers(known)["made-first"], 0)
    plane.send(talk.udp(b"m" + b"0" * 40 + b"z"))
    assert only(plane, talk).protocol == numbers(known)["made-second"]
    plane.send(talk.udp(b"MADE!\x01"), talk.udp(b"made", from_client=False))
    assert only(plane, talk).protocol == numbers(known)["made-first"]


@pytest.mark.parametrize("length", [8, 9])
def test_the_first_segment_of_a_stream(plane: Plane, known: Catalogue, length: int) -> None:
    talk = plane.new_talk(port=7000)
    payload = b"\x7fM" + (length - 4).to_bytes(2, "big") + bytes(length - 4)
    plane.send(*talk.handshake(), *talk.segments(payload))
    assert only(plane, talk, 6).protocol == numbers(known)["made-second"]
    other = plane.new_talk(port=7000)
    plane.send(*other.handshake(), *other.segments(payload + b"x"))
    assert only(plane, other, 6).protocol == 0


@pytest.mark.parametrize(("words", "length"), [(0, 8), (3, 20), (255, 1028)])
def test_a_length_in_words(plane: Plane, known: Catalogue, words: int, length: int) -> None:
    payload = (b"\x7fW" + bytes([words])).ljust(length, b"\0")
    fits, longer = plane.new_talk(port=7000), plane.new_talk(port=7000)
    plane.send(*fits.handshake(), *fits.segments(payload))
    assert only(plane, fits, 6).protocol == numbers(known)["made-second"]
    plane.send(*longer.handshake(), *longer.segments(payload + b"\0"))
    assert only(plane, longer, 6).protocol == 0
