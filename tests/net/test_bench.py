# SPDX-License-Identifier: Apache-2.0
"""`make bench` sends what it says, notices what does not arrive, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

from tests.net.remains import remains
from xdpprobe.bench.measure import Effort
from xdpprobe.errors import ProbeError, StateError
from xdpprobe.lab import run
from xdpprobe.probe import Probe

TOOLS = Path(__file__).resolve().parents[2] / "tools"
FRAMES = 20_000
EFFORT = Effort(0, 3, 1000, 2000)
DEADLINE = 60.0


@pytest.fixture
def veth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import bench_veth

    return bench_veth


@pytest.mark.parametrize("probe", ["xdp", "tc"])
def test_every_frame_that_is_sent_is_counted(veth: ModuleType, probe: str) -> None:
    cpus = sorted(os.sched_getaffinity(0))[:2]
    with veth.pairs([veth.Variant("a", probe=probe)], len(cpus)) as (pair,):
        assert veth.burst(pair, cpus, FRAMES) > 0
        assert pair.received() == FRAMES * len(cpus)
        with Probe.open(pair.bpffs) as reader:
            packets, octets = reader.port(0)[0]
            flows = int((reader.snapshot().hot["tag"] != 0).sum())
            flows += reader.counters()["REASON_TABLE_BUSY"][0]  # a CPU that was made to wait
    assert (packets, octets) == (FRAMES * len(cpus), FRAMES * len(cpus) * veth.FRAME)
    assert flows == FRAMES * len(cpus)  # each sender has flows of its own, and more than frames


def test_frames_that_do_not_arrive_give_no_figure(veth: ModuleType) -> None:
    with veth.pairs([veth.Variant("a", empty=True)], 1) as (pair,):
        pair.receiver.ip("link set eth0 down\n")
        with pytest.raises(StateError, match=f"a: the receiver saw 0 of {FRAMES} frames"):
            veth.burst(pair, sorted(os.sched_getaffinity(0))[:1], FRAMES)


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import bench_peers

    return bench_peers


def test_new_flows_are_measured_with_peers_and_without(
    peers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[str]()
    found = peers.peers([1000], EFFORT, told.append)
    assert [line for line in told if "once more" in line] == []
    assert [(row["kind"], row["peers"]) for row in found["rows"]] == [
        ("addresses", 1000),
        ("prefixes", 1000),
    ]
    for row in found["rows"]:
        assert row["one"]["packets"] == 3 * peers.NEW
        assert row["import_s"] > 0
        assert row["memory"] > 1000 * 64
    assert len(found["checks"]) == 2

    # Packets that go elsewhere than they are said to give no figure.
    syn = peers.syn
    monkeypatch.setattr(peers, "syn", lambda kind, count, known: syn(kind, count * 2, known))
    with pytest.raises(ProbeError, match="'new flow to a peer': not all were named by METHOD_PEER"):
        peers.peers([1000], EFFORT, told.append)


def test_ctrl_c_leaves_nothing_and_writes_nothing(tmp_path: Path) -> None:
    data = tmp_path / "performance.json"
    argv = [sys.executable, str(TOOLS / "bench.py"), "--only", "goal", "--data", str(data)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as child:
        try:
            _wait_for_traffic(child)
            child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=DEADLINE)
        finally:
            child.kill()
    assert (child.returncode, said.strip()) == (130, "bench: broken off; nothing was written")
    assert remains(child.pid) == []
    assert not data.exists()


def _wait_for_traffic(child: subprocess.Popen[str]) -> None:
    """Until the probe is attached in the child's namespaces, and packets have made flows."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and child.poll() is None:
        for place in run.WORK_ROOT.glob(f"xdplab-{child.pid}-*"):
            with suppress(ProbeError), Probe.open(place / "bpf") as probe:  # not yet attached
                if (probe.tables().array("flow_hot")["tag"] != 0).any():
                    return
        time.sleep(0.05)
    pytest.fail("the benchmark does not begin")
