# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe peers` on a probe that counts: real flows get what was pushed, whatever goes wrong."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.net.conftest import Cli, Veth
from tests.net.frames import send, sender
from tests.net.test_attach_trouble import refused
from tests.net.test_faults_reload import traffic
from tests.net.test_faults_signatures import Killed
from tests.net.test_follow import wait_until
from tests.net.users import User, ordinary
from tests.packets import Conversation, Endpoint
from xdpprobe import catalogue, netns, peer_file, peer_text, peers, syscall
from xdpprobe.lab.namespaces import Network
from xdpprobe.peer_maps import PinShelf
from xdpprobe.probe import Probe

OWN = """\
[[app]]
id = 7168
name = "own"
title = "Own"
category = "work"

[[app]]
id = 7169
name = "other"
title = "Other"
category = "work"
"""
SHIPPED = len(catalogue.load().prefixes)
PREFIX = 'prefix = ["198.51.100.0/24", "2001:db8::/32"]\n'
RELOADS = 20
MOST_STEPS = 40


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A file with two applications that nothing but peers can lead to."""
    path = tmp_path / "own.toml"
    path.write_text(OWN)
    return str(path)


@pytest.fixture
def attached(cli: Cli, veth: Veth, own: str) -> Cli:
    cli.attach(veth.right, "--hook", "tc", "--flows", "16384", "--signatures", own)
    return cli


def flow_to(cli: Cli, veth: Veth, address: str, port: int, source: int) -> tuple[Any, Any]:
    """App and method of a flow that a datagram on the cable begins."""
    client = "2001:db8:ffff::1" if ":" in address else "10.9.0.1"
    talk = Conversation(Endpoint(client, source), Endpoint(address, port))
    send(veth.left, 1, talk.udp(b"\xff"))
    (row,) = cli.json("flows", "--filter", f"sport:{source}")["flows"]
    return row["app"], row["method"]


def test_a_real_flow_gets_the_application(attached: Cli, veth: Veth) -> None:
    said = attached("peers", "add", f"{veth.right.v4}:5000/udp", "--label", "own").stdout
    assert said == "added: 1 peer\n"
    with netns.entered(netns.named(veth.left.namespace.name)):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        for port in (5000, 5001):
            client.sendto(b"\xff", (veth.right.v4, port))
    found = {row["dport"]: row for row in attached.json("flows")["flows"] if row["l4"] == "udp"}
    assert (found[5000]["app"], found[5000]["method"]) == ("own", "peer")
    assert (found[5001]["app"], found[5001]["method"]) == (None, None)
    assert found[5000]["category"] == "work"
    shown = attached("flows", "--filter", "method:peer").stdout
    assert "own" in shown
    (total,) = [row for row in attached.json("apps")["apps"] if row["app"] == "own"]
    assert total["flows"] == 1


def test_list_export_import_and_flush(attached: Cli, veth: Veth, tmp_path: Path) -> None:
    path = tmp_path / "peers.txt"
    path.write_text(
        "192.0.2.7:6881 own 3600\n198.51.100.0/24 ssh # a protocol\n[2001:db8::7]:443/tcp other\n"
    )
    assert attached("peers", "import", str(path)).stdout == "in force: 4 peers\n"
    rows = {row["peer"]: row for row in attached.json("peers", "list")["peers"]}
    assert list(rows) == [
        "192.0.2.7:6881/tcp",
        "192.0.2.7:6881/udp",
        "198.51.100.0/24",
        "[2001:db8::7]:443/tcp",
    ]
    assert 3500 < rows["192.0.2.7:6881/udp"].pop("expires") <= 3600 + 2
    assert rows["192.0.2.7:6881/udp"] == {
        "peer": "192.0.2.7:6881/udp",
        "label": "own",
        "kind": "application",
        "method": "peer",
    }
    assert rows["198.51.100.0/24"] == {
        "peer": "198.51.100.0/24",
        "label": "ssh",
        "kind": "protocol",
        "method": "prefix",
        "expires": None,
    }
    assert (
        attached.json("peers", "export")["peers"][2:] == attached.json("peers", "list")["peers"][2:]
    )
    table = attached("peers", "list", "--limit", "1").stdout.splitlines()
    assert table[0].split() == ["PEER", "LABEL", "EXPIRES"]
    assert table[-1].startswith("3 more peers")
    exported = attached("peers", "export").stdout
    assert exported.splitlines()[2:] == ["198.51.100.0/24 ssh", "[2001:db8::7]:443/tcp other"]
    path.write_text(exported)
    assert attached("peers", "flush").stdout == "in force: no peers\n"
    assert attached.json("peers", "list") == {"schema": 1, "peers": []}
    assert attached("peers", "list").stdout == "no peers\n"
    attached("peers", "import", str(path))
    assert attached("peers", "export").stdout.splitlines()[2:] == exported.splitlines()[2:]
    status = attached.json("status")
    assert status["peers"] == {"pushed": 4, "published": SHIPPED}
    assert status["memory_maps"]["peers.inner"] > 4096 * 16
    assert "4 pushed" in attached("status").stdout


def test_import_from_standard_input(attached: Cli) -> None:
    done = subprocess.run(
        attached.argv("peers", "import", "-", "--label", "own", "--age", "60"),
        input="192.0.2.7\n192.0.2.x\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("xdpprobe: standard input:2: '192.0.2.x' is neither an address")


def test_what_is_refused_changes_nothing(attached: Cli, veth: Veth, tmp_path: Path) -> None:
    attached("peers", "add", "198.51.100.20", "--label", "own")
    path = tmp_path / "peers.txt"
    path.write_text("198.51.100.20 other\n198.51.100.21 nobody\n")
    said = refused(attached, "peers", "import", str(path))
    assert f"{path}:2: no application or protocol is called 'nobody'; " in said
    assert "write an [[app]] with an id from 7168 to 8191" in said
    for command in (
        ["add", "198.51.100.20", "--label", "nobody"],
        ["import", str(path), "--label", "nobody"],
    ):
        done = attached("peers", *command, check=False)
        assert done.returncode == 2
        assert "no application or protocol is called 'nobody'; " in done.stderr
    assert flow_to(attached, veth, "198.51.100.20", 9, 5000) == ("own", "peer")


def test_peers_stay_over_updates(attached: Cli, veth: Veth, own: str) -> None:
    attached("peers", "add", "198.51.100.20", "198.51.100.0/24", "--label", "own")
    assert "updated in place" in attached.attach(veth.right).stdout
    assert flow_to(attached, veth, "198.51.100.20", 9, 5000) == ("own", "peer")
    attached("signatures", "load", own)
    attached("signatures", "load")
    assert flow_to(attached, veth, "198.51.100.21", 9, 5001) == ("own", "prefix")
    attached("peers", "add", "198.51.100.21", "--label", "other")
    assert flow_to(attached, veth, "198.51.100.21", 9, 5002) == ("other", "peer")
    attached("detach", "--all")
    attached.attach(veth.right)
    assert attached.json("peers", "list")["peers"] == []


def test_ages_end_by_themselves(attached: Cli, veth: Veth) -> None:
    attached("peers", "add", "198.51.100.20", "--label", "own", "--age", "1")
    attached("peers", "add", "198.51.100.21", "--label", "own", "--age", "3600")
    ports = iter(range(5000, 6000))
    wait_until(lambda: flow_to(attached, veth, "198.51.100.20", 9, next(ports)) == (None, None))
    assert attached.json("status")["peers"]["pushed"] == 2
    (left,) = attached.json("peers", "list")["peers"]
    assert left["peer"] == "198.51.100.21"
    assert attached.json("status")["peers"]["pushed"] == 1


def test_prefixes_of_signatures(cli: Cli, veth: Veth, tmp_path: Path) -> None:
    with_prefix = tmp_path / "prefix.toml"
    with_prefix.write_text(OWN + PREFIX)
    cli.attach(veth.right, "--flows", "16384", "--signatures", str(with_prefix))
    assert cli.json("status")["peers"] == {"pushed": 0, "published": SHIPPED + 2}
    assert flow_to(cli, veth, "198.51.100.20", 9, 5000) == ("other", "prefix")
    assert flow_to(cli, veth, "2001:db8:1::1", 9, 5001) == ("other", "prefix")
    cli("peers", "add", "198.51.100.0/25", "--label", "own")
    assert flow_to(cli, veth, "198.51.100.20", 9, 5002) == ("own", "prefix")
    assert flow_to(cli, veth, "198.51.100.200", 9, 5003) == ("other", "prefix")
    assert cli.json("status")["memory_maps"]["peers.inner"] > 0
    cli("signatures", "load")
    assert flow_to(cli, veth, "198.51.100.200", 9, 5004) == (None, None)
    assert cli.json("status")["peers"] == {"pushed": 1, "published": SHIPPED}


def test_imports_under_traffic_name_no_flow_wrong(
    attached: Cli, veth: Veth, tmp_path: Path
) -> None:
    """Whole sets replace each other: each flow has what the old or the new one says, never none."""
    lists = []
    for label in ("own", "other"):
        path = tmp_path / f"{label}.txt"
        path.write_text(f"198.51.100.53:53/udp {label}\n198.51.100.0/24 {label}\n")
        lists.append(str(path))
    attached("peers", "import", lists[0])
    with Probe.open(attached.bpffs) as probe:
        hot, cold = (probe.tables().array(name) for name in ("flow_hot", "flow_cold"))
        (slot,) = probe.instance.slots()
        peer = probe.abi.enums["method"]["METHOD_PEER"]
        with traffic(veth.left) as child, sender(veth.left) as cable:
            for number in range(1, RELOADS + 1):
                seen = probe.port(slot.number)[0][0]
                wait_until(lambda seen=seen: probe.port(slot.number)[0][0] > seen)
                attached("peers", "import", lists[number & 1])
                mark = Conversation(
                    Endpoint(f"10.255.0.{number}", 1024),
                    Endpoint("198.51.100.53", 53),
                    tags=[(0x8100, 4000)],
                )
                cable.send(mark.udp(b"\xff"))
                cable.send(mark.udp(b"\xff", from_client=False))
                marked = np.flatnonzero((cold["vlan"] == 4000) & (hot["tag"] != 0))
                newest = marked[np.argmax(cold["first_ns"][marked])]
                assert hot["app"][newest] == 7168 + (number & 1)
                assert hot["app_method"][newest] == peer
            sent = child.end()
        snapshot = probe.snapshot()
    apps = np.where(snapshot.hot["app"] != 0, snapshot.hot["app"], snapshot.hot["protocol"])
    live = np.bincount(apps[snapshot.hot["tag"] != 0], minlength=len(snapshot.retired))
    counted = live + snapshot.retired["flows"].astype(np.int64)
    youtube = next(i for i, label in snapshot.labels.items() if label.name == "youtube")
    assert set(np.flatnonzero(counted)) == {7168, 7169, youtube}
    assert int(counted.sum()) == sent + RELOADS
    assert min(counted[7168], counted[7169]) > 0


def test_an_import_that_is_killed_at_any_step(attached: Cli, veth: Veth) -> None:
    """The old peers or the new ones, whole; and the next import works."""
    old = "198.51.100.20", "198.51.100.0/24"
    with Probe.open(attached.bpffs) as probe, peers.opened(probe.instance) as pushed:

        def made(label: int) -> dict[bytes, peer_file.Said]:
            parsed = (peer for text in old for peer in peer_text.parse(text))
            return dict.fromkeys(parsed, peer_file.Said(label, 0))

        for step in range(1, MOST_STEPS):
            pushed.replace(made(7168))
            killed = False
            try:
                with killed_at(step):
                    pushed.replace(made(7169))
            except Killed:
                killed = True
            (label,) = {said.label for said in pushed.read().values()}
            assert len(pushed.read()) == 2
            name = {7168: "own", 7169: "other"}[label]
            assert flow_to(attached, veth, "198.51.100.20", 9, 5000 + step) == (name, "peer")
            assert flow_to(attached, veth, "198.51.100.21", 9, 6000 + step) == (name, "prefix")
            if not killed:
                break
    assert name == "other"
    assert step > 8


@contextmanager
def killed_at(step: int) -> Iterator[None]:
    """Nothing is done any more from that step on, not even to take back what was done."""
    seen = 0

    def counted(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen >= step:
                raise Killed
            return function(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, names in (
            (syscall, ("create_map", "map_values", "update", "delete", "pin")),
            (PinShelf, ("clear",)),
        ):
            for name in names:
                patch.setattr(owner, name, counted(getattr(owner, name)))
        yield


@pytest.fixture
def user(network: Network, veth: Veth) -> Iterator[User]:
    user = ordinary(network, veth.left.namespace)
    yield user
    user.run("detach", "--all")


def test_an_ordinary_user_with_the_needed_capabilities(user: User) -> None:
    assert user.run("attach", "--flows", "4096", "eth0").returncode == 0
    for command in (
        ["add", "192.0.2.7", "--label", "youtube"],
        ["add", "192.0.2.8", "--label", "youtube"],
        ["list"],
        ["flush"],
    ):
        done = user.run("peers", *command)
        assert (done.returncode, done.stderr) == (0, "")
    said = user.refused("peers", "list", capabilities=("bpf", "perfmon"))
    assert "cannot list peers: this process lacks CAP_NET_ADMIN" in said


def test_without_a_probe(cli: Cli) -> None:
    for command in ("list", "export", "flush"):
        assert "nothing is attached" in refused(cli, "peers", command)
