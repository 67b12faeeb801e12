# SPDX-License-Identifier: Apache-2.0
"""A real client asks a real name server, and then connects without saying any name."""

import json
from typing import Any

import pytest

from tests.net.conftest import Cli
from xdpprobe.lab.internet import NAME_SERVER, SITES, address
from xdpprobe.lab.lab import Lab

SITE = next(site for site in SITES if site.name == "www.netflix.com")


def flows(cli: Cli, version: int) -> list[dict[str, Any]]:
    """Those to the site's TLS port."""
    wanted = f"host:{address(SITE, version)} dport:443"
    found: list[dict[str, Any]] = json.loads(cli("flows", "--filter", wanted, "--json").stdout)[
        "flows"
    ]
    return found


def nameless(lab: Lab, client: int, version: int) -> None:
    """A TLS connection without a server name to the site's address."""
    end = f"[{address(SITE, 6)}]" if version == 6 else address(SITE, 4)
    lab.clients[client].run(
        "openssl", "s_client", "-connect", f"{end}:443", "-noservername", "-CAfile", str(lab.ca)
    )


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_without_a_name_is_known_by_the_clients_query(
    lab: Lab, lab_cli: Cli, version: int, transport: str
) -> None:
    lab_cli("attach", "--netns", lab.router.name, lab.interface)
    kind = "A" if version == 4 else "AAAA"
    server = f"@{NAME_SERVER[version]}"
    said = lab.clients[0].run("dig", "+short", transport, server, SITE.name, kind).stdout
    assert said.strip() == address(SITE, version)
    nameless(lab, 0, version)
    nameless(lab, 1, version)
    found = {flow["src"]: flow for flow in flows(lab_cli, version)}
    assert len(found) == 2
    (asked,) = [flow for src, flow in found.items() if src.endswith(("10.20.0.11", "::11"))]
    (other,) = [flow for flow in found.values() if flow is not asked]
    assert (asked["app"], asked["method"], asked["host"]) == ("netflix", "dns", None)
    assert (asked["protocol"], asked["confidence"]) == ("tls", 70)
    assert (other["app"], other["protocol"]) == (None, "tls")
    lab_cli("detach", "--all")
