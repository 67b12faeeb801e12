# SPDX-License-Identifier: Apache-2.0
"""Hellos in pieces: 10,000 of 200 bytes to 16 kB, in records and segments of any size, in any
order, with duplicates and overlaps. Wherever all bytes arrived, the name must be the oracle's."""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from tests import hellos
from tests.bpf.plane import Plane
from tests.effort import examples
from tests.packets import PSH, Conversation
from tests.reference.client_hello import parse_client_hello
from tests.reference.stream import Stream

ROUNDS = 10_000
BUDGET = 8  # inspect_budget in bpf/config.h
ISN = 0xFFFFFF00  # sequence numbers wrap within the hello


@dataclass
class Delivery:
    """A hello and the segments (offset, bytes) that bring it, in the order of their arrival."""

    stream: bytes
    with_syn: bool
    segments: list[tuple[int, bytes]] = field(default_factory=list)

    def oracle(self) -> tuple[str | None, int]:
        """The name that the bytes hold, put together by the rules (the first ones win), and how
        many segments before that brought nothing new."""
        stream = Stream()
        if self.with_syn:
            stream.syn(ISN)
        wasted = 0
        for offset, data in self.segments:
            wasted += not stream.add((ISN + 1 + offset) % (1 << 32), data)
            hello = parse_client_hello(stream.prefix())
            if hello:
                return hello.name, wasted
        return None, wasted

    def frames(self, talk: Conversation) -> list[bytes]:
        opening = talk.handshake() if self.with_syn else []
        return opening + [talk.tcp(data, seq=1 + at, flags=PSH | 16) for at, data in self.segments]


def message(source: random.Random) -> bytes:
    name = f"host{source.randrange(10**6)}.example{source.randrange(100)}.com".encode()
    seed = source.randrange(1 << 30)
    if source.random() < 0.5:
        return hellos.browser_hello(name, seed=seed)
    size = source.choice((source.randint(200, 1000), source.randint(200, 16384)))
    return hellos.sized_hello(name, size, seed=seed)


def delivery(source: random.Random) -> Delivery:
    hello = message(source)
    lengths = [source.randint(1, len(hello)) for _ in range(source.choice((0, 0, 0, 1, 2, 5)))]
    stream = hellos.records(hello, lengths)
    result = Delivery(stream, with_syn=source.random() < 0.8)
    most = 1460 if source.random() < 0.7 else source.randint(16, 1460)
    most = max(most, len(stream) // 100 + 1)
    cuts = [0]
    while len(stream) - cuts[-1] > most:
        cuts.append(cuts[-1] + source.randint(most // 2 + 1, most))
    pieces = list(zip(cuts, [*cuts[1:], len(stream)], strict=True))
    for start, end in list(pieces):
        if source.random() < 0.15:  # sent again, cut another way
            low = max(start - source.randint(0, 300), 0)
            pieces.append((low, min(end + source.randint(0, 300), len(stream), low + 1460)))
    order = source.random()
    if result.with_syn and order < 0.3:
        source.shuffle(pieces)
    elif result.with_syn and order < 0.6:  # a few arrive late
        for _ in range(source.randint(1, 3)):
            pieces.append(pieces.pop(source.randrange(len(pieces))))
    elif result.with_syn and order < 0.7:
        pieces.reverse()
    result.segments = [(start, stream[start:end]) for start, end in pieces]
    return result


def false_repeat(case: Delivery, source: random.Random) -> None:
    """Bytes that were there before come again as others: they must change nothing."""
    at, data = case.segments[source.randrange(len(case.segments))]
    position = source.randint(case.segments.index((at, data)) + 1, len(case.segments))
    case.segments.insert(position, (at, source.randbytes(len(data))))


@pytest.mark.parametrize("part", range(10))
def test_hellos_in_pieces(plane: Plane, part: int) -> None:
    source = random.Random(part)
    cases = []
    before = plane.counters("LOSS_")
    for number in examples(ROUNDS // 10 // 2):  # half on each hook
        if number % 100 == 0:
            plane.forget_hellos()
        case = delivery(source)
        if source.random() < 0.2:
            false_repeat(case, source)
        talk = plane.new_talk(client_isn=ISN)
        plane.send(*case.frames(talk))
        cases.append((case, talk))
    names = {flow.ends: flow.name for flow in plane.flows()}
    wrong = Counter[str]()
    smallest: Delivery | None = None
    excused = 0
    for case, talk in cases:
        expected, wasted = case.oracle()
        assert expected is not None
        if wasted + 1 >= BUDGET:  # a flow that only repeats itself is given up; the first counts
            excused += 1
            continue
        low, high = sorted((end.mapped, end.port) for end in (talk.client, talk.server))
        name = names.get((low, high))
        if name != expected:
            wrong["no name" if name is None else "another name"] += 1
            if smallest is None or len(case.segments) < len(smallest.segments):
                smallest = case
    shape = smallest and (smallest.with_syn, [(at, len(data)) for at, data in smallest.segments])
    assert excused < max(4, len(cases) / 50)
    losses = plane.counted(before)
    # Unfinished hellos of a moment ago may hold all places that one of these can have.
    crowded = losses.get("LOSS_HELLO_FULL", (0, 0))[0]
    assert crowded <= max(2, len(cases) / 100)
    assert wrong.total() == wrong["no name"] <= crowded, (
        f"{dict(wrong)} of {len(cases)}, {losses}; the simplest, SYN and segments: {shape}"
    )
