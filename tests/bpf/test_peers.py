# SPDX-License-Identifier: Apache-2.0
"""Flows named by their ends' addresses alone: pushed peers, and prefixes of signatures."""

import ipaddress
import random
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests import hellos, messages
from tests.bpf.plane import Plane
from tests.bpf.pushed import (
    APP,
    NOTHING,
    OTHER,
    THIRD,
    V4,
    V6,
    MemoryShelf,
    born,
    named,
    publish,
    said,
)
from tests.effort import examples
from tests.packets import FIN, ICMP, SYN, UDP, Conversation, Endpoint, icmp_echo
from xdpprobe import peer_maps, peer_text, syscall
from xdpprobe.errors import KernelError, StateError
from xdpprobe.loader import Loaded
from xdpprobe.peer_file import Said
from xdpprobe.peers import Peers

SSH = 4  # a protocol's label


def entry(plane: Plane) -> Any:
    """The only entry of the table."""
    hot = plane.loaded.array("flow_hot")
    (index,) = np.flatnonzero(hot["tag"])
    return hot[index]


@pytest.mark.parametrize(
    ("peer", "ends", "tcp", "udp"),
    [
        ("198.51.100.20", V4, "peer", "peer"),
        ("192.0.2.10", V4, "peer", "peer"),
        ("192.0.2.11", V4, "none", "none"),
        ("198.51.100.20:443/tcp", V4, "peer", "none"),
        ("198.51.100.20:443/udp", V4, "none", "peer"),
        ("198.51.100.20:443", V4, "peer", "peer"),
        ("192.0.2.10:51000/udp", V4, "none", "peer"),
        ("198.51.100.20:444", V4, "none", "none"),
        ("198.51.100.20:51000", V4, "none", "none"),
        ("2001:db8:2::20", V6, "peer", "peer"),
        ("2001:db8:1::10", V6, "peer", "peer"),
        ("2001:db8:2::21", V6, "none", "none"),
        ("[2001:db8:2::20]:443/tcp", V6, "peer", "none"),
        ("[2001:db8:2::20]:80", V6, "none", "none"),
        ("198.51.100.0/24", V4, "prefix", "prefix"),
        ("192.0.2.0/24", V4, "prefix", "prefix"),
        ("198.51.100.20/32", V4, "prefix", "prefix"),
        ("198.51.100.21/32", V4, "none", "none"),
        ("198.51.0.0/16", V4, "prefix", "prefix"),
        ("198.50.0.0/15", V4, "prefix", "prefix"),
        ("198.52.0.0/15", V4, "none", "none"),
        ("0.0.0.0/0", V4, "prefix", "prefix"),
        ("0.0.0.0/0", V6, "none", "none"),
        ("2001:db8::/32", V6, "prefix", "prefix"),
        ("2001:db8:2::/48", V6, "prefix", "prefix"),
        ("2001:db8:3::/48", V6, "none", "none"),
        ("2001:db8:2::20/128", V6, "prefix", "prefix"),
        ("2001:da0::/28", V6, "none", "none"),
        ("2001:db0::/28", V6, "prefix", "prefix"),
        ("2000::/3", V6, "prefix", "prefix"),
        ("2000::/3", V4, "none", "none"),
    ],
)
def test_each_kind_of_peer(
    plane: Plane,
    peers: Peers,
    peer: str,
    ends: tuple[Endpoint, Endpoint],
    tcp: str,
    udp: str,
) -> None:
    peers.replace(said(APP, peer))
    for l4, method in ((6, tcp), (UDP, udp)):
        for order in (ends, ends[::-1]):
            assert born(plane, order, l4) == (APP if method != "none" else 0, method)


def test_what_is_asked_first_decides(plane: Plane, peers: Peers) -> None:
    """From the strongest to the weakest: each is taken away in its turn."""
    client, server = V4
    order = [
        (f"{server.address}:{server.port}/tcp", "peer"),
        (server.address, "peer"),
        (f"{client.address}:{client.port}/tcp", "peer"),
        (client.address, "peer"),
        ("198.51.100.16/28", "prefix"),
        ("198.51.100.0/24", "prefix"),
        ("192.0.0.0/8", "prefix"),
    ]
    publish(plane.loaded, **{"198.51.100.20/32": THIRD})
    known = {}
    for number, (text, _) in enumerate(order):
        known.update(said(APP + 10 + number, text))
    for number, (text, method) in enumerate(order):
        peers.replace(known)
        assert born(plane) == (APP + 10 + number, method)
        for peer in peer_text.parse(text):
            del known[peer]
    peers.replace(known)
    assert born(plane) == (THIRD, "prefix")
    publish(plane.loaded)
    assert born(plane) == NOTHING


