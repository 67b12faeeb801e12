# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels, fetched by apt from suites that this machine itself need not use.

Each suite gets an apt state of its own; the mirror is the one that this machine is set up for, and
signatures are checked with this machine's keys.
"""

import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_PARTS = re.compile(r"linux-(image|binary|modules|base)-\d")
_FRESH = 24 * 3600.0  # seconds that a suite's lists are good for


class Unavailable(Exception):
    """A kernel that cannot be had here; says why."""


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel. release: as `uname -r` says it. modules: directory of that name."""

    release: str
    image: Path
    modules: Path


def fetch(name: str, suite: str, package: str, work: Path) -> Kernel:
    """Downloads and unpacks the newest kernel of a suite, unless it is there already.

    Raises Unavailable.
    """
    place = work / "kernels" / name
    apt = _Apt(suite, work / "apt" / suite)
    apt.update()
    packages = apt.parts(package)
    wanted = "\n".join(sorted(packages))
    stamp = place / "packages"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        apt.download(packages, place)
        for archive in place.glob("*.deb"):
            _run(["dpkg-deb", "--extract", str(archive), str(place)])
            archive.unlink()
        stamp.write_text(wanted)
    return _found(place)


def _found(place: Path) -> Kernel:
    for root in (place / "usr/lib/modules", place / "lib/modules"):
        for modules in root.glob("*"):
            for image in (modules / "vmlinuz", place / "boot" / f"vmlinuz-{modules.name}"):
                if image.exists():
                    _run(["depmod", "--basedir", str(root.parent.parent), modules.name])
                    return Kernel(modules.name, image, modules)
    raise Unavailable(f"no kernel image below {place}")


def _run(command: list[str], where: Path | None = None) -> str:
    done = subprocess.run(
        command, cwd=where, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise Unavailable(f"{command[0]} {command[-1]}: {lines[-1]}")
    return done.stdout


class _Apt:
    """apt on one suite, apart from the machine's own sources and lists."""

    def __init__(self, suite: str, state: Path) -> None:
        self._suite, self._state = suite, state
        places = {
            "Dir::Etc::sourcelist": state / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State::lists": state / "lists",
            "Dir::Cache": state / "cache",
            "APT::Sandbox::User": "root",
        }
        self._options = [word for key, value in places.items() for word in ("-o", f"{key}={value}")]

    def update(self) -> None:
        """Reads the suite's lists, once a day."""
        done = self._state / "done"
        if done.exists() and time.time() - done.stat().st_mtime < _FRESH:
            return
        (self._state / "lists/partial").mkdir(parents=True, exist_ok=True)
        (self._state / "cache/archives/partial").mkdir(parents=True, exist_ok=True)
        (self._state / "sources.list").write_text(f"deb {_mirror()} {self._suite} main\n")
        _run(["apt-get", *self._options, "update"])
        (self._state / "done").touch()

    def parts(self, package: str) -> list[str]:
        """The packages with the image and the modules that a metapackage asks for."""
        command = ["apt-cache", *self._options, "depends", "--recurse", "--no-recommends"]
        command += ["--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces", package]
        names = {line.strip() for line in _run(command).splitlines() if not line.startswith(" ")}
        found = [name for name in names if _PARTS.match(name) and not name.endswith("-unsigned")]
        if not found:
            raise Unavailable(f"{self._suite} has no {package}")
        return found

    def download(self, packages: list[str], to: Path) -> None:
        """Fetches packages into a directory."""
        _run(["apt-get", *self._options, "download", *packages], to.resolve())


def _mirror() -> str:
    command = ["apt-get", "indextargets", "--format", "$(SITE)"]
    sites = _run([*command, "Created-By: Packages", "Label: Debian"]).split()
    if not sites:
        raise Unavailable("apt has no Debian mirror: see `apt-get indextargets`")
    return sites[0]
