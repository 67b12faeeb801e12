# SPDX-License-Identifier: Apache-2.0
"""The lab put together.

    client0 --+
              switch -- lan0 router wan0 -- servers
    client1 --+

The probe goes on the router's `lan0`: all that clients send and receive crosses it once. Client
and server addresses are those that RFC 5737, RFC 3849 and RFC 1918 set apart.
"""

import json
import os
import selectors
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xdpprobe.errors import StateError
from xdpprobe.lab import run
from xdpprobe.lab.internet import NAME_SERVER, SERVER_PREFIX, SITES, SSH_NAME, host_records
from xdpprobe.lab.namespaces import Namespace, Network, python

CLIENTS = 2
RATE = 15.0  # requests a second and client namespace
PARALLEL = 8  # requests at once and client namespace
READY_DEADLINE = 10.0  # seconds until the servers must listen
LAN = "lan0"

TOOLS = {
    "ip": "iproute2",
    "mount": "mount",
    "setpriv": "util-linux",
    "openssl": "openssl",
    "curl": "curl",
    "dnsmasq": "dnsmasq-base",
    "dig": "bind9-dnsutils",
    "ssh-keyscan": "openssh-client",
}


@dataclass(frozen=True)
class Topology:
    """The namespaces of a lab."""

    clients: tuple[Namespace, ...]
    router: Namespace
    servers: Namespace


class Lab:
    """A running lab: servers answer; clients are quiet until `start_clients`."""

    def __init__(self, network: Network) -> None:
        run.require_tools(TOOLS)
        self.network = network
        self.interface = LAN
        topology = _build(network)
        self.clients = topology.clients
        self.router = topology.router
        self.servers = topology.servers
        self.ca = _certificate(network.path)
        self._load: list[subprocess.Popen[bytes]] = []
        self._daemons = [self._start_servers(), self._start_name_server()]

    def start_clients(self, rate: float = RATE) -> None:
        """Let every client fetch without pause, `rate` requests a second each."""
        for seed, client in enumerate(self.clients):
            options = {"ca": self.ca, "seed": seed, "rate": rate, "parallel": PARALLEL}
            arguments = [
                part for key, value in options.items() for part in (f"--{key}", f"{value}")
            ]
            program = python("xdpprobe.lab.clients", *arguments)
            self._load.append(self.network.start(client, *program, stdout=subprocess.PIPE))

    def stop_clients(self) -> tuple[int, int]:
        """End the clients; how many requests they had made, and how many of these failed."""
        done = failed = 0
        for child in self._load:
            child.terminate()
            assert child.stdout is not None
            summary = json.loads(child.stdout.read() or "{}")
            done += summary.get("requests", 0)
            failed += summary.get("failed", 0)
            self.network.stop(child)
        self._load.clear()
        return done, failed

    def wait(self, seconds: float) -> None:
        """Let the lab run so long; raises StateError as soon as one of its processes ends."""
        with selectors.DefaultSelector() as selector:
            for child in self._children():
                selector.register(os.pidfd_open(child.pid), selectors.EVENT_READ)
            selector.select(seconds)
            for key in list(selector.get_map().values()):
                os.close(key.fd)
        self.check()

    def check(self) -> None:
        """Raise StateError when one of the lab's processes has ended."""
        for child in self._children():
            if child.poll() is not None:
                words = self.network.last_words(child)
                raise StateError(f"a process of the lab ended with {child.returncode}: {words}")

    def _children(self) -> list[subprocess.Popen[bytes]]:
        return [*self._daemons, *self._load]

    def _start_servers(self) -> subprocess.Popen[bytes]:
        arguments = [str(self.ca), str(self.ca.with_name("key.pem"))]
        program = python("xdpprobe.lab.servers", *arguments)
        child = self.network.start(self.servers, *program, stdout=subprocess.PIPE)
        assert child.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            said = child.stdout.readline() if selector.select(READY_DEADLINE) else b""
        if said != b"ready\n":
            self.network.stop(child)
            raise StateError(f"the lab's servers do not start: {self.network.last_words(child)}")
        return child

    def _start_name_server(self) -> subprocess.Popen[bytes]:
        records = host_records().items()
        lines = ["no-resolv", "no-hosts", "no-daemon", "cache-size=0"]
        lines += [f"host-record={name},{v4},{v6}" for name, (v4, v6) in records]
        path = self.network.path / "dnsmasq.conf"
        path.write_text("\n".join(lines) + "\n")
        child = self.network.start(self.servers, "dnsmasq", f"--conf-file={path}")
        # dnsmasq says nowhere that it is ready: ask until it answers. The kernel refuses at once
        # while nobody listens.
        ask = ["dig", "+tries=1", "+time=1", f"@{NAME_SERVER[4]}", SITES[0].name]
        for _ in range(100):
            if self.servers.run(*ask, check=False).returncode == 0:
                return child
            if child.poll() is not None:
                break
        words = self.network.last_words(child)
        raise StateError(f"the lab's name server does not start: {words}")


