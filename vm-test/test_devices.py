# SPDX-License-Identifier: Apache-2.0
"""Logical devices and tunnels: a real connection through each, seen there and on the cable.

All come and go on two probes, of which each has an interface of its own that keeps it: to load one
anew for every test takes a guest longest.
"""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from tests.net.conftest import Cli, End, Veth
from tests.net.downloads import download
from tests.net.frames import send
from tests.packets import UDP, Conversation, Endpoint, ethernet, gtp_u, ipv4, udp
from xdpprobe.bench.messages import classic_hello
from xdpprobe.errors import KernelError
from xdpprobe.lab.namespaces import Network

AMOUNT = 200_003  # bytes of a download


class Kind(NamedTuple):
    """A kind of device: how it is made at one end, and what carries it.

    script: `ip` commands, with the fields of `_fields`. tunnel: whether its packets have outer
    headers of their own on the cable, so that only `--tunnels inner` sees the inside.
    """

    script: str
    tunnel: bool = False


Probes = dict[str, Cli]  # by what they look at in tunnels: "outer" or "inner"
_networks = itertools.count(1)  # 10.7.N.0/24: of each pair of devices, as flows stay in the tables


@pytest.fixture(scope="module")
def probes() -> Iterator[Probes]:
    with ExitStack() as stack:
        made = {}
        for tunnels in ("outer", "inner"):
            network = stack.enter_context(Network())
            space = network.add("keeper")
            space.ip("link add keeper type dummy\nlink set keeper up\n")
            made[tunnels] = cli = Cli(network.mount_bpffs())
            stack.callback(cli, "detach", "--all", check=False)
            cli("attach", "--netns", space.name, "--tunnels", tunnels, "keeper")
        yield made


@pytest.fixture
def cli(probes: Probes) -> Cli:
    """The probe that looks at what comes, and not into tunnels."""
    return probes["outer"]


TUNNEL = "local {here} remote {there} dev eth0"
KINDS = {
    "802.1Q": Kind("link add link eth0 name dev0 type vlan id 7\n"),
    "QinQ": Kind(
        "link add link eth0 name outer0 type vlan proto 802.1ad id 9\n"
        "link set outer0 up\n"
        "link add link outer0 name dev0 type vlan id 7\n"
    ),
    "bonding": Kind(
        "link add dev0 type bond mode active-backup miimon 100\n"
        "link set eth0 down\nlink set eth0 master dev0\nlink set eth0 up\n"
    ),
    "bridge": Kind("link add dev0 type bridge\nlink set eth0 master dev0\n"),
    "macvlan": Kind("link add link eth0 name dev0 type macvlan mode bridge\n"),
    "VXLAN": Kind(
        "link add dev0 type vxlan id 77 local {here} remote {there} dstport 4789 dev eth0\n",
        tunnel=True,
    ),
    "Geneve": Kind("link add dev0 type geneve id 77 remote {there}\n", tunnel=True),
    "GRE": Kind(f"link add dev0 type gre {TUNNEL}\n", tunnel=True),
    "GRE of Ethernet": Kind(f"link add dev0 type gretap {TUNNEL}\n", tunnel=True),
    "IP in IP": Kind(f"link add dev0 type ipip {TUNNEL}\n", tunnel=True),
}


def add(end: End, script: str) -> None:
    """Makes devices; skips where the kernel has none of the kind."""
    try:
        end.namespace.ip(script)
    except KernelError as error:
        if "Unknown device type" in str(error) or "not supported" in str(error):
            pytest.skip("the kernel has no such device")
        raise


