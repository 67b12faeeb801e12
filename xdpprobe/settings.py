# SPDX-License-Identifier: Apache-2.0
"""What the user may choose about a probe, and the load-time constants that follow from it."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass

from xdpprobe.abi import Abi
from xdpprobe.errors import UsageError

PRIVACY = ("none", "hash", "cut")
TUNNELS = ("outer", "inner")
_SETS_A_LOCK = 32  # at least; the default table has that many
_MAX_STRIPES = 16  # 5 MB of `retired`; beyond that CPUs share stripes, which costs nothing but time
_FLOWS = (1024, 1 << 24)
_NAMES = (1024, 1 << 22)


def _round_up(value: int, limits: tuple[int, int], option: str) -> int:
    low, high = limits
    if not low <= value <= high:
        raise UsageError(f"{option} {value} is out of range", f"{low} to {high} is possible")
    return 1 << (value - 1).bit_length()


@dataclass(frozen=True)
class Settings:
    """Sizes of the tables in entries (rounded up to powers of two) and times in seconds.

    privacy: what server names become before they leave the kernel: "none" keeps them, "hash"
    keeps a keyed hash only, "cut" keeps the registered domain. tunnels: whether flows are the
    tunnels ("outer") or what they carry ("inner"). Raises UsageError.
    """

    flows: int = 262144
    names: int = 32768
    idle_new: float = 30
    idle_established: float = 300
    idle_closed: float = 5
    active: float = 1800
    privacy: str = "none"
    tunnels: str = "outer"

    def __post_init__(self) -> None:
        object.__setattr__(self, "flows", _round_up(self.flows, _FLOWS, "--flows"))
        object.__setattr__(self, "names", _round_up(self.names, _NAMES, "--names"))
        for option in ("idle_new", "idle_established", "idle_closed", "active"):
            seconds = getattr(self, option)
            if not 0.1 <= seconds <= 86400:
                raise UsageError(
                    f"--{option.replace('_', '-')} {seconds} is out of range",
                    "0.1 to 86400 seconds are possible",
                )
        for option, known in (("privacy", PRIVACY), ("tunnels", TUNNELS)):
            value = getattr(self, option)
            if value not in known:
                raise UsageError(f"--{option} {value} is unknown", f"one of {', '.join(known)}")


def idle_seconds(settings: Settings) -> dict[str, float]:
    """enum flow_state -> seconds of silence that end a flow in that state."""
    return {
        "FLOW_NEW": settings.idle_new,
        "FLOW_ESTABLISHED": settings.idle_established,
        "FLOW_CLOSED": settings.idle_closed,
    }


def stripes(cpus: int) -> int:
    """How many times `retired` exists, so that few CPUs share a counter: a power of two."""
    return min(1 << (cpus - 1).bit_length(), _MAX_STRIPES)


def table_sizes(abi: Abi, settings: Settings, cpus: int) -> dict[str, int]:
    """Map name -> entries, for the maps whose size is not fixed in the object."""
    wanted = {
        "flow_hot": settings.flows,
        "flow_cold": settings.flows,
        "names": settings.names,
    }
    sizes = {
        name: entries * abi.element_dtype(name).itemsize // abi.maps[name].value_size
        for name, entries in wanted.items()
    }
    sizes["retired"] = abi.maps["retired"].max_entries * stripes(cpus)
    return sizes


def lock_stripes(abi: Abi, sets: int) -> int:
    """How many locks guard that many sets of flows, both powers of two.

    A flow's sets have the same lock: with fewer sets a lock the second one could only be the
    first.
    """
    return max(1, min(abi.maps["flow_lock"].max_entries, sets // _SETS_A_LOCK))


def constants(
    abi: Abi,
    settings: Settings,
    cpus: int,
    hz: int,
    seed: tuple[int, int],
    l4: Mapping[int, int],
) -> dict[str, int | bytes]:
    """The load-time constants (bpf/config.h) that all programs of one flow table share.

    hz: jiffies a second. seed: the flow table's hash key. l4: IP protocol number -> label.
    """
    sizes = table_sizes(abi, settings, cpus)
    by_number = bytearray(2 * 256)
    for number, label in l4.items():
        by_number[2 * number : 2 * number + 2] = label.to_bytes(2, "little")
    return {
        "seed_0": seed[0],
        "seed_1": seed[1],
        "set_mask": sizes["flow_hot"] - 1,
        "lock_mask": lock_stripes(abi, sizes["flow_hot"]) - 1,
        "name_mask": sizes["names"] - 1,
        "hello_mask": abi.maps["hello_slots"].max_entries - 1,
        "retired_stripes": stripes(cpus),
        "retired_shared": int(stripes(cpus) < cpus),
        "weak_memory": int(platform.machine() not in ("x86_64", "i686")),
        "idle_new": round(settings.idle_new * hz),
        "idle_established": round(settings.idle_established * hz),
        "idle_closed": round(settings.idle_closed * hz),
        "idle_least": round(
            min(settings.idle_new, settings.idle_established, settings.idle_closed) * hz
        ),
        "active_timeout": round(settings.active * hz),
        "owner_timeout": 5 * hz,
        "hello_timeout": 2 * hz,
        "fragment_timeout": 30 * hz,
        "hz": hz,
        "privacy": PRIVACY.index(settings.privacy),
        "tunnels": TUNNELS.index(settings.tunnels),
        "l4_protocol": bytes(by_number),
    }
