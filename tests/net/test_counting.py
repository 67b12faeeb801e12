# SPDX-License-Identifier: Apache-2.0
"""Counters against the interface's own, with real connections over a cable."""

import fcntl
import os
import re
import struct

import pytest

from tests import hellos
from tests.effort import some
from tests.net.conftest import Cli, End, Veth
from tests.net.downloads import AMOUNT, connected, download
from tests.packets import Conversation, Endpoint
from xdpprobe import netns, public_suffix
from xdpprobe.probe import Probe
from xdpprobe.snapshot import Snapshot

ETHERNET_HEADER = 14
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000  # linux/if_tun.h
SERVER = Endpoint("10.9.0.3", 443)
HELLO = hellos.records(hellos.simple_hello(b"www.netflix.com"))


def counted(snapshot: Snapshot) -> tuple[int, int]:
    """Packets and bytes in all flows, live and retired, and in no flow."""
    reasons = [value for name, value in snapshot.counters.items() if name.startswith("REASON_")]
    return tuple(  # type: ignore[return-value]
        int(snapshot.hot[field].sum() + snapshot.retired[field].sum())
        + sum(reason[at] for reason in reasons)
        for at, field in enumerate(("packets", "bytes"))
    )


def carried(end: End) -> tuple[int, int]:
    counters = end.counters()
    return tuple(  # type: ignore[return-value]
        counters["rx"][unit] + counters["tx"][unit] for unit in ("packets", "bytes")
    )


def test_all_counters_together_are_the_interfaces(cli: Cli, veth: Veth) -> None:
    veth.offloads(False)
    cli.attach(veth.left, "--hook", "tc")
    before = carried(veth.left)
    download(veth.left, veth.right)
    with Probe.open(cli.bpffs) as probe:
        snapshot = probe.snapshot()
    after = carried(veth.left)
    assert counted(snapshot) == (after[0] - before[0], after[1] - before[1])
    assert after[1] - before[1] > AMOUNT


def at_rest(cli: Cli, end: End) -> tuple[Snapshot, dict[str, dict[str, int]]]:
    """A snapshot between two equal readings of an interface's counters, and those."""
    with Probe.open(cli.bpffs) as probe:
        for _ in range(1000):  # the last ACK may still be on its way
            before, snapshot = end.counters(), probe.snapshot()
            if end.counters() == before:
                return snapshot, before
    pytest.fail(f"traffic on {end.interface} does not end")


