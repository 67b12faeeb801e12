# SPDX-License-Identifier: Apache-2.0
"""What the data plane should make of a flow's packets, by the reference parsers alone.

Where more than the documented limits would be needed, or the reference is stricter than a parser
has to be, the answer is less exact: see `Expected`.
"""

from dataclasses import dataclass, field

from tests.reference import client_hello, dns, http, quic, ssh
from tests.reference.packet import TCP, UDP, FlowPacket, parse_frame
from tests.reference.stream import Stream

SYN = 2
BUDGET = 8  # payload packets a direction that bring nothing (inspect_budget)
STREAM_MAX = 17 * 1024  # bytes of a stream's start that are kept
RECORDS_MAX = 512
EXTENSIONS_MAX = 256
LINES_MAX = 384
STEP = 128  # bytes that the search for a line's end takes at a time, and counts as a line
BLANKS_MAX = 16  # before a Host
WORK_MAX = 1 << 14  # that reading a stream again and again may cost, in units of 64 bytes,
READ = 8  # of which each time costs so many more
DNS_PORTS = {53: "DNS", 5353: "MDNS", 5355: "LLMNR"}


@dataclass
class Expected:
    """Just this name; or none, where `excused`: beyond some limit; or none or one that stands in
    the bytes, where `lenient`: the reference refuses what need not be refused."""

    name: str | None = None
    protocol: str | None = None  # where it is certain
    excused: bool = False
    lenient: bool = False


@dataclass
class _Direction:
    stream: Stream = field(default_factory=Stream)
    sent: bytes = b""
    wasted: int = 0
    segments: int = 0
    work: int = 0
    done: bool = False


class FlowOracle:
    """Takes a flow's frames in order; `expected` is what should be known after each."""

    def __init__(self, budget: int = BUDGET) -> None:
        self.expected = Expected()
        self.refused = False  # some packet was no message that has a name, nor the start of one
        self._budget = budget
        self._final = False
        self._sides: dict[tuple[bytes, int], _Direction] = {}
        self._ids: set[bytes] = set()

    def feed(self, frame: bytes) -> None:
        """The next frame; what is no packet of a flow changes nothing."""
        packet = parse_frame(frame)
        if isinstance(packet, str) or packet.l4 not in (TCP, UDP):
            return
        side = self._sides.setdefault((packet.src, packet.sport), _Direction())
        if packet.l4 == TCP and packet.flags & SYN:
            side.stream.syn(packet.seq)
        side.sent += packet.payload
        if packet.l4 == TCP:
            sequence = (packet.seq + bool(packet.flags & SYN)) % (1 << 32)
            news = side.stream.add(sequence, packet.payload)
            side.wasted += bool(packet.payload) and not news
        if not packet.payload or self._final or side.done:
            return
        side.segments += 1
        if packet.l4 == UDP:
            self._datagram(packet, side)
        else:
            self._segment(packet, side)

    def holds(self, name: str | None) -> bool:
        """May the data plane say so?"""
        if name == self.expected.name:
            return True
        if name is None:
            return self.expected.excused or self.expected.lenient
        return self.expected.lenient and any(
            name.encode("latin-1") in text.lower()
            for side in self._sides.values()
            for text in (side.sent, side.stream.prefix(), without_records(side.stream.prefix()))
        )

    def _decide(self, name: str | None, protocol: str | None, lenient: bool = False) -> None:
        self.expected.name, self.expected.protocol = name, protocol
        self.expected.lenient = lenient
        self._final = True

    def _datagram(self, packet: FlowPacket, side: _Direction) -> None:
        if side.segments > self._budget:
            side.done = True
            return
        ports = [DNS_PORTS[port] for port in (packet.sport, packet.dport) if port in DNS_PORTS]
        self._initials(packet.payload, side)
        if not ports:
            return
        try:
            message = dns.parse_message(packet.payload)
        except ValueError:
            message = None
        if message is None:
            self.refused = True
        elif message.name is not None:
            protocol = ports[0] if len(ports) == 1 else None
            self._decide(message.name, protocol)
        elif packet.payload[dns.HEADER]:  # a name with bytes that no host name has
            self._decide(None, None)

    def _initials(self, payload: bytes, side: _Direction) -> None:
        """QUIC: a name, if there is one, must stand in what the client's Initials hold."""
        if payload[:1] < b"\x08":
            return
        if len(payload) > 6:
            self._ids.add(payload[6 : 6 + min(payload[5], 20)])
        if payload[0] & 0x80 or payload[0] & 9 == 9:
            self.expected.lenient = True
        for clear in quic.initials(payload, self._ids):
            side.sent += clear
            side.stream.syn(-1)
            for offset, data in quic.pieces(clear):
                side.stream.add(offset, data)

    def _segment(self, packet: FlowPacket, side: _Direction) -> None:
        prefix = side.stream.prefix()
        if not prefix:
            return
        side.work += READ + len(prefix) // 64
        if side.wasted + 1 >= self._budget or side.work > WORK_MAX:
            self.expected.excused = True
        if len(prefix) > STREAM_MAX:
            self.expected.excused = True
        known = {packet.sport, packet.dport} & set(DNS_PORTS)
        try:
            found = read_stream(prefix, bool(known))
        except ValueError:
            self._refused(prefix, side)
            return
        if found is None:
            return
        name, protocol = found
        if protocol != "DNS" and beyond_limits(prefix, protocol):
            self.expected.excused = True
        if protocol == "DNS" or known:
            self._decide(name, None, lenient=protocol != "DNS")
        else:
            self._decide(name, protocol)

    def _refused(self, prefix: bytes, side: _Direction) -> None:
        """No such message, if the stream's start is certain; else it may yet come."""
        side.wasted += 1
        self.refused = True
        if not side.stream.sure:
            self.expected.lenient = True
            return
        side.done = True
        if prefix[:1] == b"\x16" or _is_request(prefix):
            self.expected.lenient = True


