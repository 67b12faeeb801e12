# SPDX-License-Identifier: Apache-2.0
"""The wall clock stepped, and a time namespace: what is shown of ages and states stays the same."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from tests import hellos
from tests.net.conftest import Cli, Veth
from tests.net.frames import send, sender
from tests.packets import SYN, Conversation, Endpoint
from xdpprobe.probe import Probe
from xdpprobe.rates import Meter

DAY = 86400
STEPS = (10 * DAY, -56 * 365 * DAY, -3)  # the second one: to where a clock without battery begins
AHEAD = 100_000  # s, of a time namespace
Truth = dict[int, dict[str, Any]]


def talks() -> tuple[Conversation, Conversation]:
    server = Endpoint("10.9.0.2", 443)
    return tuple(  # type: ignore[return-value]
        Conversation(Endpoint("10.9.0.1", port), server) for port in (41000, 42000)
    )


def traffic(veth: Veth) -> None:
    """A named connection and half a handshake."""
    talk, half = talks()
    hello = hellos.records(hellos.simple_hello(b"www.netflix.com"))
    with sender(veth.left) as cable:
        for frame in (*talk.handshake(), *talk.segments(hello), half.tcp(seq=0, flags=SYN)):
            cable.send(frame)


def run(before: Sequence[str], cli: Cli, *arguments: str) -> str:
    """What a command prints that other words start."""
    argv = [*before, *cli.argv()[3:], *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def by_port(text: str) -> Truth:
    return {flow["sport"]: flow for flow in json.loads(text)["flows"]}


def assert_same(flows: Truth, truth: Truth, step: float) -> None:
    """The flows of `truth`, at times that differ by the step and by nothing else."""
    assert flows.keys() == truth.keys() == {41000, 42000}
    for flow, true in ((flows[port], truth[port]) for port in truth):
        for key in ("first_seen", "last_seen"):
            shown, real = (datetime.fromisoformat(found[key]) for found in (flow, true))
            assert (shown - real).total_seconds() == pytest.approx(step, abs=0.1)
        assert flow["duration"] == pytest.approx(true["duration"], abs=0.05)
        for key in true.keys() - {"first_seen", "last_seen", "duration"}:
            assert flow[key] == true[key]


def test_a_stepped_wall_clock_moves_times_and_nothing_else(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.right, "--hook", "tc")
    traffic(veth)
    truth = by_port(cli("flows", "--json").stdout)
    assert {flow["state"] for flow in truth.values()} == {"established", "new"}
    since = cli.json("status")["since"]
    assert since == pytest.approx(time.time(), abs=60)
    for step in STEPS:
        start = [sys.executable, "-m", "tests.net.stepped", str(step)]
        assert_same(by_port(run(start, cli, "flows", "--json")), truth, step)
        shown = json.loads(run(start, cli, "status", "--json"))["since"]
        assert shown - since == pytest.approx(step, abs=0.2)
    for step in STEPS[:2]:
        text = run([sys.executable, "-m", "tests.net.stepped", str(step)], cli, "status")
        assert re.search(r"\bup +\d+ (s|min) ago\b", text)
        assert re.search(r"\bloaded \d+ (s|min) ago\b", text)
        assert "1 established, 1 new, 0 closed lately; 0 are over" in text


def test_a_step_between_two_readings_leaves_rates_alone(
    cli: Cli, veth: Veth, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.attach(veth.right, "--hook", "tc")
    traffic(veth)
    meter, real = Meter(), time.time_ns
    with Probe.open(cli.bpffs) as probe:
        begin = time.monotonic_ns()
        meter.update(probe.snapshot())
        monkeypatch.setattr(time, "time_ns", lambda: real() - DAY * 10**9)
        data = talks()[0].tcp(b"data", seq=2000)
        send(veth.left, 5, data)
        rates = meter.update(probe.snapshot())
        most = (time.monotonic_ns() - begin) / 1e9
    assert 0 < rates.seconds <= most
    packets, octets = (
        float((rates.entries[row] + rates.entries[row + 1]).sum()) * rates.seconds for row in (0, 2)
    )
    assert (packets, octets) == pytest.approx((5, 5 * len(data)), rel=1e-3)


def test_a_time_namespace_changes_nothing(cli: Cli, veth: Veth) -> None:
    start = ["unshare", "--time", "--fork", "--monotonic", str(AHEAD), "--boottime", str(AHEAD)]
    if subprocess.run([*start, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no time namespaces")
    start += cli.argv()[:3]
    run(start, cli, "attach", "--netns", veth.right.namespace.name, "--hook", "tc", "eth0")
    traffic(veth)
    truth = by_port(cli("flows", "--json").stdout)
    for flow in truth.values():
        seen = datetime.fromisoformat(flow["last_seen"]).timestamp()
        assert seen == pytest.approx(time.time(), abs=60)
    assert_same(by_port(run(start, cli, "flows", "--json")), truth, 0)
    since = cli.json("status")["since"]
    assert since == pytest.approx(time.time(), abs=60)
    inside = json.loads(run(start, cli, "status", "--json"))["since"]
    assert inside == pytest.approx(since, abs=0.2)


UNSHARED = f"""
import ctypes, time
from pathlib import Path
from xdpprobe import clock
if ctypes.CDLL(None).unshare(0x80):  # CLONE_NEWTIME
    raise SystemExit(77)
Path("/proc/self/timens_offsets").write_text("monotonic {AHEAD} 0\\nboottime {AHEAD} 0\\n")
print((time.clock_gettime_ns(time.CLOCK_BOOTTIME) - clock.lasting_ns()) / 1e9)
"""


def test_a_time_namespace_for_children_is_not_the_own_one() -> None:
    """As `unshare --time` without --fork: older kernels run even the command outside of it."""
    done = subprocess.run(
        [sys.executable, "-c", UNSHARED], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode == 77:
        pytest.skip("no time namespaces")
    assert done.stderr == ""
    assert float(done.stdout) == pytest.approx(0, abs=10)
