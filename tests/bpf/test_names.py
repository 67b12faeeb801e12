# SPDX-License-Identifier: Apache-2.0
"""Which protocol and which name the data plane finds in a conversation."""

import random
from dataclasses import dataclass

import pytest

from tests import hellos, messages
from tests.bpf.instances import lent
from tests.bpf.plane import Flow, Plane
from tests.effort import examples
from tests.packets import ACK, FIN, PSH, RST, SYN, UDP, Conversation, Endpoint, ethernet, ipv4, udp
from tests.reference.client_hello import parse_client_hello
from tests.reference.dns import parse_message
from tests.reference.http import parse_request

NAME = b"www.Example.com"
FOUND = "www.example.com"


def tls(message: bytes) -> bytes:
    return hellos.records(message)


@dataclass(frozen=True)
class Case:
    """A first message of the client's; the oracle says which name is in it."""

    protocol: str
    stream: bytes
    port: int = 443

    @property
    def name(self) -> str | None:
        if self.protocol == "TLS":
            hello = parse_client_hello(self.stream)
            return hello.name if hello else None
        if self.protocol == "HTTP":
            request = parse_request(self.stream)
            return request.host if request else None
        return None


METHODS = (
    *("POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "PROPFIND"),
    *("PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT"),
)
REQUEST = messages.http_request
CASES = {
    "TLS, small": Case("TLS", tls(hellos.simple_hello(NAME))),
    "TLS, browser": Case("TLS", tls(hellos.browser_hello(NAME, seed=5))),
    "TLS, another port": Case("TLS", tls(hellos.simple_hello(NAME)), port=12345),
    "TLS, 16 kB": Case("TLS", tls(hellos.sized_hello(NAME, 16384, seed=2))),
    "TLS, without name": Case("TLS", tls(hellos.simple_hello(None))),
    "TLS, name of 255 bytes": Case("TLS", tls(hellos.simple_hello(b"a" * 251 + b".com"))),
    "TLS, trailing dot": Case("TLS", tls(hellos.simple_hello(NAME + b"."))),
    "TLS, name with a blank": Case("TLS", tls(hellos.simple_hello(b"two words"))),
    "TLS, records of one byte": Case(
        "TLS", hellos.records(hellos.simple_hello(NAME), [1] * len(hellos.simple_hello(NAME)))
    ),
    "TLS, record ends in the name": Case(
        "TLS",
        hellos.records(hellos.simple_hello(NAME), [hellos.simple_hello(NAME).index(NAME) + 5]),
    ),
    "TLS, SSL 3.0's record version": Case(
        "TLS", hellos.records(hellos.simple_hello(NAME), version=0x0300)
    ),
    "HTTP": Case("HTTP", REQUEST(NAME), port=80),
    "HTTP, port": Case("HTTP", REQUEST(NAME + b":8080"), port=8080),
    "HTTP, address": Case("HTTP", REQUEST(b"192.0.2.1"), port=80),
    "HTTP, IPv6 address": Case("HTTP", REQUEST(b"[2001:DB8::1]:80"), port=80),
    "HTTP, no blank": Case("HTTP", REQUEST(NAME, field=b"hOsT:"), port=80),
    "HTTP, many blanks": Case("HTTP", REQUEST(NAME, field=b"Host: \t "), port=80),
    "HTTP, no field": Case("HTTP", REQUEST(None), port=80),
    "HTTP, late": Case("HTTP", REQUEST(NAME, before=[b"X: " + b"y" * 1000]), port=80),
    "HTTP, long target": Case("HTTP", REQUEST(NAME, target=b"/" + b"z" * 1100), port=80),
    "HTTP, in the body": Case("HTTP", REQUEST(None, body=b"Host: wrong.example\r\n\r\n")),
    "HTTP, in a value": Case("HTTP", REQUEST(NAME, before=[b"X: Host: wrong.example"])),
    "HTTP, bare line feeds": Case("HTTP", b"GET / HTTP/1.1\nA: b\nHost: example.com\n\n"),
    **{
        f"HTTP, {method}": Case("HTTP", REQUEST(NAME, method=method.encode()), port=80)
        for method in METHODS
    },
    "SSH": Case("SSH", messages.SSH_CLIENT, port=22),
    "none": Case("UNKNOWN", bytes(range(200)), port=9),
    "RTSP": Case("UNKNOWN", b"OPTIONS rtsp://example.com RTSP/1.0\r\nCSeq: 1\r\n\r\n", port=554),
}


def found(plane: Plane, talk: Conversation, l4: int = 6) -> Flow:
    flow = plane.flow(talk, l4)
    assert flow is not None
    return flow


def protocol(plane: Plane, name: str) -> int:
    return plane.loaded.abi.enums["protocol"][f"PROTOCOL_{name}"]


@pytest.mark.parametrize("size", [1400, 64])
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_first_message(plane: Plane, case: Case, size: int) -> None:
    if case.protocol in ("SSH", "UNKNOWN") and size < 1400:
        pytest.skip("one segment says it all")
    if len(case.stream) > 256 * size:
        pytest.skip("a message of more segments than anybody sends")
    talk = plane.new_talk(case.port)
    plane.send(*talk.handshake(), *talk.segments(case.stream, size))
    flow = found(plane, talk)
    assert flow.name == case.name
    if case.protocol == "UNKNOWN":  # to the parsers; signatures may know it
        assert flow.protocol not in set(plane.loaded.abi.enums["protocol"].values()) - {0}
    else:
        assert flow.protocol == protocol(plane, case.protocol)


def answer(talk: Conversation, stream: bytes) -> list[bytes]:
    return talk.segments(stream, from_client=False)


@pytest.mark.parametrize("length", [256, 300, 1000])
def test_a_host_longer_than_a_name_can_be(plane: Plane, length: int) -> None:
    before = plane.counters("LOSS_NAME_CHARS")
    talk = plane.new_talk(80)
    plane.send(*talk.handshake(), *talk.segments(REQUEST((b"long." * 200)[:length])))
    flow = found(plane, talk)
    assert (flow.name, flow.protocol) == (None, protocol(plane, "HTTP"))
    assert plane.counted(before)["LOSS_NAME_CHARS"][0] == 1


@pytest.mark.parametrize("size", [1400, 30])
def test_a_hello_that_contradicts_itself_is_of_tls(plane: Plane, size: int) -> None:
    """It has no name, but nothing else begins so."""
    stream = bytearray(hellos.records(hellos.simple_hello(b"example.com")))
    ciphers = 5 + 4 + 2 + 32 + 1 + stream[43]
    stream[ciphers : ciphers + 2] = b"\xff\xff"
    before = plane.counters("LOSS_HELLO_MALFORMED")
    talk = plane.new_talk(443)
    plane.send(*talk.handshake(), *talk.segments(bytes(stream), size))
    flow = found(plane, talk)
    assert (flow.name, flow.protocol) == (None, protocol(plane, "TLS"))
    assert plane.counted(before)["LOSS_HELLO_MALFORMED"][0] >= 1


@pytest.mark.parametrize("host", [b"[2001:db8::1", b"[2001:db8: :1]", b"["])
def test_a_bracket_that_is_not_closed(plane: Plane, host: bytes) -> None:
    talk = plane.new_talk(80)
    plane.send(*talk.handshake(), *talk.segments(REQUEST(host)))
    flow = found(plane, talk)
    assert (flow.name, flow.protocol) == (None, protocol(plane, "HTTP"))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"patient-1234.secret.corp1", "secret.corp1"),
        (b"a.b.example.com", "example.com"),
        (b"192.0.2.123", "192.0.2.123"),
        (b"192.0.2.1:8080", "192.0.2.1"),
        (b"[2001:db8::1]", "[2001:db8::1]"),
    ],
)
def test_names_cut_to_their_domain(sent: bytes, kept: str) -> None:
    with lent({"privacy": 2}, flows=1024, programs=["xdp_entry"]) as loaded:
        plane = Plane(loaded, "xdp")
        talk = plane.new_talk(80)
        plane.send(*talk.handshake(), *talk.segments(REQUEST(sent)))
        assert found(plane, talk).name == kept


