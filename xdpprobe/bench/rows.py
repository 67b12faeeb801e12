# SPDX-License-Identifier: Apache-2.0
"""What is measured: for each row the frames, the flows, and what the tables must say afterwards."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from xdpprobe.bench import messages, quic
from xdpprobe.bench.frames import ACK, SYN, Route

# So that the look-up of a name does not always take the same way. All are in the signatures.
NAMES = (
    *("www.netflix.com", "r4---sn-4g5ednsz.googlevideo.com", "www.facebook.com", "api.spotify.com"),
    *("teams.microsoft.com", "github.com", "www.instagram.com", "web.whatsapp.com"),
    *("www.reddit.com", "cdn.discordapp.com", "api.dropboxapi.com", "www.wikipedia.org"),
    *("store.steampowered.com", "www.tiktok.com", "zoom.us", "www.paypal.com"),
)
_SEGMENT = 1448  # payload bytes of a full TCP segment with timestamps
_UNKNOWN = 40444  # a port of no protocol
_WEB, _QUIC, _OTHER = Route(443), Route(443), Route(_UNKNOWN)
FULL, ROOM = "full", "room"


@dataclass(frozen=True)
class Row:
    """One measurement.

    flows: how many take turns; 0: every packet (or every `per_flow` of them) is a new flow.
    opening: frames of which each flow gets `per_opening`, in turn, before anything is measured;
    they go by `route` as well, but from the client. answers: the server's frames to them, one each.
    forgotten: whether the flows of both are gone from the table when it is measured.
    gains: counter -> how much a packet adds to it; all other counters must stand still. protocol,
    method: what every flow must be decided as ("" and "": undecided); a protocol that enum protocol
    of bpf/abi.h does not have goes by its label. table: whether new flows
    find room. tracked: whether the packets are of flows at all.
    """

    name: str
    route: Route
    frames: tuple[bytes, ...]
    flows: int = 0
    per_flow: int = 1
    opening: tuple[bytes, ...] = ()
    per_opening: int = 1
    answers: tuple[bytes, ...] = ()
    forgotten: bool = False
    gains: Mapping[str, float] = field(default_factory=dict)
    protocol: str = ""
    method: str = ""
    table: str = ROOM
    tracked: bool = True

    @property
    def opened(self) -> bool:
        """Whether what is measured belongs to flows of its opening."""
        return bool(self.opening) and not self.forgotten

    def before(self) -> Iterator["Row"]:
        """What is sent first, flow by flow."""
        if self.opening:
            route = replace(self.route, answering=False)
            yield replace(self, route=route, frames=self.opening, per_flow=self.per_opening)
        if self.answers:
            route = replace(self.route, answering=True)
            yield replace(self, route=route, frames=self.answers, per_flow=1)

    @property
    def title(self) -> str:
        """The name, and how many flows take turns."""
        return f"{self.name}, {self.flows} flows" if self.flows else self.name

    @property
    def tunnels(self) -> bool:
        """Whether it is for a data plane that looks into tunnels."""
        return self.route.vxlan > 0


_INSPECTED = {"INFO_INSPECTED": 1.0}
_NAMED = {"INFO_INSPECTED": 1.0, "INFO_NAMED": 1.0}
_OPENED = {"INFO_INSPECTED": 1.0, "INFO_QUIC_OPENED": 1.0, "INFO_NAMED": 1.0}
_JOINED = {
    "INFO_INSPECTED": 1.0,
    "INFO_HELLO_PIECES": 1.0,
    "INFO_HELLO_JOINED": 0.5,
    "INFO_NAMED": 0.5,
}


def _split(name: str) -> tuple[bytes, bytes]:
    """A hello in two segments, both frames as long as the first: what follows the second one's
    payload is padding, as Ethernet has it, which costs nothing."""
    hello = messages.modern_hello(name)
    first = _WEB.tcp(hello[:_SEGMENT])
    second = _WEB.tcp(hello[_SEGMENT:], sequence=1 + _SEGMENT)
    return first, second.ljust(len(first), b"\0")


def _established(name: str, flows: int, route: Route = _OTHER) -> Row:
    return Row(name, route, (route.tcp(Random(1).randbytes(1400)),), flows=flows)


def _sized(size: int) -> Row:
    """Frames of so many bytes, as the program sees them: without the checksum behind."""
    payload = Random(size + 1).randbytes(_OTHER.payload_of(size))
    return Row(f"established flow, {size} B frame", _OTHER, (_OTHER.udp(payload),), flows=1000)


def _parsed(name: str, route: Route) -> Row:
    """Segments whose headers are read to the end, where the last one turns out to claim more
    bytes than IP has, though the frame has them: counted, and no flow's."""
    frame = route.tcp(bytes(8), missing=3) + bytes(8)
    return Row(name, route, (frame,), gains={"REASON_MALFORMED": 1}, tracked=False)


