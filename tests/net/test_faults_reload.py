# SPDX-License-Identifier: Apache-2.0
"""Signatures replaced a hundred times under full traffic: each flow has the old or the new name."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests import messages
from tests.net.conftest import Cli, End, Veth
from tests.net.frames import sender
from tests.net.many_flows import NAMES
from tests.net.test_follow import wait_until
from tests.packets import Conversation, Endpoint
from xdpprobe import catalogue as catalogues
from xdpprobe.loader import load_tables
from xdpprobe.probe import Probe

RELOADS = 100
BY_COMMAND = 25  # every so many a process of its own does it, as an operator would
OLD, NEW = 7168, 7169
MARKS = 4000  # VLAN of the flows that the test looks for after each reload


def signatures(directory: Path, number: int, name: str, other: str) -> Path:
    """A file with two applications, of which the first one has corp.example."""
    path = directory / f"{name}.toml"
    entries = [(number, name, "corp.example"), (OLD + NEW - number, other, f"{other}.invalid")]
    path.write_text(
        "".join(
            f'[[app]]\nid = {i}\nname = "{n}"\ntitle = "{n}"\ncategory = "work"\n'
            f'domains = ["{domain}"]\n'
            for i, n, domain in entries
        )
    )
    return path


class Traffic:
    """A process that sends queries of new flows, with what the reloads leave of the CPUs."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def end(self) -> int:
        """Stops it; returns how many packets, and so flows, it sent."""
        out, _ = self._child.communicate(timeout=30)
        return int(out)


@contextmanager
def traffic(end: End, *payloads: bytes) -> Iterator[Traffic]:
    inside = ["nice", "ip", "netns", "exec", end.namespace.name]
    argv = [*inside, sys.executable, "-m", "tests.net.many_flows", end.interface]
    argv += [payload.hex() for payload in payloads]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield Traffic(child)
        finally:
            child.kill()


def mark(number: int) -> list[bytes]:
    """A query and its answer: an established flow, which others do not push out."""
    client = Endpoint(f"10.255.0.{number}", 1024)
    talk = Conversation(client, Endpoint("198.51.100.53", 53), tags=[(0x8100, MARKS)])
    name = NAMES[number].encode()
    answer = messages.dns_answer(name, bytes((192, 0, 2, 1)))
    return [talk.udp(messages.dns_query(name)), talk.udp(answer, from_client=False)]


def flows_of(hot: np.ndarray, retired: np.ndarray) -> dict[int, int]:
    """Label -> flows, live and gone."""
    label = np.where(hot["app"] != 0, hot["app"], hot["protocol"])[hot["tag"] != 0]
    counted = np.bincount(label, minlength=len(retired)) + retired["flows"].astype(np.int64)
    return {int(i): int(counted[i]) for i in np.flatnonzero(counted)}


def test_a_hundred_reloads_name_no_flow_wrong(cli: Cli, veth: Veth, tmp_path: Path) -> None:
    paths = [
        signatures(tmp_path, OLD, "older", "newer"),
        signatures(tmp_path, NEW, "newer", "older"),
    ]
    loaded = [catalogues.load([path]) for path in paths]
    cli.attach(veth.right, "--hook", "tc")
    cli("signatures", "load", str(paths[0]))
    with Probe.open(cli.bpffs) as probe, sender(veth.left) as cable:
        hot, cold = (probe.tables().array(name) for name in ("flow_hot", "flow_cold"))
        (slot,) = probe.instance.slots()
        with traffic(veth.left) as child:
            for reload in range(1, RELOADS + 1):
                seen = probe.port(slot.number)[0][0]
                wait_until(lambda seen=seen: probe.port(slot.number)[0][0] > seen)
                if reload % BY_COMMAND:
                    with probe.instance.pins.lock():
                        load_tables(probe, loaded[reload & 1])
                else:
                    cli("signatures", "load", str(paths[reload & 1]))
                for frame in mark(reload):
                    cable.send(frame)
                marked = np.flatnonzero(cold["vlan"] == MARKS)
                newest = marked[np.argmax(cold["first_ns"][marked])]
                assert hot["app"][newest] == (OLD, NEW)[reload & 1]
            sent = child.end()
        snapshot = probe.snapshot()
    assert snapshot.ports["eth0"][0][0] == sent + 2 * RELOADS
    youtube = next(i for i, label in snapshot.labels.items() if label.name == "youtube")
    flows = flows_of(snapshot.hot, snapshot.retired)
    assert flows.keys() == {OLD, NEW, youtube}
    assert flows[youtube] == sent // len(NAMES)
    assert flows[OLD] + flows[NEW] == sent - flows[youtube] + RELOADS
    assert min(flows[OLD], flows[NEW]) > sent // 10
    losses = {name for name, (count, _) in snapshot.counters.items() if "LOSS" in name and count}
    assert losses <= {"LOSS_EVICTED_NEW"}
