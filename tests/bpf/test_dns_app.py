# SPDX-License-Identifier: Apache-2.0
"""What a client was told by DNS names its later flows, until something better does."""

import ctypes
import itertools
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from tests import hellos, messages
from tests.bpf.instances import lent
from tests.bpf.made import made_up
from tests.bpf.plane import FLOWS, HOOKS, Flow, Plane
from tests.effort import examples, some
from tests.messages import TYPE_AAAA, TYPE_CNAME, dns_name, dns_query, dns_record, dns_reply
from tests.packets import ACK, SYN, TCP, UDP, Conversation, Endpoint
from tests.reference import dns
from xdpprobe import syscall
from xdpprobe.catalogue import Catalogue
from xdpprobe.libbpf import library
from xdpprobe.loader import load_tables
from xdpprobe.rules import NameRule

VIDEO, MUSIC, MADE = 1001, 1002, 7200
SIGNATURE = """
[[app]]
id = 7200
name = "made"
title = "Made"
category = "network"

[[signature]]
app = "made"
l4 = "tcp"
match = 'MADE'
"""
RULES = [NameRule("video.example", VIDEO), NameRule("music.example", MUSIC)]
NAME, OTHER_NAME, UNKNOWN = b"www.video.example", b"music.example", b"nobody.example.net"
SERVER, SERVER6 = Endpoint("203.0.113.7", 443), Endpoint("2001:db8:2::7", 443)
RESOLVER = "198.51.100.53"
KEY = struct.Struct("16s16sIHH")  # struct resolved_key of bpf/learned.h
VALUE = struct.Struct("IHH")  # struct resolved_app
CONFIDENCE = 70
ALIAS = dns_name(b"alias.example.net")


@dataclass(frozen=True)
class Told:
    """An entry of the table: whose flows to which address are of which application, until when."""

    client: bytes
    server: bytes
    vlan: int
    app: int
    expires: int


def table(plane: Plane) -> list[Told]:
    """All entries, in no order."""
    fd, found = plane.loaded.map_fd("resolved"), []
    following = library().bpf_map_get_next_key
    following.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    key, room = None, ctypes.create_string_buffer(KEY.size)
    while not following(fd, key, room):
        key = ctypes.create_string_buffer(room.raw, KEY.size)
        value = syscall.lookup(fd, room.raw, VALUE.size)
        assert value is not None
        client, server, _, vlan, _ = KEY.unpack(room.raw)
        expires, app, _ = VALUE.unpack(value)
        found.append(Told(client, server, vlan, app, expires))
    return found


def forget(plane: Plane) -> None:
    fd = plane.loaded.map_fd("resolved")
    for told in table(plane):
        syscall.delete(fd, KEY.pack(told.client, told.server, 0, told.vlan, 0))
    syscall.update(plane.loaded.map_fd("resolved_last"), 0, bytes(8), "cannot forget")


@pytest.fixture(scope="module")
def knowledge() -> Catalogue:
    """Two applications by names, one by a pattern."""
    return made_up(SIGNATURE, RULES)


@pytest.fixture
def told(plane: Plane) -> Plane:
    """A data plane without flows, to which no DNS answer has come."""
    forget(plane)
    return plane


_number = itertools.count()


def client(version: int = 4) -> str:
    """The address of a host that no test has had before."""
    number = next(_number)
    low = number >> 8 & 255, number & 255
    return f"10.77.{low[0]}.{low[1]}" if version == 4 else f"2001:db8:77::{number + 1:x}"


def lookups(host: str, **fields: Any) -> Conversation:
    """The host's flow to its resolver; another one each time."""
    resolver = "2001:db8::53" if ":" in host else RESOLVER
    port = 20000 + next(_number) % 40000
    return Conversation(Endpoint(host, port), Endpoint(resolver, 53), **fields)


def resolve(
    plane: Plane, host: str, name: bytes, *records: bytes, talk: Conversation | None = None
) -> None:
    """The host asks for a name, and is answered."""
    talk = talk or lookups(host)
    plane.send(
        talk.udp(dns_query(name)),
        talk.udp(dns_reply(name, *records), from_client=False),
    )


def visit(host: str, server: Endpoint = SERVER, **fields: Any) -> Conversation:
    """Another flow of the host's to the server."""
    return Conversation(Endpoint(host, 20000 + next(_number) % 40000), server, **fields)


def flow_of(plane: Plane, talk: Conversation, l4: int = TCP) -> Flow:
    flow = plane.flow(talk, l4)
    assert flow is not None
    return flow