def _is_request(prefix: bytes) -> bool:
    return any(prefix.startswith(method + b" ") for method in http.METHODS)


def read_stream(prefix: bytes, dns_port: bool) -> tuple[str | None, str] | None:
    """(name, protocol) that a stream's start tells; None: not yet. ValueError: nothing will."""
    waiting = False
    if dns_port:
        try:
            message = dns.parse_stream(prefix)
        except ValueError:
            message = None
        else:
            waiting = message is None
        if message is not None:
            return message.name, "DNS"
    try:
        hello = client_hello.parse_client_hello(prefix)
        return (hello.name, "TLS") if hello else None
    except ValueError:
        pass
    try:
        request = http.parse_request(prefix)
        return (request.host, request.protocol) if request else None
    except ValueError:
        pass
    try:
        if ssh.parse_banner(prefix) is None:
            return None
    except ValueError:
        pass
    if waiting:
        return None
    raise ValueError("nothing that has a name")


def beyond_limits(prefix: bytes, protocol: str) -> bool:
    """Does what tells the name lie beyond what is looked at?"""
    if protocol == "TLS":
        return _records(prefix) > RECORDS_MAX or _extensions(prefix) > EXTENSIONS_MAX
    lines = prefix.split(b"\n")
    before = 0
    for line in lines:
        if line.lower().startswith(b"host:"):
            blanks = len(line[5:]) - len(line[5:].lstrip(b" \t"))
            return before > LINES_MAX or blanks > BLANKS_MAX
        before += 1 + len(line) // STEP
    return before > LINES_MAX


def without_records(prefix: bytes) -> bytes:
    """What stands in TLS records, as far as there are any."""
    found, at = b"", 0
    while prefix[at : at + 2] == b"\x16\x03" and at + 5 <= len(prefix):
        length = int.from_bytes(prefix[at + 3 : at + 5], "big")
        found += prefix[at + 5 : at + 5 + length]
        at += 5 + length
    return found


def _records(prefix: bytes) -> int:
    count = at = 0
    while at + 5 <= len(prefix):
        at += 5 + int.from_bytes(prefix[at + 3 : at + 5], "big")
        count += 1
    return count


def _extensions(prefix: bytes) -> int:
    """At most so many: each takes four bytes."""
    message = client_hello.handshake_message(prefix)
    at = 4 + 34
    at += 1 + message[at]
    at += 2 + int.from_bytes(message[at : at + 2], "big")
    at += 1 + message[at] + 2
    count = 0
    while at + 4 <= len(message):
        if message[at : at + 2] == b"\0\0":
            break
        at += 4 + int.from_bytes(message[at + 2 : at + 4], "big")
        count += 1
    return count