def test_better_evidence_takes_its_place(plane: Plane, peers: Peers) -> None:
    publish(plane.loaded)
    peers.replace(said(APP, "198.51.100.0/24"))
    talk = plane.new_talk()
    plane.send(*talk.handshake())
    assert named(plane, talk) == (APP, "prefix")
    plane.send(*talk.segments(hellos.records(hellos.simple_hello(b"www.youtube.com"))))
    assert named(plane, talk) == (512, "sni")


def test_a_name_that_no_rule_knows_leaves_the_application(plane: Plane, peers: Peers) -> None:
    peers.replace(said(APP, "198.51.100.20"))
    talk = plane.new_talk()
    plane.send(*talk.handshake())
    plane.send(*talk.segments(hellos.records(hellos.simple_hello(b"nobody.invalid"))))
    assert named(plane, talk) == (APP, "peer")
    flow = plane.flow(talk)
    assert flow is not None
    assert (flow.protocol, flow.name) == (1, "nobody.invalid")


def test_a_protocol_as_label(plane: Plane, peers: Peers) -> None:
    """It is provisional too: what is said over the wire counts more."""
    abi = plane.loaded.abi
    peers.replace(said(SSH, "198.51.100.20"))
    talk = plane.new_talk(80)
    plane.send(*talk.handshake())
    hot = entry(plane)
    assert (hot["app"], hot["app_method"], hot["app_confidence"]) == (0, 0, 0)
    assert (hot["protocol"], hot["protocol_method"]) == (SSH, abi.enums["method"]["METHOD_PEER"])
    assert 0 < hot["protocol_confidence"] < 100
    assert not hot["flags"] & abi.enums["flow_flag"]["FLOW_FINAL"]
    plane.send(*talk.segments(messages.http_request(b"nobody.invalid")))
    assert entry(plane)["protocol"] == abi.enums["protocol"]["PROTOCOL_HTTP"]


def test_flows_without_ports(plane: Plane, peers: Peers) -> None:
    peers.replace(said(APP, "198.51.100.20", "198.51.100.21:1", "198.51.100.22:1"))
    talk = Conversation(Endpoint("192.0.2.10"), Endpoint("198.51.100.20"))
    plane.send(talk.network(icmp_echo(), ICMP))
    assert named(plane, talk, ICMP) == (APP, "peer")
    other = Conversation(Endpoint("192.0.2.10"), Endpoint("198.51.100.21"))
    plane.send(other.network(icmp_echo(), ICMP))
    assert named(plane, other, ICMP) == NOTHING


def test_flows_that_stand_are_not_looked_at_again(plane: Plane, peers: Peers) -> None:
    talk = plane.new_talk()
    plane.send(*talk.handshake())
    peers.replace(said(APP, "198.51.100.20"))
    plane.send(talk.tcp(b"x"), talk.tcp(b"y", from_client=False))
    assert named(plane, talk) == NOTHING
    plane.send(talk.tcp(flags=FIN), talk.tcp(flags=FIN, from_client=False))
    plane.send(talk.tcp(seq=0, flags=SYN))
    assert named(plane, talk) == (APP, "peer")


def test_age(plane: Plane, peers: Peers) -> None:
    """An end that is past is as good as removed, and what is below counts again."""
    past, future = peers.now(), peers.now() + 3600
    expired = {
        **said(APP, "198.51.100.20", "192.0.2.10", lasts=past),
        **said(APP, "198.51.100.16/28", lasts=1),
    }
    peers.replace({**expired, **said(OTHER, "198.51.0.0/16", lasts=future)})
    # The longest prefix is what a trie answers with: only that one is asked, and it has expired.
    assert born(plane) == NOTHING
    assert peers.read() == said(OTHER, "198.51.0.0/16", lasts=future)
    assert peers.prune() == peers.read()
    assert born(plane) == (OTHER, "prefix")
    assert peers_held(plane.loaded) == 1


