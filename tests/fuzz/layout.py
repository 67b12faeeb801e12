# SPDX-License-Identifier: Apache-2.0
"""Where in a frame the fields stand that parsers believe: lengths, counts, types, offsets.

A walk over well-formed frames, as seeds are; it stops at the first thing it does not know. No
parser under test has a part in it, and nothing but what is mutated follows from it.
"""

from dataclasses import dataclass, field

Field = tuple[int, int]  # offset, width in bytes

_TAGS = (0x8100, 0x88A8, 0x9100)
_EXTENSIONS = (0, 43, 60, 135, 139, 140)
_DNS_PORTS = (53, 5353, 5355)
_VXLAN, _GENEVE, _GTP_U = (4789, 8472), 6081, 2152


@dataclass
class Layout:
    """network, transport, payload: offsets (of the innermost packet), 0 where there are none.
    hosts: offsets of the last four bytes of (source, destination), a pair an IP header.
    lengths: the IP length fields as (offset, offset that a value of 0 stands for)."""

    fields: list[Field] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)  # where one header ends and the next begins
    hosts: list[tuple[int, int]] = field(default_factory=list)
    lengths: list[Field] = field(default_factory=list)
    udp_length: int = 0
    outer: int = 0  # offset of the outermost IP header
    network: int = 0
    transport: int = 0
    payload: int = 0


def layout_of(frame: bytes, raw: bool = False) -> Layout:
    """The layout of a frame; raw: of a packet without a link header."""
    found = Layout()
    try:
        if raw:
            _network(frame, 0, frame[0] >> 4, found)
        else:
            _link(frame, 0, found)
    except IndexError:
        pass  # a frame that was cut when it was captured: what was found so far will do
    size = len(frame)
    found.fields = [one for one in found.fields if one[0] + one[1] <= size]
    found.cuts = [cut for cut in found.cuts if cut < size] or [0]
    return found


def _number(data: bytes, at: int, width: int = 2) -> int:
    if at + width > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + width], "big")


def _link(data: bytes, at: int, found: Layout) -> None:
    at += 12
    kind = _number(data, at)
    found.fields.append((at, 2))
    at += 2
    while kind in _TAGS:
        found.fields += [(at, 2), (at + 2, 2)]
        kind = _number(data, at + 2)
        at += 4
        found.cuts.append(at)
    if kind == 0x8864:
        found.fields += [(at, 1), (at + 1, 1), (at + 4, 2), (at + 6, 2)]
        at += 8
    elif kind in (0x8847, 0x8848):
        while True:
            found.fields.append((at + 2, 1))
            at += 4
            if data[at - 2] & 1:
                break
    elif kind not in (0x0800, 0x86DD):
        return
    found.cuts.append(at)
    _network(data, at, data[at] >> 4, found)


def _network(data: bytes, at: int, version: int, found: Layout) -> None:
    found.network = at
    found.outer = found.outer or at
    if version == 4:
        found.fields += [(at, 1), (at + 2, 2), (at + 6, 2), (at + 6, 1), (at + 9, 1)]
        found.lengths.append((at + 2, at))
        found.hosts.append((at + 12, at + 16))
        protocol, following = data[at + 9], at + 4 * (data[at] & 15)
        if _number(data, at + 6) & 0x1FFF:
            return
    elif version == 6:
        found.fields += [(at, 1), (at + 4, 2), (at + 6, 1)]
        found.lengths.append((at + 4, at + 40))
        found.hosts.append((at + 20, at + 36))
        protocol, following = data[at + 6], at + 40
        while protocol in _EXTENSIONS or protocol == 44:
            found.fields += [(following, 1), (following + 1, 1), (following + 2, 2)]
            length = 8 if protocol == 44 else 8 * (data[following + 1] + 1)
            if protocol == 44 and _number(data, following + 2) & 0xFFF8:
                return
            protocol, following = data[following], following + length
            found.cuts.append(following)
    else:
        return
    found.cuts.append(following)
    _transport(data, following, protocol, found)


