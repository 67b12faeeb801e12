# SPDX-License-Identifier: Apache-2.0
"""The lab itself: its traffic is real and complete, and it leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

from tests.net.conftest import Veth
from tests.net.remains import remains
from tests.net.watched import watched
from xdpprobe.lab import clients, run
from xdpprobe.lab.internet import NAME_SERVER, SITES, host_records
from xdpprobe.lab.lab import Lab

ROUND = len(SITES) + clients.LOOKUPS_A_ROUND + 1

HOLD = """
from xdpprobe.lab.lab import Lab
from xdpprobe.lab.namespaces import Network
from xdpprobe.lab.orderly import orderly
with orderly(Network()) as network:
    lab = Lab(network)
    network.mount_bpffs()
    lab.start_clients()
    print("up", flush=True)
    lab.wait(60)
"""


@pytest.fixture
def held() -> Iterator[subprocess.Popen[str]]:
    """A process that holds a whole lab."""
    with watched([sys.executable, "-c", HOLD]) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "up\n"
        yield child
        child.kill()
    run.remove_abandoned()


def test_every_request_of_two_rounds_succeeds(lab: Lab) -> None:
    def fails(request: clients.Request) -> bool:
        argv = lab.clients[0].command(*request.argv)
        done = subprocess.run(argv, input=request.text, capture_output=True, text=True, check=False)
        if request.argv[0] == "ssh-keyscan":  # it ends with 1: the lab's server has no key to show
            return "SSH-2.0-OpenSSH" not in done.stderr
        return done.returncode != 0

    requests = list(islice(clients.schedule(0, str(lab.ca)), 2 * ROUND))
    with ThreadPoolExecutor(8) as pool:  # those of limited rate take seconds
        verdicts = pool.map(fails, requests)
        failed = [request for request, bad in zip(requests, verdicts, strict=True) if bad]
    assert failed == []


def test_two_rounds_ask_every_site_over_both_versions() -> None:
    requests = list(islice(clients.schedule(0, "ca.pem"), 2 * ROUND))
    asked = {
        (site.name, version)
        for request in requests
        for site in SITES
        for version in (4, 6)
        if request.argv[0] in ("curl", "openssl")
        and f"-{version}" in request.argv
        and any(f"{site.name}{end}" in part for part in request.argv for end in ("/", ":"))
    }
    assert asked == {(site.name, version) for site in SITES for version in (4, 6)}


@pytest.mark.parametrize("version", [4, 6])
def test_names_resolve_over_both_versions(lab: Lab, version: int) -> None:
    server = f"@{NAME_SERVER[version]}"
    answer = lab.clients[1].run("dig", "+short", server, "github.com", "AAAA").stdout
    assert answer.strip() == host_records()["github.com"][1]


@pytest.mark.parametrize(("wanted", "refused"), [("1.2", "1.3"), ("1.3", "1.2")])
def test_a_site_speaks_its_tls_version_only(lab: Lab, wanted: str, refused: str) -> None:
    site = next(site for site in SITES if site.tls == wanted)
    curl = ["curl", "-s", "--cacert", str(lab.ca), "-o", "/dev/null", f"https://{site.name}/1"]
    for version, code in ((wanted, 0), (refused, 35)):
        limits = [f"--tlsv{version}", "--tls-max", version]
        assert lab.clients[0].run(*curl, *limits, check=False).returncode == code


def test_clients_fetch_without_a_failure(lab: Lab) -> None:
    before = lab.router.counters(lab.interface)
    lab.start_clients()
    lab.wait(2.0)
    done, failed = lab.stop_clients()
    after = lab.router.counters(lab.interface)
    assert done > 10
    assert failed == 0
    assert after["tx"]["bytes"] - before["tx"]["bytes"] > 1_000_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_nothing(held: subprocess.Popen[str], number: signal.Signals) -> None:
    assert remains(held.pid)
    held.send_signal(number)
    assert held.wait(10) in (1, 130, 128 + number, -number)
    assert remains(held.pid) == []


def test_what_a_killed_run_left_is_removed(held: subprocess.Popen[str]) -> None:
    held.kill()
    held.wait()
    assert remains(held.pid)
    run.remove_abandoned()
    assert remains(held.pid) == []


def test_what_lives_is_not_removed(held: subprocess.Popen[str]) -> None:
    before = remains(held.pid)
    run.remove_abandoned()
    assert remains(held.pid) == before
    os.kill(held.pid, 0)


def test_an_idle_cable_carries_nothing(veth: Veth) -> None:
    assert veth.left.counters()["rx"]["packets"] == 0
    assert veth.right.counters()["rx"]["packets"] == 0


def test_a_datagram_is_all_that_crosses(veth: Veth) -> None:
    veth.left.namespace.run("bash", "-c", f"echo -n x > /dev/udp/{veth.right.v4}/9")
    assert veth.right.counters()["rx"]["packets"] == 1