def app_of(plane: Plane, host: str, server: Endpoint = SERVER, **fields: Any) -> int:
    """The application of the host's next flow to the server, by its first packet alone."""
    talk = visit(host, server, **fields)
    plane.send(talk.tcp(seq=0, flags=SYN))
    return flow_of(plane, talk).app


def method(plane: Plane, word: str) -> int:
    return plane.loaded.abi.enums["method"][f"METHOD_{word}"]


def test_a_later_flow_to_the_address_is_the_names(told: Plane) -> None:
    host = client()
    before = told.counters("INFO_")
    resolve(told, host, NAME, dns_record(SERVER.packed))
    assert told.counted(before)["INFO_RESOLVED"][0] == 1
    talk = visit(host)
    told.send(talk.tcp(seq=0, flags=SYN))
    flow = flow_of(told, talk)
    assert (flow.app, flow.app_method) == (VIDEO, method(told, "DNS"))
    assert (flow.name, flow.protocol) == (None, 0)
    hot = told.loaded.array("flow_hot")
    (entry,) = hot[(hot["tag"] != 0) & (hot["app_confidence"] == CONFIDENCE)]
    assert not entry["flags"] & told.loaded.abi.enums["flow_flag"]["FLOW_FINAL"]


def test_a_datagram_is_as_good_as_a_connection(told: Plane) -> None:
    host = client()
    resolve(told, host, NAME, dns_record(SERVER.packed))
    talk = visit(host)
    told.send(talk.udp(b"\xff" * 40))
    assert flow_of(told, talk, UDP).app == VIDEO


def test_ipv6(told: Plane) -> None:
    host = client(6)
    resolve(told, host, NAME, dns_record(SERVER6.packed))
    assert app_of(told, host, SERVER6) == VIDEO
    assert app_of(told, client(6), SERVER6) == 0


def test_the_query_for_the_other_address_goes_by_the_same_flow(told: Plane) -> None:
    """As the C library sends it: both queries, then both answers."""
    host = client()
    talk = lookups(host)
    answers = [
        dns_reply(NAME, dns_record(SERVER.packed), identification=7),
        dns_reply(NAME, dns_record(SERVER6.packed), identification=8, kind=TYPE_AAAA),
    ]
    told.send(talk.udp(dns_query(NAME, identification=7)))
    told.send(talk.udp(dns_query(NAME, TYPE_AAAA, identification=8)))
    told.send(*[talk.udp(answer, from_client=False) for answer in reversed(answers)])
    assert {entry.server for entry in table(told)} == {SERVER.mapped, SERVER6.mapped}


def test_several_names_by_one_flow(told: Plane) -> None:
    """The flow is called after the first; each address is its own name's."""
    host, other = client(), Endpoint("203.0.113.8", 443)
    talk = lookups(host)
    for name, server in ((NAME, SERVER), (OTHER_NAME, other)):
        resolve(told, host, name, dns_record(server.packed), talk=talk)
    assert (flow_of(told, talk, UDP).name, flow_of(told, talk, UDP).app) == (NAME.decode(), VIDEO)
    assert [app_of(told, host, server) for server in (SERVER, other)] == [VIDEO, MUSIC]


def test_aliases_on_the_way_to_the_address(told: Plane) -> None:
    host = client()
    # The second alias's data ends in a pointer to the question's last label, and is pointed at.
    at = 12 + len(dns_name(NAME)) + 4
    second = b"\x04more" + struct.pack(">H", 0xC000 | at + 12)
    records = [
        dns_record(ALIAS, TYPE_CNAME),
        dns_record(second, TYPE_CNAME, owner=struct.pack(">H", 0xC000 | at + 12)),
        dns_record(SERVER.packed, owner=second),
    ]
    resolve(told, host, NAME, *records)
    assert app_of(told, host) == VIDEO


OWNERS = {
    "root": b"\0",
    "labels": ALIAS,
    "labels and a pointer": b"\x03www\xc0\x0c",
    "a pointer to nowhere": b"\xff\xff",
    "longest label": b"\x3f" + b"a" * 63 + b"\0",
}


@pytest.mark.parametrize("owner", OWNERS.values(), ids=list(OWNERS))
def test_however_a_record_is_named(told: Plane, owner: bytes) -> None:
    host = client()
    resolve(told, host, NAME, dns_record(SERVER.packed, owner=owner))
    assert app_of(told, host) == VIDEO


