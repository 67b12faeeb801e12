# SPDX-License-Identifier: Apache-2.0
"""What a ClientHello says beyond the name: JA4, ALPN and ECH, as the tables have it afterwards."""

import itertools
import random
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests import hellos, quic
from tests.bpf.made import made_up
from tests.bpf.plane import Plane
from tests.effort import examples
from tests.messages import dns_query, dns_record, dns_reply
from tests.packets import ACK, PSH, RST, SYN, TCP, UDP, Conversation, Endpoint
from tests.reference import hello_facts as reference
from xdpprobe import tls_facts
from xdpprobe.catalogue import Catalogue
from xdpprobe.hellos import resolve_hellos
from xdpprobe.rules import NameRule
from xdpprobe.snapshot import Label

NAME = b"www.example.com"
PUBLIC, VIDEO = b"outer.example", 1001
RULES = [NameRule("video.example", VIDEO)]
ESNI = 0xFFCE
BUDGET = 8  # inspect_budget in bpf/config.h
# The hello that FoxIO's description of JA4 takes as its example, in the order sent.
CHROME_SUITES = (
    *(0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014),
    *(0x009C, 0x009D, 0x002F, 0x0035),
)
CHROME_SCHEMES = (0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601)
CHROME = "t13d1516h2_8daaf6152771_e5627efa2ab1"


@pytest.fixture(scope="module")
def knowledge() -> Catalogue:
    return replace(made_up("", RULES), ech_names=frozenset([PUBLIC.decode()]))


@pytest.fixture
def plane(plane: Plane) -> Plane:
    """Without the facts of other tests' hellos."""
    plane.loaded.array("hellos", writable=True).view(np.uint8)[:] = 0
    return plane


def entry(plane: Plane, talk: Conversation) -> np.ndarray:
    """The flow's record in flow_cold."""
    record: np.ndarray = plane.loaded.array("flow_cold")[plane.entry(talk)]
    return record


def ja4(plane: Plane, talk: Conversation, transport: str = "t") -> str | None:
    number = int(entry(plane, talk)["hello"])
    hello = resolve_hellos(plane.loaded.array("hellos"), [number]).get(number)
    return hello.ja4(transport) if hello else None


def flags(plane: Plane, talk: Conversation) -> set[str]:
    bits, said = plane.loaded.abi.enums["tls_flag"], int(entry(plane, talk)["tls_flags"])
    return {name for name, bit in bits.items() if said & bit}


def used(plane: Plane) -> int:
    return int(np.count_nonzero(plane.loaded.array("hellos")["hash"]))


def name(plane: Plane, talk: Conversation, l4: int = TCP) -> str | None:
    flow = plane.flow(talk, l4)
    assert flow is not None
    return flow.name


def say(plane: Plane, message: bytes, cuts: Sequence[int] = ()) -> Conversation:
    """A new connection whose client sends the message in segments cut there."""
    talk, stream = plane.new_talk(), hellos.records(message)
    edges = [0, *cuts, len(stream)]
    plane.send(*talk.handshake())
    for start, end in itertools.pairwise(edges):
        plane.send(talk.tcp(stream[start:end], seq=1 + start, flags=PSH | ACK))
    return talk


def chrome(seed: int) -> bytes:
    source = random.Random(seed)
    grease = source.sample(hellos.GREASE, 4)
    middle = [
        hellos.server_name(NAME),
        (0x001B, b"\x02\x00\x02"),
        hellos.key_share([grease[2], hellos.X25519], source),
        hellos.alpn(),
        (0x4469, b""),
        (0x0017, b""),
        (0x002D, b"\x01\x01"),
        (13, hellos.vector(struct.pack(">8H", *CHROME_SCHEMES), 2)),
        (5, b"\x01\x00\x00\x00\x00"),
        (35, b""),
        (18, b""),
        (43, hellos.vector(struct.pack(">HHH", grease[3], 0x0304, 0x0303), 1)),
        (0xFF01, b"\x00"),
        (11, b"\x01\x00"),
        (10, hellos.vector(struct.pack(">HHH", grease[2], 29, 23), 2)),
    ]
    source.shuffle(middle)
    listed = [(grease[0], b""), *middle, (grease[1], b"\x00"), hellos.filler(20)]
    return hellos.client_hello(listed, seed=seed, suites=(grease[2], *CHROME_SUITES))


