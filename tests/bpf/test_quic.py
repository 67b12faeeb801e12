# SPDX-License-Identifier: Apache-2.0
"""QUIC's Initials: the published packets, every version, one packet's frames, ids, tokens, and what
comes before, behind and instead of them."""

import random

import pytest

from tests import hellos, quic
from tests.bpf.plane import Flow, Plane
from tests.effort import some
from tests.packets import UDP, Conversation
from tests.quic import Piece

QUIC_LABEL = 5  # PROTOCOL_QUIC in bpf/abi.h
NAME = "www.example.org"
HELLO = hellos.simple_hello(NAME.encode())
ID = bytes.fromhex("8394c8f03e515708")  # RFC 9001, A

# RFC 9001, A.2: what the client sends; the same in RFC 9369, A.2.
PUBLISHED_FRAME = bytes.fromhex(
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868"
    "04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578"
    "616d706c652e636f6dff01000100000a00080006001d00170018001000070005"
    "04616c706e000500050100000000003300260024001d00209370b2c9caa47fba"
    "baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400"
    "0d0010000e0403050306030203080408050806002d00020101001c0002400100"
    "3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000"
    "75300901100f088394c8f03e51570806048000ffff"
)
# The packets' first and last bytes as published; the last ones are the tag over all of it.
PUBLISHED = {
    quic.V1: ("c000000001088394c8f03e5157080000449e7b9aec34", "e221af44860018ab0856972e194cd934"),
    quic.V2: ("d76b3343cf088394c8f03e5157080000449ea0c95e82", "a18b2faa745b6fe189cf772a9f84cbfc"),
}
# RFC 9001, A.3: the server's answer.
PUBLISHED_ANSWER = bytes.fromhex(
    "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a"
    "5816b6394100f37a1c69797554780bb38cc5a99f5ede4cf73c3ec2493a1839b3"
    "dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84"
    "022f8ef4cdd93795d77d06edbb7aaf2f58891850abbdca3d20398c276456cbc4"
    "2158407dd074ee"
)


def flow(plane: Plane, talk: Conversation) -> Flow:
    found = plane.flow(talk, UDP)
    assert found is not None
    return found


def named(plane: Plane, *datagrams: bytes) -> str | None:
    """The name of a new flow whose client sends these; it must be QUIC."""
    talk = plane.new_talk()
    plane.send(*(talk.udp(datagram) for datagram in datagrams))
    found = flow(plane, talk)
    assert found.protocol == QUIC_LABEL
    return found.name


