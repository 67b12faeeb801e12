# SPDX-License-Identifier: Apache-2.0
"""Capabilities: with exactly those needed all works, and each that lacks is named."""

import json
import sys
from collections.abc import Iterator

import pytest

from tests.net.clsact import qdiscs, without_tcx
from tests.net.conftest import Cli, Veth
from tests.net.frames import send
from tests.net.test_attach import COUNT, empty
from tests.net.users import NEEDED, User, ordinary
from xdpprobe.attach import attach
from xdpprobe.lab.namespaces import Network

__all__ = ["without_tcx"]


@pytest.fixture
def user(network: Network, veth: Veth) -> Iterator[User]:
    """An ordinary user in the left namespace; what is attached is detached by root at the end."""
    user = ordinary(network, veth.left.namespace)
    yield user
    user.run("detach", "--all")


def test_the_needed_capabilities_suffice_for_an_ordinary_user(user: User, veth: Veth) -> None:
    def done(*arguments: str) -> str:
        result = user.run(*arguments)
        assert (result.returncode, result.stderr) == (0, ""), arguments
        return result.stdout

    assert "xdp ingress (native) + tc egress" in done(
        "attach", "--hook", "xdp", "--flows", "4096", "eth0"
    )
    send(veth.right, COUNT)
    assert "updated in place" in done("attach", "eth0")
    send(veth.right, COUNT)
    (entry,) = json.loads(done("status", "--json"))["interfaces"]
    assert (entry["state"], entry["packets"][0]) == ("up", 2 * COUNT)
    assert "flows" in json.loads(done("flows", "--json"))
    assert json.loads(done("top", "--json", "--count", "1", "--interval", "0.1"))["trouble"] == {}
    assert "eth0: detached" in done("detach", "eth0")
    assert empty(user.cli.bpffs)


def test_each_capability_that_lacks_is_named(user: User) -> None:
    for lacking in NEEDED:
        others = tuple(name for name in NEEDED if name != lacking)
        said = user.refused("attach", "eth0", capabilities=others)
        assert f"this process lacks CAP_{lacking.upper()}; run it as root, or with " in said
        assert empty(user.cli.bpffs)


def test_reading_takes_the_pins_and_one_capability_for_states(user: User) -> None:
    """What needs more says which; who may open the pins may also take them away."""
    assert user.run("attach", "--flows", "4096", "eth0").returncode == 0
    assert user.run("flows", "--json", capabilities=()).returncode == 0
    assert user.run("status", capabilities=("net_admin",)).returncode == 0
    for arguments in (("status",), ("signatures", "load")):
        said = user.refused(*arguments, capabilities=("bpf", "perfmon"))
        assert "this process lacks CAP_NET_ADMIN" in said
    assert user.run("detach", "eth0", capabilities=()).returncode == 0
    assert empty(user.cli.bpffs)


@pytest.mark.usefixtures("without_tcx")
def test_a_filter_that_may_not_be_removed_names_the_capability(cli: Cli, veth: Veth) -> None:
    """It is the interface's, not a pin's: nothing is taken away without CAP_NET_ADMIN."""
    space = veth.left.namespace
    attach(["eth0"], bpffs=cli.bpffs, netns_name=space.name)
    bare = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", sys.executable]
    words = cli.argv("detach", "eth0")[3:]
    done = space.run(*bare, "-m", "tests.net.steps", "0", "kill", "clsact", *words, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "xdpprobe: cannot remove a tc filter: operation not permitted;"
        " this process lacks CAP_NET_ADMIN; run it as root\n"
    )
    send(veth.right, COUNT)
    assert cli.json("status")["interfaces"][0]["packets"][0] == COUNT
    assert "clsact" in qdiscs(veth.left)
