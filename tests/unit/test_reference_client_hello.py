# SPDX-License-Identifier: Apache-2.0
import random
import ssl
import struct

import pytest

from tests import hellos
from tests.reference.client_hello import ClientHello, parse_client_hello

# RFC 8448, section 3: the ClientHello of a simple 1-RTT handshake.
RFC8448 = bytes.fromhex(
    "010000c00303cb34ecb1e78163ba1c38c6dacb196a6dffa21a8d9912ec18a2ef6283024dece7000006130113031302"
    "010000910000000b0009000006736572766572ff01000100000a00140012001d001700180019010001010102010301"
    "0400230000003300260024001d002099381de560e4bd43d23d8e435a7dbafeb3c06e51c13cae4d5413691e529aaf2c"
    "002b0003020304000d0020001e040305030603020308040805080604010501060102010402050206020202002d0002"
    "0101001c00024001"
)
# RFC 9001, appendix A.2: the ClientHello inside a QUIC Initial packet.
RFC9001 = bytes.fromhex(
    "010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000"
    "c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c70"
    "6e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994"
    "ec74d748002b0003020304000d0010000e0403050306030203080408050806002d00020101001c000240010039003204"
    "08ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ff"
    "ff"
)
NAME = b"www.example.com"
SAMPLES = {
    "simple": hellos.simple_hello(NAME),
    "browser": hellos.browser_hello(NAME, seed=3),
    "16 kB": hellos.sized_hello(NAME, 16384),
}


def parse(message: bytes, *lengths: int) -> ClientHello | None:
    return parse_client_hello(hellos.records(message, lengths))


def test_published_hellos() -> None:
    assert (len(RFC8448), len(RFC9001)) == (196, 241)
    assert parse(RFC8448) == ClientHello("server")
    assert parse(RFC9001) == ClientHello("example.com")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_hello_of_openssl(version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    sent = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="Bücher.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    assert parse_client_hello(sent.read()) == ClientHello("xn--bcher-kva.example")


@pytest.mark.parametrize("message", SAMPLES.values(), ids=list(SAMPLES))
def test_every_cut_needs_more_or_knows_the_name(message: bytes) -> None:
    stream = hellos.records(message)
    step = max(len(stream) // 2000, 1)
    known = [parse_client_hello(stream[:length]) for length in range(0, len(stream) + 1, step)]
    first = known.index(ClientHello("www.example.com"))
    assert known[:first] == [None] * first
    assert known[first:] == [ClientHello("www.example.com")] * (len(known) - first)


def test_records_may_split_anywhere() -> None:
    for at in range(1, len(RFC8448)):
        assert parse(RFC8448, at) == ClientHello("server")
    assert parse(RFC8448, *[1] * 196) == ClientHello("server")


def test_generated_hellos_are_what_they_should_be() -> None:
    sizes = [len(hellos.browser_hello(NAME, seed=seed)) for seed in range(100)]
    assert 1700 <= min(sizes) < 1850
    assert 1950 < max(sizes) <= 2100
    places = {hellos.browser_hello(NAME, seed=seed).index(NAME) > 1400 for seed in range(100)}
    assert places == {True, False}
    source = random.Random(1)
    for seed in range(100):
        size = source.randint(200, 16384)
        message = hellos.sized_hello(NAME, size, seed=seed)
        assert len(message) == size
        assert parse(message) == ClientHello("www.example.com")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (b"WWW.Example.COM.", "www.example.com"),
        (b"under_score.example", "under_score.example"),
        (b"192.0.2.1", "192.0.2.1"),
        (b"a" * 255, "a" * 255),
        (b"a" * 255 + b".", "a" * 255),
        (b"a" * 256, None),
        (b"", None),
        (b".", None),
        (b"two words", None),
        (b"nul\x00byte", None),
        (b"\xc3\xbc.example", None),
    ],
)
def test_names(name: bytes, found: str | None) -> None:
    assert parse(hellos.simple_hello(name)) == ClientHello(found)


@pytest.mark.parametrize(
    "message",
    [
        hellos.simple_hello(None),
        hellos.client_hello(None),
        hellos.client_hello([]),
        hellos.client_hello([(hellos.SERVER_NAME, b"")]),
        hellos.client_hello([hellos.server_name(NAME, kind=1)]),
    ],
)
def test_hellos_without_a_name(message: bytes) -> None:
    assert parse(message) == ClientHello(None)


@pytest.mark.parametrize(
    "stream",
    [
        b"GET / HTTP/1.1\r\n",
        b"\x16\x02\x00",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x40\x01",
        hellos.records(RFC8448, kind=hellos.ALERT),
        hellos.records(hellos.server_hello()),
        hellos.records(RFC8448, [50])[:55] + hellos.records(RFC8448, kind=hellos.APPLICATION_DATA),
        hellos.records(b"\x01\x00\x40\x00" + RFC8448[4:]),
        hellos.records(RFC8448[:3] + b"\x28" + RFC8448[4:]),
        hellos.records(hellos.client_hello([], version=0x0200)),
        hellos.records(hellos.client_hello([], session_id=bytes(33))),
        hellos.records(hellos.client_hello([], suites=())),
        hellos.records(hellos.client_hello([(0, struct.pack(">HBH", 8, 0, 6) + b"server")])),
        hellos.records(hellos.client_hello([(0, struct.pack(">HBH", 9, 0, 7) + b"server")])),
    ],
)
def test_what_contradicts_itself_is_no_hello(stream: bytes) -> None:
    with pytest.raises(ValueError, match=" "):
        parse_client_hello(stream)
