# SPDX-License-Identifier: Apache-2.0
"""The frames that a benchmark sends, and where in them the client's address and port stand.

Checksums are zero: the program before the one under test rewrites addresses, and the data plane
reads no checksum. Addresses are those set aside for documentation (RFC 5737, RFC 3849).
"""

import ipaddress
import struct
from dataclasses import dataclass

SYN, PSH, ACK = 2, 8, 16
_IPV4, _IPV6, _VLAN = 0x0800, 0x86DD, 0x8100
_TCP, _UDP = 6, 17
_MACS = bytes.fromhex("020000000002020000000001")
_TIMESTAMPS = bytes.fromhex("0101080a0000000100000002")  # RFC 7323, and two no-operations
_SYN_OPTIONS = bytes.fromhex("020405b40402080a000000010000000001030307")
_CLIENTS = (ipaddress.ip_address("10.0.0.0"), ipaddress.ip_address("2001:db8:1::"))
_SERVERS = (ipaddress.ip_address("198.51.100.20"), ipaddress.ip_address("2001:db8:2::20"))


@dataclass(frozen=True)
class Route:
    """Between which ends frames go: always from the client. vlan 0: without a tag."""

    server_port: int
    ipv6: bool = False
    vlan: int = 0

    @property
    def _network_at(self) -> int:
        return 18 if self.vlan else 14

    @property
    def port_at(self) -> int:
        """Offset of the client's port in a frame."""
        return self._network_at + (40 if self.ipv6 else 20)

    @property
    def address_at(self) -> int:
        """Offset of the last four bytes of the client's address in a frame."""
        return self._network_at + (20 if self.ipv6 else 12)

    def tcp(self, payload: bytes = b"", *, sequence: int = 1, flags: int = PSH | ACK) -> bytes:
        """A TCP segment's frame, with the options of today's systems."""
        options = _SYN_OPTIONS if flags & SYN else _TIMESTAMPS
        words = (20 + len(options)) // 4
        acknowledged = 1 if flags & ACK else 0
        head = struct.pack(
            ">HHIIBBHHH",
            *(0, self.server_port, sequence, acknowledged, words << 4, flags, 65535, 0, 0),
        )
        return self._frame(head + options + payload, _TCP)

    def udp(self, payload: bytes) -> bytes:
        """A UDP datagram's frame."""
        return self._frame(
            struct.pack(">HHHH", 0, self.server_port, 8 + len(payload), 0) + payload, _UDP
        )

    def _frame(self, segment: bytes, protocol: int) -> bytes:
        ends = _CLIENTS[self.ipv6].packed + _SERVERS[self.ipv6].packed
        if self.ipv6:
            head = struct.pack(">IHBB", 6 << 28, len(segment), protocol, 64)
        else:
            head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0x4000, 64, protocol, 0)
        ethertype = struct.pack(">H", _IPV6 if self.ipv6 else _IPV4)
        if self.vlan:
            ethertype = struct.pack(">HH", _VLAN, self.vlan) + ethertype
        return (_MACS + ethertype + head + ends + segment).ljust(60, b"\0")