DNS = messages.dns_query(NAME)


@pytest.mark.parametrize(("port", "kind"), [(53, "DNS"), (5353, "MDNS"), (5355, "LLMNR")])
def test_names_asked_for(plane: Plane, port: int, kind: str) -> None:
    talk = plane.new_talk(port)
    plane.send(talk.udp(DNS))
    flow = found(plane, talk, UDP)
    assert (flow.name, flow.protocol) == (FOUND, protocol(plane, kind))


@pytest.mark.parametrize("port", [53, 5353])
def test_a_name_after_messages_without_one(plane: Plane, port: int) -> None:
    """An announcement and a question about the root say which protocol it is, but no name yet."""
    talk = plane.new_talk(port)
    announcement = DNS[:2] + b"\x84\x00" + bytes(4) + DNS[8:12]
    plane.send(talk.udp(announcement, from_client=False), talk.udp(messages.dns_query(b"")))
    kind = "DNS" if port == 53 else "MDNS"
    assert found(plane, talk, UDP).protocol == protocol(plane, kind)
    plane.send(talk.udp(DNS))
    assert found(plane, talk, UDP).name == FOUND


def test_a_question_behind_the_end_that_udp_declares(plane: Plane) -> None:
    """A receiver's socket never gets those bytes (RFC 768), so nobody asked for that name."""
    talk = plane.new_talk(53)
    for number, declared in enumerate((1, 7, 8, 20, 8 + len(DNS) - 1)):
        ends = (Endpoint(talk.client.address, 41000 + number), talk.server)
        plane.send(ethernet(ipv4(udp(DNS, *ends, length=declared), *ends, UDP)))
    assert [flow.name for flow in plane.flows()] == [None] * 5
    ends = (Endpoint(talk.client.address, 42000), talk.server)
    plane.send(ethernet(ipv4(udp(DNS, *ends, length=0), *ends, UDP)))
    assert [flow.name for flow in plane.flows() if flow.name] == [FOUND]


