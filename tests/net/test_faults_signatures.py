# SPDX-License-Identifier: Apache-2.0
"""A load of signatures that is broken off anywhere: the old ones or the new ones, and status knows.

Nothing takes a load back, so an exception at a step leaves what a kill at that step would.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import messages
from tests.net.conftest import Cli, Veth
from tests.net.frames import send
from tests.net.test_attach_options import own_signatures
from tests.packets import Conversation, Endpoint
from xdpprobe import catalogue as catalogues
from xdpprobe import syscall
from xdpprobe.attach import attach
from xdpprobe.flows import decode, used
from xdpprobe.loader import load_tables
from xdpprobe.probe import Probe
from xdpprobe.status import report
from xdpprobe.tables import Tables

__all__ = ["own_signatures"]
MOST_STEPS = 40


class Killed(BaseException):
    """Stands for the end of the process."""


@contextmanager
def killed_before(step: int) -> Iterator[list[int]]:
    """Ends what runs inside before its step of that number; [steps seen]."""
    seen = [0]

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **words: Any) -> Any:
            seen[0] += 1
            if seen[0] == step:
                raise Killed
            return function(*arguments, **words)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, names in (
            (syscall, ("create_map", "update_many", "update", "delete")),
            (Tables, ("_write_labels",)),
        ):
            for name in names:
                patch.setattr(owner, name, counted(getattr(owner, name)))
        yield seen


def app_of(probe: Probe, veth: Veth, port: int) -> str | None:
    """What a new flow to own.test is named by the rules in force."""
    talk = Conversation(Endpoint("10.9.0.1", port), Endpoint("10.9.0.2", 53))
    send(veth.right, 1, talk.udp(messages.dns_query(b"www.own.test")))
    snapshot = probe.snapshot()
    (app,) = (f.app for f in decode(snapshot, used(snapshot)) if port in (f.sport, f.dport))
    return app


def test_a_load_that_is_killed_at_any_step(cli: Cli, veth: Veth, own_signatures: str) -> None:
    end: dict[str, Any] = {"bpffs": cli.bpffs, "netns_name": veth.left.namespace.name}
    attach(["eth0"], **end, options={"flows": 4096, "names": 1024})
    shipped, own = catalogues.load(), catalogues.load([Path(own_signatures)])
    broken_off = 0
    with Probe.open(cli.bpffs) as probe:
        for step in range(1, MOST_STEPS):
            load_tables(probe.instance, shipped)
            try:
                with killed_before(step):
                    load_tables(probe.instance, own)
                killed = False
            except Killed:
                killed = True
            app, status = app_of(probe, veth, 5000 + step), report(cli.bpffs)
            if status["signatures_loaded"]:
                said = {shipped.digest.hex(): None, own.digest.hex(): "own"}
                assert app == said[status["signatures"]]
            else:
                broken_off += 1
                assert "broken off: repeat it" in cli("status").stdout
                # Loads its own, which a plain update leaves alone.
                assert "signatures: the last load was broken off" in cli.attach(veth.left).stdout
                assert not attach(["eth0"], **end).replaced
                assert report(cli.bpffs)["signatures_loaded"]
                assert app_of(probe, veth, 6000 + step) is None
            if not killed:
                break
    assert app == "own"
    assert step > 6
    assert broken_off == 1
