# SPDX-License-Identifier: Apache-2.0
"""Signatures by a text in the kernel: HTTP's fields, and STUN's attributes."""

import random
from collections.abc import Sequence

import pytest

from tests import hellos, messages, quic
from tests.bpf.made import made_up
from tests.bpf.plane import Flow, Plane
from tests.effort import examples
from tests.packets import Conversation, Endpoint
from tests.reference import stun
from xdpprobe.catalogue import Catalogue

AGENT, TYPE, REQUEST, ATTRIBUTE, REALM, SOFTWARE, WEAK, BY_ALPN = range(7200, 7208)
APPS = (
    *("by-agent", "by-type", "by-request", "by-attribute", "by-realm", "by-software"),
    *("weak", "by-alpn"),
)
STUN = 336
SIGNATURES = (
    "".join(
        f'[[app]]\nid = {AGENT + n}\nname = "{name}"\ntitle = "Made"\ncategory = "work"\n'
        for n, name in enumerate(APPS)
    )
    + """
[[signature]]
app = "by-agent"
user_agent = ["Made/1", "A name that is as long as a text may be, with 63 bytes, not one"]

[[signature]]
app = "weak"
user_agent = ["Made/"]
confidence = 60

[[signature]]
app = "by-alpn"
alpn = ["made/1"]

[[signature]]
app = "by-type"
content_type = ["application/made"]
confidence = 95

[[signature]]
app = "by-request"
request = ["GET /made"]
confidence = 50

[[signature]]
protocol = "stun"
app = "by-attribute"
stun_attribute = [0x7abc]
confidence = 88

[[signature]]
protocol = "stun"
app = "weak"
stun_attribute = [0x7abe]
confidence = 50

[[signature]]
protocol = "stun"
app = "by-realm"
stun_realm = ["made.example"]
confidence = 88

[[signature]]
protocol = "stun"
app = "by-software"
stun_software = ["Made software"]
confidence = 87
"""
)


@pytest.fixture(scope="module")
def knowledge() -> Catalogue:
    return made_up(SIGNATURES, shipped=["stun"])


def only(plane: Plane, talk: Conversation, l4: int = 6) -> Flow:
    flow = plane.flow(talk, l4)
    assert flow is not None
    return flow


def label(plane: Plane, name: str) -> int:
    return next(n for n, one in plane.loaded.tables().labels().items() if one.name == name)


def requested(plane: Plane, stream: bytes, size: int = 1400) -> Flow:
    talk = plane.new_talk(80)
    plane.send(*talk.handshake(), *talk.segments(stream, size))
    return only(plane, talk)


HOST = b"www.made.invalid"
FIELDS = {
    "agent first": ([b"User-Agent: Made/1.2 (X)"], AGENT),
    "any case, no blank": ([b"uSER-aGENT:Made/1"], AGENT),
    "the longest text decides": ([b"User-Agent: Made/2"], WEAK),
    "as long as can be": (
        [b"User-Agent: A name that is as long as a text may be, with 63 bytes, not one more"],
        AGENT,
    ),
    "another name": ([b"User-Agent: made/1"], 0),
    "not at its beginning": ([b"User-Agent: X Made/1"], 0),
    "another field": ([b"X-User-Agent: Made/1", b"User-Agents: Made/1"], 0),
    "the first counts": ([b"User-Agent: x", b"User-Agent: Made/1"], 0),
    "a type": ([b"Content-Type: application/made; charset=x"], TYPE),
    "the more confident": ([b"User-Agent: Made/1", b"content-type: application/made"], TYPE),
    "another type": ([b"Content-Types: application/made"], 0),
    "cut by the line": ([b"User-Agent: Made", b"/1"], 0),
}


@pytest.mark.parametrize("size", [1400, 33])
@pytest.mark.parametrize(("fields", "app"), FIELDS.values(), ids=list(FIELDS))
def test_fields(plane: Plane, fields: Sequence[bytes], app: int, size: int) -> None:
    flow = requested(plane, messages.http_request(HOST, before=fields), size)
    assert (flow.app, flow.name) == (app, HOST.decode())


