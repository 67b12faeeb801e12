# SPDX-License-Identifier: Apache-2.0
"""What an update of the probe's options changes, keeps and refuses: signatures, privacy, times."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import messages
from tests.net.conftest import Cli, Veth
from tests.net.frames import send
from tests.packets import Conversation, Endpoint
from xdpprobe import public_suffix
from xdpprobe.attach import attach
from xdpprobe.probe import Probe


def test_options_that_disagree_change_nothing(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left, "--flows", "8192")
    before = cli.status()
    for end, options, reason in (
        (veth.right, ("--flows", "4096"), "runs with --flows 8192, not 4096"),
        (veth.right, ("--idle-new", "7"), "runs with --idle-new 30"),
        (veth.left, ("--hook", "xdp"), "attached otherwise (tc ingress + tc egress)"),
        (veth.left, ("--direction", "egress"), "attached otherwise"),
    ):
        done = cli("attach", "--netns", end.namespace.name, *options, "eth0", check=False)
        assert done.returncode == 1
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1
        assert cli.status() == before


def test_times_change_when_every_interface_is_updated(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)
    cli.attach(veth.left, "--idle-new", "7")
    assert cli.json("status")["settings"]["idle_new"] == 7


def test_attach_leaves_heavy_libraries_alone() -> None:
    code = (
        "import sys, xdpprobe.cli as c; c.build_parser('attach'); import xdpprobe.attach;"
        "print([m for m in ('bcc', 'textual', 'rich', 'pyroute2') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not public_suffix.SYSTEM_LIST.exists(), reason="no public suffix list")
def test_an_update_to_cut_names_brings_the_public_suffixes(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)
    with Probe.open(cli.bpffs) as probe:
        before = probe.snapshot().info["rules"]
    cli.attach(veth.left, "--privacy", "cut")
    with Probe.open(cli.bpffs) as probe:
        assert probe.snapshot().info["rules"] > before + 1000


@pytest.fixture
def own_signatures(tmp_path: Path) -> str:
    """A directory with an application that no shipped file has."""
    (tmp_path / "own.toml").write_text(
        '[[app]]\nid = 8000\nname = "own"\ntitle = "Own"\ncategory = "video"\n'
        'domains = ["own.test"]\n'
    )
    return str(tmp_path)


def loaded(cli: Cli) -> tuple[str, int, bool]:
    """Digest and load time of the signatures in force, and whether `own` is among them."""
    status = cli.status()
    with Probe.open(cli.bpffs) as probe:
        known = 8000 in probe.snapshot().labels
    return status["signatures"], status["signatures_loaded"], known


def test_an_update_keeps_the_signatures_in_force(cli: Cli, veth: Veth, own_signatures: str) -> None:
    cli.attach(veth.left)
    shipped = loaded(cli)[0]
    cli("signatures", "load", own_signatures)
    before = loaded(cli)
    assert before[0] != shipped
    assert "updated in place" in cli.attach(veth.left).stdout
    cli.attach(veth.right)
    assert loaded(cli) == before
    cli.attach(veth.left, "--signatures", own_signatures)
    digest, moment, known = loaded(cli)
    assert (digest, known) == (before[0], True)
    assert moment > before[1]


def test_an_update_by_another_version_brings_its_signatures(
    cli: Cli, veth: Veth, own_signatures: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli.attach(veth.left)
    shipped = loaded(cli)[0]
    cli("signatures", "load", own_signatures)
    monkeypatch.setattr("xdpprobe.attach.VERSION", "9.9.9")
    attach(["eth0"], bpffs=cli.bpffs, netns_name=veth.left.namespace.name)
    assert loaded(cli)[0] == shipped


@pytest.mark.skipif(not public_suffix.SYSTEM_LIST.exists(), reason="no public suffix list")
def test_cutting_names_needs_the_signatures_in_force(
    cli: Cli, veth: Veth, own_signatures: str
) -> None:
    cli.attach(veth.left, "--signatures", own_signatures)
    before = cli.status()
    refused = cli(
        "attach", "--netns", veth.left.namespace.name, "--privacy", "cut", "eth0", check=False
    )
    assert refused.returncode == 1
    assert "--signatures DIR" in refused.stderr
    assert cli.status() == before
    cli.attach(veth.left, "--privacy", "cut", "--signatures", own_signatures)
    assert cli.json("status")["settings"]["privacy"] == "cut"


def test_stricter_privacy_forgets_the_names_seen_before(cli: Cli, veth: Veth) -> None:
    cli.attach(veth.left)
    talk = Conversation(Endpoint("10.9.0.1", 20000), Endpoint("10.9.0.2", 53))
    send(veth.right, 1, talk.udp(messages.dns_query(b"www.youtube.com")))
    assert [flow["host"] for flow in cli.json("flows")["flows"]] == ["www.youtube.com"]
    assert "erased, for --privacy hash" in cli.attach(veth.left, "--privacy", "hash").stdout
    assert "erased" not in cli.attach(veth.left, "--privacy", "hash").stdout
    (flow,) = cli.json("flows")["flows"]
    assert (flow["host"], flow["app"]) == (None, "youtube")
    with Probe.open(cli.bpffs) as probe:
        assert b"youtube" not in probe.tables().array("names")["text"].tobytes()