@pytest.mark.parametrize("byte", [0x40, 0x80, 0xBF])
def test_a_label_of_a_forbidden_length_ends_the_reading(told: Plane, byte: int) -> None:
    host = client()
    resolve(told, host, NAME, dns_record(SERVER.packed, owner=bytes([byte, 12])))
    assert app_of(told, host) == 0


def test_sixteen_records_are_looked_at(told: Plane) -> None:
    host = client()
    records = [dns_record(bytes([203, 0, 113, last])) for last in range(1, 21)]
    resolve(told, host, NAME, *records)
    assert {entry.server[-1] for entry in table(told)} == set(range(1, 17))


WRONG = {
    "class": dns_record(SERVER.packed, group=3),
    "type": dns_record(SERVER.packed, TYPE_CNAME),
    "AAAA of 4 bytes": dns_record(SERVER.packed, TYPE_AAAA),
    "A of 16 bytes": dns_record(SERVER6.packed, messages.TYPE_A),
    "shorter than an address": dns_record(SERVER.packed[:3], messages.TYPE_A),
    "longer than the message": dns_record(SERVER.packed, length=5),
    "longer than any": dns_record(SERVER.packed, length=0xFFFF),
}


@pytest.mark.parametrize("record", WRONG.values(), ids=list(WRONG))
def test_records_that_are_no_address(told: Plane, record: bytes) -> None:
    resolve(told, client(), NAME, record)
    assert table(told) == []


@pytest.mark.parametrize("lie", [{"count": 0}, {"count": 513}, {"questions": 2}, {"questions": 0}])
def test_counts_that_make_it_no_answer(told: Plane, lie: dict[str, int]) -> None:
    talk = lookups(client())
    reply = dns_reply(NAME, dns_record(SERVER.packed), **lie)
    told.send(talk.udp(dns_query(NAME)), talk.udp(reply, from_client=False))
    assert table(told) == []


def test_more_records_said_than_there_are(told: Plane) -> None:
    host = client()
    talk = lookups(host)
    reply = dns_reply(NAME, dns_record(SERVER.packed), count=512)
    told.send(talk.udp(dns_query(NAME)), talk.udp(reply, from_client=False))
    assert app_of(told, host) == VIDEO


LONG = dns_reply(
    NAME,
    dns_record(ALIAS, TYPE_CNAME),
    dns_record(SERVER.packed, owner=ALIAS),
    dns_record(SERVER6.packed, owner=b"\x01a\xc0\x0c", seconds=300),
    dns_record(b"\x04text", 16),
    dns_record(bytes([203, 0, 113, 9])),
)


def noted(plane: Plane, host: str, message: bytes) -> set[bytes]:
    """The addresses that a host's entries name after it was sent that answer."""
    mapped = Endpoint(host).mapped
    talk = lookups(host)
    plane.send(talk.udp(dns_query(NAME)), talk.udp(message, from_client=False))
    return {entry.server for entry in table(plane) if entry.client == mapped}


def expected(message: bytes) -> set[bytes]:
    """The same by the reference; none where the question's name is of no application."""
    try:
        parsed = dns.parse_message(message)
    except ValueError:
        return set()
    if parsed is None or not f".{parsed.name}".endswith((".video.example", ".music.example")):
        return set()
    packed = [address.packed for address in dns.answer_addresses(message)]
    return {p if len(p) == 16 else bytes(10) + b"\xff\xff" + p for p in packed}


def test_cut_at_every_byte(told: Plane) -> None:
    for length in some(range(len(LONG) + 1)):
        forget(told)
        assert noted(told, client(), LONG[:length]) == expected(LONG[:length]), length


def test_damaged_answers(told: Plane) -> None:
    source = random.Random(20)
    for turn in examples(800):
        message = bytearray(LONG)
        for _ in range(source.randint(1, 4)):
            at = source.randrange(2, len(message))
            message[at] = source.choice((0, 1, 4, 16, 28, 63, 64, 192, source.randrange(256)))
        if turn % 64 == 0:
            forget(told)
        found = noted(told, client(), bytes(message))
        assert found == expected(bytes(message)), message.hex()


def test_labels_without_end_are_given_up(told: Plane) -> None:
    """The limit is the work for an answer, and not for one name in it."""
    counts = {}
    for labels in (120, 127, 128, 200, 400):
        record = dns_record(SERVER.packed, owner=b"\x01a" * labels + b"\0")
        message = dns_reply(NAME, record)
        host = client()
        counts[labels] = noted(told, host, message) == {SERVER.mapped}
        assert counts[labels] == bool(dns.answer_addresses(message))
    assert list(counts.values()) == [True, True, False, False, False]


