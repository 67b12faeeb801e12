# SPDX-License-Identifier: Apache-2.0
"""What fuzzing begins with: conversations that the project's own builders make, and captures."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests import hellos, messages, quic
from tests import packets as p
from tests.framecases import NO_FLOW, WITH_FLOW
from tests.fuzz.layout import Layout, layout_of
from tests.packets import Conversation, Endpoint
from tests.quic import Piece
from xdpprobe.bench.messages import classic_hello, dns_query, http_request, modern_hello
from xdpprobe.capture import Capture
from xdpprobe.errors import DataError
from xdpprobe.linktypes import to_ethernet

MARK = "canary"
CANARY = f"{MARK}.fuzz-{MARK}-must-not-be-seen.test"  # what --privacy cut leaves has the mark, too
NAMES = ("www.example.com", "video.cdn.example.net", "a.b.c.d.e.example.org", "x.test")
PORTS = {"tls": 443, "http": 80, "dns": 53}
CAPTURE_PACKETS = 24  # taken of a capture, from its start
SEED_MAX = 2000  # bytes of a seed


@dataclass(frozen=True)
class Seed:
    """A frame, and where its canary's name begins (0: it has none). There is nothing of the name
    before that byte."""

    frame: bytes
    name_at: int = 0
    layout: Layout = field(default_factory=Layout, repr=False)


Group = list[Seed]  # packets that belong together, in order


def seed(frame: bytes, raw: bool = False) -> Seed:
    """A frame with its layout, and its canary found."""
    text = CANARY.encode()
    found = max(frame.find(text), frame.find(messages.dns_name(text)), 0)
    return Seed(frame, found, layout_of(frame, raw))


def first_messages(name: str) -> Iterator[tuple[str, bytes]]:
    """(kind, stream) of what clients say first."""
    octets = name.encode()
    small = hellos.simple_hello(octets)
    yield "tls", hellos.records(small)
    yield "tls", hellos.records(small, [60, 7, 1, 30])
    yield "tls", hellos.records(small, [1] * 40)
    yield "tls", hellos.records(hellos.browser_hello(octets, seed=5))
    yield "tls", classic_hello(name)
    yield "tls", modern_hello(name)
    yield "http", http_request(name)
    yield "http", messages.http_request(octets, before=[b"X-First: " + b"y" * 300])
    yield "http", messages.http_request(octets, method=b"PROPFIND", field=b"hOST:\t")
    yield "http", messages.http_request(b"[2001:db8::1]:8080")
    query = dns_query(name)
    yield "dns", len(query).to_bytes(2, "big") + query


def talks(port: int) -> Iterator[Conversation]:
    """A conversation of each shape, to that port."""
    yield Conversation(server=Endpoint("198.51.100.20", port))
    yield Conversation(p.CLIENT6, Endpoint("2001:db8:2::20", port))
    yield Conversation(server=Endpoint("198.51.100.21", port), tags=[p.vlan(7)])


def conversations(name: str) -> Iterator[Group]:
    """Whole flows of a name: TCP in segments of several sizes, and datagrams."""
    for kind, stream in first_messages(name):
        for number, talk in enumerate(talks(PORTS[kind])):
            size = (1400, 700, 200)[number]
            answer = {"tls": hellos.records(hellos.server_hello()), "http": messages.HTTP_ANSWER}
            back = talk.segments(answer.get(kind, b"\0\x0c" + bytes(12)), from_client=False)
            opening = talk.handshake() if number < 2 else []
            yield [seed(f) for f in (*opening, *talk.segments(stream, size), *back)]
    query = messages.dns_query(name.encode())
    for port in (53, 5353, 5355):
        for talk in talks(port):
            answer = messages.dns_answer(name.encode(), bytes(4))
            yield [seed(talk.udp(query)), seed(talk.udp(answer, from_client=False))]
            yield [seed(talk.udp(dns_query(name)))]
    yield from resolved()
    yield from initials(name.encode())


def initials(name: bytes) -> Iterator[Group]:
    """QUIC: a hello in one datagram and in two, a Retry, and what Google did not encrypt."""
    hello, long = hellos.simple_hello(name), hellos.browser_hello(name)
    halves = (Piece(1000, long[1000:]), Piece(0, long[:1000]))
    again = quic.retry(b"", b"chosen", b"token")
    for talk, version in zip(talks(443), (quic.V1, quic.V2, 0xFF00001D), strict=True):
        first, other = quic.Client(b"client", version), quic.Client(b"chosen", version)
        yield [seed(talk.udp(first.datagram(Piece(0, hello))))]
        split = [first.datagram(half) for half in halves]
        yield [seed(talk.udp(datagram)) for datagram in split]
        back = talk.udp(again, from_client=False)
        ways = [talk.udp(split[0]), back, *(talk.udp(other.datagram(half)) for half in halves)]
        yield [seed(frame) for frame in ways]
    for version in (b"Q033", b"Q043", b"Q046"):
        packet = quic.google_packet(quic.google_hello(name), version)
        yield [seed(Conversation().udp(packet))]


def resolved() -> Iterator[Group]:
    """Names of applications with their addresses, and what their clients do then."""
    name, alias = b"www.youtube.com", messages.dns_name(b"alias.example.net")
    for talk in talks(53):
        here = Endpoint(talk.client.address, 40001)
        there = Endpoint("2001:db8:2::99" if ":" in here.address else "198.51.100.99", 40444)
        records = [
            messages.dns_record(alias, messages.TYPE_CNAME),
            messages.dns_record(there.packed, owner=alias, seconds=300),
            *(messages.dns_record(there.packed[:-1] + bytes([i])) for i in range(18)),
        ]
        query, answer = messages.dns_query(name), messages.dns_reply(name, *records)
        later = Conversation(here, there, tags=talk.tags)
        ways = [talk.udp(query), talk.udp(answer, from_client=False)]
        yield [seed(frame) for frame in (*ways, later.handshake()[0], later.udp(b"\xff" * 40))]
        size = len(query).to_bytes(2, "big"), len(answer).to_bytes(2, "big")
        ways = [
            *talk.segments(size[0] + query),
            *talk.segments(size[1] + answer, from_client=False),
        ]
        yield [seed(frame) for frame in (*talk.handshake(), *ways, later.tcp(b"\xff" * 40))]


def tunnelled(name: str) -> Iterator[Group]:
    """The same inside of every tunnel that is entered."""
    near, far = Endpoint("192.0.2.1", 50000), Endpoint("192.0.2.2", 4789)
    talk = Conversation(server=Endpoint("198.51.100.20", 53))
    talk6 = Conversation(p.CLIENT6, p.SERVER6)
    frames = [
        talk.udp(messages.dns_query(name.encode())),
        talk6.tcp(hellos.records(hellos.simple_hello(name.encode()))),
    ]

    def in_udp(payload: bytes, port: int) -> bytes:
        to = Endpoint(far.address, port)
        return p.ethernet(p.ipv4(p.udp(payload, near, to), near, to, p.UDP))

    for frame in frames:
        packet, kind = frame[14:], int.from_bytes(frame[12:14], "big")
        inner = 4 if kind == 0x0800 else 41
        yield [seed(in_udp(p.vxlan(frame, 42), 4789))]
        yield [seed(in_udp(p.geneve(frame, 7, options=bytes(12)), 6081))]
        yield [seed(in_udp(p.geneve(packet, 7, kind), 6081))]
        yield [seed(in_udp(p.gtp_u(packet, 1), 2152))]
        yield [seed(in_udp(p.gtp_u(packet, 1, sequence=1, extensions=[b"\0\1", bytes(6)]), 2152))]
        yield [seed(p.ethernet(p.ipv4(p.gre(packet, kind, key=1), near, far, p.GRE)))]
        yield [seed(p.ethernet(p.ipv4(p.gre(frame, 0x6558), near, far, p.GRE)))]
        yield [seed(p.ethernet(p.ipv4(packet, near, far, inner)))]


def shapes() -> Iterator[Group]:
    """Every header that is parsed, and what is not."""
    for frame, _ in (*WITH_FLOW.values(), *NO_FLOW.values()):
        yield [seed(frame)]
    for stream in (messages.SSH_CLIENT, b"OPTIONS rtsp://x.test RTSP/1.0\r\n\r\n"):
        talk = Conversation(server=Endpoint("198.51.100.20", 22))
        yield [seed(f) for f in (*talk.handshake(), *talk.segments(stream))]
    talk = Conversation()
    datagram = p.udp(bytes(900), talk.client, talk.server)
    for at in (0, 400, 800):
        piece = p.ipv4(datagram[at : at + 400], *talk._ends(True), p.UDP, offset=at, more=at < 800)
        yield [seed(p.ethernet(piece))]


def own_groups() -> list[Group]:
    """The project's own seeds: enough of them without any capture."""
    groups = list(shapes())
    for name in NAMES:
        groups += [*conversations(name), *tunnelled(name)]
    return groups


