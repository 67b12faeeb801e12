# SPDX-License-Identifier: Apache-2.0
"""Attaching, updating and detaching as users do it, on cables between namespaces."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import messages
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
    Conversation,
    Endpoint,
    ethernet,
    ipv4,
    ipv6,
    options_header,
    udp,
    vxlan,
)
from xdpprobe import hooks, links, public_suffix, syscall
from xdpprobe.attach import attach
from xdpprobe.detach import detach
from xdpprobe.errors import StateError
from xdpprobe.lab.namespaces import Network
from xdpprobe.loader import load_object
from xdpprobe.probe import Probe

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


def test_options_that_disagree_change_nothing(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left, "--flows", "8192")
    before = cli.status()
    for end, options, reason in (
        (veth.right, ("--flows", "4096"), "runs with --flows 8192, not 4096"),
        (veth.right, ("--idle-new", "7"), "runs with --idle-new 30"),
        (veth.left, ("--hook", "xdp"), "attached otherwise (tc ingress + tc egress)"),
        (veth.left, ("--direction", "egress"), "attached otherwise"),
    ):
        done = cli("attach", "--netns", end.namespace.name, *options, "eth0", check=False)
        assert done.returncode == 1
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1
        assert cli.status() == before


def test_times_change_when_every_interface_is_updated(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)
    cli.attach(veth.left, "--idle-new", "7")
    assert cli.json("status")["settings"]["idle_new"] == 7


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


def qdiscs(end: End) -> list[str]:
    """Kinds of the queueing disciplines of an interface."""
    said = end.namespace.run("tc", "-j", "qdisc", "show", "dev", end.interface)
    return [entry["kind"] for entry in json.loads(said.stdout)]


@pytest.fixture
def without_tcx(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that kernels before 6.6 take; clsact works the same on later ones."""
    monkeypatch.setattr(links, "use_clsact", lambda: True)


def attach_here(end: End, bpffs: Path) -> None:
    """Attaches in this process, where `without_tcx` holds."""
    attach([end.interface], bpffs=bpffs, netns_name=end.namespace.name)


@pytest.mark.usefixtures("without_tcx")
def test_clsact_counts_updates_and_goes(cli: Cli, veth: Veth) -> None:
    attach_here(veth.left, cli.bpffs)
    attach_here(veth.left, cli.bpffs)
    send(veth.right, COUNT)
    send(veth.left, COUNT + 2)
    (entry,) = cli.json("status")["interfaces"]
    assert (entry["tc"], entry["state"]) == ("clsact", "up")
    assert entry["packets"] == [COUNT, COUNT + 2]
    assert "clsact" in qdiscs(veth.left)
    detach(["eth0"], bpffs=cli.bpffs, netns_name=veth.left.namespace.name)
    assert "clsact" not in qdiscs(veth.left)
    assert empty(cli.bpffs)


@pytest.mark.usefixtures("without_tcx")
def test_clsact_of_another_probe_is_not_taken_over(cli: Cli, veth: Veth) -> None:
    attach_here(veth.left, cli.bpffs)
    with Network() as other:
        bpffs = other.mount_bpffs()
        with pytest.raises(StateError, match="tc filter of another xdpprobe"):
            attach_here(veth.left, bpffs)
        assert empty(bpffs)
    send(veth.right, COUNT)
    assert cli.json("status")["interfaces"][0]["packets"][0] == COUNT
    detach([], everything=True, bpffs=cli.bpffs)


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


@pytest.fixture
def foreign_filter(cli: Cli) -> Iterator[list[str]]:
    """The words of `tc filter` for somebody else's program."""
    pin = cli.bpffs / "foreign"
    with load_object(hz=250, flows=1024, names=1024) as loaded:
        syscall.pin(loaded.prog_fd("tc_ingress"), pin)
    yield ["pref", "9", "bpf", "direct-action", "object-pinned", str(pin)]
    pin.unlink()


@pytest.mark.usefixtures("without_tcx")
@pytest.mark.parametrize("qdisc_first", [True, False])
def test_clsact_of_others_stays(
    cli: Cli, veth: Veth, foreign_filter: list[str], qdisc_first: bool
) -> None:
    def tc(*words: str) -> str:
        return veth.left.namespace.run("tc", *words).stdout

    if qdisc_first:
        tc("qdisc", "add", "dev", "eth0", "clsact")
    attach_here(veth.left, cli.bpffs)
    tc("filter", "add", "dev", "eth0", "ingress", *foreign_filter)
    assert "pref 1 bpf" in tc("filter", "show", "dev", "eth0", "ingress")
    detach([], everything=True, bpffs=cli.bpffs)
    assert "clsact" in qdiscs(veth.left)
    left = tc("filter", "show", "dev", "eth0", "ingress")
    assert "pref 9 bpf" in left
    assert "pref 1 bpf" not in left
    tc("filter", "del", "dev", "eth0", "ingress", "pref", "9")


