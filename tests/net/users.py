# SPDX-License-Identifier: Apache-2.0
"""The command line run by an ordinary user, with some capabilities or none."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.net.conftest import Cli
from xdpprobe.lab.namespaces import Namespace, Network

NEEDED = ("bpf", "net_admin", "perfmon")
UID, OTHER_UID = 65534, 65533
REPOSITORY = Path(__file__).parents[2]


def setpriv(uid: int, capabilities: tuple[str, ...]) -> list[str]:
    """What runs a command as that user, with these capabilities and no others."""
    kept = "".join(f",+{name}" for name in capabilities)
    sets = (f"--{which}=-all{kept}" for which in ("bounding-set", "inh-caps", "ambient-caps"))
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *sets]


@dataclass(frozen=True)
class User:
    """An ordinary user in a network namespace, with a directory of a bpffs for itself."""

    namespace: Namespace
    cli: Cli

    def run(
        self, *arguments: str, capabilities: tuple[str, ...] = NEEDED, uid: int = UID
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command of xdpprobe; `capabilities` are its only ones."""
        # Entering the namespace takes root: it comes first.
        inside = ["nsenter", f"--net=/run/netns/{self.namespace.name}"]
        return _run([*inside, *setpriv(uid, capabilities), *self.cli.argv(*arguments)])

    def refused(
        self, *arguments: str, capabilities: tuple[str, ...] = NEEDED, uid: int = UID
    ) -> str:
        """What a command that must fail says: one line."""
        done = self.run(*arguments, capabilities=capabilities, uid=uid)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("xdpprobe: ")
        assert done.stderr.count("\n") == 1
        return done.stderr


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=REPOSITORY,
    )


def ordinary(network: Network, namespace: Namespace) -> User:
    """A user whose bpffs directory is on a mount that others may pass through, as /sys/fs/bpf is
    where root says so. Skips the test where the user cannot read this checkout."""
    if _run([*setpriv(UID, ()), sys.executable, "-c", "import xdpprobe.cli"]).returncode:
        pytest.skip("this checkout cannot be read by other users")
    mount = network.mount_bpffs()
    for path in (network.path, mount):
        path.chmod(0o711)
    own = mount / "own"
    own.mkdir(mode=0o700)
    os.chown(own, UID, UID)
    return User(namespace, Cli(own))
