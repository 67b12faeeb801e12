# SPDX-License-Identifier: Apache-2.0
"""Snapshots made by hand, in the layouts of the built object: what the views are tested with."""

import ipaddress
from dataclasses import replace
from typing import Any

import numpy as np

from xdpprobe.abi import load_abi
from xdpprobe.snapshot import ClockReading, Label, Snapshot

HZ = 250
NOW_JIFFIES = 5_000
NOW_NS = 1_000_000_000_000
WALL_NS = 1_700_000_000_000_000_000

LABELS = {
    label.id: label
    for label in (
        Label(1, "tls", "network", "protocol"),
        Label(2, "http", "network", "protocol"),
        Label(3, "dns", "network", "protocol"),
        Label(5, "quic", "network", "protocol"),
        Label(512, "youtube", "video", "application"),
        Label(513, "netflix", "video", "application"),
        Label(514, "doubleclick", "ads", "application"),
        Label(515, "github", "dev", "application"),
    )
}


def empty(size: int = 64, names: int = 16) -> Snapshot:
    """A table without flows."""
    abi = load_abi()
    return Snapshot(
        hot=np.zeros(size, abi.dtypes["flow_hot"]),
        cold=np.zeros(size, abi.dtypes["flow_cold"]),
        names=np.zeros(names, abi.dtypes["name_entry"]),
        retired=np.zeros(8192, abi.dtypes["retired_value"]),
        clock=ClockReading(NOW_JIFFIES, HZ, NOW_NS, WALL_NS),
        labels=dict(LABELS),
        enums={name: dict(values) for name, values in abi.enums.items()},
        slots={0: "eth0", 1: "wan"},
        info={"flows": size},
    )


def packed(address: str) -> bytes:
    """An address as the table keeps it."""
    parsed = ipaddress.ip_address(address)
    return bytes(10) + b"\xff\xff" + parsed.packed if parsed.version == 4 else parsed.packed


def put(
    snapshot: Snapshot,
    index: int,
    src: str = "10.0.0.2",
    sport: int = 51000,
    dst: str = "142.250.1.1",
    dport: int = 443,
    *,
    packets: tuple[int, int] = (1, 1),
    octets: tuple[int, int] = (100, 100),
    l4: int = 6,
    born: float = 10.0,
    idle: float = 1.0,
    name: int = 0,
    vlan: int = 0,
    slot: int = 0,
    tag: int | None = None,
    **hot: Any,
) -> None:
    """Writes a flow whose initiator is src; born, idle: seconds before now; hot: fields as is."""
    ends = [(packed(src), sport), (packed(dst), dport)]
    turned = ends[1] < ends[0]
    first, second = (1, 0) if turned else (0, 1)
    enums = snapshot.enums["flow_flag"]
    row = snapshot.hot[index : index + 1]
    row["tag"] = 1000 + index if tag is None else tag
    for end, own in ((first, 0), (second, 1)):
        row["packets"][0, end], row["bytes"][0, end] = packets[own], octets[own]
        row["seen"][0, end] = (NOW_JIFFIES - round(idle * HZ)) % 2**32 if packets[own] else 0
    row["flags"] = enums["FLOW_INITIATOR_1"] if turned else 0
    for field, value in hot.items():
        row[field] = value
    cold = snapshot.cold[index : index + 1]
    cold["tag"] = row["tag"]
    for end, own in ((first, 0), (second, 1)):
        cold["address"][0, end] = np.frombuffer(ends[own][0], np.uint8)
        cold["port"][0, end] = [ends[own][1] >> 8, ends[own][1] & 255]
    cold["first_ns"] = NOW_NS - round(born * 1e9)
    cold["name"], cold["vlan"], cold["slot"], cold["l4"] = name, vlan, slot, l4


def put_name(snapshot: Snapshot, place: int, number: int, text: bytes) -> None:
    """Writes a server name."""
    row = snapshot.names[place : place + 1]
    row["hash"], row["length"] = number, len(text)
    row["text"][0, : len(text)] = np.frombuffer(text, np.uint8)


