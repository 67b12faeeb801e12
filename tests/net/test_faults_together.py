# SPDX-License-Identifier: Apache-2.0
"""Several attaches and detaches at once: they take turns, and each finds what the other left."""

import subprocess

import pytest

from tests.net.conftest import Cli, Veth
from tests.net.frames import send
from tests.net.test_attach import COUNT, empty, interfaces
from xdpprobe import pins
from xdpprobe.abi import load_abi
from xdpprobe.attach import attach
from xdpprobe.detach import detach
from xdpprobe.errors import StateError
from xdpprobe.lab.namespaces import Network
from xdpprobe.pins import Pins


def together(cli: Cli, *commands: tuple[str, ...]) -> list[subprocess.CompletedProcess[str]]:
    """Runs all commands at once."""
    children = [
        subprocess.Popen(
            cli.argv(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    ends = []
    for child in children:
        said, wrong = child.communicate(timeout=60)
        ends.append(subprocess.CompletedProcess(child.args, child.returncode, said, wrong))
    return ends


def test_one_interface_is_attached_once(cli: Cli, veth: Veth) -> None:
    command = ("attach", "eth0", "--netns", veth.left.namespace.name)
    ends = together(cli, command, command)
    assert [end.returncode for end in ends] == [0, 0]
    assert sorted("updated in place" in end.stdout for end in ends) == [False, True]
    send(veth.right, COUNT)
    (entry,) = cli.json("status")["interfaces"]
    assert (entry["state"], entry["packets"][0]) == ("up", COUNT)


def test_attach_and_update_and_detach(cli: Cli, veth: Veth) -> None:
    """The right end comes and the left goes, in whichever order, while the left is updated too."""
    left, right = veth.left.namespace.name, veth.right.namespace.name
    attach(["eth0"], bpffs=cli.bpffs, netns_name=left)
    ends = together(
        cli,
        ("attach", "eth0", "--netns", right),
        ("attach", "eth0", "--netns", left),
        ("detach", "eth0", "--netns", left),
    )
    assert [(end.returncode, end.stderr) for end in ends] == [(0, "")] * 3
    # The left end is there if its update came last: it was an attach then.
    again = "updated in place" not in ends[1].stdout
    found = interfaces(cli)
    assert found.keys() == ({left, right} if again else {right})
    send(veth.left, COUNT)
    assert interfaces(cli)[right]["packets"][0] == COUNT
    assert {entry["state"] for entry in found.values()} == {"up"}


def test_attach_and_detach_of_everything(cli: Cli, veth: Veth) -> None:
    name = veth.left.namespace.name
    attach(["eth0"], bpffs=cli.bpffs, netns_name=veth.right.namespace.name)
    ends = together(cli, ("attach", "eth0", "--netns", name), ("detach", "--all"))
    assert [(end.returncode, end.stderr) for end in ends] == [(0, "")] * 2
    if ends[1].stdout.count("eth0: detached") == 2:
        assert empty(cli.bpffs)
    else:  # the attach came last, and made tables of its own
        (entry,) = cli.json("status")["interfaces"]
        assert (entry["netns"], entry["state"]) == (name, "up")


def test_who_waits_too_long_for_the_others_is_told(
    cli: Cli, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = network.add("space")
    space.ip("link add eth0 type veth peer name eth1\n")
    monkeypatch.setattr(pins, "_LOCK_PATIENCE_S", 0.0)

    with Pins(cli.bpffs, load_abi().hash).lock():
        with pytest.raises(StateError, match="another xdpprobe is attaching or detaching; try"):
            attach(["eth0"], bpffs=cli.bpffs, netns_name=space.name)
        with pytest.raises(StateError, match="another xdpprobe is attaching or detaching; try"):
            detach([], everything=True, bpffs=cli.bpffs)
    assert attach(["eth0"], bpffs=cli.bpffs, netns_name=space.name).attached
