# SPDX-License-Identifier: Apache-2.0
"""DTLS ClientHellos in one datagram: with and without cookie, and damaged."""

import random
import struct

import pytest

from tests import hellos
from tests.bpf.plane import Plane
from tests.effort import examples
from tests.hellos import vector
from tests.packets import UDP


def dtls_body(message: bytes, *, cookie: bytes = b"") -> bytes:
    """A hello's body without the header, as DTLS has it (RFC 6347, 4.2.1)."""
    session = 39 + message[38]
    return message[4:session] + vector(cookie, 1) + message[session:]


def datagram(
    message: bytes,
    *,
    cookie: bytes = b"",
    version: int = 0xFEFD,
    offset: int = 0,
    fragment: int | None = None,
    epoch: int = 0,
) -> bytes:
    """A ClientHello of TLS as DTLS has it (RFC 6347, 4.2.2 and 4.2.1)."""
    body = dtls_body(message, cookie=cookie)
    length = len(body) if fragment is None else fragment
    head = b"\x01" + len(body).to_bytes(3, "big") + b"\x00\x00"
    handshake = head + offset.to_bytes(3, "big") + length.to_bytes(3, "big") + body[:length]
    return struct.pack(">BHHIH", 22, version, epoch, 0, 0) + vector(handshake, 2)


def name(plane: Plane, *payloads: bytes) -> str | None:
    talk = plane.new_talk(4433)
    plane.send(*(talk.udp(payload) for payload in payloads))
    flow = plane.flow(talk, UDP)
    assert flow
    if flow.name:  # without one, signatures may know the protocol
        assert flow.protocol == plane.loaded.abi.enums["protocol"]["PROTOCOL_DTLS"]
    return flow.name


HELLO = hellos.simple_hello(b"www.example.com")


@pytest.mark.parametrize("version", [0xFEFF, 0xFEFD, 0xFEFC])
@pytest.mark.parametrize("cookie", [b"", b"c" * 20, b"c" * 255])
@pytest.mark.parametrize("session", [b"", b"s" * 32])
def test_a_hello_gives_its_name(plane: Plane, version: int, cookie: bytes, session: bytes) -> None:
    message = hellos.client_hello(
        [hellos.alpn(), hellos.server_name(b"www.Example.com")], session_id=session
    )
    assert name(plane, datagram(message, version=version, cookie=cookie)) == "www.example.com"


def test_what_gives_no_name(plane: Plane) -> None:
    whole = datagram(HELLO)
    for other in (
        datagram(hellos.simple_hello(None)),
        datagram(HELLO, offset=10),
        datagram(HELLO, fragment=100),
        datagram(HELLO, epoch=1),
        datagram(HELLO, version=0x0303),
        whole[:13] + b"\x02" + whole[14:],
        whole[:-1],
        whole[:40],
    ):
        assert name(plane, other) is None


def test_damaged_hellos_give_no_false_name(plane: Plane) -> None:
    source = random.Random(3)
    whole = datagram(HELLO, cookie=b"c" * 20)
    text = whole.index(b"www.example.com")
    for _ in examples(1000):
        at = source.randrange(len(whole))
        if text <= at < text + 15:
            continue
        changed = whole[:at] + bytes([source.randrange(256)]) + whole[at + 1 :]
        found = name(plane, changed[: source.choice((len(changed), source.randrange(1, 300)))])
        assert (
            found is None
            or b"www.example.com".find(found.encode()) >= 0
            or found in (changed[text - 20 : text + 40].decode("latin-1").lower())
        )
