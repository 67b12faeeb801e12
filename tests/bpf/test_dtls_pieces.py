# SPDX-License-Identifier: Apache-2.0
"""DTLS hellos in fragments: cut anywhere, in any order, doubled, overlapping, several to a record
and a datagram, begun anew behind a HelloVerifyRequest. A name where the reference finds it, and
no other."""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from tests import hellos
from tests.bpf.made import made_up
from tests.bpf.plane import Plane
from tests.bpf.test_dtls import HELLO, dtls_body
from tests.bpf.test_full_hellos import Slots
from tests.effort import examples
from tests.hellos import vector
from tests.packets import UDP, Conversation
from tests.reference import dtls as reference
from tests.reference import hello_facts
from xdpprobe import catalogue as catalogues
from xdpprobe.hellos import resolve_hellos
from xdpprobe.loader import Loaded, load_tables

ROUNDS = 1500  # half on each hook
BATCH = 50
ROOM = 1200  # bytes of a datagram
NAME = b"www.example.com"


def fragment(body: bytes, low: int, high: int, number: int = 0) -> bytes:
    """RFC 6347, 4.2.2: a handshake message's header, and some of its bytes."""
    head = b"\x01" + len(body).to_bytes(3, "big") + number.to_bytes(2, "big")
    return head + low.to_bytes(3, "big") + (high - low).to_bytes(3, "big") + body[low:high]


def record(*messages: bytes, epoch: int = 0) -> bytes:
    return struct.pack(">BHHIH", 22, 0xFEFD, epoch, 0, 0) + vector(b"".join(messages), 2)


def verify_request(cookie: bytes) -> bytes:
    """RFC 6347, 4.2.1: the server's message that asks for the cookie."""
    body = b"\xfe\xff" + vector(cookie, 1)
    length = len(body).to_bytes(3, "big")
    return record(b"\x03" + length + bytes(2) + bytes(3) + length + body)


def cut(body: bytes, source: random.Random) -> list[tuple[int, int]]:
    """The body's pieces, some of them twice or longer than need be."""
    cuts = sorted(source.sample(range(1, len(body)), source.randint(1, 6)))
    found = []
    for low, high in pairwise([0, *cuts, len(body)]):
        while low < high:  # none is longer than a datagram
            stop = min(high, low + ROOM - 50)
            start = max(0, low - source.randint(0, 40)) if source.random() < 0.15 else low
            found += [(start, stop)] * source.choice((1, 1, 1, 1, 2))
            low = stop
    return found


def datagrams(body: bytes, number: int, source: random.Random, *, lossy: bool) -> list[bytes]:
    pieces = cut(body, source)
    if source.random() < 0.6:
        source.shuffle(pieces)
    if lossy and len(pieces) > 1:
        pieces.pop(source.randrange(len(pieces)))
    found = [b""]
    for low, high in pieces:
        message = fragment(body, low, high, number)
        messages = (
            [message, fragment(body, low, low, number)] if source.random() < 0.1 else [message]
        )
        made = record(*messages)
        if found[-1] and (len(found[-1] + made) > 1450 or source.random() < 0.5):
            found.append(b"")
        found[-1] += made
    return found


@dataclass
class Delivery:
    """What goes each way: (from the client?, datagram)."""

    name: str
    packets: list[tuple[bool, bytes]] = field(default_factory=list)

    def client(self) -> list[bytes]:
        return [datagram for ours, datagram in self.packets if ours]


def delivery(source: random.Random) -> Delivery:
    name = f"host{source.randrange(10**6)}.example{source.randrange(100)}.com"
    case, seed = Delivery(name), source.randrange(1 << 30)
    if source.random() < 0.5:
        message = hellos.browser_hello(name.encode(), seed=seed)
    else:
        message = hellos.sized_hello(name.encode(), source.randint(200, 3000), seed=seed)
    lossy, number = source.random() < 0.2, 0
    if source.random() < 0.4:  # some of it is enough for the server to ask for a cookie
        first = datagrams(dtls_body(message), 0, source, lossy=True)
        case.packets += [(True, datagram) for datagram in first if datagram]
        case.packets.append((False, verify_request(b"c" * 20)))
        number = 1
    body = dtls_body(message, cookie=b"c" * 20 if number else b"")
    again = datagrams(body, number, source, lossy=lossy)
    case.packets += [(True, datagram) for datagram in again if datagram]
    return case