@contextmanager
def running_lab() -> Iterator[Lab]:
    """A lab that is removed however the block is left.

    Raises PrivilegeError without root, StateError where a program is missing or fails.
    """
    with Network() as network:
        yield Lab(network)


def _build(network: Network) -> Topology:
    switch, router, servers = (network.add(role) for role in ("switch", "router", "servers"))
    clients = tuple(network.add(f"client{number}") for number in range(CLIENTS))
    switch.ip("link add bridge type bridge\nlink set bridge addrgenmode none\nlink set bridge up\n")
    for number, client in enumerate(clients):
        network.cable(client, "eth0", switch, f"port{number}")
        _configure_client(network, client, number)
    network.cable(router, LAN, switch, "uplink")
    network.cable(router, "wan0", servers, "eth0")
    for port in ("uplink", *(f"port{number}" for number in range(CLIENTS))):
        switch.ip(f"link set {port} master bridge\n")
    _configure_router(router)
    servers.sysctl(net__ipv6__ip_nonlocal_bind=1)  # IPv6 wants this to bind to the local routes
    servers.ip(
        f"address add {NAME_SERVER[4]}/24 dev eth0\n"
        f"address add {NAME_SERVER[6]}/64 dev eth0 nodad\n"
        "address add fe80::2/64 dev eth0 nodad\n"
        f"route add local {SERVER_PREFIX[4]} dev lo\n"  # all of the prefix is this host
        f"route add local {SERVER_PREFIX[6]} dev lo\n"
        "route add default via 192.0.2.1\n"
        "route add default via 2001:db8:0:1::1\n"
    )
    for namespace in (*clients, servers):
        namespace.wait_for_multicast("eth0")
    router.wait_for_multicast(LAN, "wan0")
    return Topology(clients, router, servers)


def _configure_client(network: Network, client: Namespace, number: int) -> None:
    client.ip(
        f"address add 10.20.0.{11 + number}/24 dev eth0\n"
        f"address add 2001:db8:1::{11 + number}/64 dev eth0 nodad\n"
        "route add default via 10.20.0.1\n"
        "route add default via 2001:db8:1::1\n"
    )
    files = {
        "resolv.conf": f"nameserver {NAME_SERVER[4]}\nnameserver {NAME_SERVER[6]}\n",
        "nsswitch.conf": "hosts: files dns\n",  # no name service of the machine's own
        "hosts": "127.0.0.1 localhost\n::1 localhost\n",
    }
    network.configure(client, files)


def _configure_router(router: Namespace) -> None:
    router.sysctl(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)
    router.ip(
        f"address add 10.20.0.1/24 dev {LAN}\n"
        f"address add 2001:db8:1::1/64 dev {LAN} nodad\n"
        f"address add fe80::1/64 dev {LAN} nodad\n"  # who forwards solicits neighbours from it
        "address add fe80::1/64 dev wan0 nodad\n"
        "address add 192.0.2.1/24 dev wan0\n"
        "address add 2001:db8:0:1::1/64 dev wan0 nodad\n"
        f"route add {SERVER_PREFIX[4]} via {NAME_SERVER[4]}\n"
        f"route add {SERVER_PREFIX[6]} via {NAME_SERVER[6]}\n"
    )


def _certificate(directory: Path) -> Path:
    """A throw-away certificate for all names, which is its own CA; its key is in key.pem."""
    path = directory / "ca.pem"
    names = ",".join(f"DNS:{name}" for name in [*(site.name for site in SITES), SSH_NAME])
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    files = ["-keyout", str(path.with_name("key.pem")), "-out", str(path)]
    what = ["-subj", "/CN=xdpprobe lab", "-days", "2", "-addext", f"subjectAltName={names}"]
    run.command(["openssl", "req", "-x509", *key, *files, *what])
    return path
