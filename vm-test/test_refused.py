# SPDX-License-Identifier: Apache-2.0
"""A kernel below the floor: a clear refusal, and nothing left behind."""

import subprocess
import sys
from pathlib import Path


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of xdpprobe's."""
    command = [sys.executable, "-m", "xdpprobe", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_attach_names_what_is_missing() -> None:
    subprocess.run(
        ["ip", "link", "add", "left", "type", "veth", "peer", "name", "right"], check=True
    )
    done = run("attach", "left")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "is too old" in done.stderr
    assert "bpf_loop" in done.stderr
    assert "6.1 or later" in done.stderr
    assert not Path("/sys/fs/bpf/xdpprobe").exists()


def test_doctor_says_so() -> None:
    done = run("doctor")
    assert done.returncode == 1
    assert "boot Linux 6.1 or later" in done.stdout
    assert "attach would fail" in done.stdout


def test_replay_is_refused_too(tmp_path: Path) -> None:
    capture = tmp_path / "empty.pcap"
    capture.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
    done = run("replay", str(capture))
    assert done.returncode == 1
    assert "6.1 or later" in done.stderr
    assert done.stderr.count("\n") == 1
