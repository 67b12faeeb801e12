# SPDX-License-Identifier: Apache-2.0
"""Attaching, updating and detaching as users do it, on cables between namespaces."""

import re
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.test_tunnels import TUNNELS
from tests.net.conftest import Cli, End, Veth
from tests.net.frames import FRAME, send, sender
from tests.packets import (
    CLIENT,
    CLIENT6,
    DESTINATION,
    ETHERTYPE_IPV6,
    SERVER,
    SERVER6,
    UDP,
    Endpoint,
    ethernet,
    ipv4,
    ipv6,
    options_header,
    udp,
    vxlan,
)
from xdpprobe import hooks
from xdpprobe.attach import attach
from xdpprobe.lab.namespaces import Network

COUNT = 23


def interfaces(cli: Cli) -> dict[str, dict[str, Any]]:
    """Namespace -> what status says of its interface."""
    return {entry["netns"]: entry for entry in cli.json("status")["interfaces"]}


def empty(bpffs: Path) -> bool:
    """Whether nothing of a probe is pinned."""
    return not (bpffs / "xdpprobe").exists()


@pytest.mark.parametrize(
    ("options", "hooks", "mode"),
    [
        ((), ["tc ingress", "tc egress"], None),
        (("--direction", "egress"), ["tc egress"], None),
        (("--hook", "tc", "--direction", "ingress"), ["tc ingress"], None),
        (("--hook", "xdp"), ["xdp ingress", "tc egress"], "native"),
        (("--hook", "xdp", "--mode", "skb"), ["xdp ingress", "tc egress"], "skb"),
        (("--mode", "native", "--direction", "ingress"), ["xdp ingress"], "native"),
    ],
)
def test_hooks_count_what_passes(
    cli: Cli, veth: Veth, options: tuple[str, ...], hooks: list[str], mode: str | None
) -> None:
    said = cli.attach(veth.left, *options).stdout
    assert said.startswith("eth0: " + hooks[0])
    assert re.search(r"kernel memory \d+\.\d MB", said)
    send(veth.right, COUNT)
    send(veth.left, COUNT + 2)
    (entry,) = cli.json("status")["interfaces"]
    assert (entry["hooks"], entry["mode"], entry["state"]) == (hooks, mode, "up")
    seen = [COUNT * any("ingress" in h for h in hooks), (COUNT + 2) * ("tc egress" in hooks)]
    assert entry["packets"] == seen
    assert entry["bytes"] == [packets * len(FRAME) for packets in seen]
    assert "eth0: detached" in cli("detach", "eth0", "--netns", veth.left.namespace.name).stdout
    assert empty(cli.bpffs)


def test_second_interface_joins_the_table(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left, "--flows", "5000")
    cli.attach(veth.right)
    send(veth.left, COUNT)
    found = interfaces(cli)
    assert found[veth.left.namespace.name]["packets"] == [0, COUNT]
    assert found[veth.right.namespace.name]["packets"] == [COUNT, 0]
    assert cli.json("status")["flows"]["capacity"] == 8192
    cli("detach", "eth0", "--netns", veth.left.namespace.name)
    assert list(interfaces(cli)) == [veth.right.namespace.name]


@pytest.mark.parametrize("hook", ["tc", "xdp"])
def test_update_in_place_misses_no_packet(cli: Cli, veth: Veth, hook: str) -> None:
    cli.attach(veth.left, "--hook", hook)
    programs = cli.json("status")["interfaces"][0]["programs"]
    sent_before = veth.right.counters()["tx"]["packets"]
    stop = threading.Event()

    with sender(veth.right) as opened:

        def stream() -> None:
            while not stop.is_set():
                with suppress(OSError):  # ENOBUFS: a slow machine does not take them as fast
                    opened.send(FRAME)

        thread = threading.Thread(target=stream)
        thread.start()
        try:
            for _ in range(3):
                assert "updated in place" in cli.attach(veth.left).stdout
        finally:
            stop.set()
            thread.join()
    (entry,) = cli.json("status")["interfaces"]
    sent = veth.right.counters()["tx"]["packets"] - sent_before
    assert sent > 1000
    assert entry["packets"][0] == sent
    assert entry["programs"] != programs
    assert all(Path(pin).exists() for pin in entry["programs"].values())
    assert not any(Path(pin).exists() for pin in programs.values())


def test_counting_goes_on_without_a_process(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)
    for number in range(1, 4):
        send(veth.right, COUNT)
        assert cli.json("status")["interfaces"][0]["packets"][0] == number * COUNT


