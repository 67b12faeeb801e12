# SPDX-License-Identifier: Apache-2.0
"""Faults that traffic causes, as the commands tell of them: records lost, frames not understood."""

import json
import re
import signal
from collections import Counter
from collections.abc import Iterator

import pytest

from tests import messages, packets
from tests.framecases import NO_FLOW
from tests.net.conftest import Cli, Veth
from tests.net.frames import sender
from tests.net.test_follow import wait_until
from tests.net.watched import watched
from tests.packets import Conversation, Endpoint
from xdpprobe.probe import Probe

NAMED = 6000  # records; a ring holds some 2,400
FLOOD = 997  # frames of each kind, a prime number


@pytest.fixture
def probe(cli: Cli, veth: Veth) -> Iterator[Probe]:
    """A probe on the right end of the cable."""
    cli.attach(veth.right, "--hook", "tc")
    with Probe.open(cli.bpffs) as probe:
        yield probe


def query(number: int) -> bytes:
    """A query of a flow of its own."""
    talk = Conversation(Endpoint("10.9.0.1", 20000 + number), Endpoint("10.9.0.2", 53))
    return talk.udp(messages.dns_query(b"www.youtube.com"))


def test_a_reader_that_stands_still_is_told_how_much_it_missed(
    probe: Probe, cli: Cli, veth: Veth
) -> None:
    with watched(cli.argv("flows", "--follow", "--json")) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        control = probe.tables().array("control")
        wait_until(lambda: bool(control["readers"][0]))
        child.send_signal(signal.SIGSTOP)
        with sender(veth.left) as cable:
            for number in range(NAMED):
                cable.send(query(number))
        lost = cli.json("status")["counters"]["loss_ring_full"]["packets"]
        child.send_signal(signal.SIGCONT)
        lines = [child.stdout.readline() for _ in range(NAMED - lost)]
        assert "" not in lines  # that is the end of the output
        said = child.stderr.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        assert child.stdout.read() == ""
    assert lost > 0
    assert {json.loads(line)["event"] for line in lines} == {"named"}
    assert re.search(rf"\b{lost} records were lost", said)
    # The flows themselves lost nothing.
    assert len(cli.json("flows", "--filter", "app:youtube")["flows"]) == NAMED
    assert re.search(rf"^loss .*\bring full {lost}\b", cli("status").stdout, re.MULTILINE)


def broken_frames() -> Iterator[tuple[bytes, str]]:
    """Frames of no flow, and the word for the reason."""
    yield from NO_FLOW.values()
    whole = Conversation().tcp(b"payload")
    for length in (14, 30, 40):  # behind Ethernet, within IPv4, within TCP
        yield whole[:length], "truncated"
    ends = Endpoint("192.0.2.1"), Endpoint("198.51.100.9")
    yield packets.ethernet(packets.ipv4(bytes(100), *ends, packets.UDP, offset=800)), "fragment"


def test_floods_of_what_is_not_understood_are_counted_by_reason(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.right, "--hook", "xdp")
    wanted: Counter[str] = Counter()
    octets: Counter[str] = Counter()
    with sender(veth.left) as cable:
        for frame, reason in broken_frames():
            for _ in range(FLOOD):
                cable.send(frame)
            wanted[reason] += FLOOD
            octets[reason] += FLOOD * len(frame)
    status = cli.json("status")
    found = {
        name.removeprefix("reason_"): (value["packets"], value["bytes"])
        for name, value in status["counters"].items()
        if name.startswith("reason_") and value["packets"]
    }
    assert found == {reason: (wanted[reason], octets[reason]) for reason in wanted}
    # What stands on the interface is what was sent: nothing was dropped for being broken.
    (entry,) = status["interfaces"]
    assert entry["packets"][0] == sum(wanted.values())
    assert status["flows"]["used"] == 0
    (line,) = re.findall(r"^reason .*$", cli("status").stdout, re.MULTILINE)
    for reason, count in wanted.items():
        assert f"{reason.replace('_', ' ')} {count}" in line
