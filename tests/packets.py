# SPDX-License-Identifier: Apache-2.0
"""Frames for tests: every header the data plane parses, with right lengths and checksums.

Builders take their payload first and return bytes, so that they nest from the inside out:

    ethernet(ipv4(tcp(b"...", A, B, seq=1), A, B, TCP), ETHERTYPE_IPV4, tags=[vlan(7)])

`Conversation` does that nesting for the packets of one flow. Addresses are those set aside for
documentation (RFC 5737, RFC 3849). A header that should be wrong is made so by its keyword.
"""

import socket
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

MAC_CLIENT = bytes.fromhex("020000000001")
MAC_SERVER = bytes.fromhex("020000000002")

ETHERTYPE_IPV4, ETHERTYPE_ARP, ETHERTYPE_IPV6 = 0x0800, 0x0806, 0x86DD
ETHERTYPE_RARP, ETHERTYPE_LLDP, ETHERTYPE_PPPOE = 0x8035, 0x88CC, 0x8864
ETHERTYPE_MPLS, ETHERTYPE_MPLS_MULTICAST = 0x8847, 0x8848
TPID_8021Q, TPID_8021AD, TPID_QINQ = 0x8100, 0x88A8, 0x9100
PPP_IPV4, PPP_IPV6, PPP_LCP = 0x0021, 0x0057, 0xC021

ICMP, IGMP, TCP, UDP, GRE, ESP, AH, ICMPV6 = 1, 2, 6, 17, 47, 50, 51, 58
DCCP, SCTP, UDP_LITE = 33, 132, 136
HOP_BY_HOP, ROUTING, FRAGMENT, NO_NEXT, DESTINATION = 0, 43, 44, 59, 60

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


@lru_cache(4096)
def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


class Endpoint(NamedTuple):
    """An address and a port; the port of what has none is 0."""

    address: str
    port: int = 0

    @property
    def packed(self) -> bytes:
        return _packed(self.address)

    @property
    def mapped(self) -> bytes:
        """Sixteen bytes, IPv4 as v4-mapped (RFC 4291, 2.5.5.2)."""
        packed = self.packed
        return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


CLIENT = Endpoint("192.0.2.10", 51000)
SERVER = Endpoint("198.51.100.20", 443)
CLIENT6 = Endpoint("2001:db8:1::10", 51000)
SERVER6 = Endpoint("2001:db8:2::20", 443)


def ethernet(
    payload: bytes,
    ethertype: int = ETHERTYPE_IPV4,
    *,
    tags: Sequence[tuple[int, int]] = (),
    source: bytes = MAC_CLIENT,
    destination: bytes = MAC_SERVER,
) -> bytes:
    """A frame without FCS. `tags`: (TPID, TCI), the outermost first; see `vlan`."""
    head = destination + source
    for tpid, tci in tags:
        head += struct.pack(">HH", tpid, tci)
    return head + struct.pack(">H", ethertype) + payload


def vlan(number: int, *, tpid: int = TPID_8021Q, priority: int = 0) -> tuple[int, int]:
    """A tag for `ethernet`."""
    return tpid, priority << 13 | number


def mpls(payload: bytes, labels: Sequence[int] = (16,)) -> bytes:
    """A label stack, the outermost first, the last with the bottom-of-stack bit (RFC 3032)."""
    last = len(labels) - 1
    stack = [label << 12 | (i == last) << 8 | 64 for i, label in enumerate(labels)]
    return b"".join(struct.pack(">I", entry) for entry in stack) + payload


def pppoe(payload: bytes, protocol: int = PPP_IPV4, *, session: int = 1, code: int = 0) -> bytes:
    """RFC 2516: the length counts PPP's two bytes of protocol."""
    return struct.pack(">BBHHH", 0x11, code, session, len(payload) + 2, protocol) + payload


def ipv4(
    payload: bytes,
    source: Endpoint,
    destination: Endpoint,
    protocol: int = TCP,
    *,
    options: bytes = b"",
    identification: int = 1,
    offset: int = 0,
    more: bool = False,
    total_length: int | None = None,
    version: int = 4,
    header_words: int | None = None,
) -> bytes:
    """`offset` in bytes; `options` are filled up to whole words with end-of-list."""
    options += bytes(-len(options) % 4)
    words = 5 + len(options) // 4 if header_words is None else header_words
    total = 20 + len(options) + len(payload) if total_length is None else total_length
    flags = (0x2000 if more else 0) | offset // 8
    head = struct.pack(
        ">BBHHHBBH", version << 4 | words, 0, total, identification, flags, 64, protocol, 0
    )
    head += source.packed + destination.packed + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + payload


