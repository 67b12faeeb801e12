# SPDX-License-Identifier: Apache-2.0
"""Real clients connect to as many different host names, and every flow must have its own.

    sudo .venv/bin/python -m tools.check_names [--connections 1000]

curl, OpenSSL, aioquic and Chromium (where it is installed), over TCP and QUIC, in namespaces of
their own with a probe on the cable between them. What a connection was for is what its client
says, or else (Chromium) what its server read; the flow of the same client port must have that name.
Prints a table, and ends with 1 unless each flow has the right one.
"""

import argparse
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tests.net import quic_ends, tls_ends
from tests.net.conftest import Cli, Veth, two_ends
from xdpprobe.lab.namespaces import Network

CONNECTIONS = 1000
FIRST_PORT = 20000  # of the servers, one a client
DEADLINE = 180.0  # s, for all connections of a client
SMALL = 300  # an MTU that cuts a hello of 500 bytes in three
PYTHON = (sys.executable, "-m")
READY = {"tls": tls_ends.READY, "quic": quic_ends.READY}
QUIC_2 = 0x6B3343CF  # RFC 9369, 3.1
HTTP_1 = ("--tls-max", "1.2", "--http1.1")
HEADLESS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


@dataclass
class Site:
    """The servers' side of a cable, the probe on its clients' side."""

    veth: Veth
    cli: Cli
    files: tuple[str, str]  # certificate and key
    ports: Iterator[int] = field(default_factory=lambda: iter(range(FIRST_PORT, FIRST_PORT + 100)))

    @contextmanager
    def server(self, kind: str) -> Iterator[tuple[int, Path]]:
        """One of `tls` or `quic`: its port, and the file with what it says of its clients."""
        port = next(self.ports)
        log = self.veth.network.path / f"{kind}-{port}"
        address, (made, key) = self.veth.right.v4, self.files
        if kind == "tls":
            argv = ["tests.net.tls_ends", "server", address, str(port)]
        else:
            argv = ["tests.net.quic_ends", "server", address, "--port", str(port), "--tell"]
        argv += ["--certificate", made, "--key", key]
        with log.open("wb") as output:
            child = self.veth.network.start(
                self.veth.right.namespace, *PYTHON, *argv, stdout=output
            )
        while READY[kind] not in log.read_text():
            if child.poll() is not None:
                raise SystemExit(f"the {kind} server ended: {self.veth.network.last_words(child)}")
        try:
            yield port, log
        finally:
            self.veth.network.stop(child)

    def run(self, *argv: str, check: bool = True) -> str:
        """A client's output."""
        left = self.veth.left.namespace
        return left.run(*argv, check=check, timeout=DEADLINE).stdout


# Client port -> the name that the connection was for. A browser may use a port a second time, which
# over UDP is the same flow still: it is called by either name.
Meant = dict[int, set[str]]
Client = Callable[[Site, int, Path, list[str]], Meant]


@dataclass(frozen=True)
class Case:
    """A client, how it is called in the table, its share of the connections."""

    name: str
    transport: str
    share: float
    client: Client


def pairs(text: str) -> Meant:
    """Lines "PORT NAME"; of a URL, its host."""
    meant: Meant = {}
    for words in map(str.split, text.splitlines()):
        if len(words) == 2:
            meant.setdefault(int(words[0]), set()).add(urlsplit(words[1]).hostname or words[1])
    return meant


def curl(site: Site, port: int, _: Path, names: list[str], options: Sequence[str]) -> Meant:
    said = site.run(
        *("curl", "-sk", "--connect-to", f"::{site.veth.right.v4}:", *options),
        *("-w", "%{local_port} %{url}\n"),
        *(f"https://{name}:{port}/" for name in names),
    )
    return pairs(said)


def in_small_segments(site: Site, port: int, log: Path, names: list[str]) -> Meant:
    site.veth.mtu(SMALL)
    try:
        return curl(site, port, log, names, ["--tlsv1.3"])
    finally:
        site.veth.mtu(1500)


def openssl(site: Site, port: int, _: Path, names: list[str], version: str) -> Meant:
    argv = ("tests.net.tls_ends", "client", site.veth.right.v4, str(port), "--version", version)
    return pairs(site.run(*PYTHON, *argv, "--name", *names))


