# SPDX-License-Identifier: Apache-2.0
"""TLS that begins in the middle of a stream, and the hosts that proxies are asked for."""

from itertools import permutations
from typing import NamedTuple

import numpy as np
import pytest

from tests import hellos
from tests.bpf.plane import Plane
from tests.certificates import certificate, flight, records, server_hello
from tests.packets import ACK, PSH
from xdpprobe import catalogue as catalogues
from xdpprobe.catalogue import Catalogue

CLIENT, SERVER = True, False
LDAP_OID = b"1.3.6.1.4.1.1466.20037"  # RFC 4511, 4.14.1
MYSQL_GREETING = (
    b"\x0a8.0.35\x00\x08\x00\x00\x00" + b"saltsalt\x00\xff\xff\xff\x02\x00\xff\xdf\x15"
    + bytes(10) + b"saltsaltsalt\x00caching_sha2_password\x00"
)  # fmt: skip
MYSQL_REQUEST = b"\x05\xae\xff\x01\x00\x00\x00\x01\xff" + bytes(23)


def mysql(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


class Dialogue(NamedTuple):
    """What is said before TLS begins: (from the client?, bytes)."""

    protocol: str
    port: int
    lines: list[tuple[bool, bytes]]


DIALOGUES = [
    Dialogue("SMTPS", 587, [
        (SERVER, b"220 mx.example ESMTP Postfix\r\n"), (CLIENT, b"EHLO host.example\r\n"),
        (SERVER, b"250-mx.example\r\n250 STARTTLS\r\n"), (CLIENT, b"STARTTLS\r\n"),
        (SERVER, b"220 2.0.0 Ready to start TLS\r\n"),
    ]),
    Dialogue("IMAPS", 143, [
        (SERVER, b"* OK [CAPABILITY IMAP4rev1 STARTTLS] Dovecot ready.\r\n"),
        (CLIENT, b"a1 STARTTLS\r\n"), (SERVER, b"a1 OK Begin TLS negotiation now.\r\n"),
    ]),
    Dialogue("POPS", 110, [
        (SERVER, b"+OK Dovecot ready.\r\n"), (CLIENT, b"CAPA\r\n"),
        (SERVER, b"+OK\r\nSTLS\r\nUSER\r\n.\r\n"), (CLIENT, b"STLS\r\n"),
        (SERVER, b"+OK Begin TLS negotiation now.\r\n"),
    ]),
    Dialogue("FTPS", 21, [
        (SERVER, b"220 ProFTPD Server ready.\r\n"), (CLIENT, b"AUTH TLS\r\n"),
        (SERVER, b"234 AUTH TLS successful\r\n"),
    ]),
    Dialogue("JABBER", 5222, [
        (CLIENT, b"<?xml version='1.0'?><stream:stream to='x.example' xmlns='jabber:client' "
                 b"xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"),
        (SERVER, b"<?xml version='1.0'?><stream:stream id='1' from='x.example' "
                 b"xmlns='jabber:client'><stream:features><starttls "
                 b"xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"),
        (CLIENT, b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        (SERVER, b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
    ]),
    Dialogue("POSTGRESQL", 5432, [
        (CLIENT, b"\x00\x00\x00\x08\x04\xd2\x16\x2f"), (SERVER, b"S"),
    ]),
    Dialogue("MYSQL", 3306, [
        (SERVER, mysql(0, MYSQL_GREETING)), (CLIENT, mysql(1, MYSQL_REQUEST)),
    ]),
    Dialogue("LDAP", 389, [
        (CLIENT, b"\x30\x1d\x02\x01\x01\x77\x18\x80\x16" + LDAP_OID),
        (SERVER, b"\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"),
    ]),
    Dialogue("HTTP_CONNECT", 3128, [
        (CLIENT, b"CONNECT proxied.example:443 HTTP/1.1\r\nHost: other.example:443\r\n\r\n"),
        (SERVER, b"HTTP/1.1 200 Connection established\r\n\r\n"),
    ]),
    Dialogue("SOCKS", 1080, [
        (CLIENT, b"\x05\x01\x00"), (SERVER, b"\x05\x00"),
        (CLIENT, b"\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb"),
        (SERVER, b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"),
    ]),
    Dialogue("SOCKS", 1080, [
        (CLIENT, b"\x04\x01\x01\xbb\xc0\x00\x02\x01\x00"), (SERVER, b"\x00\x5a" + bytes(6)),
    ]),
]  # fmt: skip
NAMES = [f"{one.protocol}-{number}" for number, one in enumerate(DIALOGUES)]


HELLO = hellos.records(hellos.simple_hello(b"www.example.com"))


@pytest.fixture(scope="module")
def knowledge() -> Catalogue:
    """The signatures that are shipped."""
    return catalogues.load()


class Talk:
    """A conversation and how far each side has come in it."""

    def __init__(self, plane: Plane, dialogue: Dialogue) -> None:
        self.plane = plane
        self.talk = plane.new_talk(dialogue.port)
        self.next = {CLIENT: 1, SERVER: 1}
        plane.send(*self.talk.handshake())
        for side, line in dialogue.lines:
            self.say(side, line)

    def frame(self, side: bool, data: bytes) -> bytes:
        at = self.next[side]
        self.next[side] += len(data)
        return self.talk.tcp(data, seq=at, flags=PSH | ACK, from_client=side)

    def say(self, side: bool, *pieces: bytes) -> None:
        self.plane.send(*(self.frame(side, piece) for piece in pieces))

    @property
    def name(self) -> str | None:
        flow = self.plane.flow(self.talk)
        assert flow
        return flow.name

    @property
    def protocol(self) -> str:
        flow = self.plane.flow(self.talk)
        assert flow
        enum = self.plane.loaded.abi.enums["protocol"]
        words = [name for name, number in enum.items() if number == flow.protocol]
        return words[0].removeprefix("PROTOCOL_") if words else str(flow.protocol)


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=NAMES)
def test_a_hello_after_something_else(plane: Plane, dialogue: Dialogue) -> None:
    talk = Talk(plane, dialogue)
    assert talk.protocol == dialogue.protocol
    assert not plane.final(talk.talk)
    talk.say(CLIENT, HELLO)
    talk.say(SERVER, records(server_hello(selected=0x0304)))
    assert (talk.name, talk.protocol) == ("www.example.com", dialogue.protocol)
    assert plane.tls(talk.talk) == (0x0304, {"TLS_LATE"})
    assert plane.final(talk.talk)


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=NAMES)
def test_in_pieces(plane: Plane, dialogue: Dialogue) -> None:
    """A hello of two segments, the second one first to be cut; a certificate of six."""
    talk = Talk(plane, dialogue)
    talk.say(CLIENT, HELLO[:60], HELLO[60:61], HELLO[61:])
    stream = flight(certificate([b"other.example"], padding=6000))
    talk.say(SERVER, *(stream[at : at + 1200] for at in range(0, len(stream), 1200)))
    assert (talk.name, talk.protocol) == ("www.example.com", dialogue.protocol)
    assert plane.tls(talk.talk) == (0x0303, {"TLS_LATE", "TLS_SNI_MISMATCH"})


@pytest.mark.parametrize("order", list(permutations(range(3)))[1:])
@pytest.mark.parametrize("dialogue", DIALOGUES, ids=NAMES)
def test_a_hello_whose_segments_come_in_any_order(
    plane: Plane, dialogue: Dialogue, order: tuple[int, ...]
) -> None:
    talk = Talk(plane, dialogue)
    frames = [talk.frame(CLIENT, piece) for piece in (HELLO[:60], HELLO[60:130], HELLO[130:])]
    plane.send(*(frames[number] for number in order))
    assert (talk.name, talk.protocol) == ("www.example.com", dialogue.protocol)
    talk.say(SERVER, records(server_hello(selected=0x0304)))
    assert plane.tls(talk.talk) == (0x0304, {"TLS_LATE"})
    assert plane.final(talk.talk)


def test_what_was_said_before_is_no_part_of_a_hello(plane: Plane) -> None:
    """Answered or not, and however near; nor is what an earlier hello might have been."""
    other = hellos.records(hellos.simple_hello(b"another.example.org"))
    for between in ([], [(SERVER, b"250 ok\r\n")]):
        plane.forget_hellos()
        talk = Talk(plane, DIALOGUES[0])
        talk.say(CLIENT, other[60:130])
        for side, line in between:
            talk.say(side, line)
        talk.say(CLIENT, HELLO[:60])
        assert talk.name is None
        talk.say(CLIENT, HELLO[60:])
        assert (talk.name, plane.tls(talk.talk)) == ("www.example.com", (0, {"TLS_LATE"}))


def test_segments_that_find_no_place_are_counted(plane: Plane) -> None:
    talks = [Talk(plane, DIALOGUES[0]) for _ in range(3 * plane.room("hello_slots"))]
    before = plane.counters("LOSS_HELLO")
    firsts = []
    for talk in talks:
        first, second = talk.frame(CLIENT, HELLO[:60]), talk.frame(CLIENT, HELLO[60:])
        plane.send(second)
        firsts.append(first)
    plane.send(*firsts)
    unnamed = len(talks) - np.count_nonzero(plane.loaded.array("flow_cold")["name"])
    waiting = plane.room("hello_slots")  # at most, for what will not come again
    assert waiting < unnamed <= waiting + sum(gain[0] for gain in plane.counted(before).values())


@pytest.mark.parametrize("dialogue", DIALOGUES[:4], ids=NAMES[:4])
def test_a_certificate_where_no_name_was_asked_for(plane: Plane, dialogue: Dialogue) -> None:
    talk = Talk(plane, dialogue)
    talk.say(CLIENT, hellos.records(hellos.simple_hello(None)))
    talk.say(SERVER, flight(certificate([b"mx.example"])))
    assert (talk.name, talk.protocol) == ("mx.example", dialogue.protocol)


@pytest.mark.parametrize(
    ("port", "protocol"), [(465, "SMTPS"), (990, "FTPS"), (993, "IMAPS"), (995, "POPS")]
)
def test_tls_from_the_start_is_called_by_its_port(plane: Plane, port: int, protocol: str) -> None:
    talk = Talk(plane, Dialogue("", port, [(CLIENT, HELLO)]))
    talk.say(SERVER, flight(certificate([b"www.example.com"])))
    assert (talk.name, talk.protocol) == ("www.example.com", protocol)
    assert plane.tls(talk.talk) == (0x0303, set())
    nameless = Talk(plane, Dialogue("", port, []))
    nameless.say(SERVER, records(server_hello(selected=0x0304)))
    assert (nameless.name, nameless.protocol) == (None, protocol)


def test_what_is_no_hello_begins_no_tls(plane: Plane) -> None:
    talk = Talk(plane, DIALOGUES[0])
    talk.say(CLIENT, b"\x16\x03\x01\x00\x05\x02" + bytes(100))  # the other side's message
    talk.say(CLIENT, HELLO[:8])
    talk.say(SERVER, records(server_hello(selected=0x0304)))
    assert talk.name is None
    assert plane.tls(talk.talk) == (0, set())


@pytest.mark.parametrize(
    "first", [b"SSH-2.0-OpenSSH_9.2\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
)
def test_other_protocols_have_no_tls_in_them(plane: Plane, first: bytes) -> None:
    """In SSH, and behind a request that is no CONNECT, a hello is content."""
    talk = Talk(plane, Dialogue("", 2222, [(CLIENT, first)]))
    before = talk.name
    talk.say(CLIENT, HELLO)
    assert talk.name == before
    assert plane.tls(talk.talk) == (0, set())


def named(plane: Plane, *client: bytes, port: int = 1080) -> tuple[str | None, str]:
    talk = Talk(plane, Dialogue("", port, [(CLIENT, line) for line in client]))
    return talk.name, plane.evidence(talk.talk)


def socks5(name: bytes, command: int = 1) -> bytes:
    return bytes([5, command, 0, 3, len(name)]) + name + b"\x01\xbb"


def test_proxies_are_asked_for_a_host(plane: Plane) -> None:
    methods = b"\x05\x01\x00"
    assert named(plane, methods, socks5(b"Proxied.example")) == ("proxied.example", "socks")
    # Too short, too long, no name, another command: the methods alone.
    for wrong in (socks5(b"a.example")[:-1], socks5(b"a.example") + b"x", socks5(b""),
                  socks5(b"a.example", 4), b"\x05\x01\x00\x03"):  # fmt: skip
        assert named(plane, methods, wrong) == (None, "pattern")
    four = b"\x04\x01\x01\xbb\x00\x00\x00\x01"
    assert named(plane, four + b"me\x00proxied.example\x00") == ("proxied.example", "socks")
    assert named(plane, four + b"\x00proxied.example\x00") == ("proxied.example", "socks")
    for wrong in (
        four + b"me\x00\x00",
        four + b"me\x00a.example",
        four + b"m" * 80 + b"\x00a.b\x00",
    ):
        assert named(plane, wrong)[0] is None


def test_connect_asks_for_its_target(plane: Plane) -> None:
    line = b"CONNECT proxied.example:443 HTTP/1.1\r\n"
    assert named(plane, line + b"\r\n", port=3128) == ("proxied.example", "http-host")
    assert named(plane, line + b"Host: a.example\r\n\r\n", port=3128)[0] == "proxied.example"
    assert named(plane, b"CONNECT [2001:db8::1]:443 HTTP/1.0\r\n\r\n", port=3128)[0] == (
        "[2001:db8::1]"
    )
    assert named(plane, line[:20], line[20:] + b"\r\n", port=3128)[0] == "proxied.example"


def test_a_name_inside_of_a_proxy_is_the_better_one(plane: Plane) -> None:
    talk = Talk(plane, Dialogue("", 1080, [
        (CLIENT, b"\x05\x01\x00"), (SERVER, b"\x05\x00"),
        (CLIENT, socks5(b"front.example")), (SERVER, b"\x05\x00\x00\x01" + bytes(6)),
    ]))  # fmt: skip
    assert talk.name == "front.example"
    talk.say(CLIENT, HELLO)
    assert (talk.name, talk.protocol) == ("www.example.com", "SOCKS")