def _hello(
    name: str,
    frames: tuple[bytes, ...],
    per_flow: int = 1,
    gains: Mapping[str, float] = _NAMED,
) -> Row:
    return Row(
        name,
        _WEB,
        frames,
        per_flow=per_flow,
        gains=gains,
        protocol="PROTOCOL_TLS",
        method="METHOD_SNI",
    )


def _initials(name: str, version: int) -> Row:
    """Each a whole hello of 512 bytes, the rest padding: as clients without post-quantum key
    shares send it."""
    hellos = [(n, messages.classic_hello(n)[messages.RECORD_HEADER :]) for n in NAMES]
    frames = tuple(_QUIC.udp(quic.initial(n, hello, version=version)) for n, hello in hellos)
    return _quic_row(name, frames, _OPENED)


def _halves(name: str) -> tuple[bytes, bytes]:
    """A browser's hello in two datagrams, the second one to an id that the server chose."""
    hello, half = messages.modern_hello(name)[messages.RECORD_HEADER :], 1000
    later = quic.initial(name, hello[half:], half, to=b"chosen")
    return _QUIC.udp(quic.initial(name, hello[:half])), _QUIC.udp(later)


def _quic_row(
    name: str,
    frames: tuple[bytes, ...],
    gains: Mapping[str, float],
    opening: tuple[bytes, ...] = (),
    flows: int = 0,
    per_flow: int = 1,
) -> Row:
    return Row(
        name,
        _QUIC,
        frames,
        flows=flows,
        per_flow=per_flow,
        opening=opening,
        gains=gains,
        protocol="PROTOCOL_QUIC",
        method="METHOD_QUIC_SNI",
    )


def _cheap() -> list[Row]:
    """What is read and belongs to no flow; then packets of flows that stand."""
    web, other = _WEB, _OTHER
    data = web.tcp(Random(1).randbytes(1400), sequence=1 + messages.CLASSIC_HELLO, flags=ACK)
    fragment = other.fragment(Random(1).randbytes(200))
    return [
        Row("ARP", other, (other.arp(),), gains={"REASON_ARP": 1}, tracked=False),
        _parsed("headers alone: TCP over IPv4", other),
        _parsed("headers alone: TCP over IPv6", Route(_UNKNOWN, ipv6=True)),
        Row(
            "fragment of unknown datagram",
            other,
            (fragment,),
            gains={"REASON_FRAGMENT": 1},
            tracked=False,
        ),
        *(_established("established flow", flows) for flows in (1, 1000, 100_000, 1_000_000)),
        _established("established flow, IPv6", 1000, Route(_UNKNOWN, ipv6=True)),
        _established("established flow, VLAN tag", 1000, Route(_UNKNOWN, vlan=7)),
        _established("established flow, QinQ", 1000, Route(_UNKNOWN, vlan=7, inner_vlan=8)),
        _established("established flow in VXLAN", 1000, Route(_UNKNOWN, vxlan=9)),
        *(_sized(size) for size in (64, 128, 512, 1500)),
        Row(
            "data of a named flow",
            web,
            (data,),
            flows=1000,
            opening=tuple(web.tcp(messages.classic_hello(name)) for name in NAMES),
            protocol="PROTOCOL_TLS",
            method="METHOD_SNI",
        ),
        _quic_row(
            "QUIC 1-RTT packet of a named flow",
            (_QUIC.udp(quic.short_packet()),),
            {},
            tuple(
                _QUIC.udp(
                    quic.initial(name, messages.classic_hello(name)[messages.RECORD_HEADER :])
                )
                for name in NAMES
            ),
            flows=1000,
        ),
    ]