def sent(plane: Plane, case: Delivery) -> Conversation:
    talk = plane.new_talk(4433)
    plane.send(*(talk.udp(datagram, from_client=ours) for ours, datagram in case.packets))
    return talk


def name(plane: Plane, talk: Conversation) -> str | None:
    flow = plane.flow(talk, UDP)
    return flow.name if flow else None


def ja4(plane: Plane) -> str:
    """Of the one flow that there is."""
    cold = plane.loaded.array("flow_cold")
    (number,) = cold[cold["tag"] != 0]["hello"].tolist()
    (hello,) = resolve_hellos(plane.loaded.array("hellos"), [number]).values()
    found = hello.ja4("d")
    assert found is not None
    return found


def test_hellos_in_fragments(plane: Plane) -> None:
    source, total, unnamed = random.Random(30), 0, 0
    while total < len(examples(ROUNDS // 2)):
        plane.clear()
        plane.forget_hellos()
        before = plane.counters()
        pairs = [(case, sent(plane, case)) for case in (delivery(source) for _ in range(BATCH))]
        wrong = [
            (found, expected, case)
            for case, talk in pairs
            if (found := name(plane, talk)) != (expected := reference.server_name(case.client()))
        ]
        crowded = plane.counted(before).get("LOSS_HELLO_FULL", (0, 0))[0]
        lost = sum(found is None for found, _, _ in wrong)
        assert len(wrong) == lost <= crowded, min(wrong, key=lambda one: len(one[2].packets))
        unnamed += sum(name(plane, talk) is None for _, talk in pairs)
        total += BATCH
    assert unnamed < total / 2


def test_damaged_fragments_give_no_false_name(plane: Plane) -> None:
    source = random.Random(31)
    for number in examples(1000):
        if number % BATCH == 0:
            plane.forget_hellos()
        case = delivery(source)
        at = source.randrange(len(case.packets))
        ours, datagram = case.packets[at]
        byte = source.randrange(min(60, len(datagram)))
        changed = datagram[:byte] + bytes([source.randrange(256)]) + datagram[byte + 1 :]
        case.packets[at] = ours, changed
        # What was damaged may be something that the reference wants and a name does not need.
        right = None, case.name, reference.server_name(case.client())
        assert name(plane, sent(plane, case)) in right


def test_a_name_that_comes_before_its_hello_is_whole(plane: Plane) -> None:
    """The flow has it at once, and the fingerprint when the rest has come; then it is final."""
    body = dtls_body(HELLO)
    middle = body.index(NAME) + len(NAME) + 10
    talk = plane.new_talk(4433)
    plane.send(talk.udp(record(fragment(body, 0, middle))))
    assert name(plane, talk) == NAME.decode()
    assert not plane.final(talk)
    plane.send(talk.udp(record(fragment(body, middle, len(body)))))
    assert plane.final(talk)
    assert ja4(plane) == hello_facts.ja4(HELLO, "d")


@pytest.mark.parametrize("missing", [(0, 10), (30, 31), (100, 180)])
def test_what_does_not_come_gives_no_name(plane: Plane, missing: tuple[int, int]) -> None:
    body = dtls_body(HELLO)
    low, high = missing
    talk = plane.new_talk(4433)
    pieces = [fragment(body, 0, low)] if low else []
    plane.send(talk.udp(record(*pieces, fragment(body, high, len(body)))))
    assert name(plane, talk) is None
    flow = plane.flow(talk, UDP)
    assert flow is not None
    assert flow.protocol == plane.loaded.abi.enums["protocol"]["PROTOCOL_DTLS"]
    plane.send(talk.udp(record(fragment(body, low, high))))
    assert name(plane, talk) == NAME.decode()


@pytest.mark.parametrize("client", [True, False])
def test_another_hello_does_not_take_the_name_away(plane: Plane, client: bool) -> None:
    """Of an end that sends a whole one of another random, while the rest of the first is out."""
    body = dtls_body(HELLO)
    other = dtls_body(hellos.simple_hello(b"another.example.org", seed=7))
    talk = plane.new_talk(4433)
    middle = body.index(NAME) + len(NAME) + 10
    plane.send(talk.udp(record(fragment(body, 0, middle))))
    plane.send(talk.udp(record(fragment(other, 0, len(other))), from_client=client))
    assert name(plane, talk) == NAME.decode()


def test_what_is_no_hello_does_not_end_one_that_is_awaited(plane: Plane) -> None:
    body = dtls_body(HELLO)
    middle = body.index(NAME) + 4
    talk = plane.new_talk(4433)
    plane.send(talk.udp(record(fragment(body, 0, middle))))
    plane.send(talk.udp(record(b"\x01" + bytes(11))))
    plane.send(talk.udp(record(fragment(body, middle, len(body)))))
    assert name(plane, talk) == NAME.decode()


def test_two_hellos_are_not_mixed(plane: Plane) -> None:
    """Neither of two numbers, nor of two lengths."""
    body, other = dtls_body(HELLO), dtls_body(hellos.simple_hello(b"another.example.org"))
    half = body.index(NAME) + 4
    for number in (0, 1):
        talk = plane.new_talk(4433)
        plane.send(
            talk.udp(record(fragment(body, 0, half, 1))),
            talk.udp(record(fragment(other, half, len(other), number))),
        )
        assert name(plane, talk) is None


@pytest.mark.parametrize("old", [True, False], ids=["aged", "by its random"])
def test_another_connection_on_the_same_ports_is_not_mixed(plane: Plane, old: bool) -> None:
    """Whose hello has the same number and length as one that never came whole."""
    body, talk = dtls_body(HELLO), plane.new_talk(4433)
    other = dtls_body(hellos.simple_hello(b"ftp.example.org", seed=1))
    assert len(other) == len(body)
    half = body.index(NAME) + 4
    # Of the first one its end where that has aged, else its beginning.
    plane.send(talk.udp(record(fragment(body, *((half, len(body)) if old else (0, half))))))
    if old:
        Slots(plane).age(3 * plane.loaded.hz)
    plane.send(talk.udp(record(fragment(other, 0, half))))
    assert name(plane, talk) is None
    plane.send(talk.udp(record(fragment(other, half, len(other)))))
    assert name(plane, talk) == "ftp.example.org"


def test_a_flow_has_no_more_put_together_than_its_share(plane: Plane) -> None:
    """However long it brings what is new, and never a whole hello."""
    body, talk = bytes(16000), plane.new_talk(4433)
    before = plane.counters("INFO_HELLO_PIECES")
    for at in range(1, 8000, 20):
        plane.send(talk.udp(record(fragment(body, at, at + 10))))
    assert plane.counted(before)["INFO_HELLO_PIECES"][0] <= 64


@pytest.fixture
def shipped(loaded: Loaded) -> Iterator[None]:
    """With the signatures that are shipped, for as long as one test takes."""
    load_tables(loaded, catalogues.load())
    yield
    load_tables(loaded, made_up("", rules=[]))


@pytest.mark.usefixtures("shipped")
def test_a_hello_without_a_name_has_its_fingerprint(plane: Plane) -> None:
    """As browsers send it in calls; a signature's pattern says what the flow is."""
    message = hellos.simple_hello(None)
    body, talk = dtls_body(message), plane.new_talk(4433)
    half = len(body) // 2
    plane.send(talk.udp(record(fragment(body, half, len(body)))))
    plane.send(talk.udp(record(fragment(body, 0, half))))
    assert plane.evidence(talk) == "pattern"
    assert ja4(plane) == hello_facts.ja4(message, "d")


def test_versions_count_down(plane: Plane) -> None:
    """JA4's version of hellos that offer several, and of those that have no list."""
    offers = {
        (0xFEFD, 0xFEFC): "d3", (0xFEFC, 0xFEFD): "d3", (0xFEFF, 0xFEFD): "d2", (0xFEFF,): "d1",
        (0x0A0A, 0xFEFD): "d2",
    }  # fmt: skip
    cases = {
        hellos.client_hello(
            [
                hellos.server_name(NAME),
                (hellos.VERSIONS, vector(struct.pack(f">{len(listed)}H", *listed), 1)),
            ],
            version=0xFEFD,
        ): word
        for listed, word in offers.items()
    }
    cases[hellos.client_hello([hellos.server_name(NAME)], version=0xFEFD)] = "d2"
    cases[hellos.client_hello([hellos.server_name(NAME)], version=0xFEFF)] = "d1"
    for message, word in cases.items():
        plane.clear()
        body, talk = dtls_body(message), plane.new_talk(4433)
        plane.send(talk.udp(record(fragment(body, 0, len(body)))))
        found = ja4(plane)
        assert found == hello_facts.ja4(message, "d")
        assert found[:3] == f"d{word}"