def test_native_xdp_counts_every_frame_that_the_peer_sent(cli: Cli, veth: Veth) -> None:
    """With the other end in native XDP, a veth counts sent bytes without the link header.

    That is since the receiving NAPI counts for both ends, after eth_type_trans() took the header
    off the frame (veth_xdp_rcv() in drivers/net/veth.c); what the peer receives is counted whole.
    """
    veth.offloads(False)
    cli.attach(veth.left, "--hook", "xdp", "--mode", "native")
    (entry,) = cli.json("status")["interfaces"]
    assert (entry["hooks"], entry["mode"]) == (["xdp ingress", "tc egress"], "native")
    download(veth.left, veth.right)
    download(veth.right, veth.left, AMOUNT // 7)
    snapshot, counters = at_rest(cli, veth.right)
    sent, received = counters["tx"], counters["rx"]
    entered, left = snapshot.ports["eth0"]
    assert entered == (sent["packets"], sent["bytes"] + ETHERNET_HEADER * sent["packets"])
    assert left == (received["packets"], received["bytes"])
    assert counted(snapshot) == (entered[0] + left[0], entered[1] + left[1])
    assert entered[1] > AMOUNT
    flows = cli.json("flows", "--filter", "port:443")["flows"]
    assert [flow["app"] for flow in flows] == ["youtube", "youtube"]


def test_with_offloads_counts_are_what_the_wire_would_carry(cli: Cli, veth: Veth) -> None:
    """Aggregates count as their segments: payload and headers add up as without offloads."""
    veth.offloads(True)
    cli.attach(veth.left, "--hook", "tc")
    download(veth.left, veth.right)
    with Probe.open(cli.bpffs) as probe:
        snapshot = probe.snapshot()
    assert snapshot.counters["INFO_GSO"][0] > 0
    (flow,) = cli.json("flows", "--filter", "port:443")["flows"]
    packets, octets = flow["packets"][1], flow["bytes"][1]
    # MTU 1500: 1448 bytes of payload a full segment (20 IPv4, 20 TCP, 12 timestamps), 14 Ethernet.
    assert octets - 66 * packets == pytest.approx(AMOUNT, abs=64)  # SYN-ACK has 8 bytes more
    assert AMOUNT / 1448 <= packets < AMOUNT / 1448 * 1.1


def test_a_packet_that_crosses_two_interfaces_counts_once(cli: Cli, veth: Veth) -> None:
    veth.offloads(False)
    cli.attach(veth.left, "--hook", "tc")
    cli.attach(veth.right, "--hook", "tc")
    before = carried(veth.left)
    download(veth.left, veth.right)
    with Probe.open(cli.bpffs) as probe:
        snapshot = probe.snapshot()
    after = carried(veth.left)
    assert counted(snapshot) == (after[0] - before[0], after[1] - before[1])
    assert snapshot.counters["INFO_DUPLICATE"] == counted(snapshot)


@pytest.mark.parametrize("hook", ["tc", "xdp"])
def test_without_any_process_new_connections_get_names(cli: Cli, veth: Veth, hook: str) -> None:
    """`attach` has ended before the connection begins, and no other process is there."""
    cli.attach(veth.left, "--hook", hook)
    download(veth.left, veth.right, 1000)
    (flow,) = cli.json("flows", "--filter", "port:443")["flows"]
    assert (flow["app"], flow["host"], flow["method"]) == ("youtube", "www.youtube.com", "sni")


HIDDEN = [
    ("cut", b"www.youtube.com", "youtube.com"),
    ("cut", b"a.b.example.co.uk", "example.co.uk"),
    ("cut", b"a.b.c.anything.ck", "c.anything.ck"),
    ("cut", b"www.ck", "www.ck"),
    ("cut", b"localhost", "localhost"),
    ("cut", b"a.b.unheard-of", "b.unheard-of"),
    ("hash", b"www.youtube.com", None),
]


@pytest.mark.skipif(not public_suffix.SYSTEM_LIST.exists(), reason="no public suffix list")
@pytest.mark.parametrize(("privacy", "name", "shown"), some(HIDDEN))
def test_names_leave_the_kernel_cut_or_hashed(
    cli: Cli, veth: Veth, privacy: str, name: bytes, shown: str | None
) -> None:
    cli.attach(veth.left, "--hook", "tc", "--privacy", privacy)
    with connected(veth.left, veth.right) as (near, far):
        near.sendall(hellos.records(hellos.simple_hello(name)))
        far.recv(4096)
    (flow,) = cli.json("flows", "--filter", "port:443")["flows"]
    if shown is None:
        assert re.fullmatch("[0-9a-f]{16}", flow["host"])
    else:
        assert flow["host"] == shown
    assert flow["app"] == ("youtube" if b"youtube" in name else None)


def test_a_device_without_link_header(cli: Cli, veth: Veth) -> None:
    """A packet that arrives on a tun device begins with its IP header."""
    space, talk = veth.left.namespace, Conversation(Endpoint("10.9.0.2", 5000), SERVER)
    with netns.entered(netns.named(space.name)):
        device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"tun7", IFF_TUN | IFF_NO_PI))
    try:
        space.ip("link set tun7 up\n")
        cli("attach", "--netns", space.name, "tun7")
        packets = [frame[14:] for frame in [*talk.handshake(), *talk.segments(HELLO)]]
        for packet in packets:
            os.write(device, packet)
        (flow,) = cli.json("flows", "--filter", "host:10.9.0.2")["flows"]
    finally:
        os.close(device)
    assert (flow["app"], flow["host"]) == ("netflix", "www.netflix.com")
    assert sum(flow["packets"]) == len(packets)
    assert sum(flow["bytes"]) == sum(map(len, packets))