def ipv6(
    payload: bytes,
    source: Endpoint,
    destination: Endpoint,
    protocol: int = TCP,
    *,
    extensions: Sequence[tuple[int, bytes]] = (),
    payload_length: int | None = None,
    version: int = 6,
) -> bytes:
    """`extensions`: (header number, its bytes after the next-header field), the first first."""
    numbers = [number for number, _ in extensions] + [protocol]
    chain = b"".join(
        bytes([following]) + body
        for following, (_, body) in zip(numbers[1:], extensions, strict=True)
    )
    length = len(chain) + len(payload) if payload_length is None else payload_length
    head = struct.pack(">IHBB", version << 28, length, numbers[0], 64)
    return head + source.packed + destination.packed + chain + payload


def options_header(number: int, length: int = 8) -> tuple[int, bytes]:
    """A hop-by-hop, destination or like header of `length` bytes, filled by one PadN option."""
    return number, bytes([length // 8 - 1, 1, length - 4]) + bytes(length - 4)


def routing_header(segments: int = 0) -> tuple[int, bytes]:
    """Segment routing (RFC 8754) with that many addresses."""
    head = struct.pack(">BBBBBH", segments * 2, 4, 0, max(segments - 1, 0), 0, 0)
    return ROUTING, head + SERVER6.packed * segments


def fragment_header(offset: int, more: bool, identification: int = 1) -> tuple[int, bytes]:
    """`offset` in bytes, a multiple of eight."""
    return FRAGMENT, struct.pack(">BHI", 0, offset | more, identification)


def authentication_header(length: int = 24) -> tuple[int, bytes]:
    """RFC 4302: the length counts words, without two."""
    return AH, struct.pack(">BHII", length // 4 - 2, 0, 0x100, 1) + bytes(length - 12)


def vxlan(frame: bytes, network: int) -> bytes:
    """RFC 7348, 5: flags, reserved, network, reserved."""
    return struct.pack(">II", 0x08000000, network << 8) + frame


def geneve(
    payload: bytes, network: int, ethertype: int = 0x6558, *, options: bytes = b"", flags: int = 0
) -> bytes:
    """RFC 8926, 3.4; `options` are whole words, `flags` the bits O and C."""
    head = struct.pack(">BBHI", len(options) // 4, flags, ethertype, network << 8)
    return head + options + payload


def gtp_u(
    payload: bytes, tunnel: int, *, sequence: int | None = None, extensions: Sequence[bytes] = ()
) -> bytes:
    """3GPP TS 29.281, 5: a G-PDU. `extensions` without length and next type, 4n + 2 bytes each."""
    bits = (4 if extensions else 0) | (2 if sequence is not None else 0)
    options = b""
    if bits:
        options = struct.pack(">HBB", sequence or 0, 0, 0x85 if extensions else 0)
        for i, content in enumerate(extensions):
            following = 0x85 if i + 1 < len(extensions) else 0
            options += bytes([(len(content) + 2) // 4]) + content + bytes([following])
    inside = options + payload
    return struct.pack(">BBHI", 0x30 | bits, 255, len(inside), tunnel) + inside


def gre(
    payload: bytes,
    ethertype: int,
    *,
    key: int | None = None,
    number: int | None = None,
    summed: bool = False,
    version: int = 0,
) -> bytes:
    """RFC 2784 and 2890; `number` is the sequence number."""
    bits = (0x8000 if summed else 0) | (0x2000 if key is not None else 0)
    bits |= (0x1000 if number is not None else 0) | version
    fields = bytes(4) if summed else b""
    fields += b"".join(struct.pack(">I", field) for field in (key, number) if field is not None)
    return struct.pack(">HH", bits, ethertype) + fields + payload


def tcp(
    payload: bytes,
    source: Endpoint,
    destination: Endpoint,
    *,
    seq: int = 0,
    ack: int = 0,
    flags: int = ACK,
    options: bytes = b"",
    header_words: int | None = None,
) -> bytes:
    """`options` are filled up to whole words with no-operation."""
    options += b"\x01" * (-len(options) % 4)
    words = 5 + len(options) // 4 if header_words is None else header_words
    seq, ack = seq % (1 << 32), ack % (1 << 32)
    head = struct.pack(
        ">HHIIBBHHH", source.port, destination.port, seq, ack, words << 4, flags, 65535, 0, 0
    )
    return _summed(head + options + payload, 16, source, destination, TCP)


TCP_OPTIONS_SYN = bytes.fromhex("020405b40402080a000000010000000001030307")
TCP_OPTIONS_TIMESTAMP = bytes.fromhex("0101080a0000000100000002")


def udp(
    payload: bytes, source: Endpoint, destination: Endpoint, *, length: int | None = None
) -> bytes:
    length = 8 + len(payload) if length is None else length
    head = struct.pack(">HHHH", source.port, destination.port, length, 0)
    return _summed(head + payload, 6, source, destination, UDP)


def sctp(payload: bytes, source: Endpoint, destination: Endpoint, *, tag: int = 1) -> bytes:
    """The common header of RFC 9260; `payload`: chunks."""
    head = struct.pack(">HHI", source.port, destination.port, tag)
    # RFC 9260, appendix A: the one field of the header that goes least significant byte first.
    return head + struct.pack("<I", crc32c(head + bytes(4) + payload)) + payload


def icmp_echo(payload: bytes = b"ping", *, kind: int = 8) -> bytes:
    message = struct.pack(">BBHHH", kind, 0, 0, 1, 1) + payload
    return message[:2] + struct.pack(">H", checksum(message)) + message[4:]


def icmpv6_echo(source: Endpoint, destination: Endpoint, payload: bytes = b"ping") -> bytes:
    message = struct.pack(">BBHHH", 128, 0, 0, 1, 1) + payload
    return _summed(message, 2, source, destination, ICMPV6)


def arp_request() -> bytes:
    """RFC 826, Ethernet and IPv4, from the client for the server's address."""
    head = struct.pack(">HHBBH", 1, ETHERTYPE_IPV4, 6, 4, 1)
    return head + MAC_CLIENT + CLIENT.packed + bytes(6) + SERVER.packed


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    # A sum with end-around carry is the remainder by 0xFFFF, but where that is 0 and words are not.
    number = int.from_bytes(data + bytes(len(data) % 2), "big")
    return 0xFFFF - (number % 0xFFFF or 0xFFFF * bool(number))


def crc32c(data: bytes) -> int:
    """Castagnoli's CRC, bits reflected (RFC 3385)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def _summed(
    segment: bytes, at: int, source: Endpoint, destination: Endpoint, protocol: int
) -> bytes:
    """The segment with its checksum, over the pseudo-header too, put `at` its place."""
    pseudo = source.packed + destination.packed + struct.pack(">II", len(segment), protocol)
    value = checksum(pseudo + segment) or 0xFFFF
    return segment[:at] + struct.pack(">H", value) + segment[at + 2 :]


class Conversation:
    """Frames between two endpoints, IPv4 or IPv6 as their addresses are.

    Sequence numbers given to it are relative to the initial one of that side, SYN being 0.
    """

    def __init__(
        self,
        client: Endpoint = CLIENT,
        server: Endpoint = SERVER,
        *,
        client_isn: int = 1000,
        server_isn: int = 5000,
        tags: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.client, self.server = client, server
        self.isn = {True: client_isn, False: server_isn}
        self.tags = tags

    def network(self, segment: bytes, protocol: int, *, from_client: bool = True) -> bytes:
        """A frame around a transport segment."""
        source, destination = self._ends(from_client)
        macs = (MAC_CLIENT, MAC_SERVER) if from_client else (MAC_SERVER, MAC_CLIENT)
        old = len(source.packed) == 4
        packet = (ipv4 if old else ipv6)(segment, source, destination, protocol)
        ethertype = ETHERTYPE_IPV4 if old else ETHERTYPE_IPV6
        return ethernet(packet, ethertype, tags=self.tags, source=macs[0], destination=macs[1])

    def tcp(
        self,
        payload: bytes = b"",
        *,
        seq: int = 1,
        ack: int = 1,
        flags: int = ACK,
        from_client: bool = True,
        options: bytes = b"",
    ) -> bytes:
        source, destination = self._ends(from_client)
        seq, ack = seq + self.isn[from_client], ack + self.isn[not from_client]
        segment = tcp(
            payload,
            source,
            destination,
            seq=seq,
            ack=ack if flags & ACK else 0,
            flags=flags,
            options=options,
        )
        return self.network(segment, TCP, from_client=from_client)

    def udp(self, payload: bytes, *, from_client: bool = True) -> bytes:
        source, destination = self._ends(from_client)
        return self.network(udp(payload, source, destination), UDP, from_client=from_client)

    def handshake(self) -> list[bytes]:
        """SYN, SYN-ACK, ACK."""
        return [
            self.tcp(seq=0, flags=SYN, options=TCP_OPTIONS_SYN),
            self.tcp(seq=0, flags=SYN | ACK, from_client=False, options=TCP_OPTIONS_SYN),
            self.tcp(),
        ]

    def segments(self, stream: bytes, size: int = 1460, *, from_client: bool = True) -> list[bytes]:
        """The stream from its first byte on, in segments of `size` bytes."""
        return [
            self.tcp(stream[at : at + size], seq=1 + at, flags=PSH | ACK, from_client=from_client)
            for at in range(0, len(stream), size)
        ]

    def _ends(self, from_client: bool) -> tuple[Endpoint, Endpoint]:
        return (self.client, self.server) if from_client else (self.server, self.client)
