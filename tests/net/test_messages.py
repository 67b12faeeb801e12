# SPDX-License-Identifier: Apache-2.0
"""What is said is true and helps: names of any bytes, and commands that work as they are quoted."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.net.conftest import Cli
from xdpprobe.lab.namespaces import Network

UTF_8: dict[str, str] = {}  # whatever the tests run in
ASCII_ONLY = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(cli: Cli, locale: dict[str, str], *arguments: str) -> bytes:
    """What a command that must work prints."""
    done = subprocess.run(
        cli.argv(*arguments), capture_output=True, env=os.environ | locale, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


@pytest.mark.parametrize(
    ("attaching", "reading"), [(UTF_8, ASCII_ONLY), (ASCII_ONLY, UTF_8)], ids=["utf-8", "ascii"]
)
def test_names_of_any_bytes_in_any_locale(
    network: Network, attaching: dict[str, str], reading: dict[str, str]
) -> None:
    name = os.fsdecode(b"n\xc3\xa4me\xff")  # text, and a byte that is none
    bpffs = network.mount_bpffs() / name
    bpffs.mkdir()
    subprocess.run(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", bpffs], check=True)
    space, cli = network.add(name), Cli(bpffs)
    space.run("ip", "link", "add", name, "type", "veth", "peer", "name", "other")
    run(cli, attaching, "attach", "--netns", space.name, name)
    assert b"updated in place" in run(cli, attaching, "attach", "--netns", space.name, name)
    for command in ("status", "top --once", "apps", "hosts", f"doctor --netns {space.name} {name}"):
        run(cli, reading, *command.split())
    state = run(cli, reading, "status", "--json")
    assert b'"state": "down"' in state
    assert b'"name_now": "n' in state
    assert run(cli, reading, "detach", "--netns", space.name, name).endswith(b"totals are gone\n")
    assert not Path(bpffs, "xdpprobe").exists()


@pytest.mark.parametrize("command", ["status", "apps", "top --once", "detach --all", "detach eth0"])
def test_who_may_not_look_into_the_bpffs_is_told_to_be_root(cli: Cli, command: str) -> None:
    os.chown(cli.bpffs, 65534, -1)
    bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]  # not even CAP_DAC_OVERRIDE
    done = subprocess.run(
        [*bare, *cli.argv(*command.split())],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    message = f"xdpprobe: no permission for {cli.bpffs}/xdpprobe; run it as root\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)