def aioquic(site: Site, port: int, _: Path, names: list[str], options: Sequence[str]) -> Meant:
    argv = ("tests.net.quic_ends", "client", site.veth.right.v4, "--port", str(port), "--tell")
    return pairs(site.run(*PYTHON, *argv, *options, "--name", *names))


def chromium(site: Site, port: int, log: Path, names: list[str], quic: bool) -> Meant:
    """One browser and a page with a picture of each host."""
    page = site.veth.network.path / f"page-{port}.html"
    page.write_text("".join(f'<img src="https://{name}:{port}/">' for name in names))
    origins = ",".join(f"{name}:{port}" for name in names)
    site.run(
        *("chromium", *HEADLESS, "--ignore-certificate-errors"),
        f"--user-data-dir={site.veth.network.path}/browser-{port}",
        *((f"--origin-to-force-quic-on={origins}",) if quic else ("--disable-quic",)),
        f"--host-resolver-rules=MAP * {site.veth.right.v4}",
        *("--timeout=60000", "--dump-dom", page.as_uri()),
        check=False,
    )
    return {at: hosts for at, hosts in pairs(log.read_text()).items() if hosts <= set(names)}


def cases() -> list[Case]:
    """All clients that there are; their shares are 1 together, if Chromium is there."""
    two = ["--version", str(QUIC_2)]
    found = [
        Case("curl, TLS 1.2", "tls", 0.15, partial(curl, options=HTTP_1)),
        Case("curl, TLS 1.3", "tls", 0.15, partial(curl, options=["--tlsv1.3"])),
        Case("curl, small segments", "tls", 0.1, in_small_segments),
        Case("OpenSSL, TLS 1.2, hello of 3 kB", "tls", 0.05, partial(openssl, version="1.2")),
        Case("OpenSSL, TLS 1.3, hello of 3 kB", "tls", 0.05, partial(openssl, version="1.3")),
        Case("aioquic, v1", "quic", 0.05, partial(aioquic, options=[])),
        Case("aioquic, v1, two datagrams", "quic", 0.05, partial(aioquic, options=["--long"])),
        Case("aioquic, v2", "quic", 0.05, partial(aioquic, options=two)),
        Case(
            "aioquic, v2, two datagrams", "quic", 0.05, partial(aioquic, options=[*two, "--long"])
        ),
    ]
    if shutil.which("chromium"):
        found += [
            Case("Chromium", "tls", 0.15, partial(chromium, quic=False)),
            Case("Chromium", "quic", 0.15, partial(chromium, quic=True)),
        ]
    return found


def compare(site: Site, case: Case, names: list[str]) -> tuple[int, int, int, int]:
    """Of a client's flows: how many there were, named right, wrong, not at all."""
    with site.server(case.transport) as (port, log):
        meant = case.client(site, port, log, names)
    missing = set(names) - set().union(*meant.values())
    if missing:
        raise SystemExit(f"{case.name} did not connect to {len(missing)} of {len(names)} hosts")
    found = site.cli.json("flows", "--filter", f"dport:{port}", "--limit", "0")["flows"]
    hosts = {flow["sport"]: flow["host"] for flow in found}
    right = sum(hosts.get(at) in those for at, those in meant.items())
    none = sum(hosts.get(at) is None for at in meant)
    return len(meant), right, len(meant) - right - none, none


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    total = parser.parse_args().connections
    print(f"{'client':33} {'over':5} {'flows':>5} {'right':>5} {'wrong':>5} {'none':>5}")
    sums = [0, 0, 0, 0]
    with Network() as network:
        site = Site(
            two_ends(network), Cli(network.mount_bpffs()), tls_ends.certificate(network.path)
        )
        # The receiving end sees segments as a wire has them.
        site.veth.offloads(False)
        site.cli.attach(site.veth.right)
        try:
            for number, case in enumerate(cases()):
                count = max(1, round(case.share * total))
                names = [f"host{i}.client{number}.example.org" for i in range(count)]
                row = compare(site, case, names)
                sums = [a + b for a, b in zip(sums, row, strict=True)]
                print(f"{case.name:33} {case.transport:5} " + " ".join(f"{n:5}" for n in row))
        finally:
            site.cli("detach", "--all", check=False)
    print(f"{'all':33} {'':5} " + " ".join(f"{n:5}" for n in sums))
    return sums[0] != sums[1]


if __name__ == "__main__":
    sys.exit(main())
