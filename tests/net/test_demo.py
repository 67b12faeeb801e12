# SPDX-License-Identifier: Apache-2.0
"""The main job, whole: real clients and servers, the probe between them, the right names."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.net.conftest import Cli
from tests.net.remains import remains
from xdpprobe.lab import clients
from xdpprobe.lab.internet import SITES
from xdpprobe.lab.lab import Lab

DEMO = [sys.executable, "-m", "xdpprobe", "demo"]

APPS = {
    "www.youtube.com": "youtube",
    "r3---sn-4g5e6nzs.googlevideo.com": "youtube",
    "www.netflix.com": "netflix",
    "occ-0-2774-778.1.nflxso.net": "netflix",
    "www.facebook.com": "facebook",
    "scontent.xx.fbcdn.net": "facebook",
    "www.instagram.com": "instagram",
    "web.whatsapp.com": "whatsapp",
    "teams.microsoft.com": "teams",
    "us04web.zoom.us": "zoom",
    "open.spotify.com": "spotify",
    "github.com": "github",
    "www.google.com": "google",
    "www.amazon.com": "amazon",
    "s3.amazonaws.com": "amazon-aws",
    "x.com": "twitter",
    "www.tiktok.com": "tiktok",
    "discord.com": "discord",
    "slack.com": "slack",
    "www.dropbox.com": "dropbox",
    "store.steampowered.com": "steam",
    "www.twitch.tv": "twitch",
    "en.wikipedia.org": "wikipedia",
    "www.linkedin.com": "linkedin",
    "www.reddit.com": "reddit",
    "www.icloud.com": "apple-icloud",
    "outlook.office.com": "outlook",
    "pypi.org": "pypi",
    "registry.npmjs.org": "npm",
    "chatgpt.com": "chatgpt",
    "www.googletagmanager.com": "google-services",
    "deb.debian.org": "debian",
    "download.windowsupdate.com": "windows-update",
    "archive.ubuntu.com": "ubuntu",
}


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    """What five seconds of the demo print, and what they leave."""
    child = subprocess.Popen(
        [*DEMO, "--for", "5", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    return {**json.loads(out), "left": remains(child.pid)}


@pytest.fixture(scope="module")
def flows(lab: Lab, lab_cli: Cli) -> list[dict[str, Any]]:
    """The flows after every site was fetched once over IPv4 and once over IPv6."""
    lab_cli("attach", "--netns", lab.router.name, lab.interface)
    requests = [clients.fetch(site, version, str(lab.ca)) for site in SITES for version in (4, 6)]
    with ThreadPoolExecutor(8) as pool:
        codes = pool.map(
            lambda request: lab.clients[0].run(*request.argv, check=False).returncode, requests
        )
        assert set(codes) == {0}
    found: list[dict[str, Any]] = lab_cli.json("flows", "--limit", "0")["flows"]
    return found


def test_the_sites_are_those_whose_applications_are_known() -> None:
    assert set(APPS) == {site.name for site in SITES}


def test_demo_lists_every_application(report: dict[str, Any]) -> None:
    named = {row["app"] for row in report["apps"] if sum(row["bytes"])}
    assert set(APPS.values()) - named == set()
    assert len(set(APPS.values())) >= 20


def test_demo_lists_a_protocol_without_an_application(report: dict[str, Any]) -> None:
    rows = {row["app"]: row for row in report["apps"]}
    assert rows["ssh"]["kind"] == "protocol"


def test_demo_leaves_nothing(report: dict[str, Any]) -> None:
    assert report["left"] == []


@pytest.mark.parametrize("version", [4, 6])
def test_every_site_is_named_over_both_versions(flows: list[dict[str, Any]], version: int) -> None:
    named = {
        (flow["host"], flow["app"])
        for flow in flows
        if flow["l4"] == "tcp" and (":" in flow["src"]) == (version == 6)
    }
    assert set(APPS.items()) - named == set()


def test_name_queries_are_seen_with_the_name_they_ask_for(flows: list[dict[str, Any]]) -> None:
    asked = {flow["host"] for flow in flows if flow["protocol"] == "dns"}
    assert set(APPS) - asked == set()


@pytest.fixture
def started() -> Iterator[subprocess.Popen[str]]:
    """A demo that has attached."""
    child = subprocess.Popen(
        [*DEMO, "--for", "60", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    for line in child.stderr:
        if "attached" in line:
            break
    yield child
    child.kill()
    child.communicate()


def test_ctrl_c_ends_the_demo_and_leaves_nothing(started: subprocess.Popen[str]) -> None:
    assert remains(started.pid)
    begin = time.monotonic()
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=10)
    assert time.monotonic() - begin < 5
    assert started.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert remains(started.pid) == []
