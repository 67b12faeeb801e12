# SPDX-License-Identifier: Apache-2.0
"""The BPF file system is unmounted under an attached probe, which takes the links with it."""

import subprocess
from pathlib import Path

import pytest

from tests.net.clsact import attach_here, qdiscs, without_tcx
from tests.net.conftest import Cli, Veth
from tests.net.frames import send
from tests.net.test_attach import COUNT, empty
from tests.net.test_attach_trouble import refused
from tests.net.test_follow import wait_until
from tests.net.watched import watched
from xdpprobe.errors import StateError

__all__ = ["without_tcx"]


def mount(bpffs: Path) -> None:
    """As the hint of the message has it."""
    argv = ["mount", "-t", "bpf", "-o", "mode=0700", "bpf", str(bpffs)]
    subprocess.run(argv, check=True, timeout=10)


def unmount(bpffs: Path) -> None:
    subprocess.run(["umount", str(bpffs)], check=True, timeout=10)


def test_links_go_with_the_mount_and_readers_are_told(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left, "--hook", "xdp")
    with watched(cli.argv("top", "--json", "--interval", "0.1")) as reader:
        assert reader.stdout is not None
        assert reader.stderr is not None
        assert reader.stdout.readline()
        unmount(cli.bpffs)
        assert reader.wait(30) == 1
        assert "the probe was detached" in reader.stderr.read()
    assert "no BPF file system is mounted at" in refused(cli, "status")
    mount(cli.bpffs)
    assert "nothing is attached" in cli("status", check=False).stdout
    wait_until(lambda: "xdp" not in veth.left.namespace.links()["eth0"])  # the kernel's time
    cli.attach(veth.left, "--hook", "xdp")
    send(veth.right, COUNT)
    assert cli.json("status")["interfaces"][0]["packets"][0] == COUNT


@pytest.mark.usefixtures("without_tcx")
def test_filters_stay_and_the_next_attach_says_how_to_remove_them(cli: Cli, veth: Veth) -> None:
    attach_here(veth.left, cli.bpffs)
    unmount(cli.bpffs)
    mount(cli.bpffs)
    assert empty(cli.bpffs)
    for direction in ("ingress", "egress"):
        with pytest.raises(StateError) as caught:
            attach_here(veth.left, cli.bpffs)
        command = f"tc filter del dev eth0 {direction} pref 1"
        assert caught.value.hint.endswith(command)
        veth.left.namespace.run(*command.split())
    attach_here(veth.left, cli.bpffs)
    assert "clsact" in qdiscs(veth.left)
