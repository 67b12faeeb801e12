# SPDX-License-Identifier: Apache-2.0
"""Real QUIC clients and servers: versions 1 and 2, Retry, hellos in one datagram and in two."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import quic
from tests.net import tls_ends
from tests.net.conftest import Cli, Veth
from tests.net.quic_ends import PORT, READY
from tests.net.watched import watched

NAME = "www.wikipedia.org"
ENDS = (sys.executable, "-m", "tests.net.quic_ends")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for nobody in particular, and its key."""
    return tls_ends.certificate(tmp_path_factory.mktemp("quic"))


@contextmanager
def server(veth: Veth, certificate: tuple[str, str], *options: str) -> Iterator[None]:
    made, key = certificate
    argv = [*ENDS, "server", veth.right.v4, "--certificate", made, "--key", key, *options]
    with watched(veth.right.namespace.command(*argv)) as child:
        assert child.stdout is not None
        assert child.stdout.readline().strip() == READY
        try:
            yield
        finally:
            child.kill()


@pytest.mark.parametrize("options", [(), ("--retry",)], ids=["straight", "retry"])
def test_real_clients(
    veth: Veth, cli: Cli, certificate: tuple[str, str], options: tuple[str, ...]
) -> None:
    cli.attach(veth.left)
    with server(veth, certificate, *options):
        for version in (quic.V1, quic.V2):
            for length in ((), ("--long",)):
                argv = (*ENDS, "client", veth.right.v4, "--name", NAME)
                veth.left.namespace.run(*argv, "--version", str(version), *length)
    found = json.loads(cli("flows", "--filter", f"dport:{PORT}", "--json").stdout)["flows"]
    assert len(found) == 4
    for flow in found:
        assert (flow["protocol"], flow["host"], flow["method"]) == ("quic", NAME, "quic-sni")
        assert flow["app"] == "wikipedia"


def test_a_client_that_goes_on_by_another_port(
    veth: Veth, cli: Cli, certificate: tuple[str, str]
) -> None:
    cli.attach(veth.left)
    with server(veth, certificate):
        veth.left.namespace.run(*ENDS, "client", veth.right.v4, "--name", NAME, "--move")
    found = json.loads(cli("flows", "--filter", f"dport:{PORT}", "--json").stdout)["flows"]
    assert len({flow["sport"] for flow in found}) == len(found) == 2
    for flow in found:
        assert (flow["protocol"], flow["host"], flow["method"]) == ("quic", NAME, "quic-sni")
    assert cli.status()["counters"]["info_quic_moved"]["packets"] == 1
    (ja4,) = {flow["ja4"] for flow in found}
    assert ja4.startswith("q13d")
    assert {flow["alpn"] for flow in found} == {"hq-interop"}
