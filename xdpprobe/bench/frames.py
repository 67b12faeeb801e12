# SPDX-License-Identifier: Apache-2.0
"""The frames that a benchmark sends, and where in them the client's address and port stand.

Checksums are zero: the program before the one under test rewrites addresses, and the data plane
reads no checksum. Addresses are those set aside for documentation (RFC 5737, RFC 3849).
"""

import ipaddress
import struct
from dataclasses import dataclass, replace

SYN, PSH, ACK = 2, 8, 16
_IPV4, _IPV6, _VLAN, _SERVICE_VLAN, _ARP = 0x0800, 0x86DD, 0x8100, 0x88A8, 0x0806
_TCP, _UDP = 6, 17
_TUNNEL = 14 + 20 + 8 + 8  # bytes around a frame in VXLAN: Ethernet, IPv4, UDP, VXLAN
_TUNNEL_ENDS = bytes.fromhex("cb007101cb007102")
_MACS = bytes.fromhex("020000000002020000000001")
_TIMESTAMPS = bytes.fromhex("0101080a0000000100000002")  # RFC 7323, and two no-operations
_SYN_OPTIONS = bytes.fromhex("020405b40402080a000000010000000001030307")
_CLIENTS = (ipaddress.ip_address("10.0.0.0"), ipaddress.ip_address("2001:db8:1::"))
_SERVERS = (ipaddress.ip_address("198.51.100.20"), ipaddress.ip_address("2001:db8:2::20"))


@dataclass(frozen=True)
class Route:
    """Between which ends frames go: from the client, or with `answering` from the server.

    vlan: 0, or the id in the outermost tag. inner_vlan: 0, or that of a second one behind it
    (IEEE 802.1ad). vxlan: 0, or the network that the frames are of, inside of a tunnel. server: its
    address, b"": the usual one.
    """

    server_port: int
    ipv6: bool = False
    vlan: int = 0
    inner_vlan: int = 0
    vxlan: int = 0
    answering: bool = False
    server: bytes = b""

    @property
    def _network_at(self) -> int:
        tags = bool(self.vlan) + bool(self.inner_vlan)
        return (_TUNNEL if self.vxlan else 0) + 14 + 4 * tags

    @property
    def port_at(self) -> int:
        """Offset of the client's port in a frame."""
        return self._segment_at + (2 if self.answering else 0)

    @property
    def address_at(self) -> int:
        """Offset of the last four bytes of the client's address in a frame."""
        ends = 16 if self.ipv6 else 4
        return self._network_at + (20 if self.ipv6 else 12) + (ends if self.answering else 0)

    @property
    def _segment_at(self) -> int:
        return self._network_at + (40 if self.ipv6 else 20)

    @property
    def _ports(self) -> tuple[int, int]:
        return (self.server_port, 0) if self.answering else (0, self.server_port)

    def payload_of(self, frame: int) -> int:
        """Bytes of UDP payload that make a frame of so many bytes, at least 64."""
        return frame - self._segment_at - 8

    def tcp(
        self,
        payload: bytes = b"",
        *,
        sequence: int = 1,
        flags: int = PSH | ACK,
        missing: int = 0,
    ) -> bytes:
        """A TCP segment's frame, with the options of today's systems. missing: how many words
        more than there are its header claims to have."""
        options = _SYN_OPTIONS if flags & SYN else _TIMESTAMPS
        words = (20 + len(options)) // 4 + missing
        acknowledged = 1 if flags & ACK else 0
        head = struct.pack(
            ">HHIIBBHHH",
            *self._ports,
            *(sequence, acknowledged, words << 4, flags, 65535, 0, 0),
        )
        return self._frame(head + options + payload, _TCP)

    def udp(self, payload: bytes) -> bytes:
        """A UDP datagram's frame."""
        return self._frame(struct.pack(">HHHH", *self._ports, 8 + len(payload), 0) + payload, _UDP)

    def fragment(self, payload: bytes) -> bytes:
        """A later fragment's frame, of a datagram whose first one was not seen."""
        return self._frame(payload, _UDP, offset=185)  # 1,480 bytes

    def to(self, server: bytes) -> "Route":
        """The same, to another server."""
        return replace(self, server=server)

    def arp(self) -> bytes:
        """An ARP request's frame (RFC 826), all zeros behind its head."""
        return self._link(_ARP, struct.pack(">HHBBH", 1, _IPV4, 6, 4, 1) + bytes(20))

    def _frame(self, segment: bytes, protocol: int, offset: int = 0x4000) -> bytes:
        """offset: flags and fragment offset of IPv4; as it is, the flag "don't fragment"."""
        client, server = _CLIENTS[self.ipv6].packed, self.server or _SERVERS[self.ipv6].packed
        ends = server + client if self.answering else client + server
        if self.ipv6:
            head = struct.pack(">IHBB", 6 << 28, len(segment), protocol, 64)
            return self._link(_IPV6, head + ends + segment)
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 1, offset, 64, protocol, 0)
        return self._link(_IPV4, head + ends + segment)

    def _link(self, ethertype: int, body: bytes) -> bytes:
        """As Ethernet has it: tags, padding, and what is around it."""
        kind = struct.pack(">H", ethertype)
        if self.inner_vlan:
            kind = struct.pack(">HH", _VLAN, self.inner_vlan) + kind
        if self.vlan:
            kind = struct.pack(">HH", _SERVICE_VLAN if self.inner_vlan else _VLAN, self.vlan) + kind
        frame = (_MACS + kind + body).ljust(60, b"\0")
        if not self.vxlan:
            return frame
        # RFC 7348, 5. The tunnel's ends are neither the client nor the server.
        inside = struct.pack(">II", 0x08000000, self.vxlan << 8) + frame
        datagram = struct.pack(">HHHH", 49152, 4789, 8 + len(inside), 0) + inside
        length = 20 + len(datagram)
        outer = struct.pack(">BBHHHBBH", 0x45, 0, length, 1, 0x4000, 64, _UDP, 0)
        return _MACS + struct.pack(">H", _IPV4) + outer + _TUNNEL_ENDS + datagram
