# SPDX-License-Identifier: Apache-2.0
"""What netlink and ethtool say about an interface.

pyroute2 is imported when the first interface is looked at: its import is a tenth of a second.
"""

import ctypes
import difflib
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from typing import Any

from xdpprobe.errors import KernelError, UsageError

ETHERNET = 1  # ARPHRD_ETHER of linux/if_arp.h
_NO_DEVICE = 19  # ENODEV
_SIOCETHTOOL = 0x8946
_DRIVER_INFO = (0x3, 196)  # ETHTOOL_GDRVINFO, sizeof(struct ethtool_drvinfo)
_FLAGS = (0x25, 8)  # ETHTOOL_GFLAGS, sizeof(struct ethtool_value)
_LRO = 1 << 15  # ETH_FLAG_LRO
_RX_VLAN = 1 << 8  # ETH_FLAG_RXVLAN


# linux/if_arp.h: ARPHRD_ETHER, and ARPHRD_LOOPBACK, which has an Ethernet header too
_WITH_LINK_HEADER = (1, 772)


@dataclass(frozen=True)
class Interface:
    """One interface, seen from the namespace that was current.

    kind: of a virtual device ("veth", "bridge", "tun"...), "" for hardware. master: kind of the
    device that it is a port of, or "". xdp: ids of the XDP programs on it. lro: whether large
    receive offload is on, which native XDP cannot work with. rx_vlan: whether the hardware takes
    VLAN tags out, which native XDP then does not see.
    """

    name: str
    index: int
    type: int
    kind: str
    master: str
    driver: str
    mtu: int
    state: str
    lro: bool
    xdp: tuple[int, ...]
    rx_vlan: bool

    @property
    def hides_tags(self) -> bool:
        """Whether native XDP does not see VLAN tags that are on the wire."""
        return self.rx_vlan and not self.kind

    @property
    def raw_ip(self) -> bool:
        """Whether its packets begin with the IP header (tun, wg, ppp)."""
        return self.type not in _WITH_LINK_HEADER


def _attributes(message: Any) -> dict[str, Any]:
    return dict(message.get("attrs", ())) if message else {}


def _kind(attributes: dict[str, Any]) -> str:
    return str(_attributes(attributes.get("IFLA_LINKINFO")).get("IFLA_INFO_KIND") or "")


def typed(name: str) -> str:
    """A name from the command line as the kernel's are shown here, whatever the locale."""
    return _shown(os.fsencode(name))


def _shown(name: bytes | str) -> str:
    """A name may be of any bytes; pyroute2 leaves what is not UTF-8 as bytes."""
    return name if isinstance(name, str) else name.decode(errors="surrogateescape")


def _raw(name: str) -> bytes:
    return name.encode(errors="surrogateescape")


def _ethtool(name: str, request: tuple[int, int]) -> bytes:
    """The answer to an ethtool request; zeros where the driver gives none."""
    command, size = request
    buffer = ctypes.create_string_buffer(command.to_bytes(4, "little"), size)
    ifreq = struct.pack("16sP16x", _raw(name), ctypes.addressof(buffer))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            fcntl.ioctl(control, _SIOCETHTOOL, ifreq)
        except OSError:
            return bytes(size)
    return buffer.raw


def _interface(link: Any, master: str) -> Interface:
    attributes = _attributes(link)
    xdp = _attributes(attributes.get("IFLA_XDP"))
    programs = {value for name, value in xdp.items() if name.endswith("PROG_ID") and value}
    name = _shown(attributes["IFLA_IFNAME"])
    flags = int.from_bytes(_ethtool(name, _FLAGS)[4:8], "little")
    driver = _ethtool(name, _DRIVER_INFO)[4:36].rstrip(b"\0").decode(errors="replace")
    return Interface(
        name=name,
        index=int(link["index"]),
        type=int(link["ifi_type"]),
        kind=_kind(attributes),
        master=master,
        driver=driver,
        mtu=int(attributes.get("IFLA_MTU") or 0),
        state=str(attributes.get("IFLA_OPERSTATE") or "unknown").lower(),
        lro=bool(flags & _LRO),
        xdp=tuple(sorted(programs)),
        rx_vlan=bool(flags & _RX_VLAN),
    )


def look_up(name: str) -> Interface:
    """An interface of the current namespace. Raises UsageError, with names alike, if none."""
    if not name or len(_raw(name)) > 15:
        raise UsageError(f"{name!r} cannot be the name of an interface", "`ip -br link` lists them")
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as netlink:
        try:
            link = netlink.link("get", ifname=_raw(name))[0]
            above = _attributes(link).get("IFLA_MASTER")
            master = _kind(_attributes(netlink.link("get", index=above)[0])) if above else ""
        except NetlinkError as error:
            if error.code != _NO_DEVICE:
                raise KernelError(f"cannot look up interface {name}", error.code) from error
            known = [_shown(_attributes(link)["IFLA_IFNAME"]) for link in netlink.get_links()]
            close = difflib.get_close_matches(name, known, n=3) or sorted(known)[:8]
            raise UsageError(
                f"there is no interface {name}", f"there is {', '.join(close)}"
            ) from None
    return _interface(link, master)


def by_index(index: int) -> Interface | None:
    """An interface of the current namespace by its index; None when it is gone."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    with IPRoute() as netlink:
        try:
            return _interface(netlink.link("get", index=index)[0], "")
        except NetlinkError:
            return None
