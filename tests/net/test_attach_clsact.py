# SPDX-License-Identifier: Apache-2.0
"""Attaching by clsact, as on kernels before 6.6, which have no TCX."""

from collections.abc import Iterator

import pytest

from tests.net.clsact import attach_here, qdiscs, without_tcx
from tests.net.conftest import Cli, Veth
from tests.net.frames import send
from tests.net.test_attach import COUNT, empty
from xdpprobe import syscall
from xdpprobe.detach import detach
from xdpprobe.errors import StateError
from xdpprobe.lab.namespaces import Network
from xdpprobe.loader import load_object

__all__ = ["without_tcx"]


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