def one(frames: bytes = b"", **fields: object) -> bytes:
    """A datagram of one Initial that begins with the whole hello, or with these frames."""
    frames = frames or quic.crypto(Piece(0, HELLO))
    return quic.initial(frames, ID, least=1200, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("version", PUBLISHED)
def test_published_initials(plane: Plane, version: int) -> None:
    packet = quic.initial(PUBLISHED_FRAME, ID, version=version, packet=2, width=4, least=1200)
    first, last = PUBLISHED[version]
    assert (packet.hex()[: len(first)], packet.hex()[-len(last) :]) == (first, last)
    talk = plane.new_talk()
    before = plane.counters()
    plane.send(talk.udp(packet))
    assert flow(plane, talk).name == "example.com"
    assert plane.counted(before)["INFO_QUIC_OPENED"][0] == 1
    plane.send(talk.udp(PUBLISHED_ANSWER, from_client=False))
    assert flow(plane, talk).name == "example.com"


def test_a_servers_initial_is_quic_and_not_opened(plane: Plane) -> None:
    talk = plane.new_talk()
    before = plane.counters()
    plane.send(talk.udp(bytes(20)), talk.udp(PUBLISHED_ANSWER, from_client=False))
    assert flow(plane, talk).protocol == QUIC_LABEL
    assert not {"INFO_QUIC_OPENED", "LOSS_QUIC_SEALED"} & plane.counted(before).keys()


@pytest.mark.parametrize("version", quic.VERSIONS, ids=hex)
def test_every_version(plane: Plane, version: int) -> None:
    hello = quic.google_hello(NAME.encode()) if version == quic.Q050 else HELLO
    kind = quic.GOOGLES_CRYPTO if version in quic.GOOGLES else quic.CRYPTO
    frames = quic.crypto(Piece(0, hello), kind=kind)
    assert named(plane, one(frames, version=version)) == NAME
    assert named(plane, one(b"\x30" + frames, version=version)) is None


def test_what_google_did_not_encrypt(plane: Plane) -> None:
    hello = quic.google_hello(NAME.encode())
    for version in (b"Q025", b"Q039", b"Q043", b"Q044", b"Q046"):
        for width in (1, 2, 4) if version >= b"Q044" else (1, 2, 4, 6):
            packet = quic.google_packet(hello, version, width=width)
            assert named(plane, packet) == NAME, (version, width)
    for version in (b"Q043", b"Q046"):
        assert named(plane, quic.google_packet(quic.google_hello(None), version)) is None
        packet = quic.google_packet(quic.google_hello(NAME.encode(), size=9), version)
        for stop in some(range(len(packet))):
            talk = plane.new_talk()
            plane.send(talk.udp(packet[:stop]))
            found = flow(plane, talk).name
            behind = len(packet) - stop > 20  # values that follow the name
            assert found in ((None,) if behind else (None, NAME)), (version, stop)


def test_ids_tokens_and_numbers_of_every_length(plane: Plane) -> None:
    source = random.Random(1)
    frames = quic.crypto(Piece(0, HELLO))
    for length in range(21):
        client_id, theirs = source.randbytes(length), source.randbytes(20 - length)
        token = source.randbytes(source.choice((0, 1, 63, 64, 300)))
        packet = quic.initial(
            frames,
            client_id,
            source=theirs,
            token=token,
            width=1 + length % 4,
            packet=source.randrange(256),
            least=source.choice((0, 1200, 1400)),
        )
        assert named(plane, packet) == NAME, length


def test_other_frames(plane: Plane) -> None:
    rest = [quic.crypto(Piece(0, HELLO), width) for width in (0, 2, 4, 8)]
    many = [(n, n * 64) for n in range(20)]
    before = [
        *(b"\0" * n for n in (1, 7, 8, 9, 500)),
        *(b"\1\0" * n for n in (1, 20)),
        *(quic.ack(ranges=many[:n], ecn=ecn) for n in (0, 1, 20) for ecn in (False, True)),
        quic.ack(1 << 40),
        quic.close(b"why not"),
    ]
    for frames in before:
        assert named(plane, one(frames + rest[len(frames) % 4])) == NAME, frames


def test_what_is_no_frame_of_an_initial(plane: Plane) -> None:
    before = plane.counters()
    whole = quic.crypto(Piece(0, HELLO))
    wrong = [bytes([kind]) + whole for kind in (4, 5, 7, 8, 0x1D, 0x30, 0x40, 0xC0, 0xFF)]
    # Behind a hello as well: what cannot be right as a whole is not believed.
    wrong += [whole + frames for frames in list(wrong)]
    wrong += [whole + b"\x06\x00" + quic.number(n) for n in (1 << 14, 1 << 29, 1 << 50)]
    wrong += [whole + b"\x02" + quic.number(1 << 61) * 4]
    for frames in wrong:
        assert named(plane, one(frames)) is None, frames
    assert plane.counted(before)["LOSS_QUIC_SEALED"][0] == len(wrong)


def test_a_piece_beyond_what_is_kept(plane: Plane) -> None:
    far = [Piece(at, HELLO) for at in (17408, 1 << 20, (1 << 30) - 1, 1 << 31, (1 << 62) - 400)]
    for piece in far:
        frames = quic.crypto(piece)
        assert named(plane, one(frames)) is None
        assert named(plane, one(frames + quic.crypto(Piece(0, HELLO)))) == NAME


def test_coalesced_packets(plane: Plane) -> None:
    half = len(HELLO) // 2
    opening = [quic.crypto(Piece(0, HELLO[:half])), quic.crypto(Piece(half, HELLO[half:]))]
    initials = [quic.initial(frames, ID, packet=n) for n, frames in enumerate(opening)]
    early = quic.long_packet(quic.ZERO_RTT, ID, bytes(300))
    for shape in (
        [early, *initials],
        [initials[0], early, initials[1]],
        [*initials, early],
        [initials[1], initials[0], early],
    ):
        assert named(plane, b"".join(shape)) == NAME
    assert named(plane, initials[0] + b"\0" * 900, initials[1] + bytes(900)) == NAME
    assert named(plane, early) is None


def test_cut_at_every_byte(plane: Plane) -> None:
    packet = quic.initial(quic.crypto(Piece(0, HELLO)), ID, token=bytes(9))
    for stop in some(range(len(packet))):
        talk = plane.new_talk()
        plane.send(talk.udp(packet[:stop]))
        assert flow(plane, talk).name is None
        plane.send(talk.udp(packet))
        assert flow(plane, talk).name == NAME, stop


def test_damage_gives_no_name_or_the_right_one(plane: Plane) -> None:
    """The tag is not looked at: a wrong bit may pass, but away from the name it changes none."""
    packet = quic.initial(quic.crypto(Piece(0, HELLO)), ID)
    # The name's own bytes come out changed by the very bits that were, and so do its lengths.
    at = len(packet) - 16 - len(HELLO) + HELLO.index(NAME.encode())
    lengths = 9
    for bit in range(0, 8 * len(packet), 3):
        if at - lengths <= bit // 8 < at + len(NAME):
            continue
        damaged = bytearray(packet)
        damaged[bit // 8] ^= 1 << bit % 8
        talk = plane.new_talk()
        plane.send(talk.udp(bytes(damaged)))
        assert flow(plane, talk).name in (None, NAME), bit


def test_a_server_that_chooses_another_id(plane: Plane) -> None:
    """Later Initials go to the server's id, and are under the first one's keys all the same."""
    half = len(HELLO) // 2
    first = one(quic.crypto(Piece(0, HELLO[:half])))
    for length in (0, 4, 8, 20):
        frames = quic.crypto(Piece(half, HELLO[half:]))
        second = one(frames, to=bytes(range(length)), packet=1)
        assert named(plane, first, second) == NAME


def test_retry(plane: Plane) -> None:
    """The client begins anew, to the id that the server gave it, and under its keys."""
    half = len(HELLO) // 2
    theirs = b"the server's"
    for version in (quic.V1, quic.V2):
        talk = plane.new_talk()
        plane.send(talk.udp(one(quic.crypto(Piece(0, HELLO[:half])), version=version)))
        again = quic.retry(b"", theirs, b"token", version=version)
        plane.send(talk.udp(again, from_client=False))
        assert flow(plane, talk).name is None
        for n, piece in enumerate((Piece(half, HELLO[half:]), Piece(0, HELLO[:half]))):
            assert flow(plane, talk).name is None
            frames = quic.crypto(piece)
            plane.send(
                talk.udp(
                    quic.initial(
                        frames, theirs, token=b"token", packet=n + 1, version=version, least=1200
                    )
                )
            )
        assert flow(plane, talk).name == NAME


def test_another_connection_of_the_same_ports(plane: Plane) -> None:
    """What the first one left unfinished is no part of the second one's hello."""
    other = hellos.simple_hello(b"other.example.org", seed=2)
    left = one(quic.crypto(Piece(0, other[:60])))
    half = len(HELLO) // 2
    pieces = [Piece(half, HELLO[half:]), Piece(0, HELLO[:half])]
    anew = quic.Client(b"another id")
    assert named(plane, left, *(anew.datagram(piece) for piece in pieces)) == NAME


def test_a_hello_without_a_name_ends_it(plane: Plane) -> None:
    nameless = one(quic.crypto(Piece(0, hellos.simple_hello(None))))
    before = plane.counters()
    assert named(plane, nameless, one()) is None
    assert plane.counted(before)["INFO_INSPECTED"][0] == 1


def test_a_hello_of_two_thousand_bytes(plane: Plane) -> None:
    """As browsers send it: in two datagrams, the later part of it first."""
    hello = hellos.browser_hello(NAME.encode(), seed=3)
    client = quic.Client(ID)
    first = client.datagram(Piece(0, hello[:80]), Piece(1000, hello[1000:]))
    second = client.datagram(Piece(80, hello[80:1000]))
    assert named(plane, first, second) == NAME
    assert named(plane, second, first) == NAME


def test_packets_that_never_help_are_given_up(plane: Plane) -> None:
    talk = plane.new_talk()
    before = plane.counters()
    again = talk.udp(one(quic.crypto(Piece(0, HELLO[:100]))))
    plane.send(*[again] * 20)
    assert plane.counted(before)["INFO_INSPECTED"][0] <= 10
    assert flow(plane, talk).protocol == QUIC_LABEL
