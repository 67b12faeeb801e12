# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels, unpacked."""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from debian import Apt, Unavailable, run

_PARTS = re.compile(r"linux-(image|binary|modules|base)-\d")


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel. release: as `uname -r` says it. modules: directory of that name."""

    release: str
    image: Path
    modules: Path


def fetch(name: str, apt: Apt, package: str, work: Path) -> Kernel:
    """Downloads and unpacks the newest kernel of a suite, unless it is there already.

    package: the metapackage that asks for it. Raises Unavailable.
    """
    place = work / "kernels" / name
    apt.update()
    packages = [part for part in apt.needs(package) if _PARTS.match(part)]
    packages = [part for part in packages if not part.endswith("-unsigned")]
    if not packages:
        raise Unavailable(f"{apt.suite} has no {package}")
    wanted = "\n".join(sorted(packages))
    stamp = place / "packages"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        apt.unpack(packages, place)
        stamp.write_text(wanted)
    return _found(place)


def _found(place: Path) -> Kernel:
    for root in (place / "usr/lib/modules", place / "lib/modules"):
        for modules in root.glob("*"):
            for image in (modules / "vmlinuz", place / "boot" / f"vmlinuz-{modules.name}"):
                if image.exists():
                    run(["depmod", "--basedir", str(root.parent.parent), modules.name])
                    return Kernel(modules.name, image, modules)
    raise Unavailable(f"no kernel image below {place}")
