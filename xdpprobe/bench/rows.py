# SPDX-License-Identifier: Apache-2.0
"""What is measured: for each row the frames, the flows, and what the tables must say afterwards."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random

from xdpprobe.bench import messages
from xdpprobe.bench.frames import ACK, SYN, Route

# So that the look-up of a name does not always take the same way. All are in the signatures.
NAMES = (
    *("www.netflix.com", "r4---sn-4g5ednsz.googlevideo.com", "www.facebook.com", "api.spotify.com"),
    *("teams.microsoft.com", "github.com", "www.instagram.com", "web.whatsapp.com"),
    *("www.reddit.com", "cdn.discordapp.com", "api.dropboxapi.com", "www.wikipedia.org"),
    *("store.steampowered.com", "www.tiktok.com", "zoom.us", "www.paypal.com"),
)
_SEGMENT = 1448  # payload bytes of a full TCP segment with timestamps
_WEB, _UNKNOWN = Route(443), 40444
FULL, ROOM = "full", "room"


@dataclass(frozen=True)
class Row:
    """One measurement.

    flows: how many take turns; 0: every packet (or every `per_flow` of them) is a new flow.
    opening: frames of which each flow gets one before anything is measured. gains: counter ->
    how much a packet adds to it; all other counters must stand still. protocol, method: what
    every flow must be decided as ("" and "": undecided). table: whether new flows find room.
    """

    name: str
    route: Route
    frames: tuple[bytes, ...]
    flows: int = 0
    per_flow: int = 1
    opening: tuple[bytes, ...] = ()
    gains: Mapping[str, float] = field(default_factory=dict)
    protocol: str = ""
    method: str = ""
    table: str = ROOM


_INSPECTED = {"INFO_INSPECTED": 1.0}
_NAMED = {"INFO_INSPECTED": 1.0, "INFO_NAMED": 1.0}
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


def _established(name: str, flows: int, ipv6: bool = False, vlan: int = 0) -> Row:
    route = Route(_UNKNOWN, ipv6, vlan)
    return Row(name, route, (route.tcp(Random(1).randbytes(1400)),), flows=flows)


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


def all_rows() -> list[Row]:
    """Every row, cheap ones first."""
    web, http, dns, other = _WEB, Route(80), Route(53), Route(_UNKNOWN)
    classic = tuple(web.tcp(messages.classic_hello(name)) for name in NAMES)
    modern = tuple(web.tcp(messages.modern_hello(name)) for name in NAMES)
    pieces = tuple(frame for name in NAMES for frame in _split(name))
    syn = (web.tcp(sequence=0, flags=SYN),)
    noise = (other.udp(Random(2).randbytes(200)),)
    return [
        _established("established flow", 1),
        _established("established flow", 1000),
        _established("established flow", 100_000),
        _established("established flow, IPv6", 1000, ipv6=True),
        _established("established flow, VLAN tag", 1000, vlan=7),
        Row(
            "data of a named flow",
            web,
            (web.tcp(Random(1).randbytes(1400), sequence=1 + messages.CLASSIC_HELLO, flags=ACK),),
            flows=1000,
            opening=classic,
            protocol="PROTOCOL_TLS",
            method="METHOD_SNI",
        ),
        Row("new flow (SYN)", web, syn),
        Row("new flow (SYN), full table", web, syn, gains={"LOSS_EVICTED_NEW": 1}, table=FULL),
        _hello("TLS hello, 517 B", classic),
        _hello("TLS hello, 1.8 kB", modern),
        _hello("TLS hello in 2 segments", pieces, per_flow=2, gains=_JOINED),
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
            tuple(dns.udp(messages.dns_query(name)) for name in NAMES),
            gains=_NAMED,
            protocol="PROTOCOL_DNS",
            method="METHOD_DNS",
        ),
        Row("unmatched UDP payload", other, noise, gains=_INSPECTED),
    ]
