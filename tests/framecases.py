# SPDX-License-Identifier: Apache-2.0
"""Tables of frames: which flow each belongs to, or for which reason to none.

One table for the oracle and for the data plane, so that neither is tested on less than the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tests import packets as p
from tests.packets import CLIENT, CLIENT6, SERVER, SERVER6, Conversation, Endpoint


@dataclass(frozen=True)
class Expected:
    """The flow of a frame, seen from its sender."""

    l4: int
    source: Endpoint
    destination: Endpoint
    payload: bytes
    vlan: int = 0


DATA = b"the payload of this packet"
TCP4 = Expected(p.TCP, CLIENT, SERVER, DATA)
UDP4 = Expected(p.UDP, CLIENT, SERVER, DATA)
TCP6 = Expected(p.TCP, CLIENT6, SERVER6, DATA)
UDP6 = Expected(p.UDP, CLIENT6, SERVER6, DATA)


def without_ports(l4: int, payload: bytes, *, six: bool = False) -> Expected:
    source, destination = (CLIENT6, SERVER6) if six else (CLIENT, SERVER)
    return Expected(l4, Endpoint(source.address), Endpoint(destination.address), payload)


def in_vlan(expected: Expected, vlan: int) -> Expected:
    return Expected(expected.l4, expected.source, expected.destination, expected.payload, vlan)


def ip4(
    segment: bytes,
    protocol: int = p.UDP,
    *,
    options: bytes = b"",
    more: bool = False,
    total_length: int | None = None,
    version: int = 4,
    header_words: int | None = None,
) -> bytes:
    return p.ipv4(
        segment,
        CLIENT,
        SERVER,
        protocol,
        options=options,
        more=more,
        total_length=total_length,
        version=version,
        header_words=header_words,
    )


def ip6(
    segment: bytes,
    protocol: int = p.UDP,
    extensions: Sequence[tuple[int, bytes]] = (),
    payload_length: int | None = None,
) -> bytes:
    return p.ipv6(
        segment,
        CLIENT6,
        SERVER6,
        protocol,
        extensions=extensions,
        payload_length=payload_length,
    )


def ether6(packet: bytes) -> bytes:
    return p.ethernet(packet, p.ETHERTYPE_IPV6)


TALK, TALK6 = Conversation(), Conversation(CLIENT6, SERVER6)
UDP_SEGMENT = p.udp(DATA, CLIENT, SERVER)
UDP6_SEGMENT = p.udp(DATA, CLIENT6, SERVER6)
TCP_SEGMENT = p.tcp(DATA, CLIENT, SERVER)
SCTP_SEGMENT = p.sctp(DATA, CLIENT, SERVER)
ECHO, ECHO6 = p.icmp_echo(DATA), p.icmpv6_echo(CLIENT6, SERVER6, DATA)
V4, V6 = ip4(UDP_SEGMENT), ip6(UDP6_SEGMENT)
HOP = p.options_header(p.HOP_BY_HOP)
EIGHT = [HOP] + [p.options_header(p.DESTINATION)] * 7

WITH_FLOW: dict[str, tuple[bytes, Expected]] = {
    "TCP": (TALK.tcp(DATA), TCP4),
    "TCP without payload": (TALK.tcp(), Expected(p.TCP, CLIENT, SERVER, b"")),
    "TCP with options": (TALK.tcp(DATA, options=p.TCP_OPTIONS_TIMESTAMP), TCP4),
    "TCP with forty bytes of options": (TALK.tcp(DATA, options=b"\x01" * 40), TCP4),
    "UDP": (TALK.udp(DATA), UDP4),
    "UDP without payload": (TALK.udp(b""), Expected(p.UDP, CLIENT, SERVER, b"")),
    "TCP over IPv6": (TALK6.tcp(DATA), TCP6),
    "UDP over IPv6": (TALK6.udp(DATA), UDP6),
    "SCTP": (
        p.ethernet(ip4(SCTP_SEGMENT, p.SCTP)),
        Expected(p.SCTP, CLIENT, SERVER, DATA),
    ),
    "UDP-Lite": (
        p.ethernet(ip4(UDP_SEGMENT, p.UDP_LITE)),
        Expected(p.UDP_LITE, CLIENT, SERVER, DATA),
    ),
    "DCCP": (
        p.ethernet(ip4(SCTP_SEGMENT, p.DCCP)),
        Expected(p.DCCP, CLIENT, SERVER, DATA),
    ),
    "ICMP": (p.ethernet(ip4(ECHO, p.ICMP)), without_ports(p.ICMP, ECHO)),
    "ICMPv6": (ether6(ip6(ECHO6, p.ICMPV6)), without_ports(p.ICMPV6, ECHO6, six=True)),
    "ESP": (p.ethernet(ip4(DATA, p.ESP)), without_ports(p.ESP, DATA)),
    "GRE": (p.ethernet(ip4(DATA, p.GRE)), without_ports(p.GRE, DATA)),
    "IP without payload": (p.ethernet(ip4(b"", 99)), without_ports(99, b"")),
    "IPv4 with options": (p.ethernet(ip4(UDP_SEGMENT, options=b"\x94\x04\x00\x00")), UDP4),
    "IPv4 with forty bytes of options": (
        p.ethernet(ip4(UDP_SEGMENT, options=b"\x01" * 40)),
        UDP4,
    ),
    "IPv4, padded up to sixty bytes": (p.ethernet(V4) + bytes(9), UDP4),
    "IPv4 of total length 0": (p.ethernet(ip4(UDP_SEGMENT, total_length=0)), UDP4),
    "IPv6 of payload length 0": (ether6(ip6(UDP6_SEGMENT, payload_length=0)), UDP6),
    "IPv6, hop-by-hop": (ether6(ip6(UDP6_SEGMENT, extensions=[HOP])), UDP6),
    "IPv6, long hop-by-hop": (
        ether6(ip6(UDP6_SEGMENT, extensions=[p.options_header(p.HOP_BY_HOP, 64)])),
        UDP6,
    ),
    "IPv6, segment routing": (
        ether6(ip6(UDP6_SEGMENT, extensions=[p.routing_header(2)])),
        UDP6,
    ),
    "IPv6, atomic fragment": (
        ether6(ip6(UDP6_SEGMENT, extensions=[p.fragment_header(0, False)])),
        UDP6,
    ),
    "IPv6, three headers in the order of RFC 8200": (
        ether6(
            ip6(
                UDP6_SEGMENT,
                extensions=[HOP, p.routing_header(1), p.options_header(p.DESTINATION, 16)],
            )
        ),
        UDP6,
    ),
    "IPv6, eight extension headers": (ether6(ip6(UDP6_SEGMENT, extensions=EIGHT)), UDP6),
    "IPv6, no next header": (ether6(ip6(b"", p.NO_NEXT)), without_ports(59, b"", six=True)),
    "IPv6, authentication header": (
        ether6(ip6(UDP6_SEGMENT, extensions=[p.authentication_header()])),
        without_ports(p.AH, bytes([p.UDP]) + p.authentication_header()[1] + UDP6_SEGMENT, six=True),
    ),
    "802.1Q": (p.ethernet(V4, tags=[p.vlan(7)]), in_vlan(UDP4, 7)),
    "802.1ad": (p.ethernet(V4, tags=[p.vlan(7, tpid=p.TPID_8021AD)]), in_vlan(UDP4, 7)),
    "QinQ": (
        p.ethernet(V4, tags=[p.vlan(100, tpid=p.TPID_8021AD), p.vlan(200)]),
        in_vlan(UDP4, 100),
    ),
    "QinQ of old": (
        p.ethernet(V4, tags=[p.vlan(100, tpid=p.TPID_QINQ), p.vlan(200)]),
        in_vlan(UDP4, 100),
    ),
    "priority tag, then VLAN": (
        p.ethernet(V4, tags=[p.vlan(0, priority=5), p.vlan(7)]),
        in_vlan(UDP4, 7),
    ),
    "priority tag alone": (p.ethernet(V4, tags=[p.vlan(0, priority=7)]), UDP4),
    "four tags": (p.ethernet(V4, tags=[p.vlan(i) for i in (1, 2, 3, 4)]), in_vlan(UDP4, 1)),
    "VLAN, IPv6": (
        p.ethernet(V6, p.ETHERTYPE_IPV6, tags=[p.vlan(4094)]),
        in_vlan(UDP6, 4094),
    ),
    "MPLS": (p.ethernet(p.mpls(V4), p.ETHERTYPE_MPLS), UDP4),
    "MPLS multicast, IPv6": (p.ethernet(p.mpls(V6), p.ETHERTYPE_MPLS_MULTICAST), UDP6),
    "eight labels": (p.ethernet(p.mpls(V4, range(16, 24)), p.ETHERTYPE_MPLS), UDP4),
    "VLAN, MPLS": (
        p.ethernet(p.mpls(V4), p.ETHERTYPE_MPLS, tags=[p.vlan(7)]),
        in_vlan(UDP4, 7),
    ),
    "PPPoE": (p.ethernet(p.pppoe(V4), p.ETHERTYPE_PPPOE), UDP4),
    "PPPoE, IPv6": (p.ethernet(p.pppoe(V6, p.PPP_IPV6), p.ETHERTYPE_PPPOE), UDP6),
    "VLAN, PPPoE": (
        p.ethernet(p.pppoe(V4), p.ETHERTYPE_PPPOE, tags=[p.vlan(7)]),
        in_vlan(UDP4, 7),
    ),
    "first fragment": (p.ethernet(ip4(UDP_SEGMENT, more=True)), UDP4),
    "first fragment, IPv6": (
        ether6(ip6(UDP6_SEGMENT, extensions=[p.fragment_header(0, True)])),
        UDP6,
    ),
}

NO_FLOW: dict[str, tuple[bytes, str]] = {
    "ARP": (p.ethernet(p.arp_request(), p.ETHERTYPE_ARP), "arp"),
    "RARP": (p.ethernet(p.arp_request(), p.ETHERTYPE_RARP), "arp"),
    "ARP in a VLAN": (p.ethernet(p.arp_request(), p.ETHERTYPE_ARP, tags=[p.vlan(7)]), "arp"),
    "LLDP": (p.ethernet(bytes(46), p.ETHERTYPE_LLDP), "not_ip"),
    "LLC": (p.ethernet(bytes(46), 46), "not_ip"),
    "MPLS around no IP": (p.ethernet(p.mpls(bytes(40)), p.ETHERTYPE_MPLS), "not_ip"),
    "PPPoE, LCP": (p.ethernet(p.pppoe(bytes(40), p.PPP_LCP), p.ETHERTYPE_PPPOE), "not_ip"),
    "PPPoE, version 2": (
        p.ethernet(b"\x21" + p.pppoe(V4)[1:], p.ETHERTYPE_PPPOE),
        "malformed",
    ),
    "five tags": (p.ethernet(V4, tags=[p.vlan(i) for i in range(1, 6)]), "tags"),
    "five tags, the last of the old kind": (
        p.ethernet(V4, tags=[p.vlan(1)] * 4 + [p.vlan(5, tpid=p.TPID_QINQ)]),
        "tags",
    ),
    "nine labels": (p.ethernet(p.mpls(V4, range(16, 25)), p.ETHERTYPE_MPLS), "tags"),
    "IPv6, nine extension headers": (
        ether6(ip6(UDP6_SEGMENT, extensions=[*EIGHT, p.options_header(p.DESTINATION)])),
        "ipv6_chain",
    ),
    "IPv4 of another version": (p.ethernet(ip4(UDP_SEGMENT, version=5)), "malformed"),
    "IPv4 header of four words": (p.ethernet(ip4(UDP_SEGMENT, header_words=4)), "malformed"),
    "IPv4 shorter than its header": (p.ethernet(ip4(UDP_SEGMENT, total_length=19)), "malformed"),
    "IPv6 of another version": (
        ether6(p.ipv6(UDP6_SEGMENT, CLIENT6, SERVER6, p.UDP, version=4)),
        "malformed",
    ),
    "IPv6 shorter than its extension": (
        ether6(ip6(UDP6_SEGMENT, extensions=[HOP], payload_length=7)),
        "malformed",
    ),
    "TCP header of four words": (
        p.ethernet(ip4(p.tcp(DATA, CLIENT, SERVER, header_words=4), p.TCP)),
        "malformed",
    ),
    "TCP header beyond the datagram": (
        p.ethernet(ip4(TCP_SEGMENT, p.TCP, total_length=39)),
        "malformed",
    ),
    "TCP options beyond the datagram": (
        p.ethernet(ip4(p.tcp(b"", CLIENT, SERVER, header_words=8), p.TCP)) + bytes(20),
        "malformed",
    ),
    "UDP header beyond the datagram": (
        p.ethernet(ip4(UDP_SEGMENT, total_length=27)),
        "malformed",
    ),
    "SCTP header beyond the datagram": (
        p.ethernet(ip4(SCTP_SEGMENT, p.SCTP, total_length=31)),
        "malformed",
    ),
}
