# SPDX-License-Identifier: Apache-2.0
"""Hellos in CRYPTO frames: split at any place, in any order, duplicated, overlapping, over one to
three datagrams, lost and sent again. Wherever all bytes arrived the name must be there, and never
another one."""

import random
from collections import Counter
from dataclasses import dataclass, field

from tests import hellos, quic
from tests.bpf.plane import Plane
from tests.effort import examples
from tests.packets import Conversation
from tests.quic import Piece

ROUNDS = 3000
ROOM = 1200  # bytes of CRYPTO frames that a packet of this test takes
DATAGRAMS = 6  # of one hello: fewer than those that bring nothing and are still opened


@dataclass
class Delivery:
    """A hello's name, and the datagrams that bring it or some of it."""

    name: str
    complete: bool
    datagrams: list[bytes] = field(default_factory=list)
    retry: int | None = None  # the server asks for another beginning after so many

    def frames(self, talk: Conversation) -> list[bytes]:
        frames = [talk.udp(datagram) for datagram in self.datagrams]
        if self.retry is not None:
            answer = quic.retry(b"", b"chosen by the server", b"token")
            frames.insert(self.retry, talk.udp(answer, from_client=False))
        return frames


def split(hello: bytes, source: random.Random) -> list[Piece]:
    """The hello's pieces in order, some of them twice or longer than needed."""
    cuts = sorted(source.sample(range(1, len(hello)), source.randint(0, 12)))
    pieces = []
    for low, high in zip([0, *cuts], [*cuts, len(hello)], strict=True):
        if source.random() < 0.15:
            low = max(0, low - source.randint(0, 100))
            high = min(len(hello), high + source.randint(0, 100))
        pieces += [Piece(low, hello[low:high])] * source.choice((1, 1, 1, 1, 2))
    return pieces


def packed(pieces: list[Piece], source: random.Random) -> list[list[Piece]]:
    """The pieces, cut where need be, in the packets that take them."""
    packets: list[list[Piece]] = [[]]
    room = most = source.randint(ROOM // 2, ROOM)
    for offset, data in pieces:
        while data:
            part = data[: max(room - 10, 0)]
            if part:
                packets[-1].append(Piece(offset, part))
            offset, data, room = offset + len(part), data[len(part) :], room - len(part) - 10
            if data:
                packets.append([])
                room = most
    return packets


def payload(pieces: list[Piece], source: random.Random) -> bytes:
    """Frames of these pieces, with what else a client puts between them."""
    frames = [quic.crypto(piece, source.choice((0, 0, 2, 4, 8))) for piece in pieces]
    frames += [b"\1" for _ in range(source.choice((0, 0, 3)))]
    frames += [bytes(source.randint(1, 30)) for _ in range(source.choice((0, 0, 3)))]
    frames += [quic.ack(source.randrange(100))] * source.choice((0, 0, 0, 1))
    if source.random() < 0.5:
        source.shuffle(frames)
    return b"".join(frames)


def delivery(source: random.Random) -> Delivery:
    name = f"host{source.randrange(10**6)}.example{source.randrange(100)}.com"
    if source.random() < 0.6:
        hello = hellos.browser_hello(name.encode(), seed=source.randrange(1 << 30))
    else:
        size = source.randint(200, 3000)
        hello = hellos.sized_hello(name.encode(), size, seed=source.randrange(1 << 30))
    pieces = split(hello, source)
    if source.random() < 0.5:
        source.shuffle(pieces)
    packets = packed(pieces, source)
    if source.random() < 0.3:
        source.shuffle(packets)
    case = Delivery(name, complete=True)
    if source.random() < 0.1:  # nothing from a random byte on
        stop = source.randrange(1, hello.index(name.encode()) + len(name))
        packets = [[Piece(p.offset, p.data[: max(0, stop - p.offset)]) for p in pieces]]
        packets = packed(packets[0], source)
        case.complete = False
    lost = source.random() < 0.2 and len(packets) > 1
    order = list(packets)
    if lost:  # and sent again at the end
        order.append(order.pop(source.randrange(len(order))))
    version = source.choice((quic.V1, quic.V1, quic.V2, 0xFF00001D))
    first_id, chosen = source.randbytes(source.randint(0, 20)), source.randbytes(8)
    at = 0
    if source.random() < 0.1 and version == quic.V1:
        case.retry = source.randint(1, len(order))
        order = order[: case.retry] + packets
    for number, packet in enumerate(order):
        by, to = first_id, first_id
        if case.retry is not None and number >= case.retry:
            by = to = b"chosen by the server"
        elif number and case.retry is None and source.random() < 0.2:
            to = chosen  # the server has answered
        frames = payload(packet, source)
        opened = quic.initial(frames, by, version=version, to=to, packet=at)
        at += 1
        if source.random() < 0.1:
            opened = quic.long_packet(quic.ZERO_RTT, to, source.randbytes(50), version=version) + opened
        if source.random() < 0.5:
            opened = opened.ljust(quic.LEAST_DATAGRAM, b"\0")
        case.datagrams.append(opened)
    return case


def test_hellos_in_crypto_frames(plane: Plane) -> None:
    source = random.Random(20)
    cases = []
    before = plane.counters()
    for number in examples(ROUNDS // 2):  # half on each hook
        if number % 50 == 0:
            plane.forget_hellos()
        case, talk = delivery(source), plane.new_talk()
        plane.send(*case.frames(talk))
        cases.append((case, talk))
    names = {flow.ends: flow.name for flow in plane.flows()}
    wrong = Counter[str]()
    smallest: Delivery | None = None
    for case, talk in cases:
        low, high = sorted((end.mapped, end.port) for end in (talk.client, talk.server))
        name = names[low, high]
        if name != (case.name if case.complete else None):
            wrong["no name" if name is None else "another name"] += 1
            if smallest is None or len(case.datagrams) < len(smallest.datagrams):
                smallest = case
    counted = plane.counted(before)
    crowded = counted.get("LOSS_HELLO_FULL", (0, 0))[0]
    assert crowded <= max(2, len(cases) / 100)
    assert wrong.total() == wrong["no name"] <= crowded, f"{dict(wrong)} of {len(cases)}: {smallest}"
    assert counted["INFO_HELLO_JOINED"][0] > len(cases) / 4