def test_over_tcp(told: Plane) -> None:
    host = client()
    talk = lookups(host)
    query, reply = dns_query(NAME), dns_reply(NAME, dns_record(SERVER.packed))
    told.send(*talk.handshake(), *talk.segments(len(query).to_bytes(2, "big") + query))
    told.send(*talk.segments(len(reply).to_bytes(2, "big") + reply, from_client=False))
    assert app_of(told, host) == VIDEO


def test_over_tcp_one_query_after_the_other(told: Plane) -> None:
    host, other = client(), Endpoint("203.0.113.8", 443)
    talk = lookups(host)
    told.send(*talk.handshake())
    sent = {True: 1, False: 1}
    for number, (name, server) in enumerate(((NAME, SERVER), (OTHER_NAME, other))):
        query = dns_query(name, identification=number)
        reply = dns_reply(name, dns_record(server.packed), identification=number)
        for message, from_client in ((query, True), (reply, False)):
            stream = len(message).to_bytes(2, "big") + message
            told.send(talk.tcp(stream, seq=sent[from_client], flags=ACK, from_client=from_client))
            sent[from_client] += len(stream)
    flow = flow_of(told, talk)
    assert (flow.name, flow.app) == (NAME.decode(), VIDEO)
    assert [app_of(told, host, server) for server in (SERVER, other)] == [VIDEO, MUSIC]


def test_over_tcp_what_lies_behind_the_message(told: Plane) -> None:
    """The next message's bytes are no records of this one."""
    talk = lookups(client())
    query, reply = dns_query(NAME), dns_reply(NAME, count=1)
    told.send(*talk.handshake(), *talk.segments(len(query).to_bytes(2, "big") + query))
    stream = len(reply).to_bytes(2, "big") + reply + dns_record(SERVER.packed)
    told.send(*talk.segments(stream, from_client=False))
    assert table(told) == []


def test_over_tcp_the_servers_words_do_not_rename_the_flow(told: Plane) -> None:
    talk = lookups(client())
    query = dns_query(NAME)
    hello = hellos.records(hellos.simple_hello(b"wrong.example"))
    told.send(*talk.handshake(), *talk.segments(len(query).to_bytes(2, "big") + query))
    told.send(*talk.segments(hello, from_client=False))
    flow = flow_of(told, talk)
    assert (flow.name, flow.app) == (NAME.decode(), VIDEO)


def test_another_host_or_network_was_told_nothing(told: Plane) -> None:
    host = client()
    resolve(told, host, NAME, dns_record(SERVER.packed))
    assert app_of(told, client()) == 0
    assert app_of(told, host, Endpoint("203.0.113.8", 443)) == 0
    assert app_of(told, host, tags=[(0x8100, 7)]) == 0
    assert app_of(told, host) == VIDEO


def test_what_is_asked_of_a_resolver_is_not_what_it_is(told: Plane) -> None:
    host = client()
    resolve(told, host, NAME, dns_record(Endpoint(RESOLVER).packed))
    talk = lookups(host)
    told.send(talk.udp(dns_query(UNKNOWN)))
    assert flow_of(told, talk, UDP).app == 0


def test_a_servers_answer_seen_first(told: Plane) -> None:
    host = client()
    resolve(told, host, NAME, dns_record(SERVER.packed))
    talk = visit(host)
    told.send(talk.handshake()[1])
    assert flow_of(told, talk).app == VIDEO


@pytest.mark.parametrize("version", [4, 6])
def test_a_flow_whose_ports_are_used_again(told: Plane, version: int) -> None:
    host, server = client(version), SERVER if version == 4 else SERVER6
    talk = visit(host, server)
    told.send(*talk.handshake(), talk.tcp(flags=4 | ACK, from_client=False))
    assert flow_of(told, talk).app == 0
    resolve(told, host, NAME, dns_record(server.packed))
    told.send(talk.tcp(seq=0, flags=SYN))
    assert flow_of(told, talk).app == VIDEO


def tls(name: bytes | None) -> bytes:
    return hellos.records(hellos.simple_hello(name))


BETTER = {
    "SNI of another": (tls(OTHER_NAME), 443, MUSIC, "SNI"),
    "SNI of the same": (tls(NAME), 443, VIDEO, "SNI"),
    "SNI of nobody": (tls(UNKNOWN), 443, 0, "NONE"),
    "no SNI": (tls(None), 443, VIDEO, "DNS"),
    "Host of another": (messages.http_request(OTHER_NAME), 80, MUSIC, "HTTP_HOST"),
    "Host of nobody": (messages.http_request(UNKNOWN), 80, 0, "NONE"),
    "a pattern": (b"MADE\r\n", 9, MADE, "PATTERN"),
    "SSH": (messages.SSH_CLIENT, 22, VIDEO, "DNS"),
    "noise": (b"\xff" * 40, 9, VIDEO, "DNS"),
}


