# SPDX-License-Identifier: Apache-2.0
"""What answers an HTTP request, and what kind of request it was: to a proxy, or with an action."""

from collections.abc import Sequence

import pytest

from tests import hellos, messages
from tests.bpf.made import made_up
from tests.bpf.plane import Flow, Plane
from tests.packets import ACK, PSH
from xdpprobe.catalogue import Catalogue

PORTAL, CAMERA, AGENT, ACTION = range(7200, 7204)
SIGNATURES = (
    "".join(
        f'[[app]]\nid = {PORTAL + n}\nname = "made-{n}"\ntitle = "Made"\ncategory = "work"\n'
        for n in range(4)
    )
    + """
[[signature]]
app = "made-0"
server = ["Portal/", "A server with a name that is as long as any text may be, 63 byt"]
confidence = 100

[[signature]]
app = "made-1"
server = ["Camera "]
confidence = 92

[[signature]]
app = "made-2"
user_agent = ["Made/"]
confidence = 95

[[signature]]
app = "made-3"
soap_action = ['"made:']

[[signature]]
app = "made-3"
content_type = ["application/made"]
confidence = 100
"""
)
HOST = b"www.made.invalid"


@pytest.fixture(scope="module")
def knowledge() -> Catalogue:
    return made_up(SIGNATURES)


def label(plane: Plane, name: str) -> int:
    return next(n for n, one in plane.loaded.tables().labels().items() if one.name == name)


