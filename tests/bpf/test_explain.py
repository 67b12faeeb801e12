# SPDX-License-Identifier: Apache-2.0
"""`signatures test` and tools/unnamed.py on captures: what decided, what lost, what has no name."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import hellos
from tests.bpf.test_replay import write_pcap
from tests.packets import Conversation, Endpoint
from xdpprobe.cli import main
from xdpprobe.explain import observe

ROOT = Path(__file__).resolve().parents[2]
MADE = """\
[[protocol]]
id = 500
name = "made"
title = "Made"
category = "network"

[[protocol]]
id = 501
name = "framed"
title = "Framed"
category = "network"

[[signature]]
protocol = "made"
l4 = "udp"
match = 'MADE.\\x01'
confidence = 95
source = "observation: made up"

[[signature]]
protocol = "made"
l4 = "udp"
match = 'MADE'
confidence = 60

[[signature]]
protocol = "made"
l4 = "udp"
port = 40999

[[signature]]
name = "noted"
l4 = "udp"
match = 'hello'

[[signature]]
protocol = "made"
l4 = "udp"
match = 'there'
after = "noted"

[[signature]]
protocol = "framed"
l4 = "tcp"
match = '\\x7fM'
field = { at = 2, size = 2, plus = 4 }
from = "responder"
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading a BPF program needs root")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("signatures") / "made.toml"
    file.write_text(MADE)
    return file


def talk(number: int, port: int = 7000) -> Conversation:
    return Conversation(Endpoint(f"10.0.0.{number}", 40000), Endpoint("198.51.100.9", port))


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    one, two, three, four, five = (talk(number) for number in range(1, 6))
    hint = talk(6, 40999)
    tls = Conversation(Endpoint("10.0.0.7", 40000), Endpoint("198.51.100.20", 443))
    hello = hellos.records(hellos.browser_hello(b"www.netflix.com", seed=3))
    framed = b"\x7fM\0\x03abc"
    write_pcap(
        tmp_path / "a.pcap",
        [
            one.udp(b"MADE!\x01 and more"),
            two.udp(b"MADE it"),
            two.udp(b"nothing", from_client=False),
            two.udp(b"MADE?\x01", from_client=False),
            three.udp(b"hello"),
            three.udp(b"there", from_client=False),
            *four.handshake(),
            *four.segments(b"who are you"),
            *four.segments(framed, from_client=False),
            five.udp(bytes(range(64, 104))),
            five.udp(b"\x00\xff", from_client=False),
            hint.udp(b"\x99\x98\x97"),
            *tls.handshake(),
            *tls.segments(hello, 700),
            # No payload at all.
            talk(8).tcp(flags=2, seq=0),
        ],
    )
    return tmp_path / "a.pcap"