def peers_held(loaded: Loaded) -> int:
    return loaded.tables().peer_counts()[0]


def test_an_age_that_is_renewed(plane: Plane, peers: Peers) -> None:
    peers.replace(said(APP, "198.51.100.20", lasts=1))
    assert born(plane) == NOTHING
    peers.add(peers.moments(said(APP, "198.51.100.20", lasts=60)))
    assert born(plane) == (APP, "peer")
    ((_, left),) = peers.seconds_left(peers.read())
    assert 59 <= left.lasts <= 60 + 256 // plane.loaded.hz


def test_moments_are_further_than_32_bits(plane: Plane, peers: Peers) -> None:
    """Ten years, which jiffies of 32 bits have not."""
    peers.replace(peers.moments(said(APP, "198.51.100.20", lasts=315_360_000)))
    assert born(plane) == (APP, "peer")


def test_both_places(plane: Plane, peers: Peers, shelf: MemoryShelf) -> None:
    places = []
    for label in (APP, OTHER, APP, OTHER):
        peers.replace(said(label, "198.51.100.20", "192.0.2.0/24"))
        assert born(plane) == (label, "peer")
        places += shelf.places()
        assert len(shelf.places()) == 1
    assert places in ([0, 1, 0, 1], [1, 0, 1, 0])
    peers.replace(said(THIRD, "192.0.2.0/24"))
    assert born(plane) == (THIRD, "prefix")
    peers.replace({})
    assert born(plane) == NOTHING


def test_published_prefixes_of_both_generations(plane: Plane, peers: Peers) -> None:
    for label in (APP, OTHER, APP):
        publish(plane.loaded, **{"198.51.100.0/24": label, "2001:db8::/32": SSH})
        assert born(plane) == (label, "prefix")
        assert born(plane, V6) == NOTHING
        assert entry(plane)["protocol"] == SSH
        assert plane.loaded.tables().peer_counts() == (0, 2)
    peers.replace(said(OTHER, "10.0.0.0/8"))
    assert born(plane) == (APP, "prefix")
    publish(plane.loaded)
    assert born(plane) == NOTHING
    assert plane.loaded.tables().peer_counts() == (1, 0)


