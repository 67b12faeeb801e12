# SPDX-License-Identifier: Apache-2.0
"""tc on kernels before 6.6: filters of the clsact qdisc, which other programs may share.

Every call works in the namespace that is current. A filter is ours if it has our handle and name.
"""

import errno
from typing import Any

from xdpprobe import syscall
from xdpprobe.hooks import Hook
from xdpprobe.privileges import failure

_CLSACT = 0xFFFF0000
_PARENTS = {Hook.TC_INGRESS: 0xFFFFFFF2, Hook.TC_EGRESS: 0xFFFFFFF3}  # linux/pkt_sched.h
_HANDLE = 0x7870  # of our filters, so that a replacement takes the place of what it replaces
_FIRST = 1  # before others, whose verdict could end the packet's way
_NAME = "xdpprobe"  # and behind it the id of the program: pyroute2 does not read TCA_BPF_ID
_ETH_P_ALL = 3


def _attributes(message: Any) -> dict[str, Any]:
    return dict(message.get("attrs", ())) if message else {}


def has_qdisc(index: int) -> bool:
    """Whether the interface has a clsact qdisc, whoever made it."""
    from pyroute2 import IPRoute

    with IPRoute() as netlink:
        found = netlink.get_qdiscs(index=index)
        return any(_attributes(entry).get("TCA_KIND") == "clsact" for entry in found)


def ensure_qdisc(index: int) -> None:
    """Makes the interface's clsact qdisc, unless there is one."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as netlink:
        try:
            netlink.tc("add", "clsact", index)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise failure(error.code, "cannot make the clsact qdisc") from error


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
                name=f"{_NAME}:{syscall.program_info(program).id}",
                parent=_PARENTS[hook],
                prio=_FIRST,
                protocol=_ETH_P_ALL,
                direct_action=True,
            )
        except NetlinkError as error:
            raise failure(
                error.code,
                "cannot add a tc filter",
                f"is preference {_FIRST} taken? `tc filter show dev IFACE {hook.value[3:]}`",
            ) from error


def _name_of(index: int, hook: Hook) -> str:
    """The name of our filter on the interface, "" where it is not there."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as netlink:
        try:
            for entry in netlink.get_filters(index=index, parent=_PARENTS[hook]):
                options = _attributes(_attributes(entry).get("TCA_OPTIONS"))
                name = str(options.get("TCA_BPF_NAME"))
                if entry["handle"] == _HANDLE and name.partition(":")[0] == _NAME:
                    return name
        except NetlinkError:
            pass  # the interface is gone
    return ""


def program(index: int, hook: Hook) -> int:
    """Id of the program of our filter on the interface, 0 where there is none, or it tells none."""
    number = _name_of(index, hook).partition(":")[2]
    return int(number) if number.isdecimal() else 0


def present(index: int, hook: Hook) -> bool:
    """Whether our filter is on the interface."""
    return _name_of(index, hook) != ""


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
                raise failure(error.code, "cannot remove a tc filter") from error


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
