# SPDX-License-Identifier: Apache-2.0
"""`make bench` makes up signatures and peers that are what its figures are called."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import ModuleType

import pytest

from xdpprobe import catalogue, peer_file
from xdpprobe.abi import load_abi
from xdpprobe.patterns.compiler import compile_signatures

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import bench_signatures

    return bench_signatures


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import bench_peers

    return bench_peers


def test_made_up_signatures_are_taken_alone(signatures: ModuleType) -> None:
    known = signatures._made(30)
    assert [one.protocol for one in known.signatures] == ["measured"] * 30
    assert known.signatures[-1].confidence < min(s.confidence for s in known.signatures[:-1])
    assert known.digest != catalogue.load().digest
    assert [str(s.match) for s in signatures._made(30).signatures] == [
        str(s.match) for s in known.signatures
    ]


@pytest.mark.parametrize("count", [1, 30, 1000])
def test_payloads_fit_the_last_signature_nearly_and_not_at_all(
    signatures: ModuleType, count: int
) -> None:
    compiled = compile_signatures(signatures._made(count).signatures, load_abi())
    rows = signatures.packets(compiled)
    last, nearly, none = (rows[name].frames[0] for name in ("last", "nearly", "none"))
    assert (len(last), len(nearly)) == (14 + 28 + 32, len(last))
    assert sum(a != b for a, b in zip(last, nearly, strict=True)) == 1
    assert last[:-1] == nearly[:-1]
    fits = [signatures._fits(compiled, frame[42:], 40444) for frame in (last, nearly, none)]
    assert fits == [[count - 1], [], []]


def test_shipped_signatures_have_one_to_measure(signatures: ModuleType) -> None:
    compiled = compile_signatures(signatures._shipped().signatures, load_abi())
    rows = signatures.packets(compiled)
    assert {name: row.gains.get("INFO_MATCHED", 0) for name, row in rows.items()} == {
        "none": 0,
        "nearly": 0,
        "last": 1,
    }


@pytest.mark.parametrize(
    ("kind", "count", "last"),
    [("addresses", 300, "10.0.1.43"), ("prefixes", 20, "10.0.1.48/28")],
)
def test_peers_are_what_a_list_may_hold(
    peers: ModuleType, tmp_path: Path, kind: str, count: int, last: str
) -> None:
    path = tmp_path / "peers"
    peers.write_peers(path, kind, count)
    found = peer_file.read(path, {"netflix": 600}.get, "netflix", 0, count)
    assert len(found) == count
    lines = path.read_text().split()
    assert max(lines, key=lambda line: IPv4Address(line.split("/")[0])) == last
    assert lines != sorted(lines)


@pytest.mark.parametrize("kind", ["addresses", "prefixes"])
def test_new_flows_go_to_a_peer_or_to_none(peers: ModuleType, kind: str) -> None:
    """As bpf/bench.bpf.c writes them: 10, and the rest of the flow's number without 8 bits."""
    count, size = 3000, 1 if kind == "addresses" else 16
    inside = IPv4Address("10.0.0.0"), IPv4Address("10.0.0.0") + count * size - 1
    for known in (True, False):
        row = peers.syn(kind, count, known)
        assert len({frame[26:30] for frame in row.frames}) == len(row.frames) == 64
        assert row.flows < 1 << 32
        for flow in (0, 12345 % row.flows, row.flows - 1):
            frame, at = bytearray(row.frames[1]), row.route.address_at
            frame[at : at + 4] = (10 << 24 | flow >> 8).to_bytes(4, "big")
            client, server = IPv4Address(bytes(frame[26:30])), IPv4Address(bytes(frame[30:34]))
            assert client not in IPv4Network("10.0.0.0/8")
            assert (inside[0] <= server <= inside[1]) == known
            assert known or server < IPv4Address("10.0.0.0")
