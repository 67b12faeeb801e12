# SPDX-License-Identifier: Apache-2.0
"""Link, network and transport headers: a frame's flow and payload, or the reason it has none.

The oracle for bpf/parse.h. Reasons are the REASON_* names of enum counter in bpf/abi.h, without
the prefix, in lower case. Sources: IEEE 802.1Q, RFC 3032 (MPLS), 2516 (PPPoE), 791, 8200, 9293,
768, 9260 (SCTP).
"""

from dataclasses import dataclass, replace

MAX_VLAN_TAGS = 4
MAX_MPLS_LABELS = 8
MAX_EXTENSION_HEADERS = 8

ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
ETHERTYPES_ARP = (0x0806, 0x8035)  # RARP too
ETHERTYPES_VLAN = (0x8100, 0x88A8, 0x9100)
ETHERTYPES_MPLS = (0x8847, 0x8848)
ETHERTYPE_PPPOE_SESSION = 0x8864
PPP_IPV4, PPP_IPV6 = 0x0021, 0x0057

TCP, UDP, DCCP, SCTP, UDP_LITE = 6, 17, 33, 132, 136
HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, MOBILITY, HIP, SHIM6 = 0, 43, 44, 60, 135, 139, 140
# An authentication header is none of them here: it stands as a protocol of its own, as over IPv4.
EXTENSION_HEADERS = (HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION, MOBILITY, HIP, SHIM6)
TRANSPORT_HEADERS = {UDP: 8, UDP_LITE: 8, SCTP: 12, DCCP: 12}
V4_MAPPED = bytes(10) + b"\xff\xff"


class Reason(Exception):
    """Why a frame belongs to no flow; str() is the counter's name."""


@dataclass(frozen=True)
class Datagram:
    """What is known after the network header.

    rest: the bytes behind it, up to the frame's end. length: how many of them belong to the
    datagram. fragment: (datagram, offset, more), None if it is whole.
    """

    src: bytes
    dst: bytes
    protocol: int
    rest: bytes
    length: int
    fragment: tuple[bytes, int, bool] | None = None

    def need(self, count: int) -> None:
        """A header of `count` bytes must be in the frame, and be the datagram's."""
        take(self.rest, count)
        if count > self.length:
            raise Reason("malformed")

    def behind(self, count: int, protocol: int) -> "Datagram":
        """The same without its first header of `count` bytes."""
        self.need(count)
        rest, length = self.rest[count:], self.length - count
        return replace(self, protocol=protocol, rest=rest, length=length)


@dataclass(frozen=True)
class FlowPacket:
    """A packet of a flow. Addresses are 16 bytes, IPv4 v4-mapped; ports 0 where there are none.
    payload: bytes after the transport header that the datagram declares and the capture has."""

    vlan: int
    l4: int
    src: bytes
    dst: bytes
    sport: int
    dport: int
    payload: bytes
    flags: int = 0
    seq: int = 0
    ack: int = 0
    fragment: tuple[bytes, int, bool] | None = None

    @property
    def key(self) -> tuple[int, int, tuple[bytes, int], tuple[bytes, int]]:
        """(vlan, protocol, lower endpoint, higher endpoint): the same in both directions."""
        low, high = sorted(((self.src, self.sport), (self.dst, self.dport)))
        return self.vlan, self.l4, low, high


def parse_frame(frame: bytes) -> FlowPacket | str:
    """The flow a frame belongs to, or the reason (as the counter is called) why to none.

    A later fragment comes back with ports 0 and `fragment` set: see Fragments.
    """
    try:
        vlan, version, rest = link_layer(frame)
        datagram = (ipv4 if version == 4 else ipv6)(rest)
        return transport(vlan, datagram)
    except Reason as reason:
        return str(reason)


def link_layer(frame: bytes) -> tuple[int, int, bytes]:
    """(outermost VLAN id, IP version, bytes from the network header on)."""
    take(frame, 14)
    ethertype, rest = number(frame, 12), frame[14:]
    vlan = tags = 0
    while ethertype in ETHERTYPES_VLAN:
        if tags == MAX_VLAN_TAGS:
            raise Reason("tags")
        take(rest, 4)
        vlan = vlan or number(rest, 0) & 0x0FFF  # id 0 is a priority and no VLAN
        tags += 1
        ethertype, rest = number(rest, 2), rest[4:]
    if ethertype == ETHERTYPE_PPPOE_SESSION:
        return vlan, *pppoe(rest)
    if ethertype in ETHERTYPES_MPLS:
        return vlan, *mpls(rest)
    if ethertype in ETHERTYPES_ARP:
        raise Reason("arp")
    if ethertype not in (ETHERTYPE_IPV4, ETHERTYPE_IPV6):
        raise Reason("not_ip")
    return vlan, 4 if ethertype == ETHERTYPE_IPV4 else 6, rest


def pppoe(rest: bytes) -> tuple[int, bytes]:
    """Version and type, code, session, length, then PPP's protocol."""
    take(rest, 8)
    if rest[0] != 0x11:
        raise Reason("malformed")
    protocol = number(rest, 6)
    if rest[1] != 0 or protocol not in (PPP_IPV4, PPP_IPV6):
        raise Reason("not_ip")
    return 4 if protocol == PPP_IPV4 else 6, rest[8:]


