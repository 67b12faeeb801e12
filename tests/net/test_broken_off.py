# SPDX-License-Identifier: Apache-2.0
"""Attach and detach killed or interrupted at every step: nothing is lost, nothing half applied."""

import errno
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tests import messages
from tests.net.clsact import qdiscs
from tests.net.conftest import Cli, End, Veth
from tests.net.frames import send
from tests.net.steps import KILLED
from tests.net.test_attach import COUNT, empty
from tests.packets import Conversation, Endpoint
from xdpprobe import public_suffix, syscall
from xdpprobe.attach import attach
from xdpprobe.errors import KernelError
from xdpprobe.probe import Probe

INTERRUPTED = 130
MOST_STEPS = 60


def broken_off(cli: Cli, step: int | str, how: str, tc: str, *command: str) -> int:
    """Runs a command that breaks off before that step, by number or name; its exit code."""
    words = cli.argv(*command)[3:]  # without the interpreter and the module
    done = subprocess.run(
        [sys.executable, "-m", "tests.net.steps", str(step), how, tc, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, KILLED, INTERRUPTED), done.stderr
    assert "Traceback" not in done.stderr
    return done.returncode


def whole_attach(cli: Cli, end: End) -> int:
    """An attach by XDP and clsact that nothing disturbs; its exit code."""
    words = ("attach", "--hook", "xdp", "--netns", end.namespace.name, end.interface)
    return broken_off(cli, 0, "kill", "clsact", *words)


def names_a_flow(cli: Cli, end: End, number: int) -> bool:
    """Sends the query of a client of this number, the first or the next one after it.

    It takes the stages behind the entry program to name it.
    """
    talk = Conversation(Endpoint(f"10.9.1.{number}", 20000), Endpoint("10.9.0.2", 53))
    send(end, 1, talk.udp(messages.dns_query(b"www.youtube.com")))
    with Probe.open(cli.bpffs) as probe:
        snapshot = probe.snapshot()
    named = np.count_nonzero(snapshot.cold["name"][snapshot.hot["tag"] != 0])
    return (named, snapshot.counters["LOSS_TAIL_CALL"][0]) == (number, 0)


def on_interface(end: End) -> tuple[list[str], bool]:
    """Qdiscs, and whether an XDP program is there."""
    return qdiscs(end), "xdp" in end.namespace.links()[end.interface]


@pytest.mark.parametrize(
    ("how", "tc", "hook"),
    [("kill", "clsact", "xdp"), ("interrupt", "tcx", "tc")],
)
def test_first_attach(cli: Cli, veth: Veth, how: str, tc: str, hook: str) -> None:
    clean = on_interface(veth.left)
    command = ("attach", "--hook", hook, "--netns", veth.left.namespace.name, "eth0")
    for step in range(1, MOST_STEPS):
        code = broken_off(cli, step, how, tc, *command)
        if how == "kill":
            cli("detach", "--all")
        elif code:
            assert code == INTERRUPTED
        if code or how == "kill":
            assert on_interface(veth.left) == clean
            assert empty(cli.bpffs)
        if not code:
            break
    assert not code
    assert step > 8


def settled(cli: Cli, end: End) -> dict[str, Any]:
    """What an update that was taken back must not have changed."""
    status = cli.status()
    found = {key: status[key] for key in ("interfaces", "settings", "signatures", "since")}
    # Status tells where programs are pinned; this, which ones are attached.
    found["xdp"] = end.namespace.links()[end.interface]["xdp"]["prog"]["id"]
    shown = end.namespace.run("tc", "-j", "filter", "show", "dev", end.interface, "egress")
    found["egress"] = [entry.get("options") for entry in json.loads(shown.stdout)]
    return found


@pytest.mark.skipif(not public_suffix.SYSTEM_LIST.exists(), reason="no public suffix list")
def test_update_is_taken_back_whole(cli: Cli, veth: Veth) -> None:
    name = veth.left.namespace.name
    assert not whole_attach(cli, veth.left)
    before = settled(cli, veth.left)
    for step in range(1, MOST_STEPS):
        command = ("attach", "--privacy", "cut", "--netns", name, "eth0")
        if not broken_off(cli, step, "interrupt", "clsact", *command):
            break
        assert settled(cli, veth.left) == before
    assert step > 6
    assert cli.json("status")["settings"]["privacy"] == "cut"
    send(veth.right, COUNT)
    assert cli.json("status")["interfaces"][0]["packets"][0] == COUNT


def test_signatures_that_the_kernel_refuses_take_the_update_back(
    cli: Cli, veth: Veth, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not whole_attach(cli, veth.left)
    before = settled(cli, veth.left)

    def refuse(*_: Any) -> None:
        raise KernelError("cannot store the name rules", errno.ENOMEM)

    monkeypatch.setattr(syscall, "update_many", refuse)
    with pytest.raises(KernelError):
        attach(
            ["eth0"],
            bpffs=cli.bpffs,
            netns_name=veth.left.namespace.name,
            options={"privacy": "cut", "idle_new": 7},
        )
    assert settled(cli, veth.left) == before


def test_a_killed_change_of_privacy_leaves_no_name(cli: Cli, veth: Veth) -> None:
    """Wherever it ends, the next attach with that privacy does what was left to do."""
    space = veth.left.namespace.name
    talk = Conversation(Endpoint("10.9.0.1", 20000), Endpoint("10.9.0.2", 53))
    plain = ("attach", "--privacy", "none", "--netns", space, "eth0")
    hidden = ("attach", "--privacy", "hash", "--netns", space, "eth0")
    cli(*plain)
    for step in range(1, MOST_STEPS):
        cli(*plain)
        send(veth.right, 1, talk.udp(messages.dns_query(b"www.youtube.com")))
        code = broken_off(cli, step, "kill", "tcx", *hidden)
        cli(*hidden)
        with Probe.open(cli.bpffs) as probe:
            assert b"youtube" not in probe.tables().array("names")["text"].tobytes()
        cli("detach", "--all")
        cli(*plain)
        if not code:
            break
    assert step > 6


def test_after_a_killed_update_the_next_one_works(cli: Cli, veth: Veth) -> None:
    clean = on_interface(veth.left)
    command = ("attach", "--hook", "xdp", "--netns", veth.left.namespace.name, "eth0")
    assert not whole_attach(cli, veth.left)
    for step in range(1, MOST_STEPS):
        before = cli.json("status")["interfaces"][0]["packets"][0]
        code = broken_off(cli, step, "kill", "clsact", *command)
        # Old or new, the code on the interface goes on, its stages and pins with it.
        send(veth.right, COUNT)
        (entry,) = cli.json("status")["interfaces"]
        assert (entry["state"], entry["packets"][0]) == ("up", before + COUNT)
        assert names_a_flow(cli, veth.right, step)
        if not code:
            break
    assert step > 6
    cli("detach", "--all")
    assert on_interface(veth.left) == clean
    assert empty(cli.bpffs)


def test_a_second_attach_that_is_killed_leaves_the_first(cli: Cli, veth: Veth) -> None:
    """Both have the same stages."""
    cli.attach(veth.left, "--hook", "tc")
    command = ("attach", "--hook", "tc", "--netns", veth.right.namespace.name, "eth0")
    for step in range(1, MOST_STEPS):
        code = broken_off(cli, step, "kill", "tcx", *command)
        assert names_a_flow(cli, veth.right, step)
        if not code:
            break
    assert step > 6


def test_a_killed_detach_can_be_repeated(cli: Cli, veth: Veth) -> None:
    clean = on_interface(veth.left)
    name = veth.left.namespace.name
    for step in range(1, MOST_STEPS):
        assert not whole_attach(cli, veth.left)
        code = broken_off(cli, step, "kill", "clsact", "detach", "--netns", name, "eth0")
        cli("detach", "--all")
        assert on_interface(veth.left) == clean
        assert empty(cli.bpffs)
        if not code:
            break
    assert step > 3
