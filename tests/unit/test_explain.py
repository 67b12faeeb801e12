# SPDX-License-Identifier: Apache-2.0
"""`signatures explain`: which flow is meant, and which signatures may have named it."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit import view_samples
from xdpprobe import catalogue as catalogues
from xdpprobe import flows
from xdpprobe.errors import UsageError
from xdpprobe.explain import words
from xdpprobe.explain.live import Teller, flow_filter, inspection
from xdpprobe.flows import Flow
from xdpprobe.patterns.lookup import Payload
from xdpprobe.snapshot import Snapshot

MADE = """\
[[protocol]]
id = 500
name = "made"
title = "Made up"
category = "network"

[[signature]]
protocol = "made"
l4 = "udp"
match = 'abc'
confidence = 80
source = "RFC 0"

[[signature]]
protocol = "made"
l4 = "udp"
match = 'abd'
confidence = 80
port = [7000, "8000-8010"]
from = "responder"

[[signature]]
protocol = "made"
l4 = "udp"
match = 'abe'
confidence = 70

[[signature]]
protocol = "made"
l4 = "tcp"
match = 'abf'
confidence = 80

[[signature]]
protocol = "made"
l4 = "udp"
port = 7001
"""


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("port:443", "port:443"),
        ("app:youtube bytes>1M", "app:youtube bytes>1M"),
        (
            "udp 10.0.0.1:40000 > 198.51.100.9:51820",
            "l4:udp src:10.0.0.1 sport:40000 dst:198.51.100.9 dport:51820",
        ),
        ("10.0.0.1:40000 10.0.0.2:53 tcp", "l4:tcp src:10.0.0.1 sport:40000 dst:10.0.0.2 dport:53"),
        ("[2001:db8::1]:5 [2001:db8::2]:53", "src:2001:db8::1 sport:5 dst:2001:db8::2 dport:53"),
        (
            "10.0.0.1:40000 www.example.com:443",
            'src:10.0.0.1 sport:40000 name:"www.example.com" dport:443',
        ),
        ("icmp 10.0.0.1 10.0.0.2", "l4:icmp src:10.0.0.1 dst:10.0.0.2"),
    ],
)
def test_which_flow_is_meant(text: str, meant: str) -> None:
    assert flow_filter(text).text == meant


@pytest.mark.parametrize("text", ["10.0.0.1:40000", "nonsense", "a.example:1 b.example:99999"])
def test_what_means_no_flow(text: str) -> None:
    with pytest.raises(UsageError):
        flow_filter(text)


@pytest.fixture
def table() -> Snapshot:
    snapshot = view_samples.empty()
    made: dict[str, Any] = {"l4": 17, "protocol": 500, "protocol_method": 6}
    view_samples.put(snapshot, 1, dport=9000, protocol_confidence=80, **made)
    view_samples.put(snapshot, 2, dport=8005, protocol_confidence=80, **made)
    view_samples.put(snapshot, 3, dport=9000, protocol_confidence=33, **made)
    hint = {**made, "protocol_method": 1, "protocol_confidence": 20}
    view_samples.put(snapshot, 4, dport=7001, spent=[3, 1], **hint)
    view_samples.put_name(snapshot, 0, 77, b"www.netflix.com")
    view_samples.put(snapshot, 5, name=77, protocol=1, protocol_method=13, app=513, app_method=13)
    return snapshot


def flow_at(table: Snapshot, index: int) -> Flow:
    return next(flow for flow in flows.decode(table, flows.live(table)) if flow.index == index)


@pytest.mark.parametrize(
    ("index", "lines"),
    [(1, [7]), (2, [7, 14]), (3, []), (4, [34])],
    ids=["one", "two", "none", "port"],
)
def test_signatures_that_may_have_named_a_flow(
    tmp_path: Path, table: Snapshot, index: int, lines: list[int]
) -> None:
    file = tmp_path / "made.toml"
    file.write_text(MADE)
    (evidence,) = Teller(catalogues.load([file]), table).evidence(flow_at(table, index))
    assert (evidence.kind, evidence.title) == ("protocol", "Made up")
    assert [s.where() for s in evidence.candidates] == [f"{file}:{line}" for line in lines]
    text = "\n".join(evidence.lines())
    assert ("no signature that is read here gives" in text) == (not lines)
    if index == 2:
        assert "abd; port 7000, 8000-8010; from the responder" in text


def test_a_server_name_is_told_with_its_rule(table: Snapshot) -> None:
    known = catalogues.load()
    number = next(entry.id for entry in known.entries.values() if entry.name == "netflix")
    table.hot["app"][5] = number
    app, protocol = Teller(known, table).evidence(flow_at(table, 5))
    assert (app.method, protocol.method) == ("sni", "sni")
    assert app.rule is not None
    assert app.rule.startswith("netflix.com (video.toml:")
    assert app.candidates == []


def test_how_far_the_look_has_come(table: Snapshot) -> None:
    flow = flow_at(table, 4)
    turned = bool(table.hot["flags"][4] & table.enums["flow_flag"]["FLOW_INITIATOR_1"])
    expected = [1, 3] if turned else [3, 1]
    assert inspection(table, flow) == {"decided": False, "payloads": expected, "at_most": 8}


def test_every_method_has_a_meaning(table: Snapshot) -> None:
    assert set(flows.method_words(table).values()) - {"none"} == words.METHODS.keys()


def test_hex_with_marks() -> None:
    payload = Payload(bytes(range(60, 140)), 80, True, False, (1, 2))
    text = words.hex_text(payload, [(0, 2), (4, 5)])
    assert text.startswith("[3c 3d] 3e 3f [40] 41 ")
    assert text.endswith(" 5b ...  |<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[|")
    assert words.hex_text(payload, [(0, 80)]).count("]") == 2  # one of them is a byte
    assert words.hex_text(Payload(b"", 0, True, False, (1, 2))) == "  ||"
