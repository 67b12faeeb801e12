# SPDX-License-Identifier: Apache-2.0
"""Fixtures of real traffic: own namespaces, an own bpffs, the command line as users run it.

Everything is removed at the end of its fixture; what a killed test run left behind goes when the
next `Network` is made.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import effort, inside
from xdpprobe.lab.lab import Lab, running_lab
from xdpprobe.lab.namespaces import Namespace, Network
from xdpprobe.probe import Probe

CLI_DEADLINE = 60.0


@dataclass(frozen=True)
class End:
    """One end of a cable: its namespace, interface and addresses."""

    namespace: Namespace
    interface: str
    mac: str
    v4: str
    v6: str

    def counters(self) -> dict[str, dict[str, int]]:
        """The interface's own counters, {"rx": {"packets", "bytes", ..}, "tx": {..}}."""
        return self.namespace.counters(self.interface)


@dataclass(frozen=True)
class Veth:
    """Two namespaces with one cable, on which nothing goes but what a test sends.

    Both ends know each other's link address and ask for none ("arp off"), so counts can be exact.
    """

    network: Network
    left: End
    right: End

    def offloads(self, enabled: bool) -> None:
        """Switch segmentation, receive merging and checksum offload of both ends."""
        state = "on" if enabled else "off"
        features = ("tso", "gso", "gro", "tx", "rx")
        for end in (self.left, self.right):
            words = [word for feature in features for word in (feature, state)]
            end.namespace.run("ethtool", "-K", end.interface, *words)

    def mtu(self, octets: int) -> None:
        """Set the MTU of both ends."""
        for end in (self.left, self.right):
            end.namespace.ip(f"link set {end.interface} mtu {octets}\n")


class Cli:
    """The command line of this interpreter's xdpprobe, on a bpffs of its own."""

    def __init__(self, bpffs: Path) -> None:
        self.bpffs = bpffs

    def argv(self, *arguments: str) -> list[str]:
        """The whole command line, for tests that start it themselves."""
        return [sys.executable, "-m", "xdpprobe", "--bpffs", str(self.bpffs), *arguments]

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command; fails the test when `check` and the exit code is not 0."""
        if effort.SHARE < 1:
            done = inside.run(["--bpffs", str(self.bpffs), *arguments])
        else:
            done = subprocess.run(
                self.argv(*arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=CLI_DEADLINE,
                check=False,
            )
        if check and done.returncode != 0:
            pytest.fail(f"xdpprobe {' '.join(arguments)}: exit {done.returncode}: {done.stderr}")
        return done

    def at_once(self, *commands: Sequence[str]) -> list[int]:
        """Runs several commands at the same time; their exit codes. They print where this does."""
        if effort.SHARE < 1:
            started = [inside.start(["--bpffs", str(self.bpffs), *one]) for one in commands]
            return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in started]
        children = [subprocess.Popen(self.argv(*one)) for one in commands]
        return [child.wait(CLI_DEADLINE) for child in children]

    def json(self, *arguments: str) -> Any:
        """What a command with --json prints, parsed."""
        return json.loads(self(*arguments, "--json").stdout)

    def status(self) -> dict[str, Any]:
        """As `status --json`, but moments as tables have them: those never differ by rounding."""
        found: dict[str, Any] = self.json("status")
        with Probe.open(self.bpffs) as probe:
            info = probe.tables().read("info")
            found["since"] = int(info["since_ns"])
            found["signatures_loaded"] = int(info["loaded_ns"])
            for entry, slot in zip(found["interfaces"], probe.instance.slots(), strict=True):
                entry["since"] = slot.since_ns
        return found

    def attach(self, end: End, *options: str) -> subprocess.CompletedProcess[str]:
        """Attach to one end of a cable."""
        return self("attach", "--netns", end.namespace.name, *options, end.interface)


@pytest.fixture
def network() -> Iterator[Network]:
    """An empty network: add namespaces and cables to it."""
    with Network() as network:
        yield network


@pytest.fixture
def cli(network: Network) -> Iterator[Cli]:
    """The command line on a fresh bpffs of `network`; detached at the end."""
    cli = Cli(network.mount_bpffs())
    yield cli
    cli("detach", "--all", check=False)


def two_ends(network: Network) -> Veth:
    """Two namespaces and a cable, 10.0.0.1 and fd00::1 on the left, .2 and ::2 on the right."""
    spaces = {name: network.add(name) for name in ("left", "right")}
    network.cable(spaces["left"], "eth0", spaces["right"], "eth0")
    ends = {}
    for name, last in (("left", 1), ("right", 2)):
        space = spaces[name]
        mac = str(space.links()["eth0"]["address"])
        ends[name] = End(space, "eth0", mac, f"10.0.0.{last}", f"fd00::{last}")
        # With ARP each address joins a multicast group, which the kernel reports when it likes.
        space.ip(
            f"link set eth0 arp off\n"
            f"address add 10.0.0.{last}/24 dev eth0\naddress add fd00::{last}/64 dev eth0 nodad\n"
        )
    for here, there in (("left", ends["right"]), ("right", ends["left"])):
        spaces[here].ip(
            "".join(
                f"neighbour replace {address} lladdr {there.mac} dev eth0 nud permanent\n"
                for address in (there.v4, there.v6)
            )
        )
    return Veth(network, ends["left"], ends["right"])


@pytest.fixture
def veth(network: Network) -> Veth:
    """The cable of `two_ends`."""
    return two_ends(network)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The demo's internet, its clients quiet: a module's tests share it."""
    with running_lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def lab_cli(lab: Lab) -> Iterator[Cli]:
    """The command line on a bpffs of the lab's own; detached at the module's end."""
    cli = Cli(lab.network.mount_bpffs())
    yield cli
    cli("detach", "--all", check=False)
