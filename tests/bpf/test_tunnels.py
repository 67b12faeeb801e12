# SPDX-License-Identifier: Apache-2.0
"""What a tunnel carries is the flow, if asked for; what is no tunnel stays as it is."""

import os
import random
from collections.abc import Iterator

import numpy as np
import pytest

from tests import hellos, messages
from tests import packets as p
from tests.bpf.instances import lent
from tests.bpf.plane import FLOWS, HOOKS, Plane
from tests.effort import examples, some
from tests.packets import CLIENT, CLIENT6, SERVER, SERVER6, Conversation, Endpoint
from tests.reference.packet import FlowPacket
from tests.reference.tunnel import parse_inside
from xdpprobe.loader import Loaded

NAME = b"www.example.com"
NEAR, FAR = Endpoint("192.0.2.1", 50000), Endpoint("192.0.2.2", 0)
NEAR6, FAR6 = Endpoint("2001:db8::a", 50000), Endpoint("2001:db8::b", 0)
VXLAN, GENEVE, GTP_U, GRE, IPIP, IPV6 = 4789, 6081, 2152, 47, 4, 41


def in_udp(payload: bytes, port: int, *, back: bool = False) -> bytes:
    ends = (Endpoint(FAR.address, 50001), Endpoint(NEAR.address, port))
    if not back:
        ends = (NEAR, Endpoint(FAR.address, port))
    return p.ethernet(p.ipv4(p.udp(payload, *ends), *ends, p.UDP))


def in_ip(payload: bytes, protocol: int) -> bytes:
    return p.ethernet(p.ipv4(payload, NEAR, FAR, protocol))


def in_ip6(payload: bytes, protocol: int) -> bytes:
    return p.ethernet(p.ipv6(payload, NEAR6, FAR6, protocol), p.ETHERTYPE_IPV6)


DATA = b"what the tunnel carries"
UDP4 = p.ipv4(p.udp(DATA, CLIENT, SERVER), CLIENT, SERVER, p.UDP)
TCP6 = p.ipv6(p.tcp(DATA, CLIENT6, SERVER6), CLIENT6, SERVER6, p.TCP)
FRAME4 = p.ethernet(UDP4)
FRAME6 = p.ethernet(TCP6, p.ETHERTYPE_IPV6)
IN_VLAN = p.ethernet(UDP4, tags=[p.vlan(12)])
ARP = p.arp_request()
V4, V6 = p.ETHERTYPE_IPV4, p.ETHERTYPE_IPV6
TUNNELS = {
    "vxlan": (in_udp(p.vxlan(FRAME4, 42), VXLAN), "vxlan 42"),
    "vxlan, old port": (in_udp(p.vxlan(FRAME6, 0xABCDEF), 8472), "vxlan 11259375"),
    "vxlan, tagged inside": (in_udp(p.vxlan(IN_VLAN, 1), VXLAN), "vxlan 1"),
    "geneve": (in_udp(p.geneve(FRAME6, 7), GENEVE), "geneve 7"),
    "geneve, options": (in_udp(p.geneve(FRAME4, 7, options=bytes(60)), GENEVE), "geneve 7"),
    "geneve, most options": (in_udp(p.geneve(FRAME4, 7, options=bytes(252)), GENEVE), "geneve 7"),
    "geneve, IP": (in_udp(p.geneve(UDP4, 9, V4), GENEVE), "geneve 9"),
    "gtp-u": (in_udp(p.gtp_u(UDP4, 1), GTP_U), "gtp-u"),
    "gtp-u, sequence": (in_udp(p.gtp_u(TCP6, 1, sequence=5), GTP_U), "gtp-u"),
    "gtp-u, extension": (in_udp(p.gtp_u(UDP4, 1, extensions=[b"\0\1"]), GTP_U), "gtp-u"),
    "gtp-u, extensions": (
        in_udp(p.gtp_u(UDP4, 1, sequence=1, extensions=[b"\0\1", bytes(6), bytes(10)]), GTP_U),
        "gtp-u",
    ),
    "gre": (in_ip(p.gre(UDP4, V4), GRE), "gre"),
    "gre, key": (in_ip(p.gre(TCP6, V6, key=5), GRE), "gre"),
    "gre, all fields": (in_ip(p.gre(FRAME4, 0x6558, key=5, number=6, summed=True), GRE), "gre"),
    "gre over IPv6": (in_ip6(p.gre(UDP4, V4), GRE), "gre"),
    "ipip": (in_ip(UDP4, IPIP), "ip"),
    "sit": (in_ip(TCP6, IPV6), "ip"),
    "ip6ip6": (in_ip6(TCP6, IPV6), "ip"),
    "ipip6": (in_ip6(UDP4, IPIP), "ip"),
}
CLOSED = {
    "another port": in_udp(p.vxlan(FRAME4, 42), 4790),
    "vxlan, other flags": in_udp(b"\x0c" + p.vxlan(FRAME4, 42)[1:], VXLAN),
    "geneve, version 1": in_udp(b"\x40" + p.geneve(FRAME4, 7)[1:], GENEVE),
    "geneve, control": in_udp(p.geneve(FRAME4, 7, flags=0x80), GENEVE),
    "geneve, other protocol": in_udp(p.geneve(FRAME4, 7, 0x1234), GENEVE),
    "gtp-u, echo": in_udp(b"\x32\x01" + bytes(12), GTP_U),
    "gtp-u, five extensions": in_udp(p.gtp_u(UDP4, 1, extensions=[b"\0\1"] * 5), GTP_U),
    "gtp-u, extension of length 0": in_udp(b"\x34\xff" + bytes(9) + b"\x85" + bytes(40), GTP_U),
    "gre, version 1": in_ip(p.gre(UDP4, V4, version=1), GRE),
    "gre, other protocol": in_ip(p.gre(UDP4, 0x88BE), GRE),
    "ipip, neither version": in_ip(b"\x50" + UDP4[1:], IPIP),
    "a fragment": p.ethernet(p.ipv4(UDP4, NEAR, FAR, IPIP, more=True)),
}
INSIDE_WITHOUT_FLOW = {"arp in vxlan": in_udp(p.vxlan(ARP, 42), VXLAN)}
FRAMES = {**{k: v[0] for k, v in TUNNELS.items()}, **CLOSED, **INSIDE_WITHOUT_FLOW}