def test_the_published_fingerprint(plane: Plane) -> None:
    """Whatever GREASE and order: and so the table has one entry."""
    for seed in range(20):
        talk = say(plane, chrome(seed))
        assert ja4(plane, talk) == CHROME
        assert name(plane, talk) == NAME.decode()
    assert used(plane) == 1


def message(source: random.Random) -> bytes:
    seed, host = source.randrange(1 << 30), b"host%d.example" % source.randrange(1000)
    kind = source.randrange(4)
    if kind == 0:
        return hellos.browser_hello(host if source.random() < 0.8 else None, seed=seed)
    if kind == 1:
        return hellos.simple_hello(host if source.random() < 0.8 else None, seed=seed)
    suites = [source.choice((*hellos.GREASE, source.randrange(1 << 16))) for _ in range(60)]
    schemes = [source.choice((*hellos.GREASE, source.randrange(1 << 16))) for _ in range(40)]
    protocol = source.randbytes(source.randint(1, 32))
    versions = [source.choice((*hellos.GREASE, 0x0304, 0x0303, 0x0302)) for _ in range(5)]
    listed = [
        (13, hellos.vector(struct.pack(">40H", *schemes)[: 2 * source.randrange(41)], 2)),
        (16, hellos.vector(hellos.vector(protocol, 1) + b"\x02h2", 2)),
        (43, hellos.vector(struct.pack(">5H", *versions), 1)),
        *((source.randrange(100, 1 << 16), source.randbytes(9)) for _ in range(20)),
    ]
    listed = source.sample(listed, source.randrange(len(listed) + 1))
    if source.random() < 0.8:
        listed.append(hellos.server_name(host))
    source.shuffle(listed)
    count = source.randint(1, 60)
    return hellos.client_hello(
        None if kind == 3 and source.random() < 0.2 else listed,
        seed=seed,
        suites=suites[:count],
        version=source.choice((0x0303, 0x0301, 0x0300)),
    )


CLIENTS = {
    "curl": [
        "curl",
        "-sk",
        "-m",
        "5",
        "--resolve",
        "{name}:{port}:127.0.0.1",
        "https://{name}:{port}",
    ],
    "openssl": [
        *("openssl", "s_client", "-connect", "127.0.0.1:{port}", "-servername", "{name}"),
        *("-alpn", "http/1.1"),
    ],
    "python": [
        sys.executable,
        "-c",
        "import socket, ssl\n"
        "raw = socket.create_connection(('127.0.0.1', {port}))\n"
        "ssl.create_default_context().wrap_socket(raw, server_hostname='{name}')",
    ],
}


