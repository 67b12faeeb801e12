# SPDX-License-Identifier: Apache-2.0
"""The reader and the oracle against captures of real traffic, where they are at hand.

What is found here is what the data plane can find at best; the shares are what the oracle reached
when this was written, so that a change for the worse is noticed.
"""

import ipaddress
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.reference.client_hello import parse_client_hello
from tests.reference.http import parse_request
from tests.reference.packet import FlowPacket, Fragments
from tests.reference.stream import Stream
from xdpprobe.capture import Capture
from xdpprobe.linktypes import to_ethernet

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
NUMBERS = {"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "esp": 50, "ah": 51, "icmpv6": 58, "pgm": 113}

pytestmark = pytest.mark.skipif(
    not (CORPUS / "labels.jsonl").exists(), reason=f"no captures at {CORPUS.name}"
)

Key = tuple[int, tuple[bytes, int], tuple[bytes, int]]
Label = dict[str, Any]


def mapped(address: str) -> bytes:
    try:
        packed = ipaddress.ip_address(address).packed
    except ValueError:  # a few labels have addresses that are none
        return address.encode()
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def key_of(label: Label) -> Key:
    protocol = NUMBERS.get(label["l4"]) or int(label["l4"])
    ends = ((mapped(label[a]), label[p] or 0) for a, p in (("src", "sport"), ("dst", "dport")))
    low, high = sorted(ends)
    return protocol, low, high


@pytest.fixture(scope="module")
def labels() -> dict[str, list[Label]]:
    by_file: dict[str, list[Label]] = defaultdict(list)
    for line in (CORPUS / "labels.jsonl").read_text().splitlines():
        label = json.loads(line)
        by_file[label["file"]].append(label)
    return by_file


def flow_packets(file: str) -> Iterator[tuple[int, FlowPacket]]:
    """The packets of a capture that belong to flows, with their lengths on the wire."""
    fragments = Fragments()
    with Capture(CORPUS / "pcap" / file) as capture:
        for packet in capture:
            frame = to_ethernet(packet)
            assert frame is not None
            flow = fragments.parse(frame.data)
            if isinstance(flow, FlowPacket):
                yield packet.wire_length, flow
        assert capture.damage is None


def test_packets_and_bytes_are_those_of_the_labels(labels: dict[str, list[Label]]) -> None:
    """Length on the wire, link header included, whatever the link type.

    The labels leave later fragments out, so flows with such fragments are not compared.
    """
    equal = compared = 0
    for file, of_file in labels.items():
        counts: dict[Key, list[int]] = defaultdict(lambda: [0, 0])
        fragmented = set()
        for length, flow in flow_packets(file):
            key = flow.key[1:]
            if flow.fragment and flow.fragment[1]:
                fragmented.add(key)
            counts[key][0] += 1
            counts[key][1] += length
        for label in of_file:
            key = key_of(label)
            if key not in fragmented:
                compared += 1
                equal += counts.get(key) == [label["packets"], label["bytes"]]
    assert compared > 3800
    assert equal / compared >= 0.99


def names_of(file: str) -> dict[Key, set[str]]:
    streams: dict[tuple[Key, bytes, int], Stream] = defaultdict(Stream)
    for _, flow in flow_packets(file):
        if flow.l4 == 6:
            stream = streams[flow.key[1:], flow.src, flow.sport]
            if flow.flags & 2:
                stream.syn(flow.seq)
            else:
                stream.add(flow.seq, flow.payload)
    found: dict[Key, set[str]] = defaultdict(set)
    for (key, _, _), stream in streams.items():
        data = stream.prefix()
        for parse, field in ((parse_client_hello, "name"), (parse_request, "host")):
            try:
                name = getattr(parse(data), field, None)
            except ValueError:
                continue
            if name:
                found[key].add(name)
    return found


def test_server_names_are_those_of_the_labels(labels: dict[str, list[Label]]) -> None:
    right: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    for file, of_file in labels.items():
        named = [j for j in of_file if j["host"] and j["label"].split(".")[0] in ("TLS", "HTTP")]
        if not named:
            continue
        found = names_of(file)
        for label in named:
            protocol = label["label"].split(".")[0]
            wanted[protocol] += 1
            right[protocol] += label["host"].lower() in found.get(key_of(label), ())
    assert wanted["TLS"] > 350
    assert wanted["HTTP"] > 180
    assert right["TLS"] / wanted["TLS"] >= 0.99
    assert right["HTTP"] / wanted["HTTP"] >= 0.95
