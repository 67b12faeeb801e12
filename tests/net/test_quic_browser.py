# SPDX-License-Identifier: Apache-2.0
"""Chromium's QUIC, whose hello comes in pieces that are scattered over two datagrams on purpose.

Needs Debian's package chromium, which for its size only `make setup BROWSER=1` installs.
"""

import json
import shutil

import pytest

from tests.net.conftest import Cli, Veth
from tests.net.quic_ends import PORT
from tests.net.test_quic import NAME, certificate, server

__all__ = ["certificate"]
WAIT = "8000"  # ms of the browser's own clock, after which it prints what it has

pytestmark = pytest.mark.skipif(
    not shutil.which("chromium"), reason="no chromium: make setup BROWSER=1"
)


def test_chromium(veth: Veth, cli: Cli, certificate: tuple[str, str]) -> None:
    cli.attach(veth.left)
    with server(veth, certificate):
        veth.left.namespace.run(
            "chromium",
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            f"--user-data-dir={veth.network.path}/browser",
            f"--origin-to-force-quic-on={NAME}:{PORT}",
            f"--host-resolver-rules=MAP {NAME} {veth.right.v4}",
            *(f"--timeout={WAIT}", "--dump-dom", f"https://{NAME}:{PORT}/"),
            check=False,
            timeout=60,
        )
    wanted = f"dport:{PORT} proto:quic"
    found = json.loads(cli("flows", "--filter", wanted, "--json").stdout)["flows"]
    assert found
    for flow in found:
        assert (flow["host"], flow["method"], flow["app"]) == (NAME, "quic-sni", "wikipedia")
    assert cli.status()["counters"]["info_hello_joined"]["packets"]