def test_a_name_in_an_answer(plane: Plane) -> None:
    talk = plane.new_talk(53)
    plane.send(talk.udp(messages.dns_answer(NAME, bytes(4)), from_client=False))
    assert found(plane, talk, UDP).name == FOUND


def test_a_name_asked_for_over_tcp(plane: Plane) -> None:
    talk = plane.new_talk(53)
    plane.send(*talk.handshake(), *talk.segments(len(DNS).to_bytes(2, "big") + DNS))
    flow = found(plane, talk)
    assert (flow.name, flow.protocol) == (FOUND, protocol(plane, "DNS"))


@pytest.mark.parametrize(
    ("port", "stream", "last"),
    [
        (53, len(DNS).to_bytes(2, "big") + DNS, 1),
        (80, REQUEST(NAME, before=[b"X: " + b"y" * 2000], body=b"body"), 8),
    ],
    ids=["DNS", "HTTP"],
)
def test_a_name_that_a_short_last_segment_completes(
    plane: Plane, port: int, stream: bytes, last: int
) -> None:
    """A message that ends is not read in vain: nothing comes behind that would be longer."""
    talk = plane.new_talk(port)
    pieces = [(0, stream[:20]), (20, stream[20:-last]), (len(stream) - last, stream[-last:])]
    plane.send(*talk.handshake(), *[talk.tcp(data, seq=1 + at) for at, data in pieces])
    assert found(plane, talk).name == FOUND


@pytest.mark.parametrize("declared", [0, 12, len(DNS) - 1])
def test_a_question_behind_the_end_of_its_message(plane: Plane, declared: int) -> None:
    """Over TCP a length comes first, and what stands behind that is another message."""
    talk = plane.new_talk(53)
    plane.send(*talk.handshake(), *talk.segments(declared.to_bytes(2, "big") + DNS))
    assert found(plane, talk).name is None


def test_damaged_questions_give_the_name_that_is_there_or_none(plane: Plane) -> None:
    source = random.Random(6)
    for _ in examples(500):
        message = bytearray(DNS)
        message[source.randrange(2, len(message))] = source.randrange(256)
        try:
            expected = parse_message(bytes(message))
        except ValueError:
            expected = None
        talk = plane.new_talk(53)
        plane.send(talk.udp(bytes(message)))
        name = found(plane, talk, UDP).name
        assert name == (expected.name if expected else None) or name is None, message.hex()


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (hellos.records(hellos.server_hello()), "TLS"),
        (messages.HTTP_ANSWER, "HTTP"),
        (messages.SSH_CLIENT, "SSH"),
    ],
)
def test_an_answer_tells_the_protocol(plane: Plane, stream: bytes, kind: str) -> None:
    talk = plane.new_talk(9999)
    plane.send(*talk.handshake(), *answer(talk, stream))
    assert found(plane, talk).protocol == protocol(plane, kind)


