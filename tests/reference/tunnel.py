# SPDX-License-Identifier: Apache-2.0
"""Which flow a tunnel carries: an oracle for `--tunnels inner`, written from the specifications.

RFC 7348 (VXLAN), RFC 8926 (Geneve), 3GPP TS 29.281 (GTP-U), RFC 2784 and 2890 (GRE), RFC 2003,
2473 and 4213 (IP in IP). One tunnel is opened; what does not look like one stays a flow.
"""

from dataclasses import replace

from tests.reference.packet import (
    UDP,
    Datagram,
    FlowPacket,
    Reason,
    ipv4,
    ipv6,
    link_layer,
    number,
    transport,
)

ETHERNET, IPV4, IPV6 = 0x6558, 0x0800, 0x86DD
GTP_EXTENSIONS = 4


def parse_inside(frame: bytes) -> FlowPacket | str:
    """As parse_frame, but the flow inside of a tunnel where there is one."""
    try:
        vlan, version, rest = link_layer(frame)
        outer = (ipv4 if version == 4 else ipv6)(rest)
        if outer.fragment is None:
            found = opened(outer)
            if found is not None:
                kind, rest = found
                if kind == ETHERNET:
                    inner_vlan, version, rest = link_layer(rest)
                    vlan = vlan or inner_vlan
                else:
                    version = 4 if kind == IPV4 else 6
                outer = carried((ipv4 if version == 4 else ipv6)(rest), outer)
        return transport(vlan, outer)
    except Reason as reason:
        return str(reason)


def carried(inner: Datagram, outer: Datagram) -> Datagram:
    """What a tunnel carries ends where the tunnel does, whatever else the frame holds."""
    end = outer.length
    if outer.protocol == UDP and len(outer.rest) >= 8 and number(outer.rest, 4):
        end = min(end, max(number(outer.rest, 4), 8))
    headers = len(outer.rest) - len(inner.rest)
    if headers > end:
        raise Reason("malformed")
    return replace(inner, length=min(inner.length, end - headers))


def opened(outer: Datagram) -> tuple[int, bytes] | None:
    """EtherType and bytes of what a tunnel carries; None where it is none."""
    rest = outer.rest
    if outer.protocol == UDP:
        return datagram(rest) if len(rest) >= 8 else None
    if outer.protocol == 47:
        return gre(rest)
    return by_version(rest) if outer.protocol in (4, 41) else None


def datagram(rest: bytes) -> tuple[int, bytes] | None:
    port, rest = number(rest, 2), rest[8:]
    if port == 2152:
        return gtp_u(rest)
    if len(rest) < 8:
        return None
    if port in (4789, 8472):
        return (ETHERNET, rest[8:]) if rest[:4] == b"\x08\0\0\0" else None
    if port != 6081 or rest[0] >> 6 or rest[1] & 0x80:
        return None
    return known(number(rest, 2), rest[8 + 4 * (rest[0] & 0x3F) :])


def known(kind: int, rest: bytes) -> tuple[int, bytes] | None:
    return (kind, rest) if kind in (ETHERNET, IPV4, IPV6) else None


def by_version(rest: bytes) -> tuple[int, bytes] | None:
    kind = {4: IPV4, 6: IPV6}.get(rest[0] >> 4) if rest else None
    return (kind, rest) if kind else None


def gtp_u(rest: bytes) -> tuple[int, bytes] | None:
    # Twelve bytes: the shortest header with the shortest thing that could be in it.
    if len(rest) < 12 or rest[0] >> 4 != 3 or rest[1] != 255:
        return None
    following = rest[11] if rest[0] & 4 else 0
    rest = rest[12 if rest[0] & 7 else 8 :]
    for _ in range(GTP_EXTENSIONS):
        if not following:
            break
        length = rest[0] * 4 if rest else 0
        if not length or length > len(rest):
            return None
        following, rest = rest[length - 1], rest[length:]
    return None if following else by_version(rest)


def gre(rest: bytes) -> tuple[int, bytes] | None:
    if len(rest) < 4 or number(rest, 0) & ~0xB000:
        return None
    return known(number(rest, 2), rest[4 + 4 * (rest[0] >> 4).bit_count() :])
