# SPDX-License-Identifier: Apache-2.0
"""Places that hold no BPF file system: what is wrong, and what to try, from every command."""

from pathlib import Path

import pytest

from xdpprobe import cli
from xdpprobe.errors import StateError
from xdpprobe.pins import check_bpffs


@pytest.mark.parametrize("command", ["status", "apps", "detach --all", "detach eth0", "dump"])
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("file", "is not a directory; --bpffs takes"),
        ("file/below", "cannot be used: not a directory; --bpffs takes"),
        ("long" * 100, "cannot be used: file name too long; --bpffs takes"),
        ("loop", "cannot be used: too many levels of symbolic links; --bpffs takes"),
        ("missing", "there is no directory {path}; mkdir -p {path} && mount -t bpf"),
        ("empty", "no BPF file system is mounted at {path}; mount one: mount -t bpf"),
        (".", "no BPF file system is mounted at {path}; --bpffs takes"),  # a mount would hide files
    ],
)
def test_what_is_no_bpffs_is_one_line_that_helps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, place: str, words: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "xdpprobe").mkdir()  # where no bpffs is, it is nobody's probe
    path = tmp_path / place
    assert cli.main(["--bpffs", str(path), *command.split()]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert words.format(path=path) in said.err
    assert said.err.count("\n") == 1


def test_a_nul_is_said_too() -> None:
    with pytest.raises(StateError, match="cannot be used: embedded null byte"):
        check_bpffs(Path("/sys\0"))
