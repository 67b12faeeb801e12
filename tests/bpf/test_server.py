# SPDX-License-Identifier: Apache-2.0
"""What TLS servers answer: version, resumption, certificate; whole, in pieces, and hostile."""

import random
from collections.abc import Callable

import numpy as np
import pytest

from tests import hellos
from tests.bpf.plane import Plane
from tests.certificates import (
    CHANGE_CIPHER_SPEC,
    COMMON_NAME,
    NEW_SESSION_TICKET,
    SUBJECT_ALT_NAME,
    alternatives,
    certificate,
    certificate_message,
    der,
    extension,
    flight,
    name,
    records,
    sequence,
    server_hello,
)
from tests.effort import examples
from tests.packets import ACK, PSH, Conversation

RESUMED, MISMATCH = "TLS_RESUMED", "TLS_SNI_MISMATCH"
PAYLOAD = PSH | ACK


def opened(plane: Plane, asked: bytes | None = None) -> Conversation:
    """A connection whose client has sent its hello."""
    talk = plane.new_talk()
    plane.send(*talk.handshake(), *talk.segments(hellos.records(hellos.simple_hello(asked))))
    return talk


def answer(plane: Plane, stream: bytes, asked: bytes | None = None) -> Conversation:
    talk = opened(plane, asked)
    plane.send(*talk.segments(stream, from_client=False))
    return talk


def host(plane: Plane, talk: Conversation) -> tuple[str | None, str]:
    """The name and its evidence."""
    flow = plane.flow(talk)
    assert flow
    return flow.name, plane.evidence(talk)