def hello_of(command: list[str]) -> bytes:
    """The handshake message that the program begins with; then the connection is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        values = {"port": str(server.getsockname()[1]), "name": NAME.decode()}
        argv = [part.format(**values) for part in command]
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as client:
            stream, (connection, _) = b"", server.accept()
            with connection:
                while len(stream) < 5 or len(stream) < 5 + int.from_bytes(stream[3:5], "big"):
                    stream += connection.recv(1 << 14)
            client.wait(10)
    return stream[5:]


@pytest.mark.parametrize("program", CLIENTS)
def test_hellos_of_real_clients(plane: Plane, program: str) -> None:
    if shutil.which(CLIENTS[program][0]) is None:
        pytest.skip(f"{program} is not installed")
    hello = hello_of(CLIENTS[program])
    talk = say(plane, hello, [len(hello) // 2])
    assert (ja4(plane, talk), name(plane, talk)) == (reference.ja4(hello), NAME.decode())


def test_random_hellos(plane: Plane) -> None:
    source = random.Random(1)
    for _ in examples(300):
        hello = message(source)
        talk = say(plane, hello)
        assert ja4(plane, talk) == reference.ja4(hello), hello.hex()
        expected = {"TLS_ECH_GREASE"} if reference.ech(hello) else set()
        assert flags(plane, talk) == expected, hello.hex()


@pytest.mark.parametrize("seed", [1, 2])
def test_every_cut(plane: Plane, seed: int) -> None:
    hello = hellos.browser_hello(NAME, seed=seed)
    step = 7 if len(examples(10)) == 10 else 97
    for cut in range(1, len(hello) + 5, step):
        talk = say(plane, hello, [cut])
        assert (ja4(plane, talk), name(plane, talk)) == (reference.ja4(hello), NAME.decode()), cut


def test_pieces_in_any_order(plane: Plane) -> None:
    source = random.Random(3)
    for seed in examples(60):
        hello = hellos.browser_hello(NAME, seed=seed)
        lengths = [source.randint(1, 900) for _ in range(3)]
        stream = hellos.records(hello, lengths)
        cuts = sorted(source.sample(range(1, len(stream)), 3))
        pieces = list(zip([0, *cuts], [*cuts, len(stream)], strict=True))
        source.shuffle(pieces)
        talk = plane.new_talk()
        plane.send(*talk.handshake())
        plane.send(*(talk.tcp(stream[a:b], seq=1 + a, flags=PSH | ACK) for a, b in pieces))
        assert (ja4(plane, talk), name(plane, talk)) == (reference.ja4(hello), NAME.decode()), seed


def test_a_rest_that_never_comes_takes_no_name_away(plane: Plane) -> None:
    hello = hellos.client_hello([hellos.server_name(NAME), hellos.filler(2000)])
    lost = plane.counters("LOSS_")
    talk = plane.new_talk()
    first = hellos.records(hello)[:1000]
    plane.send(*talk.handshake(), talk.tcp(first, flags=PSH | ACK))
    assert name(plane, talk) == NAME.decode()
    # Sent again and again, until the budget is spent.
    plane.send(*[talk.tcp(first, flags=PSH | ACK)] * 10)
    assert (name(plane, talk), ja4(plane, talk)) == (NAME.decode(), None)
    assert plane.counted(lost) == {"LOSS_FACTS": (1, 0)}


@pytest.mark.parametrize(
    "hello",
    [
        hellos.client_hello([hellos.server_name(NAME)], suites=[0x1301] * 129),
        hellos.client_hello([hellos.server_name(NAME)], suites=[0x1301] * 8000),
        hellos.client_hello([hellos.server_name(NAME), *[(n, b"") for n in range(100, 164)]]),
        hellos.client_hello([hellos.server_name(NAME), *[(n, b"") for n in range(100, 900)]]),
        hellos.client_hello([hellos.server_name(NAME), (13, hellos.vector(bytes(130), 2))]),
    ],
    ids=["129 ciphers", "16 kB of ciphers", "65 extensions", "801 extensions", "65 schemes"],
)
def test_lists_that_are_too_long_leave_no_fingerprint(plane: Plane, hello: bytes) -> None:
    lost = plane.counters("LOSS_FACTS")
    talk = say(plane, hello, range(1400, len(hello), 1400))
    assert (name(plane, talk), ja4(plane, talk)) == (NAME.decode(), None)
    assert plane.counted(lost) == {"LOSS_FACTS": (1, 0)}
    assert used(plane) == 0


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (kind, data)
        for kind in (13, 16, 43, 0xFE0D, 0xFFCE)
        for data in (b"", b"\0", b"\xff", b"\xff\xff", b"\0\1\1", b"\0\xff\xff\1\1", b"\xff" * 300)
    ],
)
def test_extensions_that_contradict_themselves(plane: Plane, kind: int, data: bytes) -> None:
    """The name is found, and there is a fingerprint, of what is there beside the lie."""
    lost = plane.counters("LOSS_")
    talk = say(plane, hellos.client_hello([(kind, data), hellos.server_name(NAME)]))
    assert name(plane, talk) == NAME.decode()
    found = ja4(plane, talk)
    long = len(data) == 300
    if long and kind in (13, 16):  # more schemes, or a longer protocol, than is kept
        assert found is None
        assert plane.counted(lost) == ({"LOSS_FACTS": (1, 0)} if kind == 13 else {})
        return
    assert found is not None
    # A list of versions may well be as long as that, and then says one that nobody knows.
    version = "00" if long and kind == 43 else "12"
    assert found.startswith(f"t{version}d110200_")  # 11 ciphers, 2 extensions, no protocol
    assert found.split("_")[1] == reference.ja4(hellos.client_hello([])).split("_")[1]
    assert not plane.counted(lost)


def test_a_full_table_gives_up_what_was_not_answered(plane: Plane) -> None:
    lost = plane.counters("LOSS_FACTS")
    hello = hellos.simple_hello(NAME)
    answered = plane.new_talk()
    plane.send(*answered.handshake(), *answered.segments(hellos.records(hello)))
    for number in range(6000):
        talk = plane.new_talk()
        other = hellos.client_hello([hellos.server_name(NAME)], suites=[number + 1])
        plane.send(talk.tcp(hellos.records(other), flags=PSH | ACK))
    assert ja4(plane, answered) == reference.ja4(hello)
    gains = plane.counted(lost)
    assert gains.keys() == {"LOSS_FACTS_EVICTED"}
    assert used(plane) + gains["LOSS_FACTS_EVICTED"][0] == 6001


def test_a_hello_in_quic(plane: Plane) -> None:
    hello = hellos.simple_hello(NAME)
    talk = plane.new_talk()
    frames = quic.crypto(quic.Piece(0, hello))
    plane.send(talk.udp(quic.initial(frames, b"12345678", least=1200)))
    assert ja4(plane, talk, "q") == reference.ja4(hello, "q")


@pytest.mark.parametrize("answered", [False, True])
def test_a_hello_in_two_datagrams(plane: Plane, answered: bool) -> None:
    """The name is there at once, whatever stands behind it once that has come too."""
    hello = hellos.client_hello([hellos.server_name(NAME), hellos.filler(1500), hellos.alpn()])
    client, talk = quic.Client(b"client"), plane.new_talk()
    plane.send(talk.udp(client.datagram(quic.Piece(0, hello[:900]))))
    assert (name(plane, talk, UDP), ja4(plane, talk, "q")) == (NAME.decode(), None)
    if answered:
        answer = quic.initial(b"\x01", b"client", to=b"", source=b"server's", server=True)
        plane.send(talk.udp(answer, from_client=False))
    plane.send(talk.udp(client.datagram(quic.Piece(900, hello[900:]))))
    assert name(plane, talk, UDP) == NAME.decode()
    assert ja4(plane, talk, "q") == reference.ja4(hello, "q")


def outer(host: bytes | None, seed: int = 1, *, late: bool = False) -> bytes:
    named = [] if host is None else [hellos.server_name(host)]
    extension = [hellos.ech(random.Random(seed))]
    return hellos.client_hello(
        [*named, hellos.filler(1500), *extension]
        if late
        else [*extension, *named, hellos.filler(1500)]
    )


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("cuts", [[], [100], [1000], [1590]])
def test_a_public_name_is_not_the_true_one(plane: Plane, cuts: list[int], late: bool) -> None:
    counted = plane.counters("INFO_")
    talk = say(plane, outer(PUBLIC, late=late), cuts)
    methods = plane.loaded.abi.enums["method"]
    hot = plane.loaded.array("flow_hot")
    assert name(plane, talk) is None
    assert flags(plane, talk) == {"TLS_ECH"}
    live = hot[hot["tag"] != 0]
    assert live["protocol_method"].tolist() == [methods["METHOD_ECH_OUTER"]]
    assert live["spent"].max() == BUDGET  # nothing more is looked at of what the client sends
    gains = plane.counted(counted)
    assert (gains["INFO_ECH"], "INFO_NAMED" in gains) == ((1, 0), False)


@pytest.mark.parametrize("cuts", [[], [100], [1000], [1590]])
def test_any_other_name_beside_ech_is_taken_as_true(plane: Plane, cuts: list[int]) -> None:
    talk = say(plane, outer(NAME), cuts)
    assert (name(plane, talk), flags(plane, talk)) == (NAME.decode(), {"TLS_ECH_GREASE"})


def test_without_ech_a_public_name_is_a_name_also_without_a_fingerprint(plane: Plane) -> None:
    hello = hellos.client_hello([hellos.server_name(PUBLIC)], suites=[0x1301] * 129)
    talk = say(plane, hello)
    assert (name(plane, talk), ja4(plane, talk)) == (PUBLIC.decode(), None)
    assert flags(plane, talk) == set()


@pytest.mark.parametrize("host", [PUBLIC, b"below." + PUBLIC])
@pytest.mark.parametrize("cuts", [[], [100], [1000]])
def test_without_ech_a_public_name_is_a_name(plane: Plane, host: bytes, cuts: list[int]) -> None:
    hello = hellos.client_hello([hellos.server_name(host), hellos.filler(1500)])
    talk = say(plane, hello, cuts)
    assert (name(plane, talk), flags(plane, talk)) == (host.decode(), set())


def test_an_inner_hello_has_the_true_name(plane: Plane) -> None:
    hello = hellos.client_hello([(hellos.ECH, b"\x01"), hellos.server_name(PUBLIC)])
    talk = say(plane, hello)
    assert (name(plane, talk), flags(plane, talk)) == (PUBLIC.decode(), set())


def test_the_older_way_has_no_name(plane: Plane) -> None:
    talk = say(plane, hellos.client_hello([(ESNI, bytes(300)), hellos.alpn()]))
    assert (name(plane, talk), flags(plane, talk)) == (None, {"TLS_ECH"})


def test_what_dns_said_stays_where_the_name_is_encrypted(plane: Plane) -> None:
    asked = b"www.video.example"
    server = Endpoint("203.0.113.99", 443)
    host = plane.new_talk().client.address
    lookup = Conversation(Endpoint(host, 40001), Endpoint("198.51.100.53", 53))
    record = dns_record(server.packed)
    plane.send(
        lookup.udp(dns_query(asked)), lookup.udp(dns_reply(asked, record), from_client=False)
    )
    talk = Conversation(Endpoint(host, 40002), server)
    plane.send(*talk.handshake(), *talk.segments(hellos.records(outer(PUBLIC)), 800))
    flow = plane.flow(talk)
    assert flow is not None
    methods = plane.loaded.abi.enums["method"]
    assert (flow.app, flow.app_method, flow.name) == (VIDEO, methods["METHOD_DNS"], None)


def test_facts_of_rows(plane: Plane) -> None:
    """From the tables to what `flows` shows."""
    talk = say(plane, hellos.browser_hello(NAME, seed=4))
    loaded = plane.loaded
    rows = np.flatnonzero(loaded.array("flow_hot")["tag"])
    snapshot = SimpleNamespace(
        hellos=loaded.array("hellos"),
        labels={1: Label(1, "tls", "web", "protocol")},
        enums={name: dict(values) for name, values in loaded.abi.enums.items()},
    )
    hot, cold = loaded.array("flow_hot")[rows], loaded.array("flow_cold")[rows]
    (facts,) = tls_facts.tls_facts(snapshot, hot, cold)  # type: ignore[arg-type]
    assert facts == ("h2", ja4(plane, talk), "grease")


def test_a_flow_in_the_place_of_another_has_no_hello(plane: Plane) -> None:
    talk = say(plane, hellos.simple_hello(NAME))
    assert entry(plane, talk)["hello"]
    plane.send(talk.tcp(flags=RST, seq=5000), talk.tcp(flags=SYN, seq=77_000))
    assert not entry(plane, talk)["hello"]


@pytest.mark.parametrize("suites", [1, 13, 17, 33])
@pytest.mark.parametrize("schemes", [1, 9, 17, 33])
def test_what_stands_behind_the_lists_is_not_kept(plane: Plane, suites: int, schemes: int) -> None:
    """The server's name may stand there, which may have to stay private."""
    signatures = (13, hellos.vector(bytes([4, 3]) * schemes, 2))
    named = hellos.server_name(b"private-name-of-a-server.example")
    orders = ([named, signatures], [signatures, named])
    for extensions in orders:
        say(plane, hellos.client_hello(extensions, suites=[0x1301] * suites))
    assert b"private" not in plane.loaded.array("hellos").tobytes()
    assert used(plane)


def test_a_server_does_not_name_the_flow_anew(plane: Plane) -> None:
    for answer in (
        hellos.records(hellos.simple_hello(b"other.example")),
        b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n",
    ):
        talk = say(plane, hellos.simple_hello(NAME))
        plane.send(talk.tcp(answer, from_client=False, flags=PSH | ACK))
        assert name(plane, talk) == NAME.decode()
