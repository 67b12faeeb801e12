# SPDX-License-Identifier: Apache-2.0
"""Network namespaces that go away again: made by role, joined by cables, removed together."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from xdpprobe.errors import KernelError, ProbeError
from xdpprobe.lab import run
from xdpprobe.lab.orderly import deferred

LINK_DEADLINE = 5.0  # seconds until a cable whose two ends are up must carry
STOP_DEADLINE = 3.0  # seconds between asking a process to end and ending it
_sequence = itertools.count()


@dataclass(frozen=True)
class Namespace:
    """A network namespace of a `Network`."""

    name: str

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` inside."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(
        self, *argv: str, check: bool = True, timeout: float = run.COMMAND_TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside and wait for it; raises KernelError when `check` and it fails."""
        done = subprocess.run(
            self.command(*argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise KernelError(f"{' '.join(argv)} in {self.name}: exit {done.returncode}: {last}")
        return done

    def ip(self, script: str) -> None:
        """Run the lines of `script` as `ip` commands inside; raises KernelError at a bad one."""
        run.command(["ip", "-n", self.name, "-batch", "-"], script)

    def sysctl(self, **values: int) -> None:
        """Set sysctls inside; `net__ipv4__ip_forward` is net.ipv4.ip_forward."""
        for name, value in values.items():
            path = f"/proc/sys/{name.replace('__', '/')}"
            self.run("sh", "-c", 'echo "$1" > "$2"', "sh", str(value), path)

    def links(self) -> dict[str, dict[str, Any]]:
        """Interface name -> what `ip -s -j -d link` says of it, the counters among it."""
        text = run.command(["ip", "-n", self.name, "-s", "-d", "-j", "link", "show"])
        return {link["ifname"]: link for link in json.loads(text)}

    def counters(self, interface: str) -> dict[str, dict[str, int]]:
        """The interface's own counters: {"rx": {"bytes": .., "packets": ..}, "tx": {..}}."""
        found: dict[str, dict[str, int]] = self.links()[interface]["stats64"]
        return found

    def wait_for_carrier(self, *interfaces: str) -> None:
        """Return when the interfaces can send; raises KernelError after LINK_DEADLINE."""
        self._wait(lambda link: "LOWER_UP" in link["flags"] and link["qdisc"] != "noop", interfaces)

    def wait_for_multicast(self, *interfaces: str) -> None:
        """As `wait_for_carrier`, and IPv6 has its multicast routes: neighbour discovery works.

        Takes up to a second more, since the kernel looks at links only so often.
        """
        self._wait(lambda link: bool(link["operstate"] == "UP"), interfaces)

    def _wait(self, ready: Callable[[dict[str, Any]], bool], interfaces: tuple[str, ...]) -> None:
        end = time.monotonic() + LINK_DEADLINE
        while True:
            links = self.links()
            waiting = [name for name in interfaces if not ready(links[name])]
            if not waiting:
                return
            if time.monotonic() > end:
                raise KernelError(f"{', '.join(waiting)} in {self.name}: still no carrier")
            time.sleep(0.01)


class Network:
    """Namespaces, the processes in them and a work directory (`path`), as one thing to remove.

    Use it as a context manager: however the block is left, nothing stays. What a killed process
    could not remove, the next `Network` does.
    """

    def __init__(self) -> None:
        self._prefix = f"{run.prefix()}{next(_sequence)}-"
        self.path = run.WORK_ROOT / f"{self._prefix}work"
        self.namespaces: list[Namespace] = []
        self._children: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        run.require_root("a network of namespaces")
        run.remove_abandoned()
        self.path.mkdir(mode=0o700)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, role: str) -> Namespace:
        """A new namespace with its loopback up; Linux allows 255 bytes for its name."""
        namespace = Namespace(f"{self._prefix}{role}")
        self.namespaces.append(namespace)
        run.command(["ip", "netns", "add", namespace.name])
        namespace.ip("link set lo up\n")
        return namespace

    def cable(self, left: Namespace, left_name: str, right: Namespace, right_name: str) -> None:
        """A veth pair between two namespaces, both ends up and carrying.

        The ends have no link-local addresses, so the kernel sends nothing of its own but ARP and
        neighbour discovery for addresses in use.
        """
        left.ip(
            f"link add {left_name} type veth peer name {right_name} netns {right.name}\n"
            f"link set {left_name} addrgenmode none\n"
            f"link set {left_name} up\n"
        )
        right.ip(f"link set {right_name} addrgenmode none\nlink set {right_name} up\n")
        left.wait_for_carrier(left_name)
        right.wait_for_carrier(right_name)

    def configure(self, namespace: Namespace, files: dict[str, str]) -> None:
        """Give a namespace its own /etc/NAME files, as `ip netns exec` puts them in place."""
        directory = run.NETNS_CONFIG / namespace.name
        directory.mkdir(parents=True)
        for name, text in files.items():
            (directory / name).write_text(text)

    def mount_bpffs(self) -> Path:
        """A bpffs of this network's own, so that a real probe of the machine is not disturbed."""
        path = self.path / "bpf"
        path.mkdir(mode=0o700)
        run.command(["mount", "-t", "bpf", "-o", "mode=0700", "bpf", str(path)])
        return path

    def start(
        self, namespace: Namespace, *argv: str, stdout: int | IO[bytes] = subprocess.DEVNULL
    ) -> subprocess.Popen[bytes]:
        """Start a process inside; it ends with this network, or with this process.

        Its standard error goes to a file that `last_words` reads.
        """
        words = self.path / f"stderr-{len(self._children)}"
        with deferred(), words.open("wb") as stderr:
            child = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *namespace.command(*argv)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C is for this process, which ends its own in order
            )
            self._children.append(child)
        return child

    def last_words(self, child: subprocess.Popen[bytes]) -> str:
        """The last line that a process of `start` wrote to its standard error."""
        path = self.path / f"stderr-{self._children.index(child)}"
        return (path.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]

    def stop(self, child: subprocess.Popen[bytes]) -> None:
        """End a process of `start` and all it started."""
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        if child.stdout is not None:
            child.stdout.close()

    def close(self) -> None:
        """Remove everything. One part that cannot be removed does not keep the others."""
        failures: list[ProbeError] = []
        for child in reversed(self._children):
            self.stop(child)
        self._children.clear()
        for namespace in reversed(self.namespaces):
            try:
                run.remove_namespace(namespace.name)
            except ProbeError as error:
                failures.append(error)
        self.namespaces.clear()
        try:
            run.remove_work_directory(self.path)
        except ProbeError as error:
            failures.append(error)
        if failures:
            raise failures[0]


def python(module: str, *arguments: str) -> list[str]:
    """The command line of a module of this package, by this interpreter."""
    return [sys.executable, "-m", module, *arguments]
