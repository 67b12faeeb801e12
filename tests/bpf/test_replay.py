# SPDX-License-Identifier: Apache-2.0
"""Captures through the command, against what they hold."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import IO

import pytest

from tests import effort, hellos, inside
from tests.packets import Conversation, Endpoint

START = 1_700_000_000
DAY = 86400
CROWD = 2200
SMALLER = ("--flows", "2048")  # than the crowd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading a BPF program needs root")


def pcap(frames: list[bytes], moments: Sequence[int] = ()) -> bytes:
    """A pcap file. moments: seconds of the packets, else they come a millisecond apart."""
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for number, frame in enumerate(frames):
        time = (moments[number], 0) if moments else (START, number * 1000)
        data += struct.pack("<IIII", *time, len(frame), len(frame)) + frame
    return data


def write_pcap(path: Path, frames: list[bytes], cut: int = 0) -> None:
    """A pcap file whose last `cut` bytes are missing."""
    data = pcap(frames)
    path.write_bytes(data[: len(data) - cut])


def replay(
    *arguments: str, stdin: int | IO[bytes] = subprocess.DEVNULL, opened: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    if effort.SHARE < 1 and stdin == subprocess.DEVNULL:
        return inside.run(["replay", *arguments])
    argv = [sys.executable, "-m", "xdpprobe", "replay", *arguments]
    return subprocess.run(
        argv,
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        pass_fds=opened,
    )


@pytest.fixture
def frames() -> list[bytes]:
    talk = Conversation(Endpoint("10.0.0.1", 40000), Endpoint("198.51.100.20", 443))
    hello = hellos.records(hellos.browser_hello(b"www.netflix.com", seed=3))
    return [*talk.handshake(), *talk.segments(hello, 700)]


def test_a_flow_is_named_and_counted(tmp_path: Path, frames: list[bytes]) -> None:
    file = tmp_path / "a.pcap"
    write_pcap(file, frames)
    done = replay(str(file), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    (flow,) = map(json.loads, done.stdout.splitlines())
    assert flow["schema"] == 1
    assert (flow["app"], flow["host"], flow["src"]) == ("netflix", "www.netflix.com", "10.0.0.1")
    assert sum(flow["packets"]) == len(frames)
    assert sum(flow["bytes"]) == sum(map(len, frames))
    assert flow["first_seen"].startswith("2023-11-14T22:13:20")


def test_a_capture_that_breaks_off_gives_what_is_whole(tmp_path: Path, frames: list[bytes]) -> None:
    file = tmp_path / "a.pcap"
    write_pcap(file, frames, cut=5)
    done = replay(str(file), "--json")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    (flow,) = map(json.loads, done.stdout.splitlines())
    assert sum(flow["packets"]) == len(frames) - 1


@pytest.mark.parametrize("content", [b"", b"not a capture, but text", None])
def test_what_is_no_capture_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "a.pcap"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    done = replay(str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert str(file) in done.stderr


def test_short_frames_are_said(tmp_path: Path, frames: list[bytes]) -> None:
    file = tmp_path / "a.pcap"
    write_pcap(file, [*frames, bytes(13)])
    done = replay(str(file))
    assert done.returncode == 0
    assert "1 packets below 14 bytes" in done.stderr


@pytest.fixture
def crowd(tmp_path: Path) -> Path:
    """A capture of more flows than the smallest table holds."""
    ends = (Endpoint(f"10.1.{n >> 8}.{n & 255}", 5000) for n in range(CROWD))
    server = Endpoint("198.51.100.20", 4500)
    file = tmp_path / "crowd.pcap"
    write_pcap(file, [Conversation(end, server).udp(b"payload") for end in ends])
    return file


def test_more_flows_than_entries_make_the_table_grow(crowd: Path) -> None:
    done = replay(str(crowd), "--json", *SMALLER)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == CROWD


WAYS = ("standard input from a file", "standard input", "pipe")


@pytest.mark.parametrize("way", effort.some(WAYS))
def test_the_table_grows_for_what_can_be_read_once_only(crowd: Path, way: str) -> None:
    options = ("--json", *SMALLER)
    if way == "standard input from a file":
        with crowd.open("rb") as file:
            done = replay("-", *options, stdin=file)
    else:
        with subprocess.Popen(["cat", crowd], stdout=subprocess.PIPE) as cat:
            assert cat.stdout is not None
            number = cat.stdout.fileno()
            if way == "pipe":
                done = replay(f"/dev/fd/{number}", *options, opened=[number])
            else:
                done = replay("-", *options, stdin=cat.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == CROWD


def test_standard_input_that_is_no_capture_is_named() -> None:
    done = replay("-")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "xdpprobe: standard input: empty file\n"


# Seconds of pairs of packets, a pair a flow. 2^31 ms are 25 days, 2^32 ms are 50.
MOMENTS = {
    "years apart": [(START, START + 5), (START + 4000 * DAY, START + 4000 * DAY + 7)],
    # Merged the other way.
    "back in time": [(START + 4000 * DAY, START + 4000 * DAY + 7), (START, START + 5)],
    "long silence": [
        (START, START + 15 * DAY),
        (START, START + 30 * DAY),
        (START, START + 60 * DAY),
    ],
    "out of order": [(START + 9, START)],
}


@pytest.mark.parametrize("which", effort.some(list(MOMENTS)))
def test_times_are_those_of_the_capture(tmp_path: Path, which: str) -> None:
    moments = MOMENTS[which]
    server = Endpoint("198.51.100.20", 4500)
    frames = [
        Conversation(Endpoint("10.1.0.1", 5000 + number), server).udp(b"payload")
        for number in range(len(moments))
        for _ in range(2)
    ]
    file = tmp_path / "a.pcap"
    file.write_bytes(pcap(frames, [moment for pair in moments for moment in pair]))
    done = replay(str(file), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    flows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [flow["packets"] for flow in flows] == [[2, 0]] * len(moments)
    seen = [
        [datetime.fromisoformat(flow[key]).timestamp() for key in ("first_seen", "last_seen")]
        for flow in flows
    ]
    assert seen == [sorted(pair) for pair in moments]
    assert [flow["duration"] for flow in flows] == [max(pair) - min(pair) for pair in moments]
