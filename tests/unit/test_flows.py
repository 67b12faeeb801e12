# SPDX-License-Identifier: Apache-2.0
"""Rows and their order."""

import ipaddress
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import view_samples as samples
from xdpprobe import flows
from xdpprobe.filter import Filter
from xdpprobe.records import of_records
from xdpprobe.snapshot import ClockReading
from xdpprobe.sorting import SORT_KEYS, order
from xdpprobe.wire_text import printable


def decoded() -> dict[str, flows.Flow]:
    """The flows of the small table by initiator."""
    snapshot = samples.small()
    return {f"{f.src}/{f.l4}": f for f in flows.decode(snapshot, flows.live(snapshot))}


def test_json_of_a_named_flow() -> None:
    assert decoded()["10.0.0.2/udp"].to_json() == {
        "src": "10.0.0.2",
        "sport": 51000,
        "dst": "142.250.1.1",
        "dport": 443,
        "l4": "udp",
        "protocol": "quic",
        "app": "youtube",
        "category": "video",
        "host": "r3.googlevideo.com",
        "method": "quic-sni",
        "confidence": 100,
        "packets": [12, 40],
        "bytes": [4100, 51200],
        "state": "established",
        "first_seen": "2023-11-14T22:13:10.000Z",
        "last_seen": "2023-11-14T22:13:19.000Z",
        "duration": 9.0,
        "tunnel": None,
        "vlan": None,
        "interface": "eth0",
        "tls_version": None,
        "resumed": None,
        "sni_mismatch": False,
        "alpn": None,
        "ja4": None,
        "ech": None,
    }


def test_initiator_comes_first_whatever_the_canonical_order() -> None:
    flow = decoded()["203.0.113.9/tcp"]
    assert (flow.src, flow.sport, flow.dst, flow.dport) == ("203.0.113.9", 1234, "10.0.0.2", 22)
    assert flow.packets == (1, 0)
    assert flow.bytes == (60, 0)


def test_what_is_not_known_is_null() -> None:
    flow = decoded()["203.0.113.9/tcp"]
    assert (flow.protocol, flow.app, flow.host, flow.method) == (None, None, None, None)
    assert (flow.category, flow.label, flow.confidence) == ("unknown", "unknown", 0)


def test_protocol_evidence_counts_where_there_is_no_app() -> None:
    flow = decoded()["2001:db8::1/udp"]
    assert (flow.protocol, flow.app, flow.method) == ("dns", None, "pattern")
    assert (flow.category, flow.confidence, flow.interface) == ("network", 80, "wan")


def test_ports_of_icmp_are_zero_and_vlan_is_given() -> None:
    flow = decoded()["192.168.1.7/icmp"]
    assert (flow.sport, flow.dport, flow.vlan, flow.duration) == (0, 0, 12, 50.0)


@pytest.mark.parametrize(
    ("version", "flags", "expected"),
    [
        (0x0304, 0, ("1.3", False, False)),
        (0x0303, 4, ("1.2", True, False)),
        (0x0301, 8, ("1.0", False, True)),
        (0x0300, 16, ("ssl3", False, False)),
        (0x7F1C, 0, ("0x7f1c", False, False)),
        (0, 0, (None, None, False)),
    ],
)
def test_tls(version: int, flags: int, expected: tuple[str | None, bool | None, bool]) -> None:
    snapshot = samples.small()
    snapshot.cold["tls_version"] = version
    snapshot.cold["tls_flags"] = flags
    for flow in flows.decode(snapshot, flows.live(snapshot)):
        assert (flow.tls.version, flow.tls.resumed, flow.tls.sni_mismatch) == expected


def test_hostile_names_are_escaped() -> None:
    assert decoded()["10.0.0.9/tcp"].host == r"evil\x1b[31m\xff.example"


