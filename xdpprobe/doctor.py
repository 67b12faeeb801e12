# SPDX-License-Identifier: Apache-2.0
"""What this kernel, this process and an interface can and cannot do for the probe: for `doctor`.

Every finding that is not good carries the command that would help.
"""

import os
import resource
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from xdpprobe import detach, hooks, kernel, libbpf, netdev, netns, pins, privileges
from xdpprobe.abi import load_abi
from xdpprobe.advice import command
from xdpprobe.errors import KernelError, PrivilegeError, ProbeError
from xdpprobe.instance import Slot
from xdpprobe.pins import Pins
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


_SKIPPED = Finding("BPF", WARNING, "not checked: asking the kernel takes the privileges and libbpf")


def attached(bpffs: Path = pins.DEFAULT) -> list[Slot]:
    """What the probe under `bpffs` is attached to; nothing where there is none to be asked."""
    try:
        with open_instance(bpffs) as instance:
            return [slot for slot in instance.slots() if detach.live(instance, slot)]
    except ProbeError:
        return []


def machine(bpffs: Path = pins.DEFAULT) -> list[Finding]:
    """Checks that do not depend on an interface."""
    privileged, place, library = _capabilities(), _bpffs(bpffs), _libbpf()
    able = privileged.grade == library.grade == GOOD
    found = [_kernel(), privileged, place, library]
    found += _pinned(bpffs) if able and place.grade == GOOD else []
    found += [_jit(), _btf(), _memlock()]
    found += _features() if able else [_SKIPPED]
    return [*found, _tcx()]


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


def _pinned(bpffs: Path) -> list[Finding]:
    """What is pinned already, where that is in the way."""
    try:
        place = Pins(bpffs, load_abi().hash)
        others, exists = place.other_versions(), place.exists()
    except ProbeError as error:
        return [Finding("probe", BAD, error.what, error.hint)]
    text, fix = "a probe of another xdpprobe version is attached", ("detach", "--all")
    found = [
        Finding("probe", BAD, f"{text} ({path.name})", command(*fix, bpffs=bpffs))
        for path in others
    ]
    if exists:
        try:
            with open_instance(bpffs) as instance:
                instance.require_complete()
        except ProbeError as error:  # attach clears it away
            found.append(Finding("probe", WARNING, error.what, error.hint))
    return found


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


def _features() -> list[Finding]:
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


def interface(
    name: str, netns_name: str | None = None, own: Slots = (), bpffs: Path = pins.DEFAULT
) -> list[Finding]:
    """Checks of one interface. own: what the probe has. Raises UsageError for an unknown name."""
    try:
        space = netns.named(netns_name)
        with netns.entered(space):
            facts = netdev.look_up(name)
    except (PrivilegeError, KernelError) as error:
        return [Finding(name, BAD, error.what, error.hint)]
    for slot in own:
        if (slot.ifindex, slot.netns) == (facts.index, space.inode):
            text = f"attached: {hooks.Plan(slot.hooks, slot.mode, '').text}; attach would update it"
            return [Finding(name, GOOD, text)]
    plan = hooks.choose(facts, "auto", None, "both")
    inside, quoted = partial(netns.inside, space), shlex.quote(name)
    found = [Finding(name, GOOD, f"attach would take {plan.text}: {plan.why}")]
    if facts.state == "down":
        found.append(Finding(name, WARNING, "it is down", inside(f"ip link set {quoted} up")))
    if facts.xdp:
        names = ", ".join(str(number) for number in facts.xdp)
        grade = BAD if hooks.Hook.XDP in plan.hooks else WARNING
        text = f"an XDP program is on it already (id {names})"
        fix = command("attach", name, "--hook", "tc", bpffs=bpffs, netns=space.name)
        found.append(Finding(name, grade, text, fix))
    if hooks.Hook.XDP in plan.hooks:
        found += _native(facts, inside)
    return found


def _native(facts: netdev.Interface, inside: Callable[[str], str]) -> list[Finding]:
    """What keeps drivers from native XDP. inside: a command, in the interface's namespace."""
    name, found = facts.name, []
    quoted = shlex.quote(name)
    if facts.lro:
        text = "large receive offload is on, and native XDP cannot work with it"
        found.append(Finding(name, WARNING, text, inside(f"ethtool -K {quoted} lro off")))
    if facts.hides_tags:
        found.append(Finding(name, WARNING, hooks.TAGS_HIDDEN, inside(hooks.show_tags(quoted))))
    if facts.mtu > _SINGLE_BUFFER_MTU:
        text = f"MTU {facts.mtu} needs a driver with multi-buffer XDP; else attach takes tc"
        fix = inside(f"ip link set {quoted} mtu {_SINGLE_BUFFER_MTU}")
        found.append(Finding(name, WARNING, text, fix))
    if not shutil.which("ethtool") and found:
        found.append(Finding(name, WARNING, "ethtool is not installed", "apt install ethtool"))
    return found
