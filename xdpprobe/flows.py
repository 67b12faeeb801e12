# SPDX-License-Identifier: Apache-2.0
"""Flow table entries as rows: what a person reads and what `--json` prints.

Choosing and sorting happen on whole NumPy columns; only the entries that are shown become Python
objects, so that a full table costs a reader milliseconds and not seconds.

JSON of a flow (`Flow.to_json`), one object a flow; `src` is the end that opened it:

    src, dst          addresses, IPv4 dotted, IPv6 as RFC 5952 writes it
    sport, dport      ports, 0 where the transport has none
    l4                transport: tcp, udp, icmp, ... or the IP protocol number as decimal text
    protocol          wire protocol (tls, quic, dns...), null: unknown
    app, category     the service on it, null: none; the service's category, else the protocol's
    host              server name seen, null: none
    method            the evidence for app, or for protocol where there is no app; null: none
    confidence        0..100, of the same evidence
    packets, bytes    [from src, from dst]; frame bytes without FCS
    state             new, established, closed (by FIN or RST); expired: silent for too long; the
                      last two for as long as no other flow takes the entry
    first_seen, last_seen   ISO 8601, UTC; last_seen is exact to one jiffy
    duration          seconds between the two
    vlan              outermost VLAN id, null: untagged
    tunnel            what it is inside of: vxlan NETWORK, geneve NETWORK, gtp-u, gre, ip; or null
    interface         where the first packet was seen, null: not known any more
    tls_version       ssl3, 1.0 to 1.3, or a number; null: no TLS server's answer was seen
    resumed           true: an earlier TLS session goes on; null as tls_version
    sni_mismatch      true: the server's certificate is for other names than the one asked for
    alpn              the first protocol that the client's TLS hello offers, null: none
    ja4               fingerprint of that hello (hellos.py), null: none was seen whole
    ech               real: the client's true server name is encrypted, so host is null; grease:
                      an extension that only looks so, for all that can be told; null: neither
"""

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from xdpprobe.snapshot import Array, Snapshot, pick
from xdpprobe.tls import NO_TLS, Tls, of_entries
from xdpprobe.tls_facts import tls_facts
from xdpprobe.wire_text import printable

Indexes = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

# IANA "Assigned Internet Protocol Numbers", those that traffic analysts know by name.
L4_NAMES = {
    1: "icmp",
    2: "igmp",
    6: "tcp",
    17: "udp",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "icmpv6",
    113: "pgm",
    132: "sctp",
}
V4_MAPPED = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow, as the module's docstring says; `first` and `last` are Unix seconds.

    index: its element in the flow table.
    """

    src: str
    sport: int
    dst: str
    dport: int
    l4: str
    protocol: str | None
    app: str | None
    category: str
    host: str | None
    method: str | None
    confidence: int
    packets: tuple[int, int]
    bytes: tuple[int, int]
    state: str
    first: float
    last: float
    vlan: int | None
    tunnel: str | None
    interface: str | None
    index: int
    tls: Tls = NO_TLS
    alpn: str | None = None
    ja4: str | None = None
    ech: str | None = None

    @property
    def label(self) -> str:
        """What `apps` counts the flow under."""
        return self.app or self.protocol or "unknown"

    @property
    def duration(self) -> float:
        """Seconds from the first packet to the last."""
        return self.last - self.first

    def to_json(self) -> dict[str, Any]:
        """The JSON object, as the module's docstring says."""
        return {
            "src": self.src,
            "sport": self.sport,
            "dst": self.dst,
            "dport": self.dport,
            "l4": self.l4,
            "protocol": self.protocol,
            "app": self.app,
            "category": self.category,
            "host": self.host,
            "method": self.method,
            "confidence": self.confidence,
            "packets": list(self.packets),
            "bytes": list(self.bytes),
            "state": self.state,
            "first_seen": iso_time(self.first),
            "last_seen": iso_time(self.last),
            "duration": round(self.duration, 3),
            "vlan": self.vlan,
            "tunnel": self.tunnel,
            "interface": self.interface,
            **self.tls.to_json(),
            "alpn": self.alpn,
            "ja4": self.ja4,
            "ech": self.ech,
        }


def iso_time(seconds: float) -> str:
    """Unix seconds as ISO 8601 in UTC, cut to the millisecond."""
    # As datetime does it: to the microsecond first. A float's last digits would tell.
    whole = int(seconds)
    carry, micro = divmod(round((seconds - whole) * 1e6), 1_000_000)
    return f"{_iso_second(whole + carry)}.{micro // 1000:03d}Z"


@lru_cache(maxsize=4096)  # flows of a table share their seconds
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def l4_name(number: int) -> str:
    """The transport's name, or the number as text where it has none here."""
    return L4_NAMES.get(number) or str(number)


def address_text(raw: bytes) -> str:
    """16 bytes in network order as text; v4-mapped ones (RFC 4291, 2.5.5.2) as IPv4."""
    if raw[:12] == V4_MAPPED:
        return socket.inet_ntop(socket.AF_INET, raw[12:])
    return socket.inet_ntop(socket.AF_INET6, raw)


