# SPDX-License-Identifier: Apache-2.0
"""Patterns and texts replaced under full traffic: each flow has the old or the new application."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.net.conftest import Cli, Veth
from tests.net.frames import sender
from tests.net.test_faults_reload import NEW, OLD, flows_of, traffic
from tests.net.test_follow import wait_until
from tests.packets import Conversation, Endpoint
from xdpprobe import catalogue as catalogues
from xdpprobe.loader import load_tables
from xdpprobe.probe import Probe

RELOADS = 24
MARKS = 4001  # VLAN of the flows that the test looks for after each reload
BY_BYTES = b"MADE" + bytes(40)
BY_AUTOMATON = b"MAD" + b"7" * 40 + b"E"
BY_TEXT = bytes.fromhex("00010008 2112a442 000102030405060708090a0b 7abc0004 00000000")
PAYLOADS = (BY_BYTES, BY_AUTOMATON, BY_TEXT)


def signatures(directory: Path, label: int) -> Path:
    """A file with two applications, of which that one has all signatures."""
    path = directory / f"{label}.toml"
    apps = (
        f'[[app]]\nid = {number}\nname = "made-{number}"\ntitle = "Made"\ncategory = "work"\n'
        for number in (OLD, NEW)
    )
    app = f'[[signature]]\napp = "made-{label}"\n'
    path.write_text(
        "".join(apps)
        + app
        + "l4 = \"udp\"\nmatch = 'MADE'\n"
        + app
        + "l4 = \"udp\"\nmatch = 'MAD[0-9]{40}E'\n"
        + app
        + "stun_attribute = [0x7abc]\n"
    )
    return path


def marks(reload: int) -> Iterator[bytes]:
    """Flows of all payloads, answered, so that others do not push them out."""
    for number, payload in enumerate(PAYLOADS):
        client = Endpoint(f"10.255.{number}.{reload}", 1024)
        talk = Conversation(client, Endpoint("198.51.100.53", 9000), tags=[(0x8100, MARKS)])
        yield talk.udp(payload)
        yield talk.udp(b"\x01", from_client=False)


def test_reloads_of_patterns_name_no_flow_wrong(cli: Cli, veth: Veth, tmp_path: Path) -> None:
    paths = [signatures(tmp_path, OLD), signatures(tmp_path, NEW)]
    loaded = [catalogues.load([path]) for path in paths]
    cli.attach(veth.right, "--hook", "tc")
    cli("signatures", "load", str(paths[0]))
    with Probe.open(cli.bpffs) as probe, sender(veth.left) as cable:
        hot, cold = (probe.tables().array(name) for name in ("flow_hot", "flow_cold"))
        (slot,) = probe.instance.slots()
        with traffic(veth.left, *PAYLOADS) as child:
            for reload in range(1, RELOADS + 1):
                seen = probe.port(slot.number)[0][0]
                wait_until(lambda seen=seen: probe.port(slot.number)[0][0] > seen)
                with probe.instance.pins.lock():
                    load_tables(probe, loaded[reload & 1])
                for frame in marks(reload):
                    cable.send(frame)
                marked = np.flatnonzero(cold["vlan"] == MARKS)
                newest = marked[np.argsort(cold["first_ns"][marked])][-len(PAYLOADS) :]
                assert hot["app"][newest].tolist() == [(OLD, NEW)[reload & 1]] * len(PAYLOADS)
            sent = child.end()
        snapshot = probe.snapshot()
    flows = flows_of(snapshot.hot, snapshot.retired)
    assert flows.keys() == {OLD, NEW}
    assert flows[OLD] + flows[NEW] == sent + RELOADS * len(PAYLOADS)
    assert min(flows[OLD], flows[NEW]) > sent // 10
    losses = {name for name, (count, _) in snapshot.counters.items() if "LOSS" in name and count}
    assert losses <= {"LOSS_EVICTED_NEW", "LOSS_EVICTED_ESTABLISHED"}
