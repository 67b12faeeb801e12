# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the guests' own tests: those of tests/net, and two network cards wired together."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import effort, shortcuts
from tests.net.conftest import End, Veth, cli, network, veth
from xdpprobe.lab.namespaces import Network

__all__ = ["cards", "cli", "network", "veth"]
if effort.SHARE < 1:
    shortcuts.take()

_ADDRESS = "02:00:00:00:ca:0{}"  # guest.py gives the cards these


KINDS = os.environ.get("CARDS", "").split(",")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """QEMU's name of a network device of which the guest has two."""
    if not request.param:
        pytest.fail("CARDS is not set: these tests want network cards, two of a kind")
    return str(request.param)


@pytest.fixture
def cards(kind: str, network: Network) -> Iterator[Veth]:
    """The guest's two cards of a kind, each in a namespace of its own; as the fixture `veth`."""
    ends = {}
    first = 2 * KINDS.index(kind)
    for number, name in enumerate(("left", "right")):
        space = network.add(name)
        mac = _ADDRESS.format(first + number)
        card = _card(mac)
        subprocess.run(["ip", "link", "set", card, "netns", space.name], check=True, timeout=10)
        space.ip(f"link set {card} name eth0\n")
        # Only what a test sends shall go there, and all of it arrive.
        space.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=1")
        last = number + 1
        space.ip(f"link set eth0 up arp off promisc on\naddress add 10.0.0.{last}/24 dev eth0\n")
        ends[name] = End(space, "eth0", mac, f"10.0.0.{last}", f"fd00::{last}")
    for end in ends.values():
        end.namespace.wait_for_carrier("eth0")
    yield Veth(network, ends["left"], ends["right"])
    for number, end in enumerate(ends.values(), first):
        end.namespace.ip(
            f"link set eth0 down\nlink set eth0 name card{number}\nlink set card{number} netns 1\n"
        )


def _card(mac: str) -> str:
    for place in Path("/sys/class/net").iterdir():
        if (place / "address").read_text().strip() == mac and (place / "device").exists():
            return place.name
    pytest.fail(f"there is no network card with address {mac}")
