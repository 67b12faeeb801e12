# SPDX-License-Identifier: Apache-2.0
"""What this kernel, this process and an interface can and cannot do for the probe: for `doctor`.

Every finding that is not good carries the command that would help.
"""

import os
import resource
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xdpprobe import detach, hooks, kernel, libbpf, netdev, netns, pins, privileges
from xdpprobe.errors import ProbeError
from xdpprobe.instance import Slot
from xdpprobe.probe import open_instance

Slots = Sequence[Slot]

GOOD, WARNING, BAD = "ok", "warning", "missing"
_PROGRAM_TYPES = {"XDP": 6, "tc": 3}  # enum bpf_prog_type
_MAP_TYPES = {"LPM trie": 11, "array of maps": 12, "ring buffer": 27}  # enum bpf_map_type
_JIT = Path("/proc/sys/net/core/bpf_jit_enable")
_BTF = Path("/sys/kernel/btf/vmlinux")
# Above that a driver needs multi-buffer XDP, which the probe has, but not every driver.
_SINGLE_BUFFER_MTU = 3498


@dataclass(frozen=True)
class Finding:
    """One check. grade: GOOD, WARNING (works, but...) or BAD (attach fails). fix: a command."""

    subject: str
    grade: str
    text: str
    fix: str = ""


def attached(bpffs: Path = pins.DEFAULT) -> list[Slot]:
    """What the probe under `bpffs` is attached to; nothing where there is none to be asked."""
    try:
        with open_instance(bpffs) as instance:
            return [slot for slot in instance.slots() if detach.live(instance, slot)]
    except ProbeError:
        return []


def machine(bpffs: Path = pins.DEFAULT) -> list[Finding]:
    """Checks that do not depend on an interface."""
    found = [_kernel(), _capabilities(), _bpffs(bpffs), _libbpf(), _jit(), _btf(), _memlock()]
    if not privileges.missing_capabilities():
        found += _probes()
    found.append(_tcx())
    return found


def _kernel() -> Finding:
    floor = f"{kernel.FLOOR[0]}.{kernel.FLOOR[1]}"
    if kernel.version() >= kernel.FLOOR:
        return Finding("kernel", GOOD, f"Linux {kernel.release()}")
    return Finding(
        "kernel",
        WARNING,
        f"Linux {kernel.release()} is older than {floor}; what follows tells if it will do",
    )


def _capabilities() -> Finding:
    missing = privileges.missing_capabilities()
    if not missing:
        return Finding("privileges", GOOD, "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON")
    return Finding("privileges", BAD, f"this process lacks {', '.join(missing)}", "run it as root")


def _bpffs(bpffs: Path) -> Finding:
    try:
        pins.check_bpffs(bpffs)
    except ProbeError as error:
        return Finding("bpffs", BAD, error.what, error.hint.removeprefix("mount one: "))
    if os.statvfs(bpffs).f_flag & os.ST_RDONLY:
        fix = f"mount -o remount,rw {bpffs}"
        return Finding("bpffs", BAD, f"{bpffs} is mounted read-only", fix)
    return Finding("bpffs", GOOD, f"mounted at {bpffs}")


def _libbpf() -> Finding:
    try:
        return Finding("libbpf", GOOD, f"version {libbpf.version()}")
    except ProbeError as error:
        return Finding("libbpf", BAD, error.what, "apt install libbpf1")


def _jit() -> Finding:
    try:
        on = _JIT.read_text().strip() != "0"
    except OSError:
        return Finding("JIT", GOOD, "always on")
    if on:
        return Finding("JIT", GOOD, "on")
    fix = "sysctl net.core.bpf_jit_enable=1"
    return Finding("JIT", WARNING, "off: every packet costs several times as much", fix)


def _btf() -> Finding:
    if _BTF.exists():
        return Finding("BTF", GOOD, "the kernel describes its types")
    return Finding("BTF", WARNING, "the kernel has no BTF; the probe does not need it")


def _memlock() -> Finding:
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    text = "unlimited" if limit == resource.RLIM_INFINITY else f"{limit >> 10} KiB"
    return Finding("memlock", GOOD, f"{text}; tables count against the memory cgroup since 5.11")


def _probes() -> list[Finding]:
    library = libbpf.library()
    checks = {
        f"{name} programs": library.libbpf_probe_bpf_prog_type(number, None) == 1
        for name, number in _PROGRAM_TYPES.items()
    }
    checks |= {
        f"{name} maps": library.libbpf_probe_bpf_map_type(number, None) == 1
        for name, number in _MAP_TYPES.items()
    }
    checks |= {f"helper {name}": kernel.has_helper(name) for name in kernel.helpers()}
    missing = [name for name, there in checks.items() if not there]
    if not missing:
        return [Finding("BPF", GOOD, f"all {len(checks)} features that the probe uses")]
    floor = f"{kernel.FLOOR[0]}.{kernel.FLOOR[1]}"
    fix = f"boot Linux {floor} or later"
    return [Finding("BPF", BAD, f"the kernel has no {name}", fix) for name in missing]


def _tcx() -> Finding:
    if kernel.version() >= kernel.TCX_SINCE:
        return Finding("tc", GOOD, "TCX: programs are held by links")
    return Finding("tc", GOOD, "clsact: programs are filters (TCX comes with Linux 6.6)")


def interface(name: str, netns_name: str | None = None, own: Slots = ()) -> list[Finding]:
    """Checks of one interface. own: what the probe has. Raises UsageError for an unknown name."""
    space = netns.named(netns_name)
    with netns.entered(space):
        facts = netdev.look_up(name)
    for slot in own:
        if (slot.ifindex, slot.netns) == (facts.index, space.inode):
            text = f"attached: {hooks.Plan(slot.hooks, slot.mode, '').text}; attach would update it"
            return [Finding(name, GOOD, text)]
    plan = hooks.choose(facts, "auto", None, "both")
    found = [Finding(name, GOOD, f"attach would take {plan.text}: {plan.why}")]
    if facts.state == "down":
        found.append(Finding(name, WARNING, "it is down", f"ip link set {name} up"))
    if facts.xdp:
        names = ", ".join(str(number) for number in facts.xdp)
        grade = BAD if hooks.Hook.XDP in plan.hooks else WARNING
        text = f"an XDP program is on it already (id {names})"
        found.append(Finding(name, grade, text, f"xdpprobe attach {name} --hook tc"))
    if hooks.Hook.XDP in plan.hooks:
        found += _native(facts)
    return found


def _native(facts: netdev.Interface) -> list[Finding]:
    """What keeps drivers from native XDP."""
    name, found = facts.name, []
    if facts.lro:
        text = "large receive offload is on, and native XDP cannot work with it"
        found.append(Finding(name, WARNING, text, f"ethtool -K {name} lro off"))
    if facts.hides_tags:
        found.append(Finding(name, WARNING, hooks.TAGS_HIDDEN, hooks.show_tags(name)))
    if facts.mtu > _SINGLE_BUFFER_MTU:
        text = f"MTU {facts.mtu} needs a driver with multi-buffer XDP; else attach takes tc"
        found.append(Finding(name, WARNING, text, f"ip link set {name} mtu {_SINGLE_BUFFER_MTU}"))
    if not shutil.which("ethtool") and found:
        found.append(Finding(name, WARNING, "ethtool is not installed", "apt install ethtool"))
    return found