@pytest.mark.parametrize(("stream", "port", "app", "why"), BETTER.values(), ids=list(BETTER))
def test_better_evidence_wins(told: Plane, stream: bytes, port: int, app: int, why: str) -> None:
    host = client()
    resolve(told, host, NAME, dns_record(SERVER.packed))
    talk = visit(host, Endpoint(SERVER.address, port))
    told.send(*talk.handshake())
    assert flow_of(told, talk).app == VIDEO
    told.send(*talk.segments(stream))
    flow = flow_of(told, talk)
    assert (flow.app, flow.app_method) == (app, method(told, why))


def test_the_last_answer_counts(told: Plane) -> None:
    """An address may serve several names; of one that no rule knows, it says so."""
    host = client()
    for name, app in ((NAME, VIDEO), (OTHER_NAME, MUSIC), (UNKNOWN, 0), (NAME, VIDEO)):
        resolve(told, host, name, dns_record(SERVER.packed))
        assert app_of(told, host) == app


def test_answers_for_names_of_no_application_fill_nothing(told: Plane) -> None:
    for _ in range(20):
        resolve(told, client(), UNKNOWN, dns_record(SERVER.packed))
    assert table(told) == []


def unasked(plane: Plane, host: str, *frames: bytes) -> None:
    """These frames name nothing, and one of them is counted."""
    before = plane.counters("INFO_")
    plane.send(*frames)
    gains = plane.counted(before)
    assert gains["INFO_UNASKED"][0] == 1
    assert "INFO_RESOLVED" not in gains
    assert app_of(plane, host) == 0


REPLY = dns_reply(NAME, dns_record(SERVER.packed))


def test_an_answer_that_comes_first(told: Plane) -> None:
    host = client()
    talk = lookups(host)
    answer = talk.udp(REPLY, from_client=False)
    unasked(told, host, answer)
    # Nor does a query that comes behind it make the sender of the first packet a resolver.
    unasked(told, host, talk.udp(dns_query(NAME)), answer)


def test_an_answer_of_another_number(told: Plane) -> None:
    host = client()
    talk = lookups(host)
    told.send(talk.udp(dns_query(NAME, identification=2)))
    unasked(told, host, talk.udp(REPLY, from_client=False))


def test_an_answer_from_the_side_that_asks(told: Plane) -> None:
    host = client()
    talk = lookups(host)
    told.send(talk.udp(dns_query(NAME)))
    unasked(told, host, talk.udp(REPLY))


def test_an_answer_in_another_flow(told: Plane) -> None:
    host = client()
    told.send(lookups(host).udp(dns_query(NAME)))
    unasked(told, host, lookups(host).udp(REPLY, from_client=False))


def test_an_answer_counts_once(told: Plane) -> None:
    """Whoever sends a second one comes too late, as with the client's resolver."""
    host = client()
    talk = lookups(host)
    resolve(told, host, UNKNOWN, dns_record(SERVER.packed), talk=talk)
    unasked(told, host, talk.udp(REPLY, from_client=False))


def test_an_answer_to_something_else_than_a_query(told: Plane) -> None:
    host = client()
    talk = lookups(host)
    told.send(talk.udp(b"\xff" * 40))
    unasked(told, host, talk.udp(REPLY, from_client=False))


@pytest.mark.parametrize("port", [5353, 5355])
def test_names_of_the_link_are_nobodys_answers(told: Plane, port: int) -> None:
    host = client()
    talk = Conversation(Endpoint(host, 40000), Endpoint(RESOLVER, port))
    told.send(talk.udp(dns_query(NAME)), talk.udp(REPLY, from_client=False))
    assert table(told) == []


@pytest.mark.parametrize("queries", [4, 5, 8])
def test_four_queries_of_a_flow_may_wait(told: Plane, queries: int) -> None:
    talk = lookups(client())
    told.send(*[talk.udp(dns_query(NAME, identification=n)) for n in range(queries)])
    for number in range(queries):
        record = dns_record(bytes([203, 0, 113, number]))
        reply = dns_reply(NAME, record, identification=number)
        told.send(talk.udp(reply, from_client=False))
    found = sorted(entry.server[-1] for entry in table(told))
    assert found == list(range(queries))[-4:]


