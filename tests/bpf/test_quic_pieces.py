# SPDX-License-Identifier: Apache-2.0
"""Hellos in CRYPTO frames: split at any place, in any order, duplicated, overlapping, over one to
three datagrams, lost and sent again. Wherever all bytes arrived the name must be there, and never
another one."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests import hellos, quic
from tests.bpf.plane import Plane
from tests.bpf.test_full_hellos import Slots
from tests.bpf.test_two_cpus import on_two_cpus
from tests.effort import examples
from tests.packets import UDP, Conversation
from tests.quic import Piece

ROUNDS = 3000
BATCH = 50
ROOM = 1200  # bytes of CRYPTO frames that a packet of this test takes


@dataclass
class Delivery:
    """A hello's name, and the datagrams that bring it or some of it."""

    name: str
    complete: bool
    version: int
    datagrams: list[bytes] = field(default_factory=list)
    retry: int | None = None  # the server asks for another beginning after so many

    def frames(self, talk: Conversation) -> list[bytes]:
        frames = [talk.udp(datagram) for datagram in self.datagrams]
        if self.retry is not None:
            answer = quic.retry(b"", b"chosen by the server", b"token", version=self.version)
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


def hello_of(name: bytes, source: random.Random) -> bytes:
    seed = source.randrange(1 << 30)
    if source.random() < 0.6:
        return hellos.browser_hello(name, seed=seed)
    return hellos.sized_hello(name, source.randint(200, 3000), seed=seed)


def arrival(case: Delivery, hello: bytes, source: random.Random) -> list[list[Piece]]:
    """What each packet brings, in the order of their arrival."""
    pieces = split(hello, source)
    if source.random() < 0.1:  # nothing from a byte before the name's end on
        stop = source.randrange(1, hello.index(case.name.encode()) + len(case.name))
        pieces = [Piece(p.offset, p.data[: max(0, stop - p.offset)]) for p in pieces]
        case.complete = False
    if source.random() < 0.5:
        source.shuffle(pieces)
    packets = packed(pieces, source)
    if source.random() < 0.3:
        source.shuffle(packets)
    if source.random() < 0.2:  # one is lost, and sent again
        packets.append(packets.pop(source.randrange(len(packets))))
    if source.random() < 0.1:
        case.retry = source.randint(1, len(packets))
        packets = packets[: case.retry] + packets
    return packets


def delivery(source: random.Random) -> Delivery:
    name = f"host{source.randrange(10**6)}.example{source.randrange(100)}.com"
    version = source.choice((quic.V1, quic.V1, quic.V2, 0xFF00001D))
    case = Delivery(name, True, version)
    by, chosen = source.randbytes(source.randint(0, 20)), source.randbytes(8)
    packets = arrival(case, hello_of(name.encode(), source), source)
    for number, packet in enumerate(packets):
        if number == case.retry:
            by = b"chosen by the server"
        # The server may have answered.
        to = chosen if number and case.retry is None and source.random() < 0.2 else by
        frames = payload(packet, source)
        datagram = quic.initial(frames, by, version=version, to=to, packet=number)
        if source.random() < 0.1:
            early = source.randbytes(50)
            datagram = quic.long_packet(quic.ZERO_RTT, to, early, version=version) + datagram
        if source.random() < 0.5:
            datagram = datagram.ljust(quic.LEAST_DATAGRAM, b"\0")
        case.datagrams.append(datagram)
    return case


Case = tuple[Delivery, Conversation]


def sent(plane: Plane, count: int, source: random.Random) -> Iterator[Case]:
    """Deliveries through the plane. Few, since names of datagrams push each other out of a set."""
    plane.clear()
    plane.forget_hellos()
    for _ in range(count):
        case, talk = delivery(source), plane.new_talk()
        plane.send(*case.frames(talk))
        yield case, talk