def small() -> Snapshot:
    """Five flows of five kinds, an IPv6 one and a hostile name among them."""
    s = empty()
    put_name(s, 0, 77, b"r3.googlevideo.com")
    put_name(s, 5, 78, b"evil\x1b[31m\xff.example")
    common = {"protocol": 1, "protocol_method": 13, "protocol_confidence": 90, "state": 1}
    put(
        s, 3, octets=(4100, 51200), packets=(12, 40), name=77, app=512, app_method=12,
        app_confidence=100, l4=17, **{**common, "protocol": 5},
    )  # fmt: skip
    put(s, 9, "2001:db8::1", 40000, "2001:db8::53", 53, l4=17, protocol=3, protocol_method=6,
        protocol_confidence=80, octets=(80, 300), born=2, slot=1)  # fmt: skip
    put(s, 12, "203.0.113.9", 1234, "10.0.0.2", 22, octets=(60, 0), packets=(1, 0), born=0.5,
        idle=0.5)  # fmt: skip
    put(s, 20, "192.168.1.7", 0, "10.0.0.2", 0, l4=1, vlan=12, octets=(98, 98), born=100, idle=50)
    put(s, 33, "10.0.0.9", 50001, "198.51.100.4", 443, name=78, app=514, app_method=13,
        app_confidence=100, octets=(2_000_000, 7_000_000_000), packets=(9000, 900_000),
        **common)  # fmt: skip
    return s


def crowd(size: int, flows: int, seed: int = 1, named: int = 500) -> Snapshot:
    """A table of `size` entries with random flows, for oracles and for measuring."""
    rng = np.random.default_rng(seed)
    s = empty(size, max(4, named * 2))
    at = np.sort(rng.choice(size, flows, replace=False))
    hot, cold = s.hot, s.cold
    hot["tag"][at] = cold["tag"][at] = rng.integers(1, 2**63, flows)
    packets = rng.integers(1, 2000, (flows, 2))
    hot["packets"][at] = packets
    hot["bytes"][at] = packets * rng.integers(60, 1500, (flows, 2))
    hot["seen"][at] = NOW_JIFFIES - rng.integers(0, 4000, (flows, 2))
    hot["app"][at] = rng.choice([0, 0, 512, 513, 514, 515], flows)
    hot["protocol"][at] = rng.choice([0, 1, 1, 2, 3, 5], flows)
    hot["app_method"][at] = rng.integers(1, 14, flows)
    hot["protocol_method"][at] = rng.integers(1, 14, flows)
    hot["state"][at] = rng.integers(0, 3, flows)
    hot["flags"][at] = rng.integers(0, 2, flows)
    v6 = rng.random(flows) < 0.3
    address = np.zeros((flows, 2, 16), np.uint8)
    address[:, :, 10:12] = 255
    address[:, :, 12:] = rng.choice([10, 192, 142, 8], (flows, 2, 1))
    address[:, 0, 15], address[:, 1, 14] = rng.integers(0, 50, (2, flows))
    address[v6, :, :12] = [0x20, 1, 0xD, 0xB8, *bytes(8)]
    cold["address"][at] = address
    cold["port"][at] = rng.choice([0, 1, 80, 187], (flows, 2, 2))
    cold["l4"][at] = rng.choice([1, 6, 6, 17, 50, 115], flows)
    cold["vlan"][at] = rng.choice([0, 0, 5, 100], flows)
    tls = rng.random(flows) < 0.5
    cold["tls_version"][at] = np.where(tls, rng.choice([0x300, 0x303, 0x304, 0x7F1C], flows), 0)
    cold["tls_flags"][at] = np.where(tls, rng.choice([0, 4, 8, 12], flows), 0)
    cold["slot"][at] = rng.integers(0, 3, flows)
    cold["first_ns"][at] = NOW_NS - 16 * 10**9 - rng.integers(0, 300 * 10**9, flows)
    hashes = rng.integers(2, 2**63, named, dtype=np.uint64)
    for i, number in enumerate(hashes.tolist()):
        put_name(s, 2 * i, number, b"host%d.%s.example" % (i, b"cdn" if i % 3 else b"video"))
    cold["name"][at] = np.where(rng.random(flows) < 0.6, rng.choice(hashes, flows), 0)
    return s


def later(snapshot: Snapshot, seconds: float = 1.0, share: float = 1.0, seed: int = 2) -> Snapshot:
    """The same table some time on: `share` of its flows moved up to 9 packets each way."""
    rng = np.random.default_rng(seed)
    hot = snapshot.hot.copy()
    moving = (hot["tag"] != 0) & (rng.random(len(hot)) < share)
    packets = rng.integers(1, 10, (len(hot), 2)) * moving[:, None]
    hot["packets"] += packets.astype(np.uint64)
    hot["bytes"] += (packets * 700).astype(np.uint64)
    clock = snapshot.clock
    return replace(
        snapshot,
        hot=hot,
        clock=ClockReading(
            clock.jiffies + round(seconds * HZ),
            HZ,
            clock.monotonic_ns + round(seconds * 1e9),
            clock.realtime_ns + round(seconds * 1e9),
        ),
    )