@pytest.fixture(scope="module")
def inner() -> Iterator[Loaded]:
    if os.geteuid() != 0:
        pytest.skip("loading a BPF program needs root")
    with lent({"tunnels": 1}, flows=FLOWS, names=FLOWS) as instance:
        yield instance


@pytest.fixture(params=list(HOOKS))
def opening(request: pytest.FixtureRequest, inner: Loaded) -> Plane:
    """A data plane that looks into tunnels."""
    plane = Plane(inner, request.param)
    plane.clear()
    return plane


def tunnel_of(plane: Plane) -> str | None:
    cold = plane.loaded.array("flow_cold")
    (index,) = np.flatnonzero(plane.loaded.array("flow_hot")["tag"])
    words = {number: name for name, number in plane.loaded.abi.enums["tunnel"].items()}
    kind = words[int(cold["tunnel"][index])].removeprefix("TUNNEL_").lower().replace("_", "-")
    number = int(cold["tunnel_id"][index])
    if kind == "none":
        return None
    return f"{kind} {number}" if kind in ("vxlan", "geneve") else kind


def assert_as_the_oracle(plane: Plane, frame: bytes) -> None:
    plane.clear()
    before = plane.counters("REASON_")
    expected = parse_inside(frame)
    plane.send(frame)
    flows, reasons = plane.flows(), plane.counted(before)
    if isinstance(expected, str):
        assert flows == [], frame.hex()
        assert reasons == {f"REASON_{expected.upper()}": (1, len(frame))}, frame.hex()
        return
    if expected.fragment is not None and expected.fragment[1]:
        return  # its ports depend on what came before
    assert reasons == {}, frame.hex()
    assert [(f.vlan, f.l4, *f.ends) for f in flows] == [expected.key], frame.hex()
    assert sum(flows[0].bytes) == len(frame)


@pytest.mark.parametrize(("frame", "tunnel"), TUNNELS.values(), ids=list(TUNNELS))
def test_what_a_tunnel_carries_is_the_flow(opening: Plane, frame: bytes, tunnel: str) -> None:
    found = parse_inside(frame)
    assert isinstance(found, FlowPacket)
    assert {found.src, found.dst} <= {end.mapped for end in (CLIENT, SERVER, CLIENT6, SERVER6)}
    assert_as_the_oracle(opening, frame)
    assert tunnel_of(opening) == tunnel