def used(snapshot: Snapshot) -> Indexes:
    """Indexes of the entries that are taken: all that counts, with or without details."""
    return np.flatnonzero(snapshot.hot["tag"])


def live(snapshot: Snapshot) -> Indexes:
    """Indexes of the flows in the table whose birth is complete."""
    taken = used(snapshot)
    complete: Mask = snapshot.cold["tag"][taken] == snapshot.hot["tag"][taken]
    return taken[complete]


def initiator(snapshot: Snapshot, indexes: Indexes | slice) -> Indexes:
    """0 or 1 for each flow: the endpoint that opened it."""
    bit = snapshot.enums["flow_flag"]["FLOW_INITIATOR_1"]
    end: Mask = (snapshot.hot["flags"][indexes] & bit) != 0
    return end.astype(np.intp)


def labels(snapshot: Snapshot, indexes: Indexes | slice) -> npt.NDArray[np.uint16]:
    """The label each flow counts under: its application, else its protocol, else 0."""
    app = snapshot.hot["app"][indexes]
    result: npt.NDArray[np.uint16] = np.where(app != 0, app, snapshot.hot["protocol"][indexes])
    return result


def owners(snapshot: Snapshot, indexes: Indexes | slice) -> Indexes:
    """2 * label + initiator of each flow: what its counters are summed by."""
    # Labels are below the table's length by construction; a damaged entry must not crash.
    label = np.minimum(labels(snapshot, indexes), len(snapshot.retired) - 1)
    return 2 * label.astype(np.intp) + initiator(snapshot, indexes)


def turn(pair: Array, end: Array) -> Array:
    """(n, 2) by endpoint to (2, n) from and to the initiator `end`."""
    first, second = pair[:, 0], pair[:, 1]
    turned = end != 0
    return np.stack((np.where(turned, second, first), np.where(turned, first, second)))


def last_age(snapshot: Snapshot, indexes: Indexes) -> npt.NDArray[np.float64]:
    """Seconds since each flow's last packet."""
    if snapshot.last_ns is not None:
        exact: npt.NDArray[np.float64] = (
            snapshot.clock.monotonic_ns - snapshot.last_ns[indexes]
        ) / 1e9
        return exact
    age = snapshot.clock.age_seconds(snapshot.hot["seen"][indexes])
    # A direction that never spoke has no time; the table leaves 0 there.
    age = np.where(snapshot.hot["packets"][indexes] != 0, age, np.inf).min(axis=1)
    return np.where(np.isinf(age), first_age(snapshot, indexes), age)


def first_age(snapshot: Snapshot, indexes: Indexes) -> npt.NDArray[np.float64]:
    """Seconds since each flow's first packet."""
    first = snapshot.cold["first_ns"][indexes].astype(np.int64)
    age: npt.NDArray[np.float64] = (snapshot.clock.monotonic_ns - first) / 1e9
    return np.maximum(age, 0.0)


def duration(snapshot: Snapshot, indexes: Indexes) -> npt.NDArray[np.float64]:
    """Seconds from each flow's first packet to its last."""
    return np.maximum(first_age(snapshot, indexes) - last_age(snapshot, indexes), 0.0)


def resolve_names(snapshot: Snapshot, hashes: Iterable[int]) -> dict[int, str]:
    """Server names of these hashes, printable; those that the table has lost are left out."""
    wanted = np.array(sorted({h for h in hashes if h > 1}), dtype=np.uint64)
    if not len(wanted) or not len(snapshot.names):
        return {}
    column = np.ascontiguousarray(snapshot.names["hash"])
    # A sorted search of the wanted few beats sorting the table.
    place = np.minimum(np.searchsorted(wanted, column), len(wanted) - 1)
    found = {}
    for row in np.flatnonzero(wanted[place] == column).tolist():
        entry = snapshot.names[row]
        raw = entry["text"].tobytes()[: int(entry["length"])]
        found[int(entry["hash"])] = printable(raw)
    return found


def _enum_words(enum: dict[str, int]) -> dict[int, str]:
    """Numbers of an enum -> its words: METHOD_QUIC_SNI of enum method reads quic-sni."""
    return {n: name.split("_", 1)[1].lower().replace("_", "-") for name, n in enum.items()}


def method_words(snapshot: Snapshot) -> dict[int, str]:
    """Evidence numbers -> words: none, port, ..., sni."""
    return _enum_words(snapshot.enums["method"])


def state_words(snapshot: Snapshot) -> dict[int, str]:
    """Flow state numbers, as `states` gives them -> words: new, established, closed, expired."""
    words = _enum_words(snapshot.enums["flow_state"])
    return {**words, len(words): "expired"}


def states(snapshot: Snapshot, indexes: Indexes) -> npt.NDArray[np.uint8]:
    """Each flow's enum flow_state, or the number behind the last one where it has expired.

    A closed flow stays closed: it has not just fallen silent.
    """
    written: npt.NDArray[np.uint8] = snapshot.hot["state"][indexes]
    numbers = snapshot.enums["flow_state"]
    expired: Mask = over(snapshot, indexes) & (written != numbers["FLOW_CLOSED"])
    return np.where(expired, np.uint8(len(numbers)), written)