def _transport(data: bytes, at: int, protocol: int, found: Layout) -> None:
    found.transport = at
    if protocol == 6:
        found.fields += [(at, 2), (at + 2, 2), (at + 4, 4), (at + 7, 1), (at + 12, 1), (at + 13, 1)]
        found.payload = at + 4 * (data[at + 12] >> 4)
        found.cuts.append(found.payload)
        dns = {_number(data, at), _number(data, at + 2)} & set(_DNS_PORTS)
        _stream(data, found.payload, bool(dns), found)
    elif protocol in (17, 136):
        found.fields += [(at, 2), (at + 2, 2), (at + 4, 2)]
        found.udp_length = at + 4
        found.payload = at + 8
        found.cuts.append(found.payload)
        if protocol == 17:
            _datagram(data, at + 8, {_number(data, at), _number(data, at + 2)}, found)
    elif protocol == 47:
        found.fields += [(at, 1), (at + 1, 1), (at + 2, 2)]
        flags = data[at] >> 4
        found.cuts.append(at + 4 + 4 * flags.bit_count())
        _inside(data, at + 4 + 4 * flags.bit_count(), _number(data, at + 2), found)
    elif protocol in (4, 41):
        _network(data, at, data[at] >> 4, found)
    else:
        found.payload = at


def _inside(data: bytes, at: int, kind: int, found: Layout) -> None:
    if kind == 0x6558:
        _link(data, at, found)
    elif kind in (0x0800, 0x86DD):
        _network(data, at, data[at] >> 4, found)


def _datagram(data: bytes, at: int, ports: set[int], found: Layout) -> None:
    if ports & set(_DNS_PORTS):
        _dns(data, at, found)
    elif ports & set(_VXLAN):
        found.fields += [(at, 1), (at + 3, 1), (at + 6, 1)]
        _link(data, at + 8, found)
    elif _GENEVE in ports:
        found.fields += [(at, 1), (at + 1, 1), (at + 2, 2)]
        _inside(data, at + 8 + 4 * (data[at] & 63), _number(data, at + 2), found)
    elif _GTP_U in ports:
        found.fields += [(at, 1), (at + 1, 1), (at + 2, 2), (at + 11, 1), (at + 12, 1)]
        following = data[at + 11] if data[at] & 4 else 0
        at += 12 if data[at] & 7 else 8
        while following:
            found.fields += [(at, 1)]
            at += 4 * max(data[at], 1)
            following = data[at - 1]
        _network(data, at, data[at] >> 4, found)


def _stream(data: bytes, at: int, dns: bool, found: Layout) -> None:
    if dns:
        found.fields.append((at, 2))
        _dns(data, at + 2, found)
    elif at < len(data) and data[at] == 22:
        _hello(data, at, found)
    else:
        ends = [i for i, byte in enumerate(data[at:], at) if byte in b"\r\n: "]
        found.fields += [(i, 1) for i in ends[:16]]


def _dns(data: bytes, at: int, found: Layout) -> None:
    found.fields += [(at + 2, 2), *((at + i, 2) for i in (4, 6, 8, 10))]
    at += 12
    while True:
        found.fields.append((at, 1))
        if not 0 < data[at] < 64:
            break
        at += 1 + data[at]
    at += 5
    while True:  # records whose names are pointers
        found.fields += [(at, 1), (at + 2, 2), (at + 4, 2), (at + 6, 2), (at + 10, 2)]
        at += 12 + _number(data, at + 10)


def _hello(data: bytes, at: int, found: Layout) -> None:
    found.fields += [(at, 1), (at + 1, 2), (at + 3, 2), (at + 5, 1), (at + 6, 3)]
    at += 43
    found.fields.append((at, 1))
    at += 1 + data[at]
    found.fields.append((at, 2))
    at += 2 + _number(data, at)
    found.fields.append((at, 1))
    at += 1 + data[at]
    found.fields.append((at, 2))
    at += 2
    while True:
        found.fields += [(at, 2), (at + 2, 2)]
        if _number(data, at) == 0:
            found.fields += [(at + 4, 2), (at + 6, 1), (at + 7, 2)]
        at += 4 + _number(data, at + 2)