def _new() -> list[Row]:
    """First packets of flows, and payloads that are inspected."""
    web, http, dns, ssh, other = _WEB, Route(80), Route(53), Route(22), _OTHER
    calls, resolver = Route(3478), replace(dns, answering=True)
    classic = tuple(web.tcp(messages.classic_hello(name)) for name in NAMES)
    modern = tuple(web.tcp(messages.modern_hello(name)) for name in NAMES)
    pieces = tuple(frame for name in NAMES for frame in _split(name))
    queries = tuple(dns.udp(messages.dns_query(name)) for name in NAMES)
    answers = tuple(resolver.udp(messages.dns_answer(name)) for name in NAMES)
    syn = (web.tcp(sequence=0, flags=SYN),)
    noise = Random(2).randbytes(200)
    return [
        Row("new flow (SYN)", web, syn),
        Row("new flow (SYN), full table", web, syn, gains={"LOSS_EVICTED_NEW": 1}, table=FULL),
        _hello("TLS hello, 517 B", classic),
        _hello("TLS hello, 1.8 kB", modern),
        _hello("TLS hello in 2 segments", pieces, per_flow=2, gains=_JOINED),
        _initials("QUIC Initial, version 1", quic.V1),
        _initials("QUIC Initial, version 2", quic.V2),
        _quic_row(
            "QUIC hello in 2 datagrams",
            tuple(frame for name in NAMES for frame in _halves(name)),
            {**_JOINED, "INFO_QUIC_OPENED": 1.0},
            per_flow=2,
        ),
        Row(
            "HTTP request",
            http,
            tuple(http.tcp(messages.http_request(name)) for name in NAMES),
            gains=_NAMED,
            protocol="PROTOCOL_HTTP",
            method="METHOD_HTTP_HOST",
        ),
        Row(
            "DNS query",
            dns,
            queries,
            gains=_NAMED,
            protocol="PROTOCOL_DNS",
            method="METHOD_DNS",
        ),
        Row(
            "STUN request, by its pattern",
            calls,
            (calls.udp(messages.stun_request()),),
            gains=_INSPECTED | {"INFO_MATCHED": 1.0},
            protocol="stun",
        ),
        Row(
            "SSH banner, after the SYN",
            ssh,
            (ssh.tcp(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),),
            opening=(ssh.tcp(sequence=0, flags=SYN),),
            gains=_INSPECTED,
            protocol="PROTOCOL_SSH",
        ),
        Row(
            "unmatched TCP payload, after SYN",
            other,
            (other.tcp(noise),),
            opening=(other.tcp(sequence=0, flags=SYN),),
            gains=_INSPECTED,
        ),
        Row("unmatched UDP payload", other, (other.udp(noise),), gains=_INSPECTED),
        Row(
            "8th unmatched payload: given up",
            other,
            (other.udp(noise),),
            opening=(other.udp(noise),),
            per_opening=7,
            gains={"INFO_INSPECTED": 1, "LOSS_BUDGET": 1},
        ),
        # Last: once addresses are noted, each new flow of any row is looked up among them.
        Row(
            "DNS answer, 2 addresses noted",
            resolver,
            answers,
            opening=queries,
            gains=_INSPECTED | {"INFO_RESOLVED": 1.0},
            protocol="PROTOCOL_DNS",
            method="METHOD_DNS",
        ),
        Row(
            "new flow (SYN) that DNS names",
            web,
            tuple(web.to(messages.addresses(name)[0]).tcp(sequence=0, flags=SYN) for name in NAMES),
            opening=queries,
            answers=answers,
            forgotten=True,
            method="METHOD_DNS",
        ),
    ]


def all_rows() -> list[Row]:
    """Every row, cheap ones first."""
    return [*_cheap(), *_new()]