def test_names_are_not_kept_with_the_addresses(knowledge: Catalogue) -> None:
    """Under --privacy hash the application is known all the same, and nothing else is there."""
    with lent({"privacy": 1}, flows=1024, programs=["xdp_entry"]) as loaded:
        plane = Plane(loaded, "xdp")
        load_tables(loaded, knowledge)
        host = client()
        resolve(plane, host, NAME, dns_record(SERVER.packed))
        assert app_of(plane, host) == VIDEO
        (entry,) = table(plane)
        assert (entry.client, entry.server) == (Endpoint(host).mapped, SERVER.mapped)
        info = syscall.map_info(loaded.map_fd("resolved"))
        assert (info.key_size, info.value_size) == (KEY.size, VALUE.size)


TICKS = 1000
START = 1_700_000_000


@pytest.fixture(scope="module")
def timed(knowledge: Catalogue) -> Iterator[Plane]:
    """A data plane whose clock is the map `replay`."""
    constants = {"replaying": 1, "idle_new": 1 << 30, "idle_least": 1 << 30}
    with lent(constants, flows=1024, programs=["xdp_entry"], hz=TICKS) as loaded:
        load_tables(loaded, knowledge)
        yield Plane(loaded, "xdp")


def set_clock(plane: Plane, seconds: float) -> None:
    plane.loaded.array("replay", writable=True)["time_ns"] = int((START + seconds) * 1e9)


@pytest.mark.parametrize(
    ("seconds", "counts"),
    [(60, 60), (0, 60), (1, 60), (600, 600), (3600, 3600), (86400, 3600), (1 << 31, 60)],
)
def test_an_address_counts_for_its_time_to_live(timed: Plane, seconds: int, counts: int) -> None:
    host = client()
    set_clock(timed, 0)
    resolve(timed, host, NAME, dns_record(SERVER.packed, seconds=seconds))
    moments = {0.01: VIDEO, counts - 0.01: VIDEO, counts + 0.01: 0, counts + 9000: 0}
    for moment, app in moments.items():
        set_clock(timed, moment)
        assert app_of(timed, host) == app, moment


def test_addresses_of_other_answers_do_not_live_longer_with_a_late_one(timed: Plane) -> None:
    early, late = client(), client()
    set_clock(timed, 0)
    resolve(timed, early, NAME, dns_record(SERVER.packed))
    set_clock(timed, 50)
    resolve(timed, late, NAME, dns_record(SERVER.packed, seconds=1000))
    resolve(timed, late, NAME, dns_record(bytes([203, 0, 113, 8])))
    set_clock(timed, 70)
    assert [app_of(timed, host) for host in (early, late)] == [0, VIDEO]


def test_the_clock_of_32_bits_wraps(timed: Plane) -> None:
    host = client()
    wrap = (1 << 32) / TICKS
    near = (START // wrap + 1) * wrap - START
    set_clock(timed, near - 30)
    resolve(timed, host, NAME, dns_record(SERVER.packed))
    for moment, app in ((near - 1, VIDEO), (near + 29, VIDEO), (near + 31, 0)):
        set_clock(timed, moment)
        assert app_of(timed, host) == app, moment


def hosts(count: int) -> Sequence[str]:
    return [f"10.78.{number >> 8}.{number & 255}" for number in range(count)]


@pytest.mark.parametrize("hook", some(list(HOOKS)))
def test_more_addresses_than_are_remembered(hook: str, knowledge: Catalogue) -> None:
    """The last ones are known, the first ones gone, and nothing else suffers."""
    room = 8192
    with lent(flows=FLOWS, sizes={"resolved": room}, programs=[HOOKS[hook][0]]) as loaded:
        plane = Plane(loaded, hook)
        load_tables(loaded, knowledge)
        records = [dns_record(bytes([203, 0, 113, last])) for last in range(16)]
        asking = hosts(2 * room // len(records))
        for host in asking:
            resolve(plane, host, NAME, *records)
        entries = table(plane)
        assert 0.9 * room < len(entries) <= room
        server = Endpoint("203.0.113.15", 443)
        late = [app_of(plane, host, server) for host in asking[-200:]]
        early = [app_of(plane, host, server) for host in asking[:200]]
        assert late.count(VIDEO) >= 195
        assert early.count(VIDEO) == 0
        assert plane.counters("LOSS_")["LOSS_EVICTED_ESTABLISHED"][0] == 0
