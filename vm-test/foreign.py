# SPDX-License-Identifier: Apache-2.0
"""The root of a guest of another architecture: nothing of it can be run here, only unpacked.

Packages are Debian's, not configured; .venv is put together by hand, with the wheels of the
versions that requirements-ci.txt pins.
"""

import shutil
import sys
from pathlib import Path

from architecture import Architecture
from debian import Apt, Unavailable, run

# What PyPI's wheels ask of a C library; Debian's is newer.
_TAGS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")


def fill(
    root: Path, project: Path, packages: list[str], architecture: Architecture, apt: Apt
) -> None:
    """Unpacks packages with all they need; makes the .venv of the project that stands here.

    Raises Unavailable.
    """
    apt.update()
    apt.unpack_system(packages, root)
    python = (root / "usr/bin/python3").readlink().name
    venv = root / project.relative_to("/") / ".venv"
    site = venv / "lib" / python / "site-packages"
    _wheels(site, python.removeprefix("python"), architecture, project)
    (site / "project.pth").write_text(f"{project}\n")
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = true\n")
    (venv / "bin").mkdir()
    (venv / "bin/python").symlink_to(f"/usr/bin/{python}")
    shutil.copy(project / ".venv/bin/xdpprobe", venv / "bin/xdpprobe")


def _wheels(site: Path, version: str, architecture: Architecture, project: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    command += ["--only-binary=:all:", "--no-deps", "--no-compile", "--python-version", version]
    for tag in _TAGS:
        command += ["--platform", f"{tag}_{architecture.wheels}"]
    command += ["--target", str(site), "-r", str(project / "requirements-ci.txt")]
    try:
        run(command)
    except Unavailable as error:
        raise Unavailable(f"wheels for {architecture.debian}, Python {version}: {error}") from None