def test_fields_behind_the_host(plane: Plane) -> None:
    lines = [b"GET / HTTP/1.1", b"Host: " + HOST, b"Accept: */*", b"User-Agent: Made/1", b"", b""]
    flow = requested(plane, b"\r\n".join(lines))
    assert (flow.app, flow.name) == (AGENT, HOST.decode())
    # What is not there when the host is known does not count, and is not waited for.
    flow = requested(plane, b"\r\n".join(lines), 60)
    assert (flow.app, flow.name) == (0, HOST.decode())


def test_the_body_is_no_field(plane: Plane) -> None:
    stream = messages.http_request(HOST, before=[], body=b"User-Agent: Made/1\r\n\r\n")
    assert requested(plane, stream).app == 0


def test_without_a_host(plane: Plane) -> None:
    flow = requested(plane, messages.http_request(None, before=[b"User-Agent: Made/1"]))
    assert (flow.app, flow.protocol, flow.name) == (AGENT, label(plane, "http"), None)


def test_a_request_line(plane: Plane) -> None:
    assert requested(plane, messages.http_request(HOST, target=b"/made-up")).app == REQUEST
    assert requested(plane, messages.http_request(HOST, target=b"/up-made")).app == 0


def test_what_a_name_rule_says_counts_more(plane: Plane) -> None:
    before = [b"User-Agent: Made/1"]
    flow = requested(plane, messages.http_request(b"www.youtube.com", before=before))
    assert flow.app == label(plane, "youtube")


@pytest.mark.parametrize("cut", range(1, 66))
def test_cut_anywhere(plane: Plane, cut: int) -> None:
    """A request of which the rest never comes names no wrong application."""
    stream = messages.http_request(HOST, before=[b"User-Agent: Made/1"])
    whole = requested(plane, messages.http_request(HOST, before=[b"User-Agent: Made/1.1 and more"]))
    assert whole.app == AGENT  # its bytes still lie in the work space
    named = HOST + b"\r\n" in stream[:cut]
    assert requested(plane, stream[:cut]).app == (AGENT if named else 0)


