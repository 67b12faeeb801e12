# SPDX-License-Identifier: Apache-2.0
"""Streams whose beginning comes late, in crumbs, or at a price: what else than hellos TCP may
split, streams whose SYN was not seen, and senders who want to be dear."""

import itertools

import pytest

from tests import hellos, messages
from tests.bpf.plane import Plane
from tests.packets import ACK, PSH, Conversation

NAME = b"www.example.com"
FOUND = NAME.decode()


def hello(seed: int = 8) -> bytes:
    return hellos.records(hellos.browser_hello(NAME, seed=seed))


def name(plane: Plane, talk: Conversation) -> str | None:
    flow = plane.flow(talk)
    assert flow is not None
    return flow.name


def protocol(plane: Plane, talk: Conversation) -> str:
    words = {number: word for word, number in plane.loaded.abi.enums["protocol"].items()}
    flow = plane.flow(talk)
    assert flow is not None
    return words[flow.protocol].removeprefix("PROTOCOL_")


def pieces(talk: Conversation, stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *cuts, len(stream)]
    return [
        talk.tcp(stream[start:end], seq=1 + start, flags=PSH | ACK)
        for start, end in itertools.pairwise(edges)
    ]


def test_the_first_piece_comes_last_and_no_syn_was_seen(plane: Plane) -> None:
    stream = hello()
    at = stream.index(NAME)
    for cut in range(max(1, at - 40), at + 30):
        talk = plane.new_talk()
        plane.send(*reversed(pieces(talk, stream, [cut])))
        assert name(plane, talk) == FOUND, cut


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_three_pieces_in_any_order_and_no_syn_was_seen(
    plane: Plane, order: tuple[int, ...]
) -> None:
    stream = hello()
    at = stream.index(NAME)
    for cut in range(max(2, at - 9), at + 9):
        talk = plane.new_talk()
        three = pieces(talk, stream, [cut // 2, cut])
        plane.send(*(three[i] for i in order))
        assert name(plane, talk) == FOUND, cut


@pytest.mark.parametrize("first", [1, 3, 4, 5, 7, 8, 12])
def test_a_request_that_begins_with_a_crumb(plane: Plane, first: int) -> None:
    talk = plane.new_talk(80)
    plane.send(*talk.handshake(), *pieces(talk, messages.http_request(NAME), [first]))
    assert (name(plane, talk), protocol(plane, talk)) == (FOUND, "HTTP")


@pytest.mark.parametrize("size", [1, 3, 50])
def test_a_request_in_crumbs(plane: Plane, size: int) -> None:
    talk = plane.new_talk(80)
    plane.send(*talk.handshake(), *talk.segments(messages.http_request(NAME), size))
    assert name(plane, talk) == FOUND


@pytest.mark.parametrize("first", [1, 2, 10, 14, 20])
def test_a_question_over_tcp_in_two_pieces(plane: Plane, first: int) -> None:
    query = messages.dns_query(NAME)
    stream = len(query).to_bytes(2, "big") + query
    talk = plane.new_talk(53)
    plane.send(*talk.handshake(), *pieces(talk, stream, [first]))
    assert (name(plane, talk), protocol(plane, talk)) == (FOUND, "DNS")


@pytest.mark.parametrize("from_client", [True, False])
@pytest.mark.parametrize(
    ("stream", "word"), [(messages.SSH_CLIENT, "SSH"), (messages.HTTP_ANSWER, "HTTP")]
)
def test_what_needs_no_name_comes_second(
    plane: Plane, stream: bytes, word: str, from_client: bool
) -> None:
    talk = plane.new_talk(9999)
    late = talk.tcp(bytes(300), seq=1 + len(stream), from_client=from_client)
    plane.send(*talk.handshake(), late, talk.tcp(stream, seq=1, from_client=from_client))
    assert protocol(plane, talk) == word


def test_a_hello_in_bytes(plane: Plane) -> None:
    talk = plane.new_talk()
    plane.send(*talk.handshake(), *talk.segments(hello(), 1))
    assert name(plane, talk) == FOUND


def test_a_request_with_many_fields(plane: Plane) -> None:
    before = [b"X: %d" % i for i in range(180)]
    talk = plane.new_talk(80)
    plane.send(*talk.handshake(), *talk.segments(messages.http_request(NAME, before=before)))
    assert name(plane, talk) == FOUND


def test_a_request_with_more_fields_than_are_read(plane: Plane) -> None:
    lost = plane.counters("LOSS_HELLO_LONG")
    before = [b"X: %d" % i for i in range(400)]
    talk = plane.new_talk(80)
    plane.send(*talk.handshake(), *talk.segments(messages.http_request(NAME, before=before)))
    assert (name(plane, talk), protocol(plane, talk)) == (None, "HTTP")
    assert plane.counted(lost)["LOSS_HELLO_LONG"][0] == 1


def test_a_hello_in_more_records_than_are_joined(plane: Plane) -> None:
    """In segments of one byte, each of which would be worth another look."""
    messages_ = (hellos.sized_hello(NAME, 1500, seed=seed) for seed in range(100))
    message = next(hello for hello in messages_ if hello.index(NAME) > 520)
    stream = hellos.records(message, [1] * len(message))
    lost = plane.counters("LOSS_HELLO_LONG")
    talk = plane.new_talk()
    plane.send(*talk.handshake(), *talk.segments(stream[:3000], 1400))
    plane.send(*[talk.tcp(stream[i : i + 1], seq=1 + i) for i in range(3000, 5000)])
    assert (name(plane, talk), protocol(plane, talk)) == (None, "TLS")
    assert plane.counted(lost)["LOSS_HELLO_LONG"][0] == 1


def test_a_stream_that_keeps_beginning_earlier_is_given_up(plane: Plane) -> None:
    lost = plane.counters("LOSS_BUDGET")
    talk = plane.new_talk()
    plane.send(*[talk.tcp(b"\x16", seq=8000 - 2 * i) for i in range(200)])
    assert plane.counted(lost)["LOSS_BUDGET"][0] >= 1
