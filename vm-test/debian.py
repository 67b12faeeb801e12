# SPDX-License-Identifier: Apache-2.0
"""Debian's packages, fetched by apt from suites that this machine itself need not use.

Each suite gets an apt state of its own for each architecture; the mirror is the one that this
machine is set up for, and signatures are checked with this machine's keys.
"""

import subprocess
import time
from pathlib import Path

_FRESH = 24 * 3600.0  # seconds that a suite's lists are good for


class Unavailable(Exception):
    """A kernel or package that cannot be had here; says why."""


def run(command: list[str], where: Path | None = None) -> str:
    """Runs a command and returns what it printed. Raises Unavailable."""
    done = subprocess.run(
        command, cwd=where, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise Unavailable(f"{command[0]} {command[-1]}: {lines[-1]}")
    return done.stdout


class Apt:
    """apt on one suite for one architecture, apart from the machine's own sources and lists."""

    def __init__(self, suite: str, architecture: str, work: Path) -> None:
        self.suite = suite
        self._state = state = work / "apt" / f"{suite}-{architecture}"
        places = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "root",
            "Dir::Etc::sourcelist": state / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State": state,
            "Dir::State::status": state / "status",  # nothing is installed
            "Dir::Cache": state / "cache",
        }
        self._options = [word for key, value in places.items() for word in ("-o", f"{key}={value}")]

    def update(self) -> None:
        """Reads the suite's lists, once a day, and forgets what was fetched with earlier ones."""
        done = self._state / "done"
        if done.exists() and time.time() - done.stat().st_mtime < _FRESH:
            return
        (self._state / "lists/partial").mkdir(parents=True, exist_ok=True)
        (self._state / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
        (self._state / "status").touch()
        (self._state / "sources.list").write_text(f"deb {_mirror()} {self.suite} main\n")
        run(["apt-get", *self._options, "update"])
        run(["apt-get", *self._options, "clean"])  # unpack_system takes all that is there
        done.touch()

    def needs(self, package: str) -> set[str]:
        """The names of all that a package asks for, itself included."""
        command = ["apt-cache", *self._options, "depends", "--recurse", "--no-recommends"]
        command += ["--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", package]
        return {line.strip() for line in run(command).splitlines() if not line.startswith(" ")}

    def unpack(self, packages: list[str], to: Path) -> None:
        """Fetches packages, without what they ask for, and unpacks them into a directory."""
        run(["apt-get", *self._options, "download", *packages], to.resolve())
        for archive in to.glob("*.deb"):
            run(["dpkg-deb", "--extract", str(archive), str(to)])
            archive.unlink()

    def unpack_system(self, packages: list[str], to: Path) -> None:
        """Unpacks packages with all that they and a system need; none of them is configured."""
        archives = self._state / "cache/archives"
        command = ["apt-get", *self._options, "install", "--download-only", "--yes", "-qq"]
        run([*command, "--no-install-recommends", "?essential", *packages])
        for archive in archives.glob("*.deb"):
            run(["dpkg-deb", "--extract", str(archive), str(to)])


def _mirror() -> str:
    command = ["apt-get", "indextargets", "--format", "$(SITE)"]
    sites = run([*command, "Created-By: Packages", "Label: Debian"]).split()
    if not sites:
        raise Unavailable("apt has no Debian mirror: see `apt-get indextargets`")
    return sites[0]
