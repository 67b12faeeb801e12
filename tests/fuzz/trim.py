# SPDX-License-Identifier: Apache-2.0
"""Programs that take bytes off a packet's end and go on to the program under test.

The bytes stay in memory right behind the packet, where a driver's buffer has those of an earlier
packet: what reads too far finds them. Seven instructions each, so they are assembled here.
"""

import ctypes
import os
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from xdpprobe import syscall
from xdpprobe.libbpf import check, library

AMOUNTS = (40, 100, 300, 900)
_PROGRAM_ARRAY, _XDP = 3, 6  # enum bpf_map_type, bpf_prog_type
_HAS_FRAGS = 1 << 5  # BPF_F_XDP_HAS_FRAGS
_TAIL_CALL, _ADJUST_TAIL = 12, 65  # enum bpf_func_id


class _LoadOptions(ctypes.Structure):
    """struct bpf_prog_load_opts of libbpf 1.1, as far as the flags."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_uint32),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
    )


def _instruction(code: int, to: int = 0, source: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | to, 0, value)


def _assembled(amount: int, following: int) -> bytes:
    """XDP_ABORTED where the tail call fails."""
    wide = _instruction(0x18, 2, 1, following) + _instruction(0)  # r2 = map
    return b"".join(
        (
            _instruction(0xBF, 6, 1),  # r6 = r1
            _instruction(0xB7, 2, value=-amount),  # r2 = -amount
            _instruction(0x85, value=_ADJUST_TAIL),
            _instruction(0xBF, 1, 6),  # r1 = r6
            wide,
            _instruction(0xB7, 3),  # r3 = 0
            _instruction(0x85, value=_TAIL_CALL),
            _instruction(0xB7, 0),  # r0 = 0
            _instruction(0x95),
        )
    )


class Trimmers:
    """Bytes to take off -> descriptor of the program that does it; a context manager."""

    def __init__(self, program: int, amounts: Sequence[int] = AMOUNTS) -> None:
        self.programs = {0: program}
        self._open: list[int] = []
        following = syscall.create_map(_PROGRAM_ARRAY, "trim_next", 4, 4, 1)
        self._open.append(following)
        try:
            for amount in amounts:
                self.programs[amount] = self._load(_assembled(amount, following))
            syscall.update(following, 0, program.to_bytes(4, "little"), "cannot chain a program")
        except BaseException:
            self.close()
            raise

    def _load(self, code: bytes) -> int:
        options = _LoadOptions(
            sz=ctypes.sizeof(_LoadOptions),
            expected_attach_type=syscall.XDP,
            prog_flags=_HAS_FRAGS,
        )
        load: Any = library().bpf_prog_load
        fd = load(_XDP, b"trim", b"Dual BSD/GPL", code, len(code) // 8, ctypes.byref(options))
        self._open.append(check(fd, "cannot load a program that trims packets"))
        return int(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unloads them."""
        for fd in self._open:
            os.close(fd)
        self._open.clear()
