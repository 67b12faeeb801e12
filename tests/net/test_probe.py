# SPDX-License-Identifier: Apache-2.0
"""What a reader of an attached probe gets, and what it costs."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.net.conftest import Cli, Veth
from tests.net.frames import FRAME, send
from tests.packets import RST, SYN, Conversation, Endpoint
from xdpprobe import catalogue as catalogues
from xdpprobe.commands import top
from xdpprobe.errors import StateError
from xdpprobe.loader import load_tables
from xdpprobe.probe import Probe
from xdpprobe.views.picture import Picture
from xdpprobe.views.top_app import TopApp
from xdpprobe.views.top_screen import State

COUNT = 23


@pytest.fixture
def probe(cli: Cli, veth: Veth) -> Iterator[Probe]:
    """A probe with the default tables on both ends of the cable."""
    cli.attach(veth.left)
    cli.attach(veth.right)
    with Probe.open(cli.bpffs) as probe:
        yield probe


def test_interfaces_of_one_name_are_told_apart(probe: Probe, veth: Veth) -> None:
    send(veth.left, COUNT)
    snapshot = probe.snapshot()
    left, right = (f"eth0@{end.namespace.name}" for end in (veth.left, veth.right))
    assert snapshot.slots == {0: left, 1: right}
    bytes_sent = COUNT * len(FRAME)
    assert snapshot.ports == {
        left: ((0, 0), (COUNT, bytes_sent)),
        right: ((COUNT, bytes_sent), (0, 0)),
    }


def test_snapshot_has_everything(probe: Probe) -> None:
    snapshot = probe.snapshot()
    assert len(snapshot.hot) == len(snapshot.cold) == snapshot.info["flows"] == 262144
    assert len(snapshot.names) == snapshot.info["names"]
    assert snapshot.labels == catalogues.load().labels
    assert set(snapshot.counters) == set(snapshot.enums["counter"]) - {"COUNTER_MAX"}
    now = snapshot.clock
    assert now.age_seconds(np.array([now.jiffies - 5 * now.hz], "u4"))[0] == 5.0


def test_stripes_of_retired_are_summed(probe: Probe) -> None:
    table = probe.tables().array("retired", writable=True)
    labels = probe.abi.maps["retired"].max_entries
    stripes = len(table) // labels
    for stripe in range(stripes):
        table["bytes"][stripe * labels + 700] = (1 << 60, stripe + 1)
        table["flows"][stripe * labels + 700] = 1
    total = probe.snapshot().retired
    assert len(total) == labels
    assert total["bytes"][700].tolist() == [stripes << 60, stripes * (stripes + 1) // 2]
    assert total["flows"][700] == stripes
    assert np.count_nonzero(total["flows"]) == 1


def test_reading_a_full_table_is_cheap(probe: Probe) -> None:
    """Well below the 30 ms that reading and adding up may take; the median of seven."""
    times = []
    for _ in range(7):
        began = time.process_time()
        probe.snapshot()
        times.append(time.process_time() - began)
    assert sorted(times)[3] < 0.020


def test_snapshot_does_not_change_afterwards(probe: Probe) -> None:
    before = probe.snapshot()
    probe.tables().array("flow_hot", writable=True)["packets"][7] = 99
    assert not before.hot["packets"].any()


def test_reload_under_a_reader(probe: Probe) -> None:
    before = probe.snapshot().info["loaded_ns"]
    load_tables(probe, catalogues.load())
    assert probe.snapshot().info["loaded_ns"] > before


def test_detached_meanwhile(probe: Probe, cli: Cli) -> None:
    snapshot = probe.snapshot()
    cli("detach", "--all")
    with pytest.raises(StateError, match="detached"):
        probe.snapshot()
    assert not snapshot.hot["tag"].any()


def test_attached_anew_meanwhile(probe: Probe, cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)  # an update keeps the tables
    probe.snapshot()
    cli("detach", "--all")
    cli.attach(veth.left)
    with pytest.raises(StateError, match="attached anew"):
        probe.snapshot()


def test_status_and_dump_agree(probe: Probe, cli: Cli, veth: Veth) -> None:
    pytest.importorskip("bcc", reason="needs python3-bpfcc")
    send(veth.left, COUNT)
    status, dump = cli.json("status"), cli.json("dump")
    maps = dump["maps"]
    assert (status["schema"], dump["schema"]) == (1, 1)
    assert sum(entry["memory"] for entry in maps.values()) == status["memory"]
    assert maps["ports"]["entries"]["0"]["packets"] == status["interfaces"][0]["packets"]
    counted = {name: value for name, value in status["counters"].items() if any(value.values())}
    assert maps["counters"]["entries"] == counted
    assert maps["slots"]["entries"]["1"]["name"] == "eth0"
    assert maps["info"]["entries"]["0"]["flows"] == 262144
    assert maps["labels"]["used"] == len(probe.snapshot().labels)
    assert maps["flow_hot"]["elements"] == status["flows"]["capacity"]
    assert maps["flow_hot"]["used"] == status["flows"]["used"]
    assert maps["names"]["elements"] == status["names"]["capacity"]
    (line,) = (x.split() for x in cli("dump").stdout.splitlines() if x.startswith("flow_hot "))
    hot = maps["flow_hot"]
    assert line == ["flow_hot", "array", "64", "262144", str(hot["used"]), str(hot["memory"])]


def test_dump_shows_the_flows_that_a_filter_chooses(cli: Cli, veth: Veth) -> None:
    pytest.importorskip("bcc", reason="needs python3-bpfcc")
    cli.attach(veth.right)
    for port in (7000, 7001):
        talk = Conversation(Endpoint("10.9.0.1", 20000), Endpoint("10.9.0.2", port))
        send(veth.left, 1, talk.udp(b"\xff"))
    maps = cli.json("dump", "--filter", "port:7001")["maps"]
    assert [maps[name]["matching"] for name in ("flow_hot", "flow_cold", "names")] == [1, 1, 0]
    ((index, hot),) = maps["flow_hot"]["entries"].items()
    assert sum(hot["packets"]) == 1
    assert maps["flow_cold"]["entries"][index]["tag"] == hot["tag"]
    assert maps["flow_hot"]["used"] == 2
    assert f"flow_hot[{index}] tag={hot['tag']} " in cli("dump", "--filter", "dport:7001").stdout
    wrong = cli("dump", "--filter", "state:half", check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "no state is called 'half'" in wrong.stderr


@pytest.mark.parametrize("command", ["status", "apps", "flows"])
def test_a_reader_who_has_seen_enough_is_no_error(command: str, cli: Cli, veth: Veth) -> None:
    cli.attach(veth.right)
    send(veth.left, COUNT)
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        done = subprocess.run(
            cli.argv(command),
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_live_view_sees_interfaces_go_down(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.right)

    async def header() -> str:
        with Probe.open(cli.bpffs) as probe, top.watching(probe) as source:
            app = TopApp(source, State(), None)
            async with app.run_test(size=(80, 24)) as pilot:
                await pilot.pause()
                return app.query_one(Picture).render_line(0).text

    assert asyncio.run(header()).startswith(" eth0 ")
    assert cli.json("top", "--count", "1")["trouble"] == {}
    veth.right.namespace.ip("link set eth0 down\n")
    assert asyncio.run(header()).startswith(" eth0 DOWN ")
    assert cli.json("top", "--count", "1")["trouble"] == {"eth0": "down"}


def test_doctor_knows_the_interface(cli: Cli, veth: Veth) -> None:
    space = veth.left.namespace
    report = cli.json("doctor", "eth0", "--netns", space.name)
    assert report["ready"] is True
    texts = [finding["text"] for finding in report["findings"] if finding["subject"] == "eth0"]
    assert texts[0].startswith("attach would take tc ingress + tc egress")
    space.ip("link set eth0 down\n")
    said = cli("doctor", "eth0", "--netns", space.name).stdout
    assert "ip link set eth0 up" in said


def test_doctor_without_bpffs(tmp_path: Path) -> None:
    done = Cli(tmp_path)("doctor", check=False)
    assert done.returncode == 1
    assert f"mount -t bpf -o mode=0700 bpf {tmp_path}" in done.stdout


@pytest.mark.parametrize(("flags", "state"), [(SYN, "expired"), (RST, "closed")])
def test_what_is_over_is_told_apart(flags: int, state: str, cli: Cli, veth: Veth) -> None:
    cli.attach(veth.right, "--idle-new", "5")
    talk = Conversation(Endpoint("10.9.0.1", 20000), Endpoint("10.9.0.2", 7000))
    send(veth.left, 1, talk.tcp(flags=flags))
    with Probe.open(cli.bpffs) as probe:
        hot = probe.tables().array("flow_hot", writable=True)
        (index,) = np.flatnonzero(hot["tag"])
        hot["seen"][index] -= np.uint32(10 * int(probe.tables().read("info")["hz"]))
    assert [flow["state"] for flow in cli.json("flows")["flows"]] == [state]
    assert cli.json("flows", "--filter", "state:new")["flows"] == []
    flows = cli.json("status")["flows"]
    assert (flows["used"], flows["new"], flows[state], flows["over"]) == (1, 0, 1, 1)
    assert "0 of 262144" in cli("status").stdout


def test_doctor_knows_what_is_attached(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left, "--hook", "xdp")
    name = veth.left.namespace.name
    done = cli("doctor", "--netns", name, "eth0", check=False)
    assert "attached: xdp ingress (native) + tc egress" in done.stdout
    assert "already" not in done.stdout
    (interface,) = cli.json("status")["interfaces"]
    assert interface["attached"] == "xdp ingress (native) + tc egress"
