# SPDX-License-Identifier: Apache-2.0
"""Other people's programs on an interface: each counts the packets it gets, and says a verdict."""

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.net.conftest import End
from xdpprobe import abi, netdev, netns, syscall
from xdpprobe.libbpf import check, library

SCHED_CLS, XDP = 3, 6  # enum bpf_prog_type
XDP_PASS = 2
TCX_NEXT, TCX_PASS, TCX_DROP = -1, 0, 2
_PSEUDO_MAP_VALUE = 2


def _instruction(code: int, registers: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("<BBhi", code, registers, 0, immediate)


def _load(kind: int, counter: int, verdict: int) -> int:
    """A program that adds 1 to a map's only value and ends with a verdict; its descriptor."""
    code = (
        _instruction(0x18, 1 | _PSEUDO_MAP_VALUE << 4, counter)  # r1 = address of the value
        + _instruction(0)
        + _instruction(0xB7, 2, 1)  # r2 = 1
        + _instruction(0xDB, 1 | 2 << 4)  # *(u64 *)r1 += r2, atomically
        + _instruction(0xB7, 0, verdict)  # r0 = verdict
        + _instruction(0x95)  # exit
    )
    load = library().bpf_prog_load
    load.restype = ctypes.c_int
    return check(
        load(kind, b"stranger", b"GPL", code, ctypes.c_size_t(len(code) // 8), None),
        "cannot load the foreign program",
    )


class Foreign:
    """A program that is no xdpprobe's. `fd`: its descriptor."""

    def __init__(self, kind: int, verdict: int) -> None:
        self._counter = syscall.create_map(abi.ARRAY, "count", 4, 8, 1)
        self.fd = _load(kind, self._counter, verdict)

    @property
    def packets(self) -> int:
        """How many packets it was given."""
        value = syscall.lookup(self._counter, 0, 8)
        return int.from_bytes(value or b"", "little")

    def close(self) -> None:
        """Closes the descriptors; what is pinned or attached stays."""
        os.close(self.fd)
        os.close(self._counter)


@contextmanager
def pinned(kind: int, verdict: int, pin: Path) -> Iterator[Foreign]:
    """A foreign program that has a name, for iproute2's commands."""
    program = Foreign(kind, verdict)
    try:
        syscall.pin(program.fd, pin)
        yield program
    finally:
        pin.unlink(missing_ok=True)
        program.close()


@contextmanager
def on_tcx(end: End, kind: int, verdict: int) -> Iterator[Foreign]:
    """A foreign program at the end of a TCX hook of an interface; off it at the end."""
    program = Foreign(SCHED_CLS, verdict)
    try:
        with netns.entered(netns.named(end.namespace.name)):
            index = netdev.look_up(end.interface).index
            link = syscall.create_link(program.fd, index, kind, 0, "cannot attach the foreign one")
        try:
            yield program
        finally:
            syscall.detach_link(link)
            os.close(link)
    finally:
        program.close()
