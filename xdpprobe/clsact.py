# SPDX-License-Identifier: Apache-2.0
"""tc on kernels before 6.6: filters of the clsact qdisc, which other programs may share.

Every call works in the namespace that is current. A filter is ours if it has our handle and name.
"""

import errno
from typing import Any

from xdpprobe.errors import KernelError
from xdpprobe.hooks import Hook

_CLSACT = 0xFFFF0000
_PARENTS = {Hook.TC_INGRESS: 0xFFFFFFF2, Hook.TC_EGRESS: 0xFFFFFFF3}  # linux/pkt_sched.h
_HANDLE = 0x7870  # of our filters, so that a replacement takes the place of what it replaces
_FIRST = 1  # before others, whose verdict could end the packet's way
_NAME = "xdpprobe"
_ETH_P_ALL = 3


def _attributes(message: Any) -> dict[str, Any]:
    return dict(message.get("attrs", ())) if message else {}


def ensure_qdisc(index: int) -> bool:
    """Makes the interface's clsact qdisc; False when there was one."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as netlink:
        try:
            netlink.tc("add", "clsact", index)
        except NetlinkError as error:
            if error.code == errno.EEXIST:
                return False
            raise KernelError("cannot make the clsact qdisc", error.code) from error
    return True


def put(index: int, hook: Hook, program: int) -> None:
    """Adds our filter, or atomically replaces the program of the one that is there."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as netlink:
        try:
            netlink.tc(
                "replace-filter",
                "bpf",
                index,
                _HANDLE,
                fd=program,
                name=_NAME,
                parent=_PARENTS[hook],
                prio=_FIRST,
                protocol=_ETH_P_ALL,
                direct_action=True,
            )
        except NetlinkError as error:
            raise KernelError(
                "cannot add a tc filter",
                error.code,
                f"is preference {_FIRST} taken? `tc filter show dev IFACE {hook.value[3:]}`",
            ) from error


def present(index: int, hook: Hook) -> bool:
    """Whether our filter is on the interface."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as netlink:
        try:
            for entry in netlink.get_filters(index=index, parent=_PARENTS[hook]):
                options = _attributes(_attributes(entry).get("TCA_OPTIONS"))
                if entry["handle"] == _HANDLE and options.get("TCA_BPF_NAME") == _NAME:
                    return True
        except NetlinkError:
            pass  # the interface is gone
    return False


def remove(index: int, hook: Hook) -> None:
    """Removes our filter; that it is gone already is fine."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    if not present(index, hook):
        return
    with IPRoute() as netlink:
        try:
            netlink.tc(
                "del-filter",
                "bpf",
                index,
                _HANDLE,
                parent=_PARENTS[hook],
                prio=_FIRST,
                protocol=_ETH_P_ALL,
            )
        except NetlinkError as error:
            if error.code not in (errno.ENOENT, errno.ENODEV, errno.EINVAL):
                raise KernelError("cannot remove a tc filter", error.code) from error


def remove_empty_qdisc(index: int) -> None:
    """Removes the clsact qdisc unless somebody's filter is still on it."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as netlink:
        try:
            if any(list(netlink.get_filters(index=index, parent=p)) for p in _PARENTS.values()):
                return
            netlink.tc("del", "clsact", index)
        except NetlinkError:
            return  # the interface, or the qdisc, is gone already
