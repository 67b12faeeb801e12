# SPDX-License-Identifier: Apache-2.0
"""What a lab process has on the machine outside itself."""

from pathlib import Path

from xdpprobe.lab import run


def remains(pid: int) -> list[str]:
    """Names of namespaces, directories and mounts that the lab of process `pid` made."""
    places = (run.NETNS_DIRECTORY, run.NETNS_CONFIG, run.WORK_ROOT)
    names = [entry.name for place in places if place.is_dir() for entry in place.iterdir()]
    names += Path("/proc/self/mounts").read_text(errors="surrogateescape").split()
    return [name for name in names if f"xdplab-{pid}-" in name]
