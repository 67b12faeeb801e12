# SPDX-License-Identifier: Apache-2.0
"""Readers that are killed, and outputs that are full: the counters neither know nor care."""

import resource
import subprocess
from pathlib import Path

import pytest

from tests import messages
from tests.net.conftest import Cli, Veth
from tests.net.frames import send, sender
from tests.net.test_attach import COUNT
from tests.net.test_follow import wait_until
from tests.packets import Conversation, Endpoint
from xdpprobe.attach import attach
from xdpprobe.lab.namespaces import Network
from xdpprobe.probe import Probe

FLOWS = 300
PAGE = resource.getpagesize()
FULL = "No space left on device"


def query(port: int) -> bytes:
    """A DNS query in a flow of its own."""
    talk = Conversation(Endpoint("10.9.0.1", port), Endpoint("10.9.0.2", 53))
    return talk.udp(messages.dns_query(b"www.youtube.com"))


@pytest.fixture
def attached(cli: Cli, veth: Veth) -> Cli:
    """The left end counts, and has seen flows enough to fill a page of output."""
    small = {"flows": 4096, "names": 1024}
    name = veth.left.namespace.name
    attach(["eth0"], bpffs=cli.bpffs, netns_name=name, options=small)
    with sender(veth.right) as opened:
        for port in range(1024, 1024 + FLOWS):
            opened.send(query(port))
    return cli


def test_a_killed_reader_changes_no_counter(attached: Cli, veth: Veth) -> None:
    packets = FLOWS
    with Probe.open(attached.bpffs) as probe:
        readers = probe.tables().array("control")["readers"]
        for words in (
            ("top", "--json", "--interval", "0.1"),
            ("flows", "--follow", "--json"),
            ("dump", "--json"),
        ) * 2:
            with subprocess.Popen(attached.argv(*words), stdout=subprocess.PIPE) as reader:
                assert reader.stdout is not None
                if "--follow" in words:
                    wait_until(lambda: bool(readers[0]))
                packets += 1
                send(veth.right, 1, query(2000 + packets))  # a record for who follows
                assert reader.stdout.read(1) == b"{"  # or it ended: an empty answer
                send(veth.right, COUNT)
                packets += COUNT
                reader.kill()
            send(veth.right, COUNT)
            packets += COUNT
            assert probe.port(0)[0][0] == packets
            if "--follow" in words:  # status takes back the ring of a reader that was killed
                assert attached.json("status")["readers"] == readers[0] == 0


def written(cli: Cli, path: Path, *arguments: str, limit: int | None = None) -> str:
    """What a command that cannot write its output says."""
    shorter = ["prlimit", f"--fsize={limit}"] if limit else []
    with path.open("wb") as output:
        done = subprocess.run(
            [*shorter, *cli.argv(*arguments)],
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    return done.stderr


def test_a_full_disk_ends_a_reader_in_one_line(attached: Cli) -> None:
    for words in (
        ("status",),
        ("flows", "--json"),
        ("dump",),
        ("top", "--once", "--interval", "0.1"),
    ):
        said = written(attached, Path("/dev/full"), *words)
        assert said == f"xdpprobe: cannot write the output: {FULL}\n", words


def test_a_disk_that_gets_full_keeps_what_it_took(attached: Cli, network: Network) -> None:
    place = network.path / "small"
    place.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={PAGE}", "tmpfs", str(place)], check=True, timeout=10
    )
    path = place / "flows"
    said = written(attached, path, "flows", "--json")
    assert said == f"xdpprobe: cannot write the output: {FULL}\n"
    assert path.stat().st_size == PAGE
    path.unlink()
    said = written(attached, network.path / "flows", "flows", "--json", limit=PAGE)
    assert said == "xdpprobe: cannot write the output: File too large\n"
    assert (network.path / "flows").stat().st_size == PAGE
