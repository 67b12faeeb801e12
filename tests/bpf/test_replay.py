# SPDX-License-Identifier: Apache-2.0
"""Captures through the command, against what they hold."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests import hellos
from tests.packets import Conversation, Endpoint

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading a BPF program needs root")


def write_pcap(path: Path, frames: list[bytes], cut: int = 0) -> None:
    """A pcap file, a packet a millisecond; `cut` bytes are missing at its end."""
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for number, frame in enumerate(frames):
        data += struct.pack("<IIII", 1_700_000_000, number * 1000, len(frame), len(frame)) + frame
    path.write_bytes(data[: len(data) - cut])


def replay(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "xdpprobe", "replay", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


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


def test_more_flows_than_entries_make_the_table_grow(tmp_path: Path) -> None:
    ends = (Endpoint(f"10.1.{n >> 8}.{n & 255}", 5000) for n in range(3000))
    server = Endpoint("198.51.100.20", 4500)
    file = tmp_path / "a.pcap"
    write_pcap(file, [Conversation(end, server).udp(b"payload") for end in ends])
    done = replay(str(file), "--json", "--flows", "1024")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3000
