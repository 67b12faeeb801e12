# SPDX-License-Identifier: Apache-2.0
"""One program on one hook of one interface: attach it, replace it, take it off.

Every call works in the network namespace that is current.
"""

import errno
import os
from pathlib import Path

from xdpprobe import clsact, kernel, syscall
from xdpprobe.errors import KernelError, StateError
from xdpprobe.hooks import Hook
from xdpprobe.netdev import Interface
from xdpprobe.pins import pinned

_MODE_FLAGS = {"native": syscall.XDP_NATIVE_MODE, "skb": syscall.XDP_SKB_MODE}
_TCX = {Hook.TC_INGRESS: syscall.TCX_INGRESS, Hook.TC_EGRESS: syscall.TCX_EGRESS}


def use_clsact() -> bool:
    """Whether tc programs go to clsact, for want of TCX."""
    return kernel.version() < kernel.TCX_SINCE


def by_clsact(hook: Hook) -> bool:
    """Whether a hook's program becomes a clsact filter."""
    return hook is not Hook.XDP and use_clsact()


def refuse_foreign(interface: Interface, hook: Hook) -> None:
    """Raises StateError when there is no room for a program, and names what is there."""
    if hook is Hook.XDP:
        _refuse_foreign_xdp(interface)
    elif use_clsact():
        _refuse_foreign_filter(interface, hook)


def _refuse_foreign_xdp(interface: Interface) -> None:
    if not interface.xdp:
        return
    number = interface.xdp[0]
    name = syscall.program_name(number)
    whose = f"XDP program {name} (id {number})" if name else f"XDP program with id {number}"
    also = " of another xdpprobe, perhaps under another --bpffs" if name == Hook.XDP.value else ""
    raise StateError(
        f"{interface.name} has the {whose}{also} already", "take it off first, or use --hook tc"
    )


def _refuse_foreign_filter(interface: Interface, hook: Hook) -> None:
    """Filters stay when a bpffs is unmounted: it may be one that nobody can detach any more."""
    if clsact.present(interface.index, hook):
        direction = hook.value.removeprefix("tc_")
        raise StateError(
            f"{interface.name} has the tc filter of another xdpprobe (another --bpffs?)",
            f"detach that one, or: tc filter del dev {interface.name} {direction} pref 1",
        )


def programs(interface: Interface, hook: Hook) -> list[int]:
    """Ids of the programs on a hook: all of them, ours and others'; of tc those by TCX."""
    if hook is Hook.XDP:
        return list(interface.xdp)
    return [] if use_clsact() else syscall.attached_programs(interface.index, _TCX[hook])


def attach(interface: Interface, hook: Hook, mode: str, program: int, pin: Path) -> None:
    """Makes a link and pins it. Raises StateError or KernelError and leaves nothing then.

    A tc program goes before others, whose verdict could end the packet's way before it is counted.
    """
    what = f"cannot attach to {interface.name} ({hook.value})"
    try:
        kind = syscall.XDP if hook is Hook.XDP else _TCX[hook]
        flags = _MODE_FLAGS[mode] if hook is Hook.XDP else syscall.BEFORE
        link = syscall.create_link(program, interface.index, kind, flags, what)
    except KernelError as error:
        raise _explained(interface, hook, mode, error) from error
    try:
        syscall.pin(link, pin)
    finally:
        os.close(link)


def _explained(interface: Interface, hook: Hook, mode: str, error: KernelError) -> Exception:
    if hook is not Hook.XDP:
        return error
    if error.code in (errno.EBUSY, errno.EEXIST):
        return StateError(
            f"{interface.name} got another XDP program meanwhile",
            "take it off first, or use --hook tc",
        )
    if mode == "native":
        error.hint = "use --hook tc; the command doctor tells what native XDP lacks"
    return error


def replace(pin: Path, program: int) -> None:
    """Replaces the program of a pinned link; no packet passes without one."""
    link = syscall.open_pin(pin)
    try:
        syscall.update_link(link, program, f"cannot replace the program of {pin}")
    finally:
        os.close(link)


def alive(pin: Path) -> bool:
    """Whether a link is pinned there and its interface still exists."""
    link = pinned(pin)
    if link is None:
        return False
    try:
        return syscall.link_info(link).ifindex != 0
    finally:
        os.close(link)


def program(pin: Path) -> int:
    """Id of the program of a pinned link, 0 where none is pinned."""
    link = pinned(pin)
    if link is None:
        return 0
    try:
        return syscall.link_info(link).program
    finally:
        os.close(link)


def detach(pin: Path) -> None:
    """Takes a pinned link's program off and removes the pin; that there is none is fine.

    Removing the pin alone would do, but the kernel takes its time then, and an attach that
    follows would find the interface taken.
    """
    link = pinned(pin)
    if link is not None:
        syscall.detach_link(link)
        os.close(link)
        pin.unlink(missing_ok=True)


def attach_clsact(interface: Interface, hook: Hook, program: int) -> None:
    """Adds or replaces our filter, and makes the qdisc for it where there is none."""
    clsact.ensure_qdisc(interface.index)
    clsact.put(interface.index, hook, program)