def test_attach_leaves_heavy_libraries_alone() -> None:
    code = (
        "import sys, xdpprobe.cli as c; c.build_parser('attach'); import xdpprobe.attach;"
        "print([m for m in ('bcc', 'textual', 'rich', 'pyroute2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not public_suffix.SYSTEM_LIST.exists(), reason="no public suffix list")
def test_an_update_to_cut_names_brings_the_public_suffixes(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)
    with Probe.open(cli.bpffs) as probe:
        before = probe.snapshot().info["rules"]
    cli.attach(veth.left, "--privacy", "cut")
    with Probe.open(cli.bpffs) as probe:
        assert probe.snapshot().info["rules"] > before + 1000


@pytest.fixture
def own_signatures(tmp_path: Path) -> str:
    """A directory with an application that no shipped file has."""
    (tmp_path / "own.toml").write_text(
        '[[app]]\nid = 8000\nname = "own"\ntitle = "Own"\ncategory = "video"\n'
        'domains = ["own.test"]\n'
    )
    return str(tmp_path)


def loaded(cli: Cli) -> tuple[str, int, bool]:
    """Digest and load time of the signatures in force, and whether `own` is among them."""
    status = cli.status()
    with Probe.open(cli.bpffs) as probe:
        known = 8000 in probe.snapshot().labels
    return status["signatures"], status["signatures_loaded"], known


def test_an_update_keeps_the_signatures_in_force(cli: Cli, veth: Veth, own_signatures: str) -> None:
    cli.attach(veth.left)
    shipped = loaded(cli)[0]
    cli("signatures", "load", own_signatures)
    before = loaded(cli)
    assert before[0] != shipped
    assert "updated in place" in cli.attach(veth.left).stdout
    cli.attach(veth.right)
    assert loaded(cli) == before
    cli.attach(veth.left, "--signatures", own_signatures)
    digest, moment, known = loaded(cli)
    assert (digest, known) == (before[0], True)
    assert moment > before[1]


def test_an_update_by_another_version_brings_its_signatures(
    cli: Cli, veth: Veth, own_signatures: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.attach(veth.left)
    shipped = loaded(cli)[0]
    cli("signatures", "load", own_signatures)
    monkeypatch.setattr("xdpprobe.attach.VERSION", "9.9.9")
    attach_here(veth.left, cli.bpffs)
    assert loaded(cli)[0] == shipped


@pytest.mark.skipif(not public_suffix.SYSTEM_LIST.exists(), reason="no public suffix list")
def test_cutting_names_needs_the_signatures_in_force(
    cli: Cli, veth: Veth, own_signatures: str
) -> None:
    cli.attach(veth.left, "--signatures", own_signatures)
    before = cli.status()
    refused = cli(
        "attach", "--netns", veth.left.namespace.name, "--privacy", "cut", "eth0", check=False
    )
    assert refused.returncode == 1
    assert "--signatures DIR" in refused.stderr
    assert cli.status() == before
    cli.attach(veth.left, "--privacy", "cut", "--signatures", own_signatures)
    assert cli.json("status")["settings"]["privacy"] == "cut"


def test_stricter_privacy_forgets_the_names_seen_before(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)
    talk = Conversation(Endpoint("10.9.0.1", 20000), Endpoint("10.9.0.2", 53))
    send(veth.right, 1, talk.udp(messages.dns_query(b"www.youtube.com")))
    assert [flow["host"] for flow in cli.json("flows")["flows"]] == ["www.youtube.com"]
    assert "erased, for --privacy hash" in cli.attach(veth.left, "--privacy", "hash").stdout
    assert "erased" not in cli.attach(veth.left, "--privacy", "hash").stdout
    (flow,) = cli.json("flows")["flows"]
    assert (flow["host"], flow["app"]) == (None, "youtube")
    with Probe.open(cli.bpffs) as probe:
        assert b"youtube" not in probe.tables().array("names")["text"].tobytes()


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
