# SPDX-License-Identifier: Apache-2.0
"""An attach killed while it replaces tables whose interfaces are gone: one of the two probes stays.

The older tables are put aside for the time. On kernels before 6.6 no pin holds the filters.
"""

from pathlib import Path

import pytest

from tests.net.clsact import qdiscs, without_tcx
from tests.net.conftest import Cli, Veth
from tests.net.frames import send
from tests.net.steps import KILLED
from tests.net.test_attach import COUNT, empty
from tests.net.test_broken_off import broken_off
from xdpprobe.attach import attach
from xdpprobe.detach import detach
from xdpprobe.probe import Probe

__all__ = ["without_tcx"]
OLD, NEW = 4096, 8192


def flows(bpffs: Path) -> int:
    """Size of the table that readers find."""
    with Probe.open(bpffs) as probe:
        return probe.instance.settings().flows


@pytest.fixture
def killed(request: pytest.FixtureRequest, cli: Cli, veth: Veth) -> list[str]:
    """Tables of an interface that is gone, and an attach to another that was killed at a step.

    Returns the qdiscs before. The step and the hook are the test's parameter.
    """
    step, hook = request.param
    space = veth.left.namespace
    space.ip("link add gone type veth peer name other\nlink set gone up\n")
    attach(["gone"], bpffs=cli.bpffs, netns_name=space.name, options={"flows": OLD})
    space.ip("link delete gone\n")
    before = qdiscs(veth.left)
    command = ("attach", "--hook", hook, "--flows", str(NEW), "--netns", space.name, "eth0")
    assert broken_off(cli, step, "kill", "clsact", *command) == KILLED
    assert any(path.name.endswith("_replaced") for path in (cli.bpffs / "xdpprobe").iterdir())
    return before


@pytest.mark.usefixtures("without_tcx")
@pytest.mark.parametrize("killed", [("put", "xdp"), ("clear_names", "tc")], indirect=True)
def test_a_new_probe_that_counts_already_goes_on(cli: Cli, veth: Veth, killed: list[str]) -> None:
    send(veth.right, COUNT)
    done = attach(["eth0"], bpffs=cli.bpffs, netns_name=veth.left.namespace.name)
    assert done.attached[0].updated
    assert flows(cli.bpffs) == NEW
    send(veth.right, COUNT)
    send(veth.left, COUNT)
    with Probe.open(cli.bpffs) as probe:
        ((ingress, _), (egress, _)) = probe.port(probe.instance.slots()[0].number)
    assert (ingress, egress) == (2 * COUNT, COUNT)
    detach([], everything=True, bpffs=cli.bpffs)
    assert (qdiscs(veth.left), empty(cli.bpffs)) == (killed, True)


@pytest.mark.usefixtures("without_tcx")
@pytest.mark.parametrize("killed", [("pin", "tc"), ("put", "tc")], indirect=True)
def test_a_new_probe_that_does_not_count_gives_way(cli: Cli, veth: Veth, killed: list[str]) -> None:
    """Its qdisc goes too; the older totals are there again."""
    attach(["eth0"], bpffs=cli.bpffs, netns_name=veth.right.namespace.name)
    assert flows(cli.bpffs) == OLD
    assert qdiscs(veth.left) == killed
    detach([], everything=True, bpffs=cli.bpffs)
    assert empty(cli.bpffs)


@pytest.mark.usefixtures("without_tcx")
@pytest.mark.parametrize("killed", [("clear_names", "tc")], indirect=True)
def test_detach_after_it_leaves_nothing(cli: Cli, veth: Veth, killed: list[str]) -> None:
    done = detach([], everything=True, bpffs=cli.bpffs)
    assert (done.interfaces, done.tables) == (["eth0"], True)
    assert (qdiscs(veth.left), empty(cli.bpffs)) == (killed, True)