def test_two_attaches_at_once_both_succeed(cli: Cli, veth: Veth) -> None:
    ends = (veth.left, veth.right)
    commands = [("attach", "--netns", end.namespace.name, "eth0") for end in ends]
    assert cli.at_once(*commands) == [0, 0]
    assert len(cli.json("status")["interfaces"]) == 2


def test_auto_falls_back_to_tc_without_native_xdp(
    cli: Cli, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bridge has no native XDP; here it passes for hardware."""
    space = network.add("hardware")
    space.ip("link add eth0 type bridge\nlink set eth0 up\n")
    monkeypatch.setattr(hooks, "_why_tc", lambda *_: "")
    done = attach(["eth0"], bpffs=cli.bpffs, netns_name=space.name)
    assert done.attached[0].hooks == "tc ingress + tc egress"
    assert done.attached[0].why == (
        "driver bridge refused native XDP: Operation not supported (ENOTSUP)"
    )
    (entry,) = cli.json("status")["interfaces"]
    assert (entry["hooks"], entry["mode"]) == (["tc ingress", "tc egress"], None)
    refused = cli("attach", "eth0", "--netns", space.name, "--hook", "xdp", check=False)
    assert "attached otherwise" in refused.stderr
    cli("detach", "--all")
    refused = cli("attach", "eth0", "--netns", space.name, "--hook", "xdp", check=False)
    assert refused.returncode == 1
    assert "cannot attach to eth0 (xdp_entry)" in refused.stderr
    assert "--hook tc" in refused.stderr
    assert empty(cli.bpffs)


def test_flows_inside_of_tunnels(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left, "--tunnels", "inner")
    send(veth.right, 1, TUNNELS["vxlan"][0])
    send(veth.right, 1, TUNNELS["gtp-u"][0])
    flows = cli.json("flows")["flows"]
    assert sorted(flow["tunnel"] for flow in flows) == ["gtp-u", "vxlan 42"]
    assert {flow["src"] for flow in flows} == {CLIENT.address}
    # What is attached later follows; the other way is for all interfaces at once.
    cli.attach(veth.right)
    assert cli.json("status")["settings"]["tunnels"] == "inner"
    cli("detach", "--netns", veth.left.namespace.name, "eth0")
    done = cli(
        "attach", "--netns", veth.right.namespace.name, "--tunnels", "outer", "eth0", check=False
    )
    assert done.returncode == 0, done.stderr
    send(veth.left, 1, TUNNELS["vxlan"][0])
    assert 4789 in {flow["dport"] for flow in cli.json("flows")["flows"]}


SEND_LINEAR = """\
import socket, struct, sys
linear, frame = int(sys.argv[1]), bytes.fromhex(sys.argv[2])
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
    raw.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
    raw.bind(("eth0", 0))
    raw.send(struct.pack("<BBHHHH", 0, 0, linear, 0, 0, 0) + frame)
"""


def send_linear(end: End, frame: bytes, linear: int) -> None:
    """Send a frame of which only the first bytes are in the socket buffer's linear part."""
    end.namespace.run(sys.executable, "-c", SEND_LINEAR, str(linear), frame.hex())


def test_headers_behind_the_linear_part(cli: Cli, veth: Veth) -> None:
    veth.mtu(9000)
    cli.attach(veth.right, "--tunnels", "inner")
    inside = ethernet(ipv4(udp(bytes(5000), CLIENT, SERVER), CLIENT, SERVER, UDP))
    near, far = Endpoint("192.0.2.1", 50000), Endpoint("192.0.2.2", 4789)
    frame = ethernet(ipv4(udp(vxlan(inside, 42), near, far), near, far, UDP))
    for linear in (42, 60, 92):
        send_linear(veth.left, frame, linear)
    options = [options_header(DESTINATION, 144)] * 2
    datagram = udp(bytes(5000), CLIENT6, SERVER6)
    packet = ipv6(datagram, CLIENT6, SERVER6, UDP, extensions=options)
    send_linear(veth.left, ethernet(packet, ETHERTYPE_IPV6), 54)
    found = {flow["src"]: flow for flow in cli.json("flows")["flows"]}
    assert found.keys() == {CLIENT.address, CLIENT6.address}
    assert found[CLIENT.address]["packets"] == [3, 0]
    assert found[CLIENT6.address]["dport"] == SERVER6.port