def documented(begin: str) -> list[str]:
    """The lines of the block of docs/signatures.md that begins so."""
    text = (ROOT / "docs" / "signatures.md").read_text()
    blocks = [block.split("\n")[1:-1] for block in text.split("```")[1::2]]
    return next(block for block in blocks if block and block[0].startswith(begin))


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["signatures", "test", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_json_says_signature_packet_and_bytes(
    capsys: pytest.CaptureFixture[str], capture: Path, made: Path
) -> None:
    code, out, err = run(capsys, capture, "--signatures", made, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["schema"] == 1
    flows: dict[str, Any] = {flow["src"]: flow for flow in found["flows"]}
    assert len(flows) == 8
    assert all(flow["watched"] and not flow["disagreements"] for flow in flows.values())

    (step,) = flows["10.0.0.1"]["decided"]
    assert (step["labels"], step["method"], step["confidence"]) == (["made"], "pattern", 95)
    assert step["signature"] == {
        "title": "made",
        "name": None,
        "where": f"{made}:13",
        "source": "observation: made up",
        "match": [r"MADE.\x01"],
        "texts": [],
        "confidence": 95,
    }
    assert step["packet"] == {
        "from": "initiator",
        "number": 1,
        "length": 15,
        "hex": b"MADE!\x01 and more".hex(),
        "marked": [[0, 4], [5, 6]],
    }
    (other,) = step["others"]
    assert (other["where"], other["lost"]) == (f"{made}:20", "lower confidence: 60, not 95")

    last, first = flows["10.0.0.2"]["decided"]
    assert (last["packet"]["from"], last["packet"]["number"]) == ("responder", 2)
    assert (first["current"], first["signature"]["where"]) == (False, f"{made}:20")
    (step,) = flows["10.0.0.3"]["decided"]
    assert step["signature"]["where"] == f"{made}:36"
    (step,) = flows["10.0.0.4"]["decided"]
    assert (step["packet"]["from"], step["packet"]["marked"]) == ("responder", [[0, 4]])

    flow = flows["10.0.0.5"]
    assert (flow["protocol"], flow["decided"]) == (None, [])
    assert [(p["from"], p["length"]) for p in flow["payloads"]] == [
        ("initiator", 40),
        ("responder", 2),
    ]
    (step,) = flows["10.0.0.6"]["decided"]
    assert (step["method"], step["signature"]["where"]) == ("port", f"{made}:26")
    (step,) = flows["10.0.0.7"]["decided"]
    assert step["labels"] == ["netflix", "tls"]
    assert step["rule"].startswith("netflix.com (video.toml:")
    assert flows["10.0.0.8"]["payloads"] == []


def test_text(capsys: pytest.CaptureFixture[str], capture: Path, made: Path) -> None:
    code, out, err = run(capsys, capture, "--signatures", made)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    example = documented("udp 10.0.0.1:40000")
    assert len(example) == 5
    assert [line.replace(str(made), "my.toml") for line in lines[:5]] == example
    assert "  nothing matched" in lines
    assert "  nothing matched, as no payload was looked at" in lines
    assert f"  before: made by pattern, confidence 60: {made}:20" in lines


def test_filter_and_limit(capsys: pytest.CaptureFixture[str], capture: Path, made: Path) -> None:
    options = (capture, "--signatures", made)
    code, out, _ = run(capsys, *options, "--json", "--filter", "proto:unknown")
    assert code == 0
    assert {flow["src"] for flow in json.loads(out)["flows"]} == {"10.0.0.5", "10.0.0.8"}
    _, out, _ = run(capsys, *options, "--limit", "1")
    assert out.splitlines()[-1] == "7 more flows: --limit 0 shows all"
    _, out, _ = run(capsys, *options, "--filter", "port:1")
    assert out == "no flows\n"
    code, out, _ = run(capsys, *options, "--filter", "nonsense")
    assert (code, out) == (2, "")


def test_a_disagreement_is_said(
    capsys: pytest.CaptureFixture[str],
    capture: Path,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tables that say another thing than the kernel did, as if one of the two were wrong."""
    monkeypatch.setattr(observe, "fitting", lambda compiled, payload: [])
    code, out, err = run(capsys, capture, "--signatures", made, "--filter", "src:10.0.0.1")
    assert code == 1
    where = "payload packet 1 of the initiator, 15 bytes"
    said = f"the kernel took made ({made}:13), the tables say none"
    assert f"  DISAGREEMENT: {where}: {said}\n" in out
    assert "kernel and tables disagree on 1 of the flows" in err


def test_a_verdict_that_does_not_follow_is_said(
    capsys: pytest.CaptureFixture[str],
    capture: Path,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A verdict that is read wrong, as if the program had written another one."""
    wrong = (*observe.Verdict._fields[:-1], "protocol_method")
    monkeypatch.setattr(observe.Verdict, "_fields", wrong)
    code, out, _ = run(capsys, capture, "--signatures", made, "--filter", "src:10.0.0.1", "--json")
    assert code == 1
    (flow,) = json.loads(out)["flows"]
    assert "which does not make" in flow["disagreements"][0]


def test_flows_that_are_not_watched_are_said(
    capsys: pytest.CaptureFixture[str],
    capture: Path,
    made: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observe, "FLOW_LIMIT", 3)
    code, out, err = run(capsys, capture, "--signatures", made, "--json")
    assert code == 0
    assert [flow["watched"] for flow in json.loads(out)["flows"]] == [True] * 3 + [False] * 5
    assert "only the first 3 flows" in err


@pytest.mark.parametrize("content", [b"", b"not a capture, but text"])
def test_what_is_no_capture_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "a.pcap"
    file.write_bytes(content)
    code, out, err = run(capsys, file)
    assert (code, out, err.count("\n")) == (1, "", 1)


def test_a_capture_that_breaks_off(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, made: Path
) -> None:
    file = tmp_path / "a.pcap"
    write_pcap(file, [talk(1).udp(b"MADE!\x01"), talk(2).udp(b"MADE!\x01")], cut=5)
    code, out, err = run(capsys, file, "--signatures", made, "--json")
    assert (code, err.count("\n")) == (1, 1)
    assert len(json.loads(out)["flows"]) == 1


def test_drafts_for_an_unknown_application(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What tools/unnamed.py writes loads, and names the very flows that it was made from."""
    dice = random.Random(7)
    frames = []
    for number in range(1, 13):
        body = dice.randbytes(dice.randint(20, 90))
        message = b"\xe7Zq" + dice.randbytes(2) + (len(body) + 7).to_bytes(2, "big") + body
        frames.append(talk(number, 7777).udp(message))
    capture = tmp_path / "capture.pcap"
    write_pcap(capture, frames)
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "unnamed.py", capture],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    example = documented("# Group 1: ")
    assert len(example) > 15
    assert [line for line in example if line not in done.stdout.splitlines()] == []
    draft = tmp_path / "draft.toml"
    draft.write_text(done.stdout)
    code, out, _ = run(capsys, capture, "--signatures", draft, "--json")
    assert code == 0
    assert {flow["app"] for flow in json.loads(out)["flows"]} == {"unnamed-1"}


TEXTS = """\
[[app]]
id = 7200
name = "made-call"
title = "Made"
category = "work"

[[signature]]
protocol = "stun"
app = "made-call"
stun_attribute = [0x7abc]
confidence = 86

[[signature]]
app = "made-call"
user_agent = ["Made/"]
"""


def test_texts_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Also where a pattern that fits is as sure of something else."""
    known = tmp_path / "texts.toml"
    known.write_text(TEXTS)
    call = talk(1, 3478)
    relayed = Conversation(call.client, Endpoint("10.9.9.9", 9))
    web = Conversation(Endpoint("10.0.0.2", 40000), Endpoint("198.51.100.20", 80))
    realm = Conversation(Endpoint("10.0.0.3", 40000), Endpoint("198.51.100.9", 3478))
    head = bytes.fromhex("00010008 2112a442") + bytes(12)
    named = bytes.fromhex("00010014 2112a442") + bytes(12)
    write_pcap(
        tmp_path / "a.pcap",
        [
            call.udp(head + bytes.fromhex("7abc0004 00000000")),
            relayed.udp(head + bytes.fromhex("00060004 00000000")),
            realm.udp(named + bytes.fromhex("0014000e") + b"Turn.slack.com" + bytes(2)),
            *web.handshake(),
            *web.segments(b"GET / HTTP/1.1\r\nUser-Agent: Made/1\r\nHost: a.invalid\r\n\r\n"),
        ],
    )
    code, out, err = run(capsys, tmp_path / "a.pcap", "--signatures", known, "--json")
    assert (code, err) == (0, "")
    flows = {(flow["src"], flow["dport"]): flow for flow in json.loads(out)["flows"]}
    assert not any(flow["disagreements"] for flow in flows.values())
    (step,) = flows["10.0.0.1", 3478]["decided"]
    assert step["labels"] == ["made-call", "stun"]
    assert step["signature"]["where"] == f"{known}:7"
    assert step["signature"]["texts"] == [{"kind": "stun_attribute", "text": 0x7ABC}]
    (step,) = flows["10.0.0.1", 9]["decided"]
    assert (step["labels"], step["method"]) == (["made-call", "stun"], "peer")
    (step,) = flows["10.0.0.2", 80]["decided"]
    assert (step["labels"][0], step["signature"]["where"]) == ("made-call", f"{known}:13")
    # The pattern that finds STUN gives the protocol alone.
    (step,) = flows["10.0.0.3", 3478]["decided"]
    assert (step["labels"], step["method"]) == (["slack", "stun"], "pattern")
    assert (step["confidence"], step["signature"], step["others"]) == (80, None, [])
    assert step["rule"].startswith("slack.com (")
    _, out, _ = run(capsys, tmp_path / "a.pcap", "--signatures", known)
    assert "\n    one of its texts: stun_attribute 0x7abc\n" in out
    assert "\n    one of its texts: user_agent Made/\n" in out