@pytest.mark.parametrize("frame", CLOSED.values(), ids=list(CLOSED))
def test_what_is_no_tunnel_stays_closed(opening: Plane, frame: bytes) -> None:
    assert_as_the_oracle(opening, frame)
    (flow,) = opening.flows()
    assert {NEAR.mapped, FAR.mapped} == {address for address, _ in flow.ends}
    assert tunnel_of(opening) is None


@pytest.mark.parametrize("frame", FRAMES.values(), ids=list(FRAMES))
def test_every_cut(opening: Plane, frame: bytes) -> None:
    for length in some(range(opening.shortest(frame), len(frame) + 1)):
        assert_as_the_oracle(opening, frame[:length])


def test_damaged_tunnels(opening: Plane) -> None:
    source = random.Random(7)
    frames = list(FRAMES.values())
    for _ in examples(4000):
        frame = bytearray(source.choice(frames))
        for _ in range(source.randint(1, 4)):
            frame[source.randrange(12, min(len(frame), 130))] = source.randrange(256)
        assert_as_the_oracle(opening, bytes(frame))


def test_without_the_option_the_tunnel_is_the_flow(plane: Plane) -> None:
    plane.send(TUNNELS["vxlan"][0])
    (flow,) = plane.flows()
    assert {port for _, port in flow.ends} == {50000, VXLAN}


def test_networks_may_use_the_same_addresses(opening: Plane) -> None:
    opening.send(*(in_udp(p.vxlan(FRAME4, network), VXLAN) for network in (1, 2, 1)))
    assert sorted(sum(flow.packets) for flow in opening.flows()) == [1, 2]


def test_both_directions_of_gtp_u_are_one_flow(opening: Plane) -> None:
    answer = p.ipv4(p.udp(DATA, SERVER, CLIENT), SERVER, CLIENT, p.UDP)
    opening.send(
        in_udp(p.gtp_u(UDP4, 0x1111), GTP_U), in_udp(p.gtp_u(answer, 0x2222), GTP_U, back=True)
    )
    (flow,) = opening.flows()
    assert flow.packets == (1, 1)


def test_a_name_in_pieces_inside_a_tunnel(opening: Plane) -> None:
    talk: Conversation = opening.new_talk()
    message = hellos.records(hellos.browser_hello(NAME, seed=4))
    frames = [*talk.handshake(), *reversed(talk.segments(message, 700))]
    opening.send(*(in_udp(p.vxlan(frame, 42), VXLAN) for frame in frames))
    flow = opening.flow(talk)
    assert flow is not None
    assert flow.name == NAME.decode()


def test_a_name_behind_the_tunnels_end(opening: Plane) -> None:
    """What the outer headers do not count is padding, and no packet of anybody's."""
    query = messages.dns_query(NAME)
    server = Endpoint(SERVER.address, 53)
    packet = p.ipv4(p.udp(query, CLIENT, server), CLIENT, server, p.UDP)
    head = len(packet) - len(query)  # that may be there without the name
    ends = (NEAR, Endpoint(FAR.address, VXLAN))
    overlay = p.vxlan(p.ethernet(packet), 42)
    shorter = 8 + len(overlay) - len(query)
    frames = [
        p.ethernet(p.ipv4(packet, NEAR, FAR, IPIP, total_length=20 + head)),
        p.ethernet(p.ipv4(packet, NEAR, FAR, IPIP, total_length=20 + 19)),
        p.ethernet(p.ipv4(p.udp(overlay, *ends, length=shorter), *ends, p.UDP)),
        p.ethernet(p.ipv4(p.udp(overlay, *ends), *ends, p.UDP, total_length=20 + shorter)),
    ]
    before = opening.counters("REASON_")
    opening.send(*frames)
    assert [flow.name for flow in opening.flows()] == [None, None]
    assert opening.counted(before) == {"REASON_MALFORMED": (1, len(frames[1]))}
    opening.send(p.ethernet(p.ipv4(packet, NEAR, FAR, IPIP)))
    assert NAME.decode() in [flow.name for flow in opening.flows()]
