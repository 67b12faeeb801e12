# SPDX-License-Identifier: Apache-2.0
"""Captured packets of any link type as the Ethernet frames that the XDP program parses.

A packet without an Ethernet header gets a made-up one in front of its network header. What the
program then counts is the packet's length in the capture, link header included as it was there:
the made-up bytes are never counted, and those they stand in for are.

Numbers and layouts: the LINKTYPE_ registry (draft-ietf-opsawg-pcaplinktype, tcpdump.org/linktypes).
"""

import struct
from collections.abc import Callable
from typing import NamedTuple

from xdpprobe.capture import Packet

ETHERNET_HEADER_LENGTH = 14
ETHERTYPE_IPV4 = 0x0800
ETHERTYPE_IPV6 = 0x86DD
ETHERTYPE_MPLS = 0x8847
ETHERTYPE_PPPOE_SESSION = 0x8864
# IEEE 802: kept for local experiments, so that nothing parses what follows.
ETHERTYPE_UNKNOWN = 0x88B5

LINKTYPE_NULL = 0
LINKTYPE_ETHERNET = 1
LINKTYPE_PPI = 192

_ADDRESSES = bytes.fromhex("020000000002020000000001")  # locally administered, made up
_HEADERS = {
    number: _ADDRESSES + struct.pack(">H", number)
    for number in (ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_UNKNOWN)
}

# AF_INET6 is another number on every system: BSD, FreeBSD, Darwin, Linux, Windows.
_FAMILIES = {2: ETHERTYPE_IPV4} | dict.fromkeys((10, 23, 24, 28, 30), ETHERTYPE_IPV6)
_PPP_PROTOCOLS = {
    0x0021: ETHERTYPE_IPV4,
    0x0057: ETHERTYPE_IPV6,
    0x0281: ETHERTYPE_MPLS,
}

# What a packet is once its link header is off: (EtherType, where its network header begins).
Network = tuple[int, int]
_NOTHING: Network = (ETHERTYPE_UNKNOWN, 0)


class Frame(NamedTuple):
    """An Ethernet frame, and how many of its first bytes were never on any wire."""

    data: bytes
    synthetic: int


def to_ethernet(packet: Packet) -> Frame | None:
    """The packet as an Ethernet frame; None if its link type is none that carries IP plainly.

    What is not IP keeps its EtherType if it has one; what ends inside its link header becomes a
    frame of unknown EtherType. Either way it is a frame that the program counts as such.
    """
    if packet.link_type == LINKTYPE_ETHERNET:
        return Frame(packet.data, 0)
    data, link_type = packet.data, packet.link_type
    if link_type == LINKTYPE_PPI:
        data, link_type = _without_ppi(data)
        if link_type == LINKTYPE_ETHERNET:
            return Frame(data, 0)
    reader = _READERS.get(link_type)
    if reader is None:
        return None
    ethertype, offset = reader(data)
    header = _HEADERS.get(ethertype) or _ADDRESSES + struct.pack(">H", ethertype)
    return Frame(header + data[offset:], ETHERNET_HEADER_LENGTH)


def _without_ppi(data: bytes) -> tuple[bytes, int]:
    """The packet inside a per-packet-information header, all little-endian, and its link type."""
    if len(data) < 8:
        return b"", LINKTYPE_NULL
    length, link_type = struct.unpack_from("<HI", data, 2)
    # A header within the header would have no end; it stands nowhere that it may not.
    if link_type == LINKTYPE_PPI or length < 8:
        return b"", LINKTYPE_NULL
    return data[length:], link_type


def _raw(data: bytes) -> Network:
    """Nothing before the network header, whose first four bits tell the version."""
    version = data[0] >> 4 if data else 0
    return {4: ETHERTYPE_IPV4, 6: ETHERTYPE_IPV6}.get(version, ETHERTYPE_UNKNOWN), 0


def _fixed(ethertype: int) -> Callable[[bytes], Network]:
    return lambda data: (ethertype, 0)


def _loopback(data: bytes) -> Network:
    """Four bytes of address family, in the byte order of the machine that captured it."""
    if len(data) < 4:
        return _NOTHING
    family = int.from_bytes(data[:4], "little")
    if family > 0xFFFF:
        family = int.from_bytes(data[:4], "big")
    return _FAMILIES.get(family, ETHERTYPE_UNKNOWN), 4


def _cooked(data: bytes) -> Network:
    """Linux, version 1: sixteen bytes, the last two of them the protocol."""
    return (int.from_bytes(data[14:16], "big"), 16) if len(data) >= 16 else _NOTHING


def _cooked_2(data: bytes) -> Network:
    """Linux, version 2: twenty bytes, the first two of them the protocol."""
    return (int.from_bytes(data[:2], "big"), 20) if len(data) >= 20 else _NOTHING


def _cisco_hdlc(data: bytes) -> Network:
    """Address, control, EtherType."""
    return (int.from_bytes(data[2:4], "big"), 4) if len(data) >= 4 else _NOTHING


def _ppp(data: bytes) -> Network:
    """RFC 1661 and 1662: address and control may be there, the protocol is one or two bytes."""
    if data[:1] in (b"\x0f", b"\x8f"):  # Cisco HDLC under PPP's number, unicast and broadcast
        return _cisco_hdlc(data)
    offset = 2 if data[:2] == b"\xff\x03" else 0
    if len(data) < offset + 2:
        return _NOTHING
    if data[offset] & 1:  # compressed to one byte: only the last byte of a protocol is odd
        protocol, offset = data[offset], offset + 1
    else:
        protocol, offset = int.from_bytes(data[offset : offset + 2], "big"), offset + 2
    return _PPP_PROTOCOLS.get(protocol, ETHERTYPE_UNKNOWN), offset


def _ppp_with_direction(data: bytes) -> Network:
    """One byte says who sent it, then PPP."""
    ethertype, offset = _ppp(data[1:])
    return ethertype, offset + 1


_READERS: dict[int, Callable[[bytes], Network]] = {
    LINKTYPE_NULL: _loopback,
    9: _ppp,
    12: _raw,  # the same three: LINKTYPE_RAW is 101, but old writers put their system's DLT_RAW
    14: _raw,
    50: _ppp,
    51: _fixed(ETHERTYPE_PPPOE_SESSION),
    101: _raw,
    104: _cisco_hdlc,
    108: _loopback,
    113: _cooked,
    204: _ppp_with_direction,
    228: _fixed(ETHERTYPE_IPV4),
    229: _fixed(ETHERTYPE_IPV6),
    276: _cooked_2,
}
