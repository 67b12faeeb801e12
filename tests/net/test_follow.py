# SPDX-License-Identifier: Apache-2.0
"""Readers of records: each gets all of them, and what it used is given back, however it ends."""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from tests import messages
from tests.net.conftest import Cli, Veth
from tests.net.frames import send, sender
from tests.net.watched import watched
from tests.packets import Conversation, Endpoint
from xdpprobe.errors import StateError
from xdpprobe.follow import MOST, followed
from xdpprobe.probe import Probe

NAME = "www.youtube.com"
FOLLOWER = """\
import sys, pathlib
from xdpprobe.follow import followed
from xdpprobe.probe import Probe
with followed(Probe.open(pathlib.Path(sys.argv[1]))) as batches:
    for records in batches:
        print("ready", flush=True)
"""


def wait_until(true: Callable[[], bool]) -> None:
    """Returns when it is true; fails the test after ten seconds."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def query(number: int, name: str = NAME) -> bytes:
    """A frame with a DNS query of a flow of its own."""
    talk = Conversation(Endpoint("10.9.0.1", 20000 + number), Endpoint("10.9.0.2", 53))
    return talk.udp(messages.dns_query(name.encode()))


@pytest.fixture
def probe(cli: Cli, veth: Veth) -> Iterator[Probe]:
    """A probe on the right end of the cable."""
    cli.attach(veth.right)
    with Probe.open(cli.bpffs) as probe:
        yield probe


def test_every_reader_gets_every_record(probe: Probe, veth: Veth) -> None:
    kinds = probe.abi.enums["record_kind"]
    with ExitStack() as stack:
        readers = [stack.enter_context(followed(probe)) for _ in range(3)]
        for number in range(7):
            send(veth.left, 1, query(number))
        for reader in readers:
            records = next(reader)
            assert records["kind"].tolist() == [kinds["RECORD_NAMED"]] * 7
            assert {bytes(r["name"]).rstrip(b"\0") for r in records} == {NAME.encode()}
            labels = probe.snapshot().labels
            assert {labels[int(app)].name for app in records["hot"]["app"]} == {"youtube"}
            assert np.array_equal(records["hot"]["tag"], records["cold"]["tag"])
    assert probe.tables().array("control")["readers"][0] == 0


def test_what_an_address_says_is_told_at_the_first_packet(
    probe: Probe, cli: Cli, veth: Veth
) -> None:
    cli("peers", "add", "10.9.0.2", "--label", "youtube")
    talk = Conversation(Endpoint("10.9.0.1", 20000), Endpoint("10.9.0.2", 4444))
    with followed(probe) as records:
        send(veth.left, 1, talk.udp(b"what nothing is known of"))
        (record,) = next(records)
    assert record["kind"] == probe.abi.enums["record_kind"]["RECORD_NAMED"]
    assert probe.snapshot().labels[int(record["hot"]["app"])].name == "youtube"
    assert record["hot"]["app_method"] == probe.abi.enums["method"]["METHOD_PEER"]


def test_without_reader_records_are_counted_not_written(probe: Probe, veth: Veth) -> None:
    send(veth.left, 5, query(1))
    assert probe.counters()["INFO_NO_READER"][0] > 0
    assert probe.counters()["LOSS_RING_FULL"][0] == 0


def test_a_fifth_reader_is_refused(probe: Probe) -> None:
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(followed(probe))
        with pytest.raises(StateError, match="4 readers"), followed(probe):
            pass
    with followed(probe) as records:
        assert len(next(records)) == 0


@pytest.mark.parametrize("ending", ["kill", "interrupt"])
def test_what_an_ended_reader_had_is_free_again(
    probe: Probe, cli: Cli, veth: Veth, ending: str
) -> None:
    for _ in range(5):
        with watched([sys.executable, "-c", FOLLOWER, str(cli.bpffs)]) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            child.send_signal({"kill": 9, "interrupt": 2}[ending])
            child.wait(30)
    with followed(probe) as records:
        send(veth.left, 1, query(3))
        assert len(next(records)) == 1
        assert int(probe.tables().array("control")["readers"][0]).bit_count() == 1


def test_the_command_lives_through_silence(probe: Probe, cli: Cli, veth: Veth) -> None:
    argv = cli.argv("flows", "--follow", "--json", "--filter", "app:youtube")
    with watched(argv) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        control = probe.tables().array("control")
        wait_until(lambda: bool(control["readers"][0]))
        for number in range(3):
            send(veth.left, 1, query(number))
            record = json.loads(child.stdout.readline())
            assert (record["event"], record["host"]) == ("named", NAME)
            time.sleep(0.3)  # longer than the command waits for a record: an empty batch
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        assert child.stderr.read() == ""


def test_an_interrupt_while_a_record_is_taken_is_not_lost(probe: Probe, veth: Veth) -> None:
    def interrupt(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_name == "keep":
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    with followed(probe) as records:
        send(veth.left, 1, query(1))
        sys.setprofile(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                next(records)
        finally:
            sys.setprofile(None)
    assert probe.tables().array("control")["readers"][0] == 0


def test_a_batch_has_an_end_while_records_come(probe: Probe, veth: Veth) -> None:
    with followed(probe) as records, sender(veth.left) as cable:
        for number in range(MOST + 7):
            cable.send(query(number))
        assert [len(next(records)) for _ in range(2)] == [MOST, 7]


def test_what_is_loaded_and_attached_later_has_its_name(
    probe: Probe, cli: Cli, veth: Veth, tmp_path: Path
) -> None:
    name = "wiki.corp.example"
    signatures = tmp_path / "mine.toml"
    signatures.write_text(
        '[[app]]\nid = 7168\nname = "wiki"\ntitle = "Wiki"\ncategory = "work"\n'
        f'domains = ["{name}"]\n'
    )
    argv = cli.argv("flows", "--follow", "--json")
    with watched(argv) as child:
        assert child.stdout is not None
        control = probe.tables().array("control")
        wait_until(lambda: bool(control["readers"][0]))
        cli("signatures", "load", str(signatures))
        cli.attach(veth.left)
        # Leaves on the left, which is attached by now, and is counted there.
        send(veth.left, 1, query(1, name))
        record = json.loads(child.stdout.readline())
        child.send_signal(signal.SIGINT)
        child.wait(30)
    assert record["app"] == "wiki"
    assert record["interface"] == f"eth0@{veth.left.namespace.name}"


def test_status_takes_back_what_a_killed_reader_had(probe: Probe, cli: Cli) -> None:
    with watched([sys.executable, "-c", FOLLOWER, str(cli.bpffs)]) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        assert cli.json("status")["readers"] == 1
        child.kill()
        child.wait(30)
    assert cli.json("status")["readers"] == 0
    assert probe.tables().array("control")["readers"][0] == 0


def test_detach_ends_a_reader(probe: Probe, cli: Cli) -> None:
    with followed(probe) as records:
        cli("detach", "--all")
        # One batch may still hold what was under way.
        with pytest.raises(StateError, match="detached"):
            next(batch for batch in records if batch is None)


def test_another_probe_in_its_place_ends_a_reader(probe: Probe, cli: Cli, veth: Veth) -> None:
    with followed(probe) as records:
        cli("detach", "--all")
        cli.attach(veth.right)
        with pytest.raises(StateError, match="attached anew"):
            next(batch for batch in records if batch is None)