def test_hellos_in_crypto_frames(plane: Plane) -> None:
    source = random.Random(20)
    before = plane.counters()
    wrong: list[tuple[str | None, Delivery]] = []
    total = 0
    while total < len(examples(ROUNDS // 2)):  # half on each hook
        cases = list(sent(plane, BATCH, source))
        names = {flow.ends: flow.name for flow in plane.flows()}
        for case, talk in cases:
            low, high = sorted((end.mapped, end.port) for end in (talk.client, talk.server))
            if names[low, high] != (case.name if case.complete else None):
                wrong.append((names[low, high], case))
        total += BATCH
    counted = plane.counted(before)
    crowded = counted.get("LOSS_HELLO_FULL", (0, 0))[0]
    assert crowded <= max(2, total / 100)
    simplest = min(wrong, key=lambda pair: len(pair[1].datagrams), default=None)
    assert sum(name is None for name, _ in wrong) == len(wrong) <= crowded, (
        f"{len(wrong)} of {total}: {simplest}"
    )
    assert counted["INFO_HELLO_JOINED"][0] > total / 4


def test_a_hello_s_halves_on_two_cpus(plane: Plane) -> None:
    """Whichever comes first, and whoever has to wait for the other: what was lost by that comes
    again, and then every flow has its name."""
    before = plane.counters()
    halves: list[tuple[bytes, bytes]] = []
    talks = [plane.new_talk() for _ in examples(300)]
    for number, talk in enumerate(talks):
        hello = hellos.browser_hello(f"host{number}.example".encode(), seed=number)
        client, half = quic.Client(talk.client.packed), len(hello) // 2
        first = talk.udp(client.datagram(Piece(0, hello[:half])))
        halves.append((first, talk.udp(client.datagram(Piece(half, hello[half:])))))
    other = Plane(plane.loaded, plane.hook)
    on_two_cpus(
        lambda: plane.send(*(first for first, _ in halves)),
        lambda: other.send(*(second for _, second in halves)),
    )
    nameless = 0
    for number, (talk, frames) in enumerate(zip(talks, halves, strict=True)):
        plane.send(*frames)
        flow = plane.flow(talk, UDP)
        assert flow is not None
        assert flow.name in (f"host{number}.example", None)
        nameless += flow.name is None
    # As many hellos at once may find all places taken that one can have.
    assert nameless <= plane.counted(before).get("LOSS_HELLO_FULL", (0, 0))[0]


def test_a_flow_has_no_more_opened_than_its_share(plane: Plane) -> None:
    """However long it brings what is new, and never a whole hello."""
    client, talk = quic.Client(b"client"), plane.new_talk()
    before = plane.counters("INFO_QUIC_OPENED")
    for number in range(1, 250):
        plane.send(talk.udp(client.datagram(Piece(40 * number, bytes(40)))))
    assert plane.counted(before)["INFO_QUIC_OPENED"][0] <= 64


def test_half_hellos_of_nobody_do_not_hold_the_slots(plane: Plane) -> None:
    """A QUIC client's hello is whole within milliseconds: halves that are older give way."""
    for number in range(2 * plane.room("hello_slots")):
        half = quic.Client(b"%8d" % number).datagram(
            Piece(0, hellos.simple_hello(b"a.example")[:90])
        )
        plane.send(plane.new_talk().udp(half))
    slots = Slots(plane)
    patience = (2 * plane.loaded.hz) // 8
    slots.age(patience + plane.loaded.hz // 50 + 1)
    names = []
    for number in range(50):
        hello = hellos.browser_hello(b"site.example", seed=number)
        client, talk = quic.Client(b"real%4d" % number), plane.new_talk()
        plane.send(talk.udp(client.datagram(Piece(0, hello[:900]))))
        plane.send(talk.udp(client.datagram(Piece(900, hello[900:]))))
        flow = plane.flow(talk, UDP)
        assert flow is not None
        names.append(flow.name)
    assert names == ["site.example"] * 50
