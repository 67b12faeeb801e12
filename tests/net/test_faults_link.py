# SPDX-License-Identifier: Apache-2.0
"""What becomes of an attached interface: it flaps, or moves and loses its filters by that."""

import pytest

from tests.net.clsact import attach_here, without_tcx
from tests.net.conftest import Cli, Veth
from tests.net.frames import send
from tests.net.test_attach import COUNT, empty, interfaces
from xdpprobe.attach import attach
from xdpprobe.detach import detach
from xdpprobe.lab.namespaces import Network

__all__ = ["without_tcx"]
FLAPS = 5


def test_a_link_that_flaps_goes_on_counting(cli: Cli, veth: Veth) -> None:
    """The left end by tc, the right one by XDP; each goes down in turn."""
    for end, hook in ((veth.left, "tc"), (veth.right, "xdp")):
        attach(["eth0"], bpffs=cli.bpffs, netns_name=end.namespace.name, hook=hook)
    for _ in range(FLAPS):
        for end in (veth.left, veth.right):
            end.namespace.ip("link set eth0 down\nlink set eth0 up\n")
            end.namespace.wait_for_carrier("eth0")
        send(veth.left, COUNT)
        send(veth.right, COUNT)
    found = interfaces(cli)
    assert {entry["state"] for entry in found.values()} == {"up"}
    for end in (veth.left, veth.right):
        assert found[end.namespace.name]["packets"] == [FLAPS * COUNT, FLAPS * COUNT]


@pytest.mark.usefixtures("without_tcx")
def test_filters_that_a_move_took_away_are_told_and_put_back(
    cli: Cli, network: Network, veth: Veth
) -> None:
    """The kernel destroys an interface's qdiscs when it changes its namespace."""
    away, here = network.add("away"), veth.left.namespace
    attach_here(veth.left, cli.bpffs)
    send(veth.right, COUNT)
    here.ip(f"link set eth0 netns {away.name}\n")
    entry = interfaces(cli)[here.name]
    assert (entry["state"], entry["packets"][0]) == ("gone", COUNT)
    away.ip("link set eth0 up\n")
    attach(["eth0"], bpffs=cli.bpffs, netns_name=away.name)
    send(veth.right, COUNT)
    (entry,) = interfaces(cli).values()
    assert (entry["netns"], entry["state"]) == (away.name, "up")
    assert entry["packets"][0] >= COUNT
    detach([], everything=True, bpffs=cli.bpffs)
    assert empty(cli.bpffs)
    away.ip(f"link set eth0 netns {here.name}\n")