def attribute(kind: int, value: bytes = b"", length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    return kind.to_bytes(2, "big") + size.to_bytes(2, "big") + value + bytes(-len(value) % 4)


def message(*attributes: bytes, kind: int = 1, size: int | None = None) -> bytes:
    body = b"".join(attributes)
    length = len(body) if size is None else size
    head = kind.to_bytes(2, "big") + length.to_bytes(2, "big")
    return head + stun.COOKIE + bytes(range(12)) + body


def bound(plane: Plane, payload: bytes, talk: Conversation | None = None) -> Flow:
    talk = talk or plane.new_talk(3478)
    plane.send(talk.udp(payload))
    return only(plane, talk, 17)


USER, OTHER = attribute(0x0006, b"user"), attribute(0x8029, bytes(8))
CALLS = {
    "attribute": ([attribute(0x7ABC)], ATTRIBUTE),
    "behind others": ([USER, OTHER, attribute(0x7ABC, b"abc")], ATTRIBUTE),
    "behind 256 bytes": ([attribute(0x0013, bytes(601)), attribute(0x7ABC)], ATTRIBUTE),
    "in a value": ([attribute(0x0013, attribute(0x7ABC))], 0),
    "another": ([attribute(0x7ABD)], 0),
    "realm": ([USER, attribute(0x0014, b"Relay1.Made.example")], REALM),
    "realm, the very name": ([attribute(0x0014, b"made.example")], REALM),
    "realm, longer label": ([attribute(0x0014, b"notmade.example")], 0),
    "realm, empty": ([attribute(0x0014, b"")], 0),
    "realm, no name": ([attribute(0x0014, b"made .example\x80")], 0),
    "software": ([attribute(0x8022, b"Made software 2.1")], SOFTWARE),
    "software, shorter": ([attribute(0x8022, b"Made softwar"), attribute(0x0006, b"e")], 0),
    "the more confident": (
        [attribute(0x8022, b"Made software"), attribute(0x0014, b"made.example")],
        REALM,
    ),
    "of two alike the first": ([attribute(0x0014, b"made.example"), attribute(0x7ABC)], ATTRIBUTE),
}


@pytest.mark.parametrize(("attributes", "app"), CALLS.values(), ids=list(CALLS))
def test_attributes(plane: Plane, attributes: Sequence[bytes], app: int) -> None:
    flow = bound(plane, message(*attributes))
    assert (flow.protocol, flow.app) == (STUN, app)


def test_a_realm_that_a_name_rule_knows(plane: Plane) -> None:
    flow = bound(plane, message(attribute(0x0014, b"turn.slack.com")))
    assert (flow.app, flow.name) == (label(plane, "slack"), None)


def test_a_realm_that_nothing_knows_takes_no_word_back(plane: Plane) -> None:
    before = plane.counters("LOSS_NAME")
    for realm in (b"unheard.invalid", b""):
        flow = bound(plane, message(attribute(0x7ABE), attribute(0x0014, realm)))
        assert (flow.protocol, flow.app) == (STUN, WEAK)
    assert not plane.counted(before)


@pytest.mark.parametrize("framed", [True, False])
def test_over_tcp(plane: Plane, framed: bool) -> None:
    payload = message(USER, attribute(0x7ABC))
    if framed:
        payload = len(payload).to_bytes(2, "big") + payload
    talk = plane.new_talk(3478)
    plane.send(*talk.handshake(), *talk.segments(payload))
    assert (only(plane, talk).protocol, only(plane, talk).app) == (STUN, ATTRIBUTE)


def test_without_a_cookie(plane: Plane) -> None:
    """As before RFC 5389: only what the patterns call STUN."""
    body = USER + attribute(0x7ABC)
    classic = b"\x00\x01" + len(body).to_bytes(2, "big") + bytes(range(16)) + body
    assert (bound(plane, classic).protocol, bound(plane, classic).app) == (STUN, ATTRIBUTE)


@pytest.mark.parametrize("cut", range(20, 44))
def test_attributes_cut_short(plane: Plane, cut: int) -> None:
    """What follows in the work space, of a longer message before, is not read."""
    whole = message(USER, OTHER, attribute(0x7ABC, bytes(4)))
    assert bound(plane, whole).app == ATTRIBUTE
    assert bound(plane, whole[:cut]).app == 0


def test_a_length_past_the_end(plane: Plane) -> None:
    long = attribute(0x7ABC, b"abcd", length=400)
    assert bound(plane, message(USER, long)).app == 0
    assert bound(plane, message(USER, attribute(0x7ABC), size=400)).app == ATTRIBUTE
    assert bound(plane, message(USER, attribute(0x7ABC), size=8)).app == 0


def test_more_attributes_than_are_looked_at(plane: Plane) -> None:
    before = plane.counters("LOSS_STUN_LONG")
    assert bound(plane, message(*[USER] * 31, attribute(0x7ABC))).app == ATTRIBUTE
    assert not plane.counted(before)
    assert bound(plane, message(*[USER] * 32, attribute(0x7ABC))).app == 0
    assert plane.counted(before)["LOSS_STUN_LONG"][0] == 1


def test_random_messages(plane: Plane) -> None:
    dice = random.Random(7)
    kinds = [0x0006, 0x0014, 0x8022, 0x7ABC, 0x8029]
    found = 0
    for _ in examples(150):
        parts = [
            attribute(dice.choice(kinds), dice.randbytes(dice.randrange(9)))
            for _ in range(dice.randrange(6))
        ]
        payload = bytearray(message(*parts))
        if dice.randrange(2) and len(payload) > 20:
            payload[dice.randrange(20, len(payload))] = dice.choice([0, 1, 4, 0x7A, 0xBC, 0xFF])
        payload = payload[: dice.randint(20, len(payload))]
        seen = stun.attributes(bytes(payload))
        assert seen is not None
        wanted = any(one.type == 0x7ABC for one in seen)
        assert (bound(plane, bytes(payload)).app == ATTRIBUTE) == wanted, payload.hex()
        found += wanted
    assert found or len(examples(150)) < 20


def test_how_often_texts_are_known(plane: Plane) -> None:
    before = plane.counters("INFO_TEXTS")
    bound(plane, message(attribute(0x7ABC), attribute(0x0014, b"made.example"), attribute(0x7ABD)))
    assert plane.counted(before) == {"INFO_TEXTS": (2, 0)}


def test_what_a_relay_says_holds_for_its_socket(plane: Plane) -> None:
    client, relay = Endpoint("10.200.0.1", 40000), Endpoint("198.51.100.9", 3478)
    peer = Endpoint("203.0.113.7", 50000)
    silent = message(USER)
    bound(plane, message(attribute(0x0014, b"made.example")), Conversation(client, relay))
    before = plane.counters("INFO_SOCKETS")
    to_peer = bound(plane, silent, Conversation(client, peer))
    from_peer = bound(plane, silent, Conversation(Endpoint("203.0.113.8", 50001), client))
    assert (to_peer.app, from_peer.app) == (REALM, REALM)
    assert plane.counted(before)["INFO_SOCKETS"][0] == 2
    others = [
        Conversation(Endpoint("10.200.0.1", 40001), peer),
        Conversation(Endpoint("10.200.0.2", 40000), peer),
        Conversation(client, Endpoint("203.0.113.6", 50000), tags=[(0x8100, 7)]),
        Conversation(Endpoint("10.200.0.3", 40000), relay),
    ]
    assert [bound(plane, silent, talk).app for talk in others] == [0] * 4
    # Its own word counts more.
    own = bound(plane, message(attribute(0x7ABC)), Conversation(client, Endpoint("203.0.113.9", 9)))
    assert own.app == ATTRIBUTE


@pytest.mark.parametrize(
    ("offered", "app"),
    [
        ([b"made/1", b"h2"], BY_ALPN),
        ([b"h2", b"made/1"], 0),
        ([b"made/10"], 0),
        ([b"made/"], 0),
        ([b"m" * 200], 0),
    ],
)
@pytest.mark.parametrize("named", [b"unknown.example", None])
@pytest.mark.parametrize("way", ["tls", "tls in pieces", "quic", "quic in pieces"])
def test_alpn(plane: Plane, offered: list[bytes], app: int, named: bytes | None, way: str) -> None:
    """The first protocol of the list, as a whole, in a hello that is whole."""
    name = [] if named is None else [hellos.server_name(named)]
    hello = hellos.client_hello([*name, hellos.filler(900), hellos.alpn(offered)])
    talk = plane.new_talk()
    cut = 500 if way.endswith("pieces") else len(hello)
    if way.startswith("tls"):
        plane.send(*talk.handshake(), *talk.segments(hellos.records(hello), cut + 5))
    else:
        client = quic.Client(b"client")
        pieces = [quic.Piece(0, hello[:cut]), quic.Piece(cut, hello[cut:])]
        plane.send(*(talk.udp(client.datagram(piece)) for piece in pieces if piece.data))
    flow = plane.flow(talk, 6 if way.startswith("tls") else 17)
    assert flow is not None
    assert (flow.name, flow.app) == (named and named.decode(), app)
    methods = plane.loaded.abi.enums["method"]
    assert flow.app_method == (methods["METHOD_PATTERN"] if app else 0)


def test_a_name_rule_counts_more_than_alpn(plane: Plane) -> None:
    hello = hellos.client_hello([hellos.server_name(b"www.netflix.com"), hellos.alpn([b"made/1"])])
    talk = plane.new_talk()
    plane.send(*talk.handshake(), *talk.segments(hellos.records(hello)))
    flow = plane.flow(talk)
    assert flow is not None
    assert flow.app not in (0, BY_ALPN)


def test_an_initial_behind_another_version_is_opened(plane: Plane) -> None:
    """The shipped signatures know QUIC of any version, which is not the last word."""
    initial = quic.Client(b"client").datagram(
        quic.Piece(0, hellos.simple_hello(b"www.netflix.com"))
    )
    talk = plane.new_talk()
    for version in (b"\x0a\x1a\x2a\x3a", b"\xff\x02\x00\x00", b"\x00\x00\x00\x01"):
        plane.send(talk.udp(initial[:1] + version + initial[5:40]))
    plane.send(talk.udp(initial))
    flow = plane.flow(talk, 17)
    assert flow is not None
    assert flow.name == "www.netflix.com"