@given(st.binary(max_size=60))
def test_printable_is_visible_ascii_and_tells_names_apart(raw: bytes) -> None:
    text = printable(raw)
    assert all("!" <= c <= "~" for c in text)
    assert text.encode("ascii").decode("unicode_escape").encode("latin-1") == raw


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_addresses_are_canonical(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    packed = samples.packed(str(address))
    text = ipaddress.ip_address(flows.address_text(packed))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    assert text == (mapped or address)


@pytest.mark.parametrize(
    ("number", "word"), [(6, "tcp"), (17, "udp"), (58, "icmpv6"), (51, "ah"), (115, "115")]
)
def test_transport_words(number: int, word: str) -> None:
    assert flows.l4_name(number) == word


def test_half_born_flows_are_not_shown_and_gone_ones_left_out() -> None:
    snapshot = samples.small()
    rows = flows.live(snapshot)
    snapshot.cold["tag"][9] = 1
    assert 9 in rows
    assert 9 not in flows.live(snapshot)
    assert 9 in flows.used(snapshot)
    assert [f.index for f in flows.decode(snapshot, rows)] == [3, 12, 20, 33]


def test_times_survive_the_wrap_of_jiffies() -> None:
    snapshot = samples.empty()
    samples.put(snapshot, 0, idle=60, born=100)  # before jiffies were 0
    assert int(snapshot.hot["seen"][0, 0]) > 2**31
    assert flows.last_age(snapshot, np.array([0])).tolist() == [60.0]


def test_what_has_closed_stays_closed_and_what_fell_silent_expires() -> None:
    limits = {"FLOW_NEW": 5.0, "FLOW_ESTABLISHED": 5.0, "FLOW_CLOSED": 5.0}
    snapshot = replace(samples.empty(), idle=limits)
    for state in (0, 1, 2):
        samples.put(snapshot, state, state=state, idle=4, born=10)
        samples.put(snapshot, 3 + state, state=state, idle=6, born=10)
    rows = flows.live(snapshot)
    assert [flow.state for flow in flows.decode(snapshot, rows)] == [
        "new", "established", "closed", "expired", "expired", "closed",
    ]  # fmt: skip
    assert flows.over(snapshot, rows).tolist() == [False] * 3 + [True] * 3
    assert Filter("state:closed").rows(snapshot).tolist() == [2, 5]
    assert not flows.over(replace(snapshot, idle={}), rows).any()


def test_a_direction_that_never_spoke_has_no_time() -> None:
    snapshot = samples.empty()
    samples.put(snapshot, 0, packets=(1, 0), idle=7, born=7)
    snapshot = replace(snapshot, clock=ClockReading(3, samples.HZ, samples.NOW_NS, samples.WALL_NS))
    snapshot.hot["seen"][0, 0] = (3 - 7 * samples.HZ) % 2**32
    assert flows.last_age(snapshot, np.array([0])).tolist() == [7.0]


def test_lost_names_are_null() -> None:
    snapshot = samples.small()
    snapshot.names["hash"][0] = 0
    (flow,) = flows.decode(snapshot, np.array([3]))
    assert flow.host is None
    (flow,) = flows.decode(snapshot, np.array([3]), names={77: "kept"})
    assert flow.host == "kept"


def test_records_decode_as_flows() -> None:
    snapshot = samples.small()
    records = np.zeros(3, samples.load_abi().dtypes["flow_record"])
    at = [3, 33, 3]
    records["hot"], records["cold"] = snapshot.hot[at], snapshot.cold[at]
    records["hot"]["tag"][1] = 0  # taken out of the table when the record was written
    # The last one comes without its text: a NUL, then bytes of older records.
    for row, name in enumerate((b"a.example\0ld", b"", b"\0lder.example")):
        records["name"][row, : len(name)] = np.frombuffer(name, np.uint8)
    records["cold"]["name"][0] = 12345
    records["cold"]["name"][1] = 0
    view = of_records(records, snapshot)
    first, second, third = flows.decode(view, flows.live(view))
    assert (first.host, first.app, second.host) == ("a.example", "youtube", None)
    assert third.host == "r3.googlevideo.com"


def _plain_key(flow: flows.Flow, key: str) -> object:
    return {
        "bytes": -sum(flow.bytes),
        "packets": -sum(flow.packets),
        "up": -flow.bytes[0],
        "down": -flow.bytes[1],
        "first": -flow.first,
        "last": -flow.last,
        "duration": -flow.duration,
        "app": flow.label,
        "src": samples.packed(flow.src),
        "dst": samples.packed(flow.dst),
    }[key]


@pytest.mark.parametrize("key", SORT_KEYS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("count", [None, 1, 17, 1000])
def test_order_agrees_with_sorting_rows(key: str, reverse: bool, count: int | None) -> None:
    snapshot = samples.crowd(512, 200)
    rows = flows.live(snapshot)
    all_rows = flows.decode(snapshot, rows)
    got = flows.decode(snapshot, order(snapshot, rows, key, reverse, count))
    values = sorted((_plain_key(f, key) for f in all_rows), reverse=reverse)[:count]
    if isinstance(values[0], float):
        assert [_plain_key(f, key) for f in got] == pytest.approx(values, abs=1e-3)
    else:
        assert [_plain_key(f, key) for f in got] == values


def test_json_is_serialisable_at_the_counters_limit() -> None:
    snapshot = samples.empty()
    samples.put(snapshot, 0, octets=(2**63, 2**64 - 1))
    (flow,) = flows.decode(snapshot, np.array([0]))
    assert json.loads(json.dumps(flow.to_json()))["bytes"] == [2**63, 2**64 - 1]