def make(end: End, other: End, script: str, network: int) -> End:
    """Makes the device dev0 at an end; returns the end with that as its interface."""
    last = end.v4.rpartition(".")[2]
    v4 = f"10.7.{network}.{last}"
    fields = {"here": end.v4, "there": other.v4}
    if "master dev0" in script:
        end.namespace.ip("address flush dev eth0\n")
    add(end, script.format(**fields))
    end.namespace.ip(f"link set dev0 up\naddress add {v4}/24 dev dev0\n")
    return replace(end, interface="dev0", v4=v4)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind in turn."""
    return KINDS[request.param]


@pytest.fixture
def devices(veth: Veth, kind: Kind) -> Veth:
    """A device of the kind at each end of a cable."""
    for end in (veth.left, veth.right):
        end.namespace.ip("link set eth0 arp on\n")
    number = next(_networks)
    left = make(veth.left, veth.right, kind.script, number)
    right = make(veth.right, veth.left, kind.script, number)
    for end in (left, right):
        end.namespace.wait_for_carrier("dev0")
    return Veth(veth.network, left, right)


def named(cli: Cli, end: End) -> list[dict[str, Any]]:
    """The flows between that end and port 443."""
    wanted = f"port:443 host:{end.v4}"
    found: list[dict[str, Any]] = cli.json("flows", "--filter", wanted)["flows"]
    return found


def attached(cli: Cli, end: End) -> dict[str, Any]:
    """What `status` says of its interface."""
    entries = cli.json("status")["interfaces"]
    (found,) = (entry for entry in entries if entry["netns"] == end.namespace.name)
    return dict(found)


def detach(cli: Cli, end: End) -> None:
    cli("detach", "--netns", end.namespace.name, end.interface)


def test_on_the_device(cli: Cli, devices: Veth) -> None:
    """All its packets count once, connections have their name, and what an operator does with it
    while it is watched - an update, a flap, its removal - does no harm.
    """
    cli.attach(devices.left)
    download(devices.left, devices.right, AMOUNT)
    (flow,) = named(cli, devices.left)
    assert (flow["app"], flow["host"]) == ("youtube", "www.youtube.com")
    # The interface's own count, as a slow guest's TCP may send some of it again.
    arrived = devices.left.counters()["rx"]["bytes"]
    assert AMOUNT < flow["bytes"][1] < 1.2 * arrived
    entry = attached(cli, devices.left)
    assert entry["state"] == "up"
    assert min(entry["packets"]) > 0
    assert "updated in place" in cli.attach(devices.left).stdout
    devices.left.namespace.ip("link set dev0 down\nlink set dev0 up\n")
    devices.left.namespace.wait_for_carrier("dev0")
    download(devices.left, devices.right, AMOUNT)
    assert [flow["app"] for flow in named(cli, devices.left)] == ["youtube"] * 2
    devices.left.namespace.ip("link delete dev0\n")
    assert attached(cli, devices.left)["state"] == "gone"
    detach(cli, devices.left)


def test_on_what_carries_it(probes: Probes, veth: Veth, devices: Veth, kind: Kind) -> None:
    """The cable's packets show the same connection, a tunnel's with `--tunnels inner`."""
    cli = probes["inner" if kind.tunnel else "outer"]
    veth.offloads(False)
    cli.attach(veth.left, "--hook", "tc")
    download(devices.left, devices.right, AMOUNT)
    (flow,) = named(cli, devices.left)
    assert (flow["app"], flow["host"]) == ("youtube", "www.youtube.com")
    assert (flow["src"], flow["dst"]) == (devices.left.v4, devices.right.v4)
    detach(cli, veth.left)


def test_netkit(cli: Cli, veth: Veth) -> None:
    """A pair of netkit devices instead of a cable, as containers have it; it has no native XDP."""
    left, right = veth.left.namespace, veth.right.namespace
    before = set(left.links())
    add(veth.left, "link add dev0 type netkit\n")
    (peer,) = (name.partition("@")[0] for name in set(left.links()) - before - {"dev0"})
    left.ip(f"link set {peer} netns {right.name} name dev0\n")
    ends, number = [], next(_networks)
    for end, last in ((veth.left, 1), (veth.right, 2)):
        address = f"10.7.{number}.{last}"
        end.namespace.ip(f"link set dev0 up\naddress add {address}/24 dev dev0\n")
        ends.append(replace(end, interface="dev0", v4=address))
    left.wait_for_carrier("dev0")
    for end in ends:
        cli.attach(end)
    download(ends[0], ends[1], AMOUNT)
    found = {(flow["app"], flow["host"]) for flow in named(cli, ends[0])}
    assert found == {("youtube", "www.youtube.com")}
    for end in ends:
        detach(cli, end)


def test_labels(cli: Cli, veth: Veth) -> None:
    """A connection whose packets carry MPLS labels both ways, put on and off by the kernel."""
    for end, other in ((veth.left, veth.right), (veth.right, veth.left)):
        space, there = end.namespace, other.v4.rpartition(".")[2]
        here = end.v4.rpartition(".")[2]
        try:
            space.sysctl(net__mpls__platform_labels=1000, net__mpls__conf__eth0__input=1)
        except KernelError:
            pytest.skip("the kernel has no MPLS")
        space.run("ip", "-f", "mpls", "route", "add", f"10{here}", "dev", "lo")
        space.ip(
            f"address add 10.8.0.{here}/32 dev lo\n"
            f"route add 10.8.0.{there}/32 encap mpls 10{there} via {other.v4} src 10.8.0.{here}\n"
        )
    veth.offloads(False)
    cli.attach(veth.left, "--hook", "tc")
    ends = [replace(end, v4=f"10.8.0.{last}") for end, last in ((veth.left, 1), (veth.right, 2))]
    download(ends[0], ends[1], AMOUNT)
    (flow,) = named(cli, ends[0])
    assert (flow["app"], flow["host"]) == ("youtube", "www.youtube.com")
    assert (flow["src"], flow["dst"]) == ("10.8.0.1", "10.8.0.2")
    detach(cli, veth.left)


def test_gtp_u(probes: Probes, veth: Veth) -> None:
    """Debian's cloud kernels have no GTP device: frames as a base station sends them."""
    outer = Endpoint(veth.right.v4, 2152), Endpoint(veth.left.v4, 2152)
    talk = Conversation(Endpoint("10.7.0.2", 40000), Endpoint("10.7.0.1", 443))
    cli = probes["inner"]
    cli.attach(veth.left)
    frames = [*talk.handshake(), *talk.segments(classic_hello("www.youtube.com"))]
    for frame in frames:
        send(veth.right, 1, ethernet(ipv4(udp(gtp_u(frame[14:], 5), *outer), *outer, UDP)))
    (flow,) = named(cli, replace(veth.left, v4="10.7.0.1"))
    assert (flow["app"], flow["host"], flow["tunnel"]) == ("youtube", "www.youtube.com", "gtp-u")
    assert sum(flow["packets"]) == len(frames)
    detach(cli, veth.left)
