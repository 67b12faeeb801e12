# SPDX-License-Identifier: Apache-2.0
"""Real TLS connections: what their servers say of version, session and names."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.net.conftest import Cli, Veth
from tests.net.tls_server import DIALOGUES

PORTS = {
    "smtp": 587, "imap": 143, "pop3": 110, "ftp": 21, "xmpp": 5222, "postgres": 5432,
    "mysql": 3306, "ldap": 389,
}  # fmt: skip
PROTOCOLS = {
    "smtp": "smtps", "imap": "imaps", "pop3": "pops", "ftp": "ftps", "xmpp": "jabber",
    "postgres": "postgresql", "mysql": "mysql", "ldap": "ldap",
}  # fmt: skip
MANY = [f"host{number}.example.org" for number in range(300)]  # 7 kB: five segments


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Certificates and keys: for one name, and for many."""
    directory = tmp_path_factory.mktemp("certificates")
    result = {}
    for kind, names in (("one", ["www.example.org", "*.example.org"]), ("many", MANY)):
        certificate, key = directory / f"{kind}.pem", directory / f"{kind}.key"
        alternatives = ",".join(f"DNS:{name}" for name in names)
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-subj", "/O=Example/CN=common.example", "-keyout", key, "-out", certificate,
             "-addext", f"subjectAltName={alternatives}"],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        result[kind] = certificate, key
    return result


class Site:
    """A server on the right of a cable, on whose left the probe is and clients are."""

    def __init__(self, veth: Veth, cli: Cli, made: dict[str, tuple[Path, Path]]) -> None:
        self.veth, self.cli, self.made = veth, cli, made
        cli.attach(veth.left)

    def serve(self, port: int, kind: str, version: str, dialogue: str = "") -> None:
        program = [sys.executable, "-m", "tests.net.tls_server", str(port)]
        program += [str(path) for path in self.made[kind]] + [version, dialogue]
        child = self.veth.network.start(self.veth.right.namespace, *program, stdout=subprocess.PIPE)
        assert child.stdout
        assert child.stdout.readline() == b"listening\n"

    def connect(self, port: int, *options: str, check: bool = True) -> None:
        """A client of OpenSSL, which ends with its standard input."""
        target = f"{self.veth.right.v4}:{port}"
        self.veth.left.namespace.run(
            "openssl", "s_client", "-connect", target, *options, check=check
        )

    def flow(self, port: int) -> dict[str, Any]:
        (flow,) = self.cli.json("flows", "--filter", f"dport:{port}")["flows"]
        assert isinstance(flow, dict)
        return {
            key: flow[key]
            for key in ("protocol", "host", "method", "tls_version", "resumed", "sni_mismatch")
        }


@pytest.fixture
def site(veth: Veth, cli: Cli, made: dict[str, tuple[Path, Path]]) -> Site:
    return Site(veth, cli, made)


def test_versions_and_names(site: Site) -> None:
    named, nameless = ("-servername", "www.example.org"), ("-noservername",)
    cases = [
        ("one", "1.3", named, ("www.example.org", "sni", "1.3", False)),
        ("one", "1.3", nameless, (None, "pattern", "1.3", False)),
        ("one", "1.2", named, ("www.example.org", "sni", "1.2", False)),
        ("one", "1.2", nameless, ("www.example.org", "certificate", "1.2", False)),
        ("many", "1.2", named, ("www.example.org", "sni", "1.2", True)),
        ("many", "1.2", nameless, (MANY[0], "certificate", "1.2", False)),
        ("many", "1.2", ("-servername", MANY[-1]), (MANY[-1], "sni", "1.2", False)),
    ]
    for port, (kind, version, options, (host, method, shown, mismatch)) in enumerate(cases, 4430):
        site.serve(port, kind, version)
        site.connect(port, *options)
        assert site.flow(port) == {
            "protocol": "tls", "host": host, "method": method, "tls_version": shown,
            "resumed": False, "sni_mismatch": mismatch,
        }, (kind, version, options)  # fmt: skip
    strange = site.cli.json("flows", "--filter", "sni-mismatch:yes tls:1.2")["flows"]
    assert [flow["dport"] for flow in strange] == [4434]


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_session_that_goes_on(site: Site, tmp_path: Path, version: str) -> None:
    session = tmp_path / "session"
    site.serve(4430, "one", version)
    # The tickets of TLS 1.3 come after the handshake: the client waits for the server to close.
    first = ("-sess_out", str(session), "-servername", "www.example.org", "-ign_eof")
    client = site.veth.network.start(
        site.veth.left.namespace,
        *("openssl", "s_client", "-connect", f"{site.veth.right.v4}:4430", *first),
    )
    wait_for(session, client)
    site.veth.network.stop(client)
    assert site.flow(4430)["resumed"] is False
    site.cli("detach", "--all")
    site.cli.attach(site.veth.left)
    site.connect(4430, "-sess_in", str(session), "-servername", "www.example.org")
    (flow,) = site.cli.json("flows", "--filter", "dport:4430 resumed:yes")["flows"]
    assert (flow["tls_version"], flow["host"]) == (version, "www.example.org")


def wait_for(path: Path, child: subprocess.Popen[bytes]) -> None:
    """Until the file has something in it."""
    while not path.exists() or not path.stat().st_size:
        assert child.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.05)


@pytest.mark.parametrize("dialogue", DIALOGUES)
def test_tls_after_something_else(site: Site, dialogue: str) -> None:
    port = PORTS[dialogue]
    site.serve(port, "many", "1.2", dialogue)
    site.connect(port, "-starttls", dialogue, "-servername", "mx.example.com")
    flow = site.flow(port)
    assert flow.pop("method") in ("sni", "pattern")
    assert flow == {
        "protocol": PROTOCOLS[dialogue], "host": "mx.example.com", "tls_version": "1.2",
        "resumed": False, "sni_mismatch": True,
    }  # fmt: skip


# A hello of 3 kB, in fragments that fit the path.
OFFERED = ["webrtc", *(f"{number:03}".ljust(100, "x") for number in range(30))]
FRAGMENTS = ("-alpn", ",".join(OFFERED), "-mtu", "600")


@pytest.mark.parametrize("options", [(), FRAGMENTS], ids=["whole", "fragments"])
def test_dtls(site: Site, options: tuple[str, ...]) -> None:
    certificate, key = site.made["one"]
    server = site.veth.network.start(
        site.veth.right.namespace,
        # It would end with its standard input, before the client has all that it waits for.
        *("sh", "-c", 'tail -f /dev/null | openssl s_server "$@"', "sh"),
        *("-dtls1_2", "-accept", "4433"),
        *("-cert", str(certificate), "-key", str(key)),
        stdout=subprocess.PIPE,
    )
    assert server.stdout
    assert b"ACCEPT\n" in iter(server.stdout.readline, b"")
    site.connect(4433, "-dtls1_2", "-servername", "www.example.org", *options)
    flow = site.flow(4433)
    assert (flow["protocol"], flow["host"], flow["method"]) == ("dtls", "www.example.org", "sni")
    joined = site.cli.status()["counters"]["info_hello_joined"]["packets"]
    assert joined == bool(options)
    (flow,) = site.cli.json("flows", "--filter", "ja4:dd2d*")["flows"]
