# SPDX-License-Identifier: Apache-2.0
import struct

import pytest

from tests import packets
from tests.packets import CLIENT, CLIENT6, SERVER, SERVER6
from tests.reference.packet import FlowPacket, parse_frame
from xdpprobe.capture import Packet
from xdpprobe.linktypes import to_ethernet

V4 = packets.ipv4(packets.udp(b"four", CLIENT, SERVER), CLIENT, SERVER, packets.UDP)
V6 = packets.ipv6(packets.udp(b"six", CLIENT6, SERVER6), CLIENT6, SERVER6, packets.UDP)
MPLS = packets.mpls(V4)
VLAN = struct.pack(">HH", 7, 0x0800) + V4
PPPOE6 = packets.pppoe(V6, packets.PPP_IPV6)

CASES = {
    "raw 12, IPv4": (12, V4, 4),
    "raw 14, IPv6": (14, V6, 6),
    "raw 101": (101, V4, 4),
    "IPv4": (228, V4, 4),
    "IPv6": (229, V6, 6),
    "null, little-endian": (0, struct.pack("<I", 2) + V4, 4),
    "null, big-endian": (0, struct.pack(">I", 30) + V6, 6),
    "loop": (108, struct.pack(">I", 24) + V6, 6),
    "PPP": (9, bytes.fromhex("ff030021") + V4, 4),
    "PPP without address and control": (9, bytes.fromhex("0057") + V6, 6),
    "PPP, protocol of one byte": (9, b"\x21" + V4, 4),
    "PPP in HDLC framing": (50, bytes.fromhex("ff030057") + V6, 6),
    "Cisco HDLC under PPP's number": (50, bytes.fromhex("0f000800") + V4, 4),
    "PPP, MPLS": (9, bytes.fromhex("ff030281") + MPLS, 4),
    "PPP with direction": (204, b"\x01" + bytes.fromhex("ff030021") + V4, 4),
    "PPPoE": (51, PPPOE6, 6),
    "Cisco HDLC": (104, bytes.fromhex("8f0086dd") + V6, 6),
    "cooked": (113, bytes(14) + bytes.fromhex("0800") + V4, 4),
    "cooked, VLAN": (113, bytes(14) + bytes.fromhex("8100") + VLAN, 4),
    "cooked 2": (276, bytes.fromhex("86dd") + bytes(18) + V6, 6),
    "PPI around raw": (192, struct.pack("<BBHI", 0, 0, 12, 101) + bytes(4) + V4, 4),
}


@pytest.mark.parametrize(("link_type", "data", "version"), CASES.values(), ids=list(CASES))
def test_a_packet_of_any_link_type_is_parsed_as_a_frame(
    link_type: int, data: bytes, version: int
) -> None:
    frame = to_ethernet(Packet(0, len(data), data, link_type))
    assert frame is not None
    assert frame.synthetic == 14
    flow = parse_frame(frame.data)
    assert isinstance(flow, FlowPacket)
    assert flow.payload == (b"four" if version == 4 else b"six")
    assert flow.src == (CLIENT if version == 4 else CLIENT6).mapped


def test_ethernet_stays_as_it_is() -> None:
    data = packets.ethernet(V4)
    assert to_ethernet(Packet(0, 2000, data, 1)) == (data, 0)
    around = struct.pack("<BBHI", 0, 0, 8, 1) + data
    assert to_ethernet(Packet(0, 2000, around, 192)) == (data, 0)


@pytest.mark.parametrize(
    ("link_type", "data", "reason"),
    [
        (113, bytes(14) + bytes.fromhex("0806") + packets.arp_request(), "arp"),
        (104, bytes.fromhex("8f008035") + packets.arp_request(), "arp"),
        (113, bytes(14) + bytes.fromhex("0004") + bytes(40), "not_ip"),
        (0, struct.pack("<I", 99) + bytes(40), "not_ip"),
        (9, bytes.fromhex("ff03c021") + bytes(40), "not_ip"),
        (101, b"\x00" * 40, "not_ip"),
        (101, b"", "not_ip"),
        (192, struct.pack("<BBHI", 0, 0, 8, 192) + V4, "not_ip"),
        (192, b"\x00", "not_ip"),
    ],
)
def test_what_is_not_ip_keeps_its_type_or_is_unknown(
    link_type: int, data: bytes, reason: str
) -> None:
    frame = to_ethernet(Packet(0, len(data), data, link_type))
    assert frame is not None
    assert parse_frame(frame.data) == reason


@pytest.mark.parametrize(("link_type", "data", "version"), CASES.values(), ids=list(CASES))
def test_a_cut_link_header_is_still_a_frame(link_type: int, data: bytes, version: int) -> None:
    for length in range(len(data)):
        frame = to_ethernet(Packet(0, len(data), data[:length], link_type))
        if frame is not None:
            assert not isinstance(parse_frame(frame.data), FlowPacket) or length > 24


@pytest.mark.parametrize("link_type", [105, 127, 147, 65535])
def test_a_link_type_without_plain_ip_is_left_out(link_type: int) -> None:
    assert to_ethernet(Packet(0, 60, bytes(60), link_type)) is None
