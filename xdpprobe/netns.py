# SPDX-License-Identifier: Apache-2.0
"""Network namespaces by name, as `ip netns` keeps them, and by inode, as the probe remembers them.

An interface index means nothing without its namespace. Everything that names an interface
(netlink, link creation) runs inside `entered`.
"""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xdpprobe import syscall
from xdpprobe.errors import PrivilegeError, UsageError

_NAMED = Path("/run/netns")
_OWN = Path("/proc/self/ns/net")
_LIST = "`ip netns list` shows those there are"


@dataclass(frozen=True)
class Namespace:
    """A network namespace: where it can be opened, its inode, its name ("" for a nameless one)."""

    path: Path
    inode: int
    name: str


def own() -> Namespace:
    """The namespace of this process."""
    return Namespace(_OWN, _OWN.stat().st_ino, "")


def named(name: str | None) -> Namespace:
    """A namespace by its name in /run/netns or by a path; None: this process's own.

    Raises UsageError when there is none of that name.
    """
    if name is None:
        return own()
    path = _path(name)
    try:
        found = path.stat()
    except PermissionError:
        raise PrivilegeError(f"no permission for {path}", "run it as root") from None
    except (OSError, ValueError):  # none, a name too long, a loop of links, a NUL
        raise UsageError(f"there is no network namespace {name}", _LIST) from None
    # All namespaces are on one file system of the kernel's own.
    if found.st_dev != _OWN.stat().st_dev:
        raise UsageError(f"{name or repr(name)} is not a network namespace", _LIST)
    return Namespace(path, found.st_ino, name)


def _path(name: str) -> Path:
    """Where a namespace of that name is; also a name that was recorded under another locale."""
    name = os.fsdecode(name.encode(errors="surrogateescape"))
    return Path(name) if "/" in name else _NAMED / name


def exists(name: str) -> bool:
    """Whether there is a namespace of that name or path."""
    return _inode(_path(name)) != 0


def find(inode: int, name: str) -> Namespace | None:
    """The namespace that has this inode now; None when it is gone or nobody keeps it open."""
    candidates = [_OWN]
    if name:
        candidates.append(_path(name))
    for path in candidates:
        if _inode(path) == inode:
            return Namespace(path, inode, name)
    for path in (*_listed(_NAMED, ""), *_listed(Path("/proc"), "ns/net")):
        if _inode(path) == inode:
            return Namespace(path, inode, name)
    return None


def _listed(directory: Path, below: str) -> Iterator[Path]:
    try:
        entries = list(directory.iterdir())
    except OSError:
        return
    for entry in entries:
        if not below or entry.name.isdigit():
            yield entry / below if below else entry


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def inside(namespace: Namespace, line: str) -> str:
    """The command line that runs `line` in the namespace; for messages."""
    if not namespace.name:
        return line
    if "/" in namespace.name:
        return f"nsenter --net={shlex.quote(namespace.name)} {line}"
    return f"ip netns exec {shlex.quote(namespace.name)} {line}"


@contextmanager
def entered(namespace: Namespace) -> Iterator[None]:
    """Runs the body in the namespace; the calling thread is back in its own afterwards."""
    home = own()
    if namespace.inode == home.inode:
        yield
        return
    back = os.open(home.path, os.O_RDONLY)
    try:
        there = os.open(namespace.path, os.O_RDONLY)
        try:
            syscall.enter_netns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            syscall.enter_netns(back)
    finally:
        os.close(back)