def canary_groups() -> list[Group]:
    """Packets that hold the whole of the canary's name."""
    groups = [*conversations(CANARY), *tunnelled(CANARY)]
    return [[one] for group in groups for one in group if one.name_at]


def captured_groups(folder: Path, source: random.Random) -> list[Group]:
    """The first packets of every capture below a folder."""
    groups = []
    for path in sorted(folder.rglob("*.pcap*")):
        try:
            with path.open("rb") as file, Capture(path, file) as capture:
                group = [seed(frame) for frame in _frames(capture)]
        except DataError:
            continue  # part of the folder, but no capture
        if group:
            groups.append(group)
    source.shuffle(groups)
    return groups


def _frames(capture: Capture) -> Iterator[bytes]:
    for number, packet in enumerate(capture):
        frame = to_ethernet(packet)
        if frame is not None and len(frame.data) >= 14:
            yield frame.data[:SEED_MAX]
        if number >= CAPTURE_PACKETS:
            return


def without_link(groups: Sequence[Group]) -> list[Group]:
    """The same for a device without link headers."""
    bare = []
    for group in groups:
        kept = [
            seed(one.frame[one.layout.outer :], raw=True)
            for one in group
            if one.layout.outer and len(one.frame) - one.layout.outer >= 14
        ]
        if kept:
            bare.append(kept)
    return bare
