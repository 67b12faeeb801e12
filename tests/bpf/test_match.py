# SPDX-License-Identifier: Apache-2.0
"""Patterns in the kernel: conditions, order, and nothing past a payload's end."""

import pytest

from tests.bpf.made import made_up
from tests.bpf.plane import Flow, Plane
from tests.packets import Conversation
from xdpprobe.catalogue import Catalogue

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
def knowledge() -> Catalogue:
    return made_up(SIGNATURES)


def only(plane: Plane, talk: Conversation, l4: int = 17) -> Flow:
    flow = plane.flow(talk, l4)
    assert flow is not None
    return flow


def numbers(knowledge: Catalogue) -> dict[str, int]:
    entries = knowledge.entries.values()
    return {entry.name: entry.id for entry in entries if entry.kind == "protocol"}


def test_what_stands_behind_a_payload_is_not_read(plane: Plane, knowledge: Catalogue) -> None:
    """The scratch buffer still holds a longer payload of before."""
    whole = b"m" + b"7" * 40 + b"z"
    first, second = plane.new_talk(), plane.new_talk()
    plane.send(first.udp(whole), second.udp(whole[:-1]))
    assert only(plane, first).protocol == numbers(knowledge)["made-second"]
    assert only(plane, second).protocol == 0


def test_an_answer_counts_after_its_request(plane: Plane, knowledge: Catalogue) -> None:
    talk, other = plane.new_talk(), plane.new_talk()
    plane.send(other.udp(b"hello"), other.udp(b"made", from_client=False))
    assert only(plane, other).protocol == 0
    plane.send(talk.udp(b"MADE!\x01"))
    assert only(plane, talk).protocol == 0
    plane.send(talk.udp(b"made", from_client=False))
    assert only(plane, talk).protocol == numbers(knowledge)["made-first"]


def test_a_better_sign_replaces_a_weaker_one(plane: Plane, knowledge: Catalogue) -> None:
    talk = plane.new_talk(port=40999)
    plane.send(talk.udp(b"anything"))
    hint = only(plane, talk)
    assert (hint.protocol, hint.app_method) == (numbers(knowledge)["made-first"], 0)
    plane.send(talk.udp(b"m" + b"0" * 40 + b"z"))
    assert only(plane, talk).protocol == numbers(knowledge)["made-second"]
    plane.send(talk.udp(b"MADE!\x01"), talk.udp(b"made", from_client=False))
    assert only(plane, talk).protocol == numbers(knowledge)["made-first"]


@pytest.mark.parametrize("length", [8, 9])
def test_the_first_segment_of_a_stream(plane: Plane, knowledge: Catalogue, length: int) -> None:
    talk = plane.new_talk(port=7000)
    payload = b"\x7fM" + (length - 4).to_bytes(2, "big") + bytes(length - 4)
    plane.send(*talk.handshake(), *talk.segments(payload))
    assert only(plane, talk, 6).protocol == numbers(knowledge)["made-second"]
    other = plane.new_talk(port=7000)
    plane.send(*other.handshake(), *other.segments(payload + b"x"))
    assert only(plane, other, 6).protocol == 0


@pytest.mark.parametrize(("words", "length"), [(0, 8), (3, 20), (255, 1028)])
def test_a_length_in_words(plane: Plane, knowledge: Catalogue, words: int, length: int) -> None:
    payload = (b"\x7fW" + bytes([words])).ljust(length, b"\0")
    fits, longer = plane.new_talk(port=7000), plane.new_talk(port=7000)
    plane.send(*fits.handshake(), *fits.segments(payload))
    assert only(plane, fits, 6).protocol == numbers(knowledge)["made-second"]
    plane.send(*longer.handshake(), *longer.segments(payload + b"\0"))
    assert only(plane, longer, 6).protocol == 0