def test_a_request_after_the_server_spoke_first(plane: Plane) -> None:
    talk = plane.new_talk(1044)
    plane.send(*answer(talk, messages.HTTP_ANSWER), *talk.segments(REQUEST(NAME)))
    assert found(plane, talk).name == FOUND


def test_a_hello_without_its_handshake(plane: Plane) -> None:
    talk = plane.new_talk()
    plane.send(*talk.segments(tls(hellos.browser_hello(NAME, seed=8)), 700))
    assert found(plane, talk).name == FOUND


def test_data_on_the_syn(plane: Plane) -> None:
    talk = plane.new_talk()
    plane.send(talk.tcp(tls(hellos.simple_hello(NAME)), seq=0, flags=SYN))
    assert found(plane, talk).name == FOUND


def test_a_name_over_ipv6_and_vlan(plane: Plane) -> None:
    talk = plane.new_talk(tags=[(0x8100, 7)])
    plane.send(*talk.handshake(), *talk.segments(tls(hellos.simple_hello(NAME))))
    assert found(plane, talk).name == FOUND


# Seeds whose hellos have the name in a later segment.
EARLIER, LATER = 1, 11


def break_off(talk: Conversation) -> list[list[bytes]]:
    """Two ways in which a connection ends in the middle of its hello."""
    hello = tls(hellos.browser_hello(b"old.example", seed=EARLIER))
    begun = [*talk.handshake(), *talk.segments(hello, 100)[:2]]
    fins = [talk.tcp(seq=201, flags=FIN | ACK), talk.tcp(flags=FIN | ACK, from_client=False)]
    return [[*begun, talk.tcp(seq=201, flags=RST)], [*begun, *fins]]


@pytest.mark.parametrize("way", [0, 1], ids=["reset", "closed"])
def test_ports_used_again_after_half_a_hello(plane: Plane, way: int) -> None:
    talk = plane.new_talk()
    plane.send(*break_off(talk)[way])
    again = Conversation(talk.client, talk.server, client_isn=777_000_000, server_isn=3)
    plane.send(
        *again.handshake(), *again.segments(tls(hellos.browser_hello(NAME, seed=LATER)), 300)
    )
    assert found(plane, again).name == FOUND


def test_damaged_hellos(plane: Plane) -> None:
    """No damage may lead to a name that the oracle does not see."""
    source = random.Random(12)
    for seed in examples(300):
        message = bytearray(tls(hellos.browser_hello(NAME, seed=seed)))
        message[source.randrange(len(message))] = source.randrange(256)
        try:
            hello = parse_client_hello(bytes(message))
        except ValueError:
            hello = None
        talk = plane.new_talk()
        plane.send(*talk.handshake(), *talk.segments(bytes(message)))
        name = found(plane, talk).name
        if hello is not None:
            assert name == hello.name, message.hex()
        elif name is not None:
            # The oracle is stricter about what comes before or behind the name than it must be.
            assert name.encode() in bytes(message).lower(), message.hex()


def test_hellos_that_pause(plane: Plane) -> None:
    """Half a hello has the name only if it is there; the other half brings it."""
    source = random.Random(13)
    for seed in examples(300):
        message = tls(hellos.browser_hello(NAME, seed=seed))
        at = source.randrange(1, len(message))
        talk = plane.new_talk()
        plane.send(*talk.handshake(), *talk.segments(message[:at]))
        hello = parse_client_hello(message[:at])
        assert found(plane, talk).name == (hello.name if hello else None)
        plane.send(
            *[talk.tcp(message[i : i + 1460], seq=1 + i) for i in range(at, len(message), 1460)]
        )
        assert found(plane, talk).name == FOUND


def test_push_and_other_flags_do_not_matter(plane: Plane) -> None:
    talk = plane.new_talk()
    stream = tls(hellos.simple_hello(NAME))
    plane.send(*talk.handshake(), talk.tcp(stream, flags=FIN | PSH | ACK))
    assert found(plane, talk).name == FOUND