def over(snapshot: Snapshot, indexes: Indexes) -> Mask:
    """Which flows have been silent for too long, open or closed.

    Their entries stay as they are until another flow needs the place.
    """
    if not snapshot.idle:
        return np.zeros(len(indexes), dtype=np.bool_)
    limits = np.full(256, np.inf)
    for name, seconds in snapshot.idle.items():
        limits[snapshot.enums["flow_state"][name]] = seconds
    silent: Mask = last_age(snapshot, indexes) > limits[snapshot.hot["state"][indexes]]
    return silent


def kind_words(snapshot: Snapshot) -> dict[int, str]:
    """Record kind numbers -> words: named, ended, expired, evicted, active."""
    return _enum_words(snapshot.enums["record_kind"])


def decode(snapshot: Snapshot, indexes: Indexes, names: dict[int, str] | None = None) -> list[Flow]:
    """The flows at these indexes, in this order; those that left the table meanwhile are left out.

    names: server names known already (hash -> text); looked up in the snapshot if not given.
    """
    # Details are read while the kernel writes them: an element may hold another flow by now.
    cold = pick(snapshot.cold, indexes)
    same = cold["tag"] == snapshot.hot["tag"][indexes]
    if not same.all():
        cold, indexes = cold[same], indexes[same]
    hot = pick(snapshot.hot, indexes)
    if names is None:
        names = resolve_names(snapshot, np.unique(cold["name"]).tolist())
    now = snapshot.clock.realtime_ns / 1e9
    first = now - (snapshot.clock.monotonic_ns - cold["first_ns"].astype(np.int64)) / 1e9
    last = np.maximum(now - last_age(snapshot, indexes), first).tolist()
    ports = cold["port"].astype(np.uint16)
    ports = (ports[:, :, 0] << 8 | ports[:, :, 1]).tolist()
    address = np.ascontiguousarray(cold["address"]).tobytes()
    packets, octets = hot["packets"].tolist(), hot["bytes"].tolist()
    methods, words = method_words(snapshot), state_words(snapshot)
    vlan, slot, l4 = cold["vlan"].tolist(), cold["slot"].tolist(), cold["l4"].tolist()
    name, place = cold["name"].tolist(), indexes.tolist()
    tls = of_entries(snapshot, cold)
    tunnels, said = _tunnels(snapshot, cold), tls_facts(snapshot, hot, cold)
    state = states(snapshot, indexes).tolist()
    result = []
    for i, (verdict, a) in enumerate(
        zip(_verdicts(snapshot, hot, methods), initiator(snapshot, indexes).tolist(), strict=True)
    ):
        b = 1 - a
        result.append(
            Flow(
                address_text(address[32 * i + 16 * a : 32 * i + 16 * a + 16]),
                ports[i][a],
                address_text(address[32 * i + 16 * b : 32 * i + 16 * b + 16]),
                ports[i][b],
                l4_name(l4[i]),
                verdict[0],
                verdict[1],
                verdict[2],
                names.get(name[i]),
                verdict[3],
                verdict[4],
                (packets[i][a], packets[i][b]),
                (octets[i][a], octets[i][b]),
                words.get(state[i], str(state[i])),
                float(first[i]),
                last[i],
                vlan[i] or None,
                tunnels[i],
                snapshot.slots.get(slot[i]),
                place[i],
                tls[i],
                *said[i],
            )
        )
    return result


def _tunnels(snapshot: Snapshot, cold: Array) -> list[str | None]:
    """What each flow is inside of, None where nothing is around it."""
    if not cold["tunnel"].any():
        return [None] * len(cold)
    words = _enum_words(snapshot.enums["tunnel"])
    networks = {snapshot.enums["tunnel"][f"TUNNEL_{kind}"] for kind in ("VXLAN", "GENEVE")}
    return [
        None if not kind else f"{words[kind]} {number}" if kind in networks else words[kind]
        for kind, number in zip(cold["tunnel"].tolist(), cold["tunnel_id"].tolist(), strict=True)
    ]


Verdict = tuple[str | None, str | None, str, str | None, int]


def _verdicts(snapshot: Snapshot, hot: Array, methods: dict[int, str]) -> list[Verdict]:
    """(protocol, app, category, method, confidence) of each entry."""
    memo: dict[tuple[int, ...], Verdict] = {}
    columns = [
        hot[field].tolist()
        for field in (
            "app",
            "protocol",
            "app_method",
            "protocol_method",
            "app_confidence",
            "protocol_confidence",
        )
    ]
    result = []
    for key in zip(*columns, strict=True):
        verdict = memo.get(key)
        if verdict is None:
            app, protocol, app_method, protocol_method, app_sure, protocol_sure = key
            method = app_method if app else protocol_method
            verdict = memo[key] = (
                snapshot.label(protocol).name if protocol else None,
                snapshot.label(app).name if app else None,
                snapshot.label(app or protocol).category,
                methods.get(method, str(method)) if method else None,
                app_sure if app else protocol_sure,
            )
        result.append(verdict)
    return result