@pytest.mark.parametrize(
    ("stream", "version", "flags"),
    [
        (records(server_hello(selected=0x0304)), 0x0304, set()),
        (records(server_hello(selected=0x0304, resumed=True)), 0x0304, {RESUMED}),
        (records(server_hello(selected=0x7F1C)), 0x7F1C, set()),
        (flight(certificate()), 0x0303, set()),
        (flight(certificate(), version=0x0301), 0x0301, set()),
        (records(server_hello(version=0x0300, extensions=None)) + CHANGE_CIPHER_SPEC, 0x0300,
         {RESUMED}),
        (records(server_hello()) + CHANGE_CIPHER_SPEC, 0x0303, {RESUMED}),
        (records(server_hello()) + records(NEW_SESSION_TICKET) + CHANGE_CIPHER_SPEC, 0x0303,
         {RESUMED}),
        (records(server_hello() + NEW_SESSION_TICKET) + CHANGE_CIPHER_SPEC, 0x0303, {RESUMED}),
        # No certificate, and yet a new session: the ciphers change later.
        (records(server_hello() + b"\x0c\x00\x00\x02ab\x0e\x00\x00\x00"), 0x0303, set()),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cut", [None, 1, 7, 100])
def test_version_and_resumption(
    plane: Plane, stream: bytes, version: int, flags: set[str], cut: int | None
) -> None:
    talk = opened(plane, b"www.example.com")
    at = 1
    for piece in [stream[:cut], stream[cut:]] if cut else [stream]:
        plane.send(talk.tcp(piece, from_client=False, seq=at, flags=PAYLOAD))
        at += len(piece)
    assert plane.tls(talk) == (version, flags)
    assert host(plane, talk) == ("www.example.com", "sni")
    assert plane.final(talk)


def test_tls_1_3_is_final_at_once(plane: Plane) -> None:
    talk = opened(plane, b"www.example.com")
    assert not plane.final(talk)
    before = plane.counters("INFO_INSPECTED")
    later = b"\x17\x03\x03\x00\x20" + bytes(32)
    plane.send(talk.tcp(later, seq=1000, flags=PAYLOAD))  # of a client whose hello is read: nothing
    plane.send(*talk.segments(records(server_hello(selected=0x0304)), from_client=False))
    plane.send(talk.tcp(later, from_client=False, seq=5000, flags=PAYLOAD))
    assert plane.final(talk)
    assert plane.counted(before) == {"INFO_INSPECTED": (1, 0)}


def test_no_more_than_the_budget_is_looked_at_of_a_server(plane: Plane) -> None:
    talk = opened(plane, b"www.example.com")
    before = plane.counters("INFO_INSPECTED")
    for at in range(0, 2000, 100):
        plane.send(talk.tcp(bytes(100), from_client=False, seq=1 + at, flags=PAYLOAD))
    assert plane.counted(before)["INFO_INSPECTED"][0] <= 8
    assert plane.tls(talk) == (0, set())


@pytest.mark.parametrize(
    ("cert", "expected"),
    [
        (certificate([b"www.example.com", b"example.com"]), "www.example.com"),
        (certificate([b"*.Example.COM"]), "example.com"),
        (certificate([b"a.example"], b"b.example"), "a.example"),
        (certificate(None, b"b.example"), "b.example"),
        (certificate(None, b"*.b.example"), "b.example"),
        (certificate([], b"b.example"), "b.example"),
        (certificate(None, b"Some Company"), None),
        (certificate(None, b"router"), None),
        (certificate(None, None), None),
        (certificate(None, b"x" * 60 + b".example"), None),  # longer than X.520 has it
        (certificate(extensions=b"", common=b"b.example"), "b.example"),
        (
            certificate(
                extensions=alternatives([b"c.example"]),
                subject=name((COMMON_NAME, b"first.example"), (COMMON_NAME, b"last.example")),
            ),
            "c.example",
        ),
        (
            certificate(
                None, subject=name((COMMON_NAME, b"first.example"), (COMMON_NAME, b"last.example"))
            ),
            "last.example",
        ),
        (certificate([b"c.example"], subject=sequence()), "c.example"),
        (certificate([b"big.example"], padding=9000), "big.example"),
    ],
)
@pytest.mark.parametrize("apart", [True, False])
def test_certificate_names_the_flow(
    plane: Plane, cert: bytes, expected: str | None, apart: bool
) -> None:
    before = plane.counters("INFO_CERTIFICATES")
    talk = answer(plane, flight(cert, certificate([b"ca.example"]), apart=apart))
    assert host(plane, talk) == (expected, "certificate" if expected else "pattern")
    assert plane.tls(talk) == (0x0303, set())
    assert plane.final(talk)
    assert plane.counted(before) == {"INFO_CERTIFICATES": (1, 0)}


@pytest.mark.parametrize(
    ("names", "fits"),
    [
        ([b"www.example.com"], True),
        ([b"WWW.Example.com"], True),
        ([b"*.example.com"], True),
        ([b"example.com"], False),
        ([b"*.com"], False),
        ([b"*.www.example.com"], False),
        ([b"*"], False),
        ([b"*."], False),
        ([b"www.example.con"], False),
        ([b"www.example.com.evil.example"], False),
        ([b"xwww.example.com"], False),
        ([b"%d.example.com" % i for i in range(500)] + [b"www.example.com"], True),
        ([b"%d.example.com" % i for i in range(500)], False),
        ([b""], None),
        ([], None),
    ],
)
def test_certificate_for_other_names(plane: Plane, names: list[bytes], fits: bool | None) -> None:
    talk = answer(plane, flight(certificate(names)), b"www.example.com")
    assert plane.tls(talk) == (0x0303, {MISMATCH} if fits is False else set())
    assert host(plane, talk) == ("www.example.com", "sni")


@pytest.mark.parametrize("length", [1, 7, 8, 9, 63])
def test_every_byte_of_a_name_counts(plane: Plane, length: int) -> None:
    asked = b"x" * length + b".example"
    for at in (0, length // 2, length - 1, len(asked) - 1):
        other = asked[:at] + b"y" + asked[at + 1 :]
        talk = answer(plane, flight(certificate([other])), asked)
        assert plane.tls(talk) == (0x0303, {MISMATCH})
    talk = answer(plane, flight(certificate([asked])), asked)
    assert plane.tls(talk) == (0x0303, set())


def test_more_names_than_are_looked_at(plane: Plane) -> None:
    before = plane.counters("LOSS_CERTIFICATE")
    names = [b"%x.ex" % i for i in range(1400)]
    talk = answer(plane, flight(certificate(names)), b"www.example.com")
    assert plane.tls(talk) == (0x0303, set())  # it may be for this one: nothing is claimed
    assert plane.counted(before) == {"LOSS_CERTIFICATE_LONG": (1, 0)}


def test_a_certificate_longer_than_is_kept(plane: Plane) -> None:
    before = plane.counters("LOSS_CERTIFICATE")
    talk = answer(plane, flight(certificate([b"a.example"], padding=20000)))
    assert host(plane, talk) == (None, "pattern")
    assert plane.tls(talk) == (0x0303, set())
    assert plane.counted(before) == {"LOSS_CERTIFICATE_LONG": (1, 0)}


def test_client_that_comes_after_its_server(plane: Plane) -> None:
    """Packets of the two directions may be seen in another order than they were sent."""
    talk = plane.new_talk()
    plane.send(
        *talk.handshake(), *talk.segments(flight(certificate([b"a.example"])), from_client=False)
    )
    assert host(plane, talk) == ("a.example", "certificate")
    plane.send(*talk.segments(hellos.records(hellos.simple_hello(b"www.example.com"))))
    assert host(plane, talk) == ("www.example.com", "sni")
    assert plane.final(talk)


def test_only_the_server_is_seen(plane: Plane) -> None:
    talk = plane.new_talk()
    stream = flight(certificate([b"a.example"], padding=4000))
    plane.send(*talk.segments(stream, from_client=False))
    assert host(plane, talk) == ("a.example", "certificate")


def test_the_version_is_known_before_the_certificate_is_whole(plane: Plane) -> None:
    talk = opened(plane, b"www.example.com")
    first, second, *_ = talk.segments(
        flight(certificate([b"a.example"], padding=4000)), from_client=False
    )
    plane.send(first, second)
    assert plane.tls(talk) == (0x0303, set())
    assert not plane.final(talk)


def test_first_segment_lost_and_sent_again(plane: Plane) -> None:
    talk = opened(plane)
    first, *others = talk.segments(flight(certificate([b"a.example"], padding=4000)),
                                   from_client=False)  # fmt: skip
    plane.send(*others, first)
    assert host(plane, talk) == ("a.example", "certificate")


STREAMS: list[tuple[bytes, str]] = [
    (flight(certificate([b"%d.example" % i], b"cn.example"), apart=bool(i % 2)), f"{i}.example")
    for i in range(4)
]


@pytest.mark.parametrize(("stream", "expected"), STREAMS[:2])
def test_every_cut(plane: Plane, stream: bytes, expected: str) -> None:
    """A flight in two segments, cut at every place; a connection each."""
    for cut in range(1, len(stream), 1 + len(stream) // (40 + len(examples(300)))):
        talk = opened(plane)
        plane.send(
            talk.tcp(stream[:cut], from_client=False, seq=1, flags=PAYLOAD),
            talk.tcp(stream[cut:], from_client=False, seq=1 + cut, flags=PAYLOAD),
        )
        assert host(plane, talk) == (expected, "certificate"), cut
        assert plane.final(talk)


def test_flights_in_pieces(plane: Plane) -> None:
    """In records and segments of any size and order, with repeats."""
    source = random.Random(5)
    for number in examples(300):
        if number % 100 == 0:
            plane.forget_hellos()
        expected = f"host{number}.example"
        cert = certificate([expected.encode()], padding=source.choice((0, 1500, 5000)))
        body = server_hello() + certificate_message(cert, certificate(padding=1000))
        lengths = [source.randint(1, len(body)) for _ in range(source.choice((0, 1, 3)))]
        stream = hellos.records(body, lengths)
        pieces, at = [], 0
        while at < len(stream):
            end = min(at + source.randint(200, 1460), len(stream))
            pieces += [(at, end)] * source.choice((1, 1, 1, 1, 2))
            at = end
        if source.random() < 0.5:
            source.shuffle(pieces)
        talk = opened(plane)
        plane.send(*(
            talk.tcp(stream[at:end], from_client=False, seq=1 + at, flags=PAYLOAD)
            for at, end in pieces
        ))  # fmt: skip
        if len(pieces) - len(set(pieces)) < 6:
            assert host(plane, talk) == (expected, "certificate"), (lengths, pieces)


def lie(data: bytes, source: random.Random) -> bytes:
    """One byte of a certificate is another."""
    at = source.randrange(len(data))
    value = source.choice((0, 1, 0x7F, 0x80, 0x82, 0x83, 0x84, 0xFF))
    return data[:at] + bytes([value]) + data[at + 1 :]


HOSTILE: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "one byte": lambda: b"\x30",
    "no content": lambda: sequence(),
    "indefinite": lambda: b"\x30\x80" + sequence(bytes(30)) + bytes(2),
    "longer than it is": lambda: b"\x30\x82\xff\xff" + certificate([b"a.example"])[4:],
    "four bytes of length": lambda: b"\x30\x84\x00\x00\x02\x00" + certificate([b"a.example"])[4:],
    "nested": lambda: _nested(200),
    "alternatives are no sequence": lambda: certificate(
        extensions=extension(SUBJECT_ALT_NAME, der(0x82, b"a.example"))
    ),
    "a name longer than the names": lambda: certificate(
        extensions=extension(SUBJECT_ALT_NAME, sequence(b"\x82\x7fa.example"))
    ),
    "a name longer than a name": lambda: certificate([b"a" * 300]),
    "bytes that no name has": lambda: certificate([b"a\x00.example"]),
    "a subject that never ends": lambda: certificate(None, subject=sequence(bytes(600))),
    "extensions without end": lambda: certificate(extensions=extension(b"\x55\x1d\x0f", b"") * 200),
}  # fmt: skip


def _nested(depth: int) -> bytes:
    element = b""
    for _ in range(depth):
        element = sequence(element)
    return element


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_certificates(plane: Plane, case: str) -> None:
    before = plane.counters("LOSS_")
    talk = answer(plane, flight(HOSTILE[case]()))
    assert host(plane, talk) == (None, "pattern")
    assert plane.tls(talk) == (0x0303, set())
    assert plane.final(talk)
    assert len(plane.counted(before)) == 1


def test_certificates_with_bytes_changed(plane: Plane) -> None:
    source = random.Random(7)
    cert = certificate([b"a.example", b"b.example"], b"c.example")
    for number in examples(1000):
        changed = lie(cert, source)
        if number % 2:
            talk = answer(plane, flight(changed), b"www.example.com")
            assert host(plane, talk) == ("www.example.com", "sni")
        else:
            talk = answer(plane, flight(changed))
            found, evidence = host(plane, talk)
            assert evidence == ("certificate" if found else "pattern"), changed.hex()
            # Of a changed length comes a part, but never what stands nowhere.
            assert (found or "").encode() in changed.lower(), changed.hex()
        assert plane.final(talk)


def test_what_an_earlier_packet_left_is_no_version(plane: Plane) -> None:
    """A hello that ends before its version, behind one of another connection."""
    whole, short = plane.new_talk(), plane.new_talk()
    hello = hellos.records(hellos.simple_hello(b"www.example.com"))
    long_answer = (
        b"\x16\x03\x03\x00\x4a\x02\x00\x00\x46\x03\x03" + bytes(32) + b"\0\x13\x01\0\0\x1e"
    )
    long_answer += b"\x00\x2b\x00\x02\x03\x04" + bytes(28)
    for talk, answer in (
        (whole, long_answer),
        (short, b"\x16\x03\x03\x00\x04\x02\x00\x00\x00\x03\x03"),
    ):
        plane.send(*talk.handshake(), *talk.segments(hello))
        plane.send(talk.tcp(answer, from_client=False, seq=1, flags=PSH | ACK))
    cold = plane.loaded.array("flow_cold")
    client = np.frombuffer(short.client.mapped, np.uint8)
    (found,) = np.flatnonzero((cold["address"] == client).all(axis=2).any(axis=1))
    assert cold["tls_version"][found] == 0