def answer(*fields: bytes, status: bytes = b"HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    return b"\r\n".join((status, *fields, b"", body))


class Exchange:
    """A connection to a web server, of which each side's bytes come in order."""

    def __init__(self, plane: Plane, *, handshake: bool = True) -> None:
        self.plane, self.talk = plane, plane.new_talk(80)
        self.next = {True: 1, False: 1}
        if handshake:
            plane.send(*self.talk.handshake())

    def say(self, data: bytes, *, client: bool = False, size: int = 1400) -> None:
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            frame = self.talk.tcp(piece, seq=self.next[client], flags=PSH | ACK, from_client=client)
            self.next[client] += len(piece)
            self.plane.send(frame)

    @property
    def flow(self) -> Flow:
        flow = self.plane.flow(self.talk)
        assert flow is not None
        return flow

    @property
    def final(self) -> bool:
        return self.plane.final(self.talk)


def asked(plane: Plane, request: bytes, reply: bytes, size: int = 1400) -> Flow:
    exchange = Exchange(plane)
    exchange.say(request, client=True)
    exchange.say(reply, size=size)
    return exchange.flow


ANSWERS = {
    "certain": ([b"Server: Portal/1.0"], PORTAL),
    "any case, no blank, behind others": ([b"Date: x", b"sERVER:Portal/1"], PORTAL),
    "as long as can be": (
        [b"Server: A server with a name that is as long as any text may be, 63 bytes"],
        PORTAL,
    ),
    "less certain": ([b"Server: Camera 2"], CAMERA),
    "another": ([b"Server: nginx"], 0),
    "not at its beginning": ([b"Server: X Portal/1"], 0),
    "other fields": ([b"X-Server: Portal/1", b"Servers: Portal/1", b"Server-Made: Portal/"], 0),
    "cut by the line": ([b"Server: Portal", b"/1"], 0),
    "a type": ([b"Content-Type: application/made"], ACTION),
    "a type before a server": (
        [b"Content-Type: application/made", b"Server: Camera 2"],
        ACTION,
    ),
    "a server before a type": ([b"Server: Portal/1", b"Content-Type: application/made"], PORTAL),
    "the first counts": ([b"Server: nginx", b"Server: Portal/1"], 0),
    "what a request says": ([b"User-Agent: Made/1", b'SOAPAction: "made:x'], 0),
    "no value": ([b"Server: "], 0),
}


@pytest.mark.parametrize(("fields", "app"), ANSWERS.values(), ids=list(ANSWERS))
def test_what_answers(plane: Plane, fields: Sequence[bytes], app: int) -> None:
    flow = asked(plane, messages.http_request(HOST), answer(*fields))
    assert (flow.app, flow.name, flow.protocol) == (app, HOST.decode(), label(plane, "http"))
    nameless = asked(plane, messages.http_request(b"192.0.2.1"), answer(*fields))
    assert nameless.app == app


@pytest.mark.parametrize("field", [b"Server: Camera 1", b"Content-Type: application/made"])
def test_the_host_counts_more_than_what_answers_for_it(plane: Plane, field: bytes) -> None:
    flow = asked(plane, messages.http_request(b"www.youtube.com"), answer(field))
    assert flow.app == label(plane, "youtube")


def test_what_answers_in_the_place_of_the_host_counts_more(plane: Plane) -> None:
    methods = plane.loaded.abi.enums["method"]
    request = messages.http_request(b"www.youtube.com", before=[b"User-Agent: Made/1"])
    flow = asked(plane, request, answer(b"Server: Portal/1"))
    assert (flow.app, flow.app_method) == (PORTAL, methods["METHOD_HTTP_SERVER"])
    assert flow.name == "www.youtube.com"


def test_a_request_with_a_certain_text_waits_for_its_answer(plane: Plane) -> None:
    request = messages.http_request(HOST, before=[b"User-Agent: Made/1"])
    exchange = Exchange(plane)
    exchange.say(request, client=True)
    assert (exchange.flow.app, exchange.final) == (AGENT, False)
    exchange.say(answer(b"Server: Camera 1"))
    assert (exchange.flow.app, exchange.final) == (AGENT, True)


@pytest.mark.parametrize("server", [b"Server: Portal/1", b"Server: nginx", b"X: y"])
def test_the_answer_is_the_last_that_is_looked_at(plane: Plane, server: bytes) -> None:
    exchange = Exchange(plane)
    exchange.say(messages.http_request(HOST), client=True)
    before = plane.counters("INFO_INSPECTED")
    exchange.say(messages.http_request(HOST), client=True)  # nothing that this side sends
    assert (exchange.final, plane.counted(before)) == (False, {})
    exchange.say(answer(server))
    assert exchange.final
    exchange.say(answer(b"Server: Portal/1"))
    assert plane.counted(before)["INFO_INSPECTED"][0] == 1


def test_only_the_header_is_read(plane: Plane) -> None:
    reply = answer(b"Date: x", body=b"Server: Portal/1\r\n\r\n")
    assert asked(plane, messages.http_request(HOST), reply).app == 0
    late = answer(b"Date: " + b"x" * 200, b"Server: Portal/1")
    assert asked(plane, messages.http_request(HOST), late).app == PORTAL
    # What is not in the first segment is not waited for.
    assert asked(plane, messages.http_request(HOST), late, 100).app == 0


@pytest.mark.parametrize("cut", range(1, 60))
def test_cut_anywhere(plane: Plane, cut: int) -> None:
    """An answer of which the rest never comes; that of a longer one still lies there."""
    request, reply = messages.http_request(HOST), answer(b"Date: xy", b"Server: Portal/1", b"A: b")
    assert asked(plane, request, reply).app == PORTAL
    named = b"Portal/1\r\n" in reply[:cut]
    assert asked(plane, request, reply[:cut]).app == (PORTAL if named else 0)


def test_an_answer_in_pieces(plane: Plane) -> None:
    """Of which the first might still begin anything."""
    exchange = Exchange(plane)
    exchange.say(messages.http_request(HOST), client=True)
    exchange.say(b"HTTP")
    exchange.say(answer(b"Server: Portal/1")[4:])
    assert (exchange.flow.app, exchange.final) == (PORTAL, True)


SERVERS = {
    "a request": b"GET / HTTP/1.1\r\nHost: www.other.invalid\r\n\r\n",
    "a hello": hellos.records(hellos.simple_hello(b"www.other.invalid")),
}


@pytest.mark.parametrize("said", SERVERS)
def test_a_server_has_no_say_in_who_was_asked(plane: Plane, said: str) -> None:
    for size in (1400, 20):
        flow = asked(plane, messages.http_request(HOST), SERVERS[said], size)
        assert (flow.name, flow.app) == (HOST.decode(), 0)
        assert flow.protocol == label(plane, "http")


def test_a_request_without_a_host_has_its_answer_read(plane: Plane) -> None:
    exchange = Exchange(plane)
    exchange.say(b"GET / HTTP/1.0\r\nUser-Agent: Made/1\r\n\r\n", client=True)
    assert (exchange.flow.app, exchange.final) == (AGENT, False)
    exchange.say(answer(b"Server: Portal/1"))
    assert (exchange.flow.app, exchange.final) == (PORTAL, True)


def test_an_answer_whose_beginning_is_lost_takes_no_place(plane: Plane) -> None:
    exchange = Exchange(plane)
    exchange.say(messages.http_request(HOST), client=True)
    exchange.next[False] += 1400
    before = plane.counters()
    for _ in range(20):
        exchange.say(bytes(1400))
    gains = plane.counted(before)
    assert "INFO_HELLO_PIECES" not in gains
    assert gains["INFO_INSPECTED"][0] == 8


def test_an_answer_whose_request_was_not_seen(plane: Plane) -> None:
    """The next request, of the same connection, still gives a name; what was certain stays."""
    exchange = Exchange(plane, handshake=False)
    exchange.say(answer(b"Server: Camera 1"))
    assert (exchange.flow.app, exchange.flow.name, exchange.final) == (CAMERA, None, False)
    exchange.say(messages.http_request(b"www.youtube.com"), client=True)
    assert (exchange.flow.app, exchange.final) == (label(plane, "youtube"), True)


@pytest.mark.parametrize("target", [b"http://other.invalid/x", b"HTTPS://other.invalid/"])
@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS", b"PROPPATCH", b"DELETE"])
def test_a_request_to_a_proxy(plane: Plane, method: bytes, target: bytes) -> None:
    request = messages.http_request(b"www.youtube.com", method=method, target=target)
    flow = asked(plane, request, answer(b"Server: nginx"))
    assert flow.protocol == label(plane, "http-proxy")
    assert (flow.app, flow.name) == (label(plane, "youtube"), "www.youtube.com")
    nameless = asked(plane, messages.http_request(None, method=method, target=target), answer())
    assert nameless.protocol == label(plane, "http-proxy")


@pytest.mark.parametrize(
    "target", [b"/http://x", b"*", b"http:/x", b"httpx://x", b"/", b"http", b"h", b"httpss://x"]
)
def test_a_request_to_no_proxy(plane: Plane, target: bytes) -> None:
    request = messages.http_request(HOST, method=b"OPTIONS", target=target)
    assert asked(plane, request, answer()).protocol == label(plane, "http")


def test_connect(plane: Plane) -> None:
    exchange = Exchange(plane)
    tunnel = messages.http_request(HOST, method=b"CONNECT", target=b"a.invalid:443")
    exchange.say(tunnel, client=True)
    exchange.say(answer(b"Server: nginx", status=b"HTTP/1.1 200 Connection established"))
    assert exchange.flow.protocol == label(plane, "http-connect")
    assert (exchange.flow.name, exchange.final) == ("a.invalid", False)
    nameless = messages.http_request(HOST, method=b"CONNECT", target=b"192.0.2.1:443")
    assert asked(plane, nameless, answer()).protocol == label(plane, "http-connect")
    no_host = messages.http_request(HOST, method=b"CONNECT", target=b"/")
    assert asked(plane, no_host, answer()).protocol == label(plane, "http")


@pytest.mark.parametrize(
    ("field", "app"),
    [
        (b'SOAPAction: "made:get"', ACTION),
        (b'soapaction:"made:get"', ACTION),
        (b'SOAPACTION: "other"', 0),
        (b"SOAPAction: made:get", 0),
        (b'SOAPActions: "made:get"', 0),
        (b'SOAP: "made:get"', 0),
    ],
)
def test_an_action(plane: Plane, field: bytes, app: int) -> None:
    request = messages.http_request(HOST, method=b"POST", before=[field])
    assert asked(plane, request, answer()).app == app
