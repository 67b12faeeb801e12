# SPDX-License-Identifier: Apache-2.0
"""What the running kernel can do, as far as the data plane depends on it."""

import os
import re

from xdpprobe.errors import StateError
from xdpprobe.libbpf import library

FLOOR = (6, 1)
TCX_SINCE = (6, 6)
_XDP, _SCHED_CLS = 6, 3  # enum bpf_prog_type of linux/bpf.h
# enum bpf_func_id. bpf_ktime_get_coarse_ns, bpf_loop, bpf_xdp_get_buff_len, bpf_xdp_load_bytes.
_HELPERS = {
    "bpf_ktime_get_coarse_ns": (160, _SCHED_CLS),
    "bpf_loop": (181, _XDP),
    "bpf_xdp_get_buff_len": (188, _XDP),
    "bpf_xdp_load_bytes": (189, _XDP),
}


def release() -> str:
    """As `uname -r`."""
    return os.uname().release


def version() -> tuple[int, int]:
    """Major and minor number of the running kernel."""
    found = re.match(r"(\d+)\.(\d+)", release())
    return (int(found[1]), int(found[2])) if found else (0, 0)


def has_helper(name: str) -> bool:
    """Whether the kernel has a helper of `helpers()`; asks by loading a tiny program."""
    number, kind = _HELPERS[name]
    return bool(library().libbpf_probe_bpf_helper(kind, number, None) == 1)


def helpers() -> list[str]:
    """The younger helpers that the data plane calls."""
    return list(_HELPERS)


def require() -> None:
    """Raises StateError on a kernel that lacks what the data plane needs, naming it.

    Distributions carry features back, so an older version number alone refuses nothing.
    """
    if version() >= FLOOR:
        return
    missing = [name for name in _HELPERS if not has_helper(name)]
    if missing:
        raise StateError(
            f"Linux {release()} is too old: it has no {', '.join(missing)}",
            f"version {FLOOR[0]}.{FLOOR[1]} or later is needed",
        )