def test_a_load_that_fails_leaves_the_prefixes(
    plane: Plane, peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(plane.loaded, **{"198.51.100.0/24": APP})

    def fail(*_: object) -> None:
        raise KernelError("no", 12)

    with monkeypatch.context() as patch:
        patch.setattr(syscall, "update_many", fail)
        with pytest.raises(KernelError):
            publish(plane.loaded, **{"198.51.100.0/24": OTHER})
    assert born(plane) == (APP, "prefix")


def test_added_in_place(plane: Plane, peers: Peers, shelf: MemoryShelf) -> None:
    peers.replace(said(APP, "203.0.113.1"))
    place = shelf.places()
    steps = [
        ("203.0.113.0/24", V4, NOTHING),
        ("198.0.0.0/7", V4, (OTHER, "prefix")),
        ("198.51.100.0/24", V4, (OTHER, "prefix")),
        ("198.51.100.20", V4, (OTHER, "peer")),
        ("[2001:db8:2::20]:443", V6, (OTHER, "peer")),
    ]
    for text, ends, wanted in steps:
        peers.add(said(OTHER, text))
        assert born(plane, ends) == wanted
    peers.add(said(THIRD, "198.51.100.20"))
    assert born(plane) == (THIRD, "peer")
    assert shelf.places() == place
    assert len(peers.read()) == 7


def test_more_than_there_was_room_for(
    plane: Plane, peers: Peers, shelf: MemoryShelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdpprobe.peers._LEAST_ROOM", 16)
    peers.replace(said(APP, *(f"10.0.0.{i}" for i in range(10))))
    before = shelf.places()
    peers.add(said(OTHER, *(f"198.51.100.{i}" for i in range(20))))
    assert shelf.places() != before
    assert len(peers.read()) == 30
    assert born(plane) == NOTHING
    peers.add(said(OTHER, "198.51.100.20"))
    assert born(plane) == (OTHER, "peer")


def test_too_many(plane: Plane, peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Peers, "most", 10)
    peers.replace(said(APP, "198.51.100.20", *(f"10.0.0.{i}" for i in range(9))))
    with pytest.raises(StateError) as refused:
        peers.add(said(OTHER, "198.51.100.20", "10.0.1.1"))
    assert str(refused.value).startswith(
        "11 peers would be too many, 10 is the most; nothing has changed; "
    )
    with pytest.raises(StateError):
        peers.replace(said(OTHER, *(f"10.0.0.{i}" for i in range(11))))
    assert born(plane) == (APP, "peer")
    assert len(peers.read()) == 10
    peers.add(said(OTHER, "198.51.100.20"))
    assert born(plane) == (OTHER, "peer")
    # One that has expired makes room.
    peers.replace({**peers.read(), **said(APP, "10.0.0.0", lasts=1)})
    peers.add(said(OTHER, "10.0.1.1"))
    assert len(peers.read()) == 10


@pytest.mark.parametrize(("owner", "step"), [(peer_maps, "make_table"), (syscall, "update")])
def test_a_replacement_that_fails_changes_nothing(
    plane: Plane,
    peers: Peers,
    shelf: MemoryShelf,
    monkeypatch: pytest.MonkeyPatch,
    owner: ModuleType,
    step: str,
) -> None:
    peers.replace(said(APP, "198.51.100.20"))
    places = shelf.places()

    def fail(*_: object) -> None:
        raise KernelError("cannot store peers", 12)

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, fail)
        with pytest.raises(KernelError):
            peers.replace(said(OTHER, "198.51.100.20"))
    assert shelf.places() == places
    assert born(plane) == (APP, "peer")


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def random_address(source: random.Random, wide: bool) -> str:
    """Of a few blocks, so that peers and flows meet."""
    if wide:
        words = (0x2001, source.choice((0xDB8, 0xDB9)), *(source.randrange(3) for _ in range(6)))
        return str(ipaddress.IPv6Address(":".join(f"{word:x}" for word in words)))
    return f"10.{source.randrange(4)}.{source.randrange(3)}.{source.randrange(64)}"


def random_peer(source: random.Random) -> str:
    wide = source.random() < 0.4
    address = random_address(source, wide)
    kind = source.randrange(3)
    if kind == 0:
        return address
    if kind == 1:
        host = f"[{address}]" if wide else address
        return f"{host}:{source.randrange(1, 4)}/{source.choice(('tcp', 'udp'))}"
    bits = source.choice((20, 29, 32, 33, 64, 100, 128) if wide else (7, 8, 12, 16, 17, 24, 30, 32))
    return str(ipaddress.ip_network((address, bits), strict=False))


def answer(known: dict[str, int], ends: tuple[Endpoint, Endpoint], l4: str) -> tuple[int, str]:
    """What peers say of a flow from ends[0] to ends[1], asked plainly."""
    for end in ends[::-1]:
        host = f"[{end.address}]" if ":" in end.address else end.address
        for text in (f"{host}:{end.port}/{l4}", end.address):
            if text in known:
                return known[text], "peer"
    networks: dict[Network, int] = {
        ipaddress.ip_network(text): label
        for text, label in known.items()
        if "/" in text and text.partition("/")[2].isdigit()
    }
    for end in ends[::-1]:
        address = ipaddress.ip_address(end.address)
        fits = [network for network in networks if address in network]
        if fits:
            return networks[max(fits, key=lambda network: network.prefixlen)], "prefix"
    return NOTHING


def test_any_peers_and_any_flows(plane: Plane, peers: Peers) -> None:
    """As asked one by one; half of the peers are added in place."""
    source = random.Random(11)
    for _ in examples(8):
        known = {random_peer(source): APP + i % 900 for i in range(300)}
        parts: list[dict[bytes, Said]] = [{}, {}]
        for number, (text, label) in enumerate(known.items()):
            parts[number & 1].update(said(label, text))
        peers.replace(parts[0])
        peers.add(parts[1])
        assert peers.read() == {**parts[0], **parts[1]}
        for _ in range(60):
            wide, l4 = source.random() < 0.4, source.choice((6, UDP))
            ends = [
                Endpoint(random_address(source, wide), source.randrange(1, 4)) for _ in range(2)
            ]
            if ends[0] == ends[1]:
                continue
            pair = (ends[0], ends[1])
            assert born(plane, pair, l4) == answer(known, pair, "udp" if l4 == UDP else "tcp")
