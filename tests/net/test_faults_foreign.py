# SPDX-License-Identifier: Apache-2.0
"""Other people's programs on the interface, there before ours or put there after: both go on."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.net import foreign
from tests.net.conftest import Cli, Veth
from tests.net.foreign import TCX_DROP, TCX_NEXT, TCX_PASS, Foreign
from tests.net.frames import send
from tests.net.test_attach import COUNT, empty
from tests.net.test_attach_trouble import refused
from xdpprobe import kernel, syscall

needs_tcx = pytest.mark.skipif(kernel.version() < kernel.TCX_SINCE, reason="no TCX before 6.6")


@pytest.fixture
def stranger(cli: Cli) -> Iterator[Foreign]:
    """A foreign XDP program, pinned as `stranger` beside our directory."""
    with foreign.pinned(foreign.XDP, foreign.XDP_PASS, cli.bpffs / "stranger") as program:
        yield program


def xdp_of(veth: Veth) -> str | None:
    """Name of the XDP program on the left end."""
    said = veth.left.namespace.links()["eth0"].get("xdp")
    return said and said["prog"]["name"]


def test_a_foreign_xdp_program_is_refused_by_name(cli: Cli, veth: Veth, stranger: Foreign) -> None:
    space = veth.left.namespace
    pin = str(cli.bpffs / "stranger")
    space.run("ip", "link", "set", "dev", "eth0", "xdp", "pinned", pin)
    said = refused(cli, "attach", "--netns", space.name, "--hook", "xdp", "eth0")
    assert "eth0 has the XDP program stranger (id " in said
    assert "take it off first, or use --hook tc" in said
    assert empty(cli.bpffs)
    cli.attach(veth.left)  # at tc, beside it
    send(veth.right, COUNT)
    assert cli.json("status")["interfaces"][0]["packets"][0] == COUNT
    assert stranger.packets == COUNT
    cli("detach", "--all")
    assert xdp_of(veth) == "stranger"


@pytest.mark.usefixtures("stranger")
def test_ours_is_not_pushed_out_by_a_foreign_xdp_program(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left, "--hook", "xdp")
    pin = str(cli.bpffs / "stranger")
    for mode in ("xdp", "xdpgeneric"):
        put = ("ip", "-force", "link", "set", "dev", "eth0", mode)
        assert veth.left.namespace.run(*put, "pinned", pin, check=False).returncode != 0
        veth.left.namespace.run(*put, "off", check=False)  # of that mode there may be none
    send(veth.right, COUNT)
    (entry,) = cli.json("status")["interfaces"]
    assert (entry["state"], entry["packets"][0]) == ("up", COUNT)


@needs_tcx
@pytest.mark.parametrize("verdict", [TCX_NEXT, TCX_DROP])
def test_foreign_tcx_programs_before_and_after(cli: Cli, veth: Veth, verdict: int) -> None:
    """Whatever they say of the packet, ours has counted it, and has not taken it from them."""
    with ExitStack() as stack:
        both = [syscall.TCX_INGRESS, syscall.TCX_EGRESS]
        early = [stack.enter_context(foreign.on_tcx(veth.left, k, TCX_NEXT)) for k in both]
        # The one behind says the verdict: at the first one that is no TCX_NEXT the chain ends.
        before = [stack.enter_context(foreign.on_tcx(veth.left, k, verdict)) for k in both]
        cli.attach(veth.left)
        after = [stack.enter_context(foreign.on_tcx(veth.left, k, TCX_NEXT)) for k in both]
        send(veth.right, COUNT)
        for _ in range(COUNT + 2):
            with suppress(OSError):  # a packet that is dropped on its way out
                send(veth.left, 1)
        assert cli.json("status")["interfaces"][0]["packets"] == [COUNT, COUNT + 2]
        seen = [COUNT, COUNT + 2]
        assert [program.packets for program in early + before] == seen * 2
        assert [program.packets for program in after] == (seen if verdict == TCX_NEXT else [0, 0])
        cli("detach", "--all")
        send(veth.right, 1)
        assert before[0].packets == COUNT + 1


@needs_tcx
def test_a_foreign_clsact_filter_beside_tcx(cli: Cli, veth: Veth) -> None:
    space, pin = veth.left.namespace, cli.bpffs / "stranger"

    def filters() -> list[str]:
        shown = json.loads(space.run("tc", "-j", "filter", "show", "dev", "eth0", "ingress").stdout)
        return [entry["options"]["bpf_name"] for entry in shown if "options" in entry]

    with foreign.pinned(foreign.SCHED_CLS, TCX_PASS, pin) as program:
        space.run("tc", "qdisc", "add", "dev", "eth0", "clsact")
        add = ("tc", "filter", "add", "dev", "eth0", "ingress", "pref", "1", "bpf", "direct-action")
        space.run(*add, "object-pinned", str(pin))
        before = filters()
        cli.attach(veth.left)
        send(veth.right, COUNT)
        assert program.packets == COUNT
        assert cli.json("status")["interfaces"][0]["packets"][0] == COUNT
        cli("detach", "--all")
        assert filters() == before != []
