# SPDX-License-Identifier: Apache-2.0
"""The stages behind the entry programs: loaded once for all interfaces that take the same."""

import os
from pathlib import Path

from tests.net.conftest import Cli, Veth
from tests.net.downloads import download
from xdpprobe import syscall
from xdpprobe.probe import Probe


def numbers(cli: Cli, name: str) -> list[int]:
    """Id of the PROG_ARRAY that each interface's code calls into, by slot."""
    with Probe.open(cli.bpffs) as probe:
        return [identifier(pin) for pin in probe.instance.stage_pins()[name]]


def identifier(pin: Path) -> int:
    fd = syscall.open_pin(pin)
    try:
        return syscall.map_info(fd).id
    finally:
        os.close(fd)


def names(cli: Cli) -> list[str]:
    return [flow["host"] for flow in cli.json("flows", "--filter", "port:443")["flows"]]


def test_a_second_interface_takes_the_stages_of_the_first(cli: Cli, veth: Veth) -> None:
    """And keeps them when the first one is detached."""
    cli.attach(veth.left, "--hook", "tc")
    memory = cli.status()["memory_maps"]["tc_stages"]
    cli.attach(veth.right, "--hook", "tc")
    first, second = numbers(cli, "tc_stages")
    assert first == second
    assert cli.status()["memory_maps"]["tc_stages"] == memory
    cli("detach", "--netns", veth.left.namespace.name, veth.left.interface)
    assert numbers(cli, "tc_stages") == [second]
    download(veth.left, veth.right, 1000)
    assert names(cli) == ["www.youtube.com"]


def test_an_update_takes_the_stages_that_are_there(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left, "--hook", "tc")
    before = numbers(cli, "tc_stages")
    assert "updated in place" in cli.attach(veth.left).stdout
    assert numbers(cli, "tc_stages") == before
    download(veth.left, veth.right, 1000)
    assert names(cli) == ["www.youtube.com"]


def test_other_options_are_other_stages(cli: Cli, veth: Veth) -> None:
    """What is written into the code differs; back again, it is loaded again."""
    cli.attach(veth.left, "--hook", "tc")
    found = [numbers(cli, "tc_stages")]
    for privacy in ("hash", "none"):
        cli.attach(veth.left, "--privacy", privacy)
        found.append(numbers(cli, "tc_stages"))
    assert len({number for one in found for number in one}) == 3


def test_another_hook_has_stages_of_its_own(cli: Cli, veth: Veth) -> None:
    """Of XDP and tc egress the latter's are there already."""
    cli.attach(veth.left, "--hook", "tc")
    cli.attach(veth.right, "--hook", "xdp", "--mode", "native")
    first, second = numbers(cli, "tc_stages")
    assert first == second
    assert len(numbers(cli, "xdp_stages")) == 1
    cli("detach", "--netns", veth.left.namespace.name, veth.left.interface)
    download(veth.left, veth.right, 1000)
    download(veth.right, veth.left, 1000)
    assert names(cli) == ["www.youtube.com"] * 2
    assert cli.status()["counters"]["loss_tail_call"]["packets"] == 0


def test_stages_of_which_one_is_missing_are_loaded_anew(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left, "--hook", "tc")
    before = numbers(cli, "tc_stages")
    with Probe.open(cli.bpffs) as probe:
        (pin,) = probe.instance.stage_pins()["tc_stages"]
    fd = syscall.open_pin(pin)
    try:
        assert syscall.delete(fd, (0).to_bytes(4, "little"))
    finally:
        os.close(fd)
    cli.attach(veth.left)
    assert numbers(cli, "tc_stages") != before
    download(veth.left, veth.right, 1000)
    assert names(cli) == ["www.youtube.com"]
