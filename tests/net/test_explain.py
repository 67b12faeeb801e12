# SPDX-License-Identifier: Apache-2.0
"""`signatures explain` on flows of a running probe."""

from pathlib import Path

from tests.net.conftest import Cli, Veth
from tests.net.frames import send
from tests.packets import Conversation, Endpoint

MADE = """\
[[protocol]]
id = 500
name = "made"
title = "Made up"
category = "network"

[[signature]]
protocol = "made"
l4 = "udp"
match = 'MADE.\\x01'
source = "observation: made up"
"""


def test_a_live_flow_is_explained(cli: Cli, veth: Veth, tmp_path: Path) -> None:
    file = tmp_path / "made.toml"
    file.write_text(MADE)
    cli.attach(veth.left, "--signatures", str(file))
    talk = Conversation(Endpoint("10.9.0.1", 40000), Endpoint("10.9.0.2", 7000))
    send(veth.right, 1, talk.udp(b"MADE!\x01"))
    ends = "udp 10.9.0.1:40000 > 10.9.0.2:7000"
    found = cli.json("signatures", "explain", ends, "--signatures", str(file))
    assert found["same_signatures"]
    (flow,) = found["flows"]
    (evidence,) = flow["evidence"]
    assert (evidence["label"], evidence["method"]) == ("made", "pattern")
    assert [candidate["where"] for candidate in evidence["candidates"]] == [f"{file}:7"]
    assert flow["inspection"] == {"decided": True, "payloads": [1, 0], "at_most": 8}

    done = cli("signatures", "explain", "port:7000", "--signatures", str(file))
    lines = done.stdout.splitlines()
    assert lines[0] == f"{ends} made"
    assert f"      {file}:7 (observation: made up)" in lines
    assert "The kernel keeps no bytes of packets" in lines[-1]
    assert done.stderr == ""
    assert cli("signatures", "explain", "port:7").stdout == "no flows\n"

    done = cli("signatures", "explain", ends)
    assert "the probe runs other signatures" in done.stderr