def mpls(rest: bytes) -> tuple[int, bytes]:
    """Labels up to the one with the bottom-of-stack bit; what follows tells its version."""
    for _ in range(MAX_MPLS_LABELS):
        take(rest, 5)
        bottom, rest = rest[2] & 1, rest[4:]
        if bottom:
            if rest[0] >> 4 not in (4, 6):
                raise Reason("not_ip")
            return rest[0] >> 4, rest
    raise Reason("tags")


def ipv4(rest: bytes) -> Datagram:
    take(rest, 20)
    header, total = (rest[0] & 0x0F) * 4, number(rest, 2)
    if rest[0] >> 4 != 4 or header < 20:
        raise Reason("malformed")
    take(rest, header)
    # 0: longer than the field can say (the kernel's aggregates), so up to the frame's end.
    total = min(total or len(rest), len(rest))
    if total < header:
        raise Reason("malformed")
    src, dst, protocol = V4_MAPPED + rest[12:16], V4_MAPPED + rest[16:20], rest[9]
    offset, more = (number(rest, 6) & 0x1FFF) * 8, bool(rest[6] & 0x20)
    fragment = (src + dst + bytes([protocol]) + rest[4:6], offset, more) if offset or more else None
    return Datagram(src, dst, protocol, rest[header:], total - header, fragment)


def ipv6(rest: bytes) -> Datagram:
    take(rest, 40)
    if rest[0] >> 4 != 6:
        raise Reason("malformed")
    length = min(number(rest, 4) or len(rest), len(rest) - 40)  # 0: a jumbogram
    datagram = Datagram(rest[8:24], rest[24:40], rest[6], rest[40:], length)
    for _ in range(MAX_EXTENSION_HEADERS + 1):
        later = datagram.fragment is not None and datagram.fragment[1] > 0
        if datagram.protocol not in EXTENSION_HEADERS or later:
            return datagram
        datagram = extension_header(datagram)
    # One header too many, unless it makes this a later fragment: behind it stand no headers.
    if datagram.fragment is not None and datagram.fragment[1] > 0:
        return datagram
    raise Reason("ipv6_chain")


def extension_header(datagram: Datagram) -> Datagram:
    """The datagram without its first extension header."""
    rest = datagram.rest
    take(rest, 8)
    if datagram.protocol != FRAGMENT:
        return datagram.behind((rest[1] + 1) * 8, rest[0])
    field = number(rest, 2)
    key = datagram.src + datagram.dst + rest[:1] + rest[4:8]
    fragment = (key, field & 0xFFF8, bool(field & 1)) if field & 0xFFF9 else None
    return replace(datagram.behind(8, rest[0]), fragment=fragment)


def transport(vlan: int, datagram: Datagram) -> FlowPacket:
    rest, protocol = datagram.rest, datagram.protocol
    packet = FlowPacket(
        vlan,
        protocol,
        datagram.src,
        datagram.dst,
        0,
        0,
        rest[: datagram.length],
        fragment=datagram.fragment,
    )
    if datagram.fragment and datagram.fragment[1]:
        return replace(packet, payload=b"")
    if protocol == TCP:
        take(rest, 20)
        header = (rest[12] >> 4) * 4
        if header < 20:
            raise Reason("malformed")
        sequence, acknowledged = int.from_bytes(rest[4:8], "big"), int.from_bytes(rest[8:12], "big")
        packet = replace(packet, flags=rest[13], seq=sequence, ack=acknowledged)
    elif protocol in TRANSPORT_HEADERS:
        header = TRANSPORT_HEADERS[protocol]
    else:
        return packet
    datagram.need(header)
    payload = packet.payload
    if protocol == UDP and number(rest, 4):  # 0: as far as IP goes (RFC 2675)
        payload = payload[: max(number(rest, 4), header)]
    return replace(packet, sport=number(rest, 0), dport=number(rest, 2), payload=payload[header:])


class Fragments:
    """Gives later fragments the ports of the first one, if that one came before."""

    def __init__(self) -> None:
        self.ports: dict[tuple[int, bytes], tuple[int, int]] = {}

    def parse(self, frame: bytes) -> FlowPacket | str:
        """As parse_frame, with ports on later fragments; "fragment" where nobody knows them."""
        packet = parse_frame(frame)
        if isinstance(packet, str) or packet.fragment is None:
            return packet
        datagram, offset, _ = packet.fragment
        key = (packet.vlan, datagram)
        if offset == 0:
            self.ports[key] = (packet.sport, packet.dport)
            return packet
        if key not in self.ports:
            return "fragment"
        sport, dport = self.ports[key]
        return replace(packet, sport=sport, dport=dport)


def number(data: bytes, offset: int) -> int:
    """Two bytes, most significant first."""
    return int.from_bytes(data[offset : offset + 2], "big")


def take(data: bytes, length: int) -> None:
    if len(data) < length:
        raise Reason("truncated")
