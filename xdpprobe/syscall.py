# SPDX-License-Identifier: Apache-2.0
"""Calls on descriptors of maps, programs and links: libbpf's wrappers of bpf(2), checked.

What libbpf 1.1 has no wrapper for (entering a network namespace) is called directly.
"""

import ctypes as c
import errno
import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xdpprobe.errors import KernelError
from xdpprobe.libbpf import check, library
from xdpprobe.privileges import failure

# enum bpf_attach_type of linux/bpf.h
XDP, TCX_INGRESS, TCX_EGRESS = 37, 46, 47
# linux/bpf.h: with no other program named, before all that are there (TCX)
BEFORE = 1 << 3
# linux/if_link.h
XDP_SKB_MODE, XDP_NATIVE_MODE = 1 << 1, 1 << 2

_PAGE = mmap.PAGESIZE
_BATCH = 8192


class _MapOptions(c.Structure):
    """struct bpf_map_create_opts of libbpf 1.1; later ones only append to it."""

    _fields_ = (
        ("sz", c.c_size_t),
        ("btf_fd", c.c_uint32),
        ("btf_key_type_id", c.c_uint32),
        ("btf_value_type_id", c.c_uint32),
        ("btf_vmlinux_value_type_id", c.c_uint32),
        ("inner_map_fd", c.c_uint32),
        ("map_flags", c.c_uint32),
        ("map_extra", c.c_uint64),
        ("numa_node", c.c_uint32),
        ("map_ifindex", c.c_uint32),
    )


class _LinkOptions(c.Structure):
    """struct bpf_link_create_opts, as far as XDP needs it."""

    _fields_ = (("sz", c.c_size_t), ("flags", c.c_uint32), ("padding", c.c_uint32))


class _QueryOptions(c.Structure):
    """struct bpf_prog_query_opts of libbpf 1.1."""

    _fields_ = (
        ("sz", c.c_size_t),
        ("query_flags", c.c_uint32),
        ("attach_flags", c.c_uint32),
        ("prog_ids", c.c_void_p),
        ("prog_cnt", c.c_uint32),
        ("prog_attach_flags", c.c_void_p),
    )


class _TestRun(c.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", c.c_size_t),
        ("data_in", c.c_void_p),
        ("data_out", c.c_void_p),
        ("data_size_in", c.c_uint32),
        ("data_size_out", c.c_uint32),
        ("ctx_in", c.c_void_p),
        ("ctx_out", c.c_void_p),
        ("ctx_size_in", c.c_uint32),
        ("ctx_size_out", c.c_uint32),
        ("retval", c.c_uint32),
        ("repeat", c.c_int),
        ("duration", c.c_uint32),
        ("flags", c.c_uint32),
        ("cpu", c.c_uint32),
        ("batch_size", c.c_uint32),
    )


class _ProgramInfo(c.Structure):
    """The head of struct bpf_prog_info of linux/bpf.h; what lies between is not looked at."""

    _fields_ = (
        ("type", c.c_uint32),
        ("id", c.c_uint32),
        ("tag", c.c_uint8 * 8),
        ("jited_len", c.c_uint32),
        ("xlated_len", c.c_uint32),
        ("jited_insns", c.c_uint64),
        ("xlated_insns", c.c_uint64),
        ("load_time", c.c_uint64),
        ("created_by_uid", c.c_uint32),
        ("nr_map_ids", c.c_uint32),
        ("map_ids", c.c_uint64),
        ("name", c.c_char * 16),
        ("ifindex", c.c_uint32),
        ("gpl_compatible", c.c_uint32),
        ("between", c.c_uint8 * 128),  # from netns_dev to recursion_misses
        ("verified_insns", c.c_uint32),
        ("attach_btf_obj_id", c.c_uint32),
    )


class _MapInfo(c.Structure):
    """The head of struct bpf_map_info of linux/bpf.h."""

    _fields_ = (
        ("type", c.c_uint32),
        ("id", c.c_uint32),
        ("key_size", c.c_uint32),
        ("value_size", c.c_uint32),
        ("max_entries", c.c_uint32),
        ("map_flags", c.c_uint32),
        ("name", c.c_char * 16),
    )


class _LinkInfo(c.Structure):
    """struct bpf_link_info of linux/bpf.h, for XDP and TCX links: both begin with the ifindex."""

    _fields_ = (
        ("type", c.c_uint32),
        ("id", c.c_uint32),
        ("prog_id", c.c_uint32),
        ("padding", c.c_uint32),
        ("ifindex", c.c_uint32),
        ("attach_type", c.c_uint32),
        ("reserved", c.c_uint8 * 64),
    )


@dataclass(frozen=True)
class ProgramInfo:
    """What the kernel knows of a program; `instructions` after the verifier.

    verified: instructions that the verifier looked at, all paths; it gives up at a million.
    """

    id: int
    name: str
    tag: str
    instructions: int
    verified: int


@dataclass(frozen=True)
class MapInfo:
    """What the kernel knows of a map; sizes in bytes."""

    id: int
    type: int
    name: str
    key_size: int
    value_size: int
    max_entries: int
    flags: int


@dataclass(frozen=True)
class LinkInfo:
    """What the kernel knows of a link; ifindex 0: its interface is gone."""

    id: int
    program: int
    ifindex: int


def _info(fd: int, into: c.Structure, what: str) -> None:
    size = c.c_uint32(c.sizeof(into))
    check(library().bpf_obj_get_info_by_fd(fd, c.byref(into), c.byref(size)), what)


def program_info(fd: int) -> ProgramInfo:
    """Describes a program."""
    info = _ProgramInfo()
    _info(fd, info, "cannot ask the kernel about a program")
    tag, instructions = bytes(info.tag).hex(), info.xlated_len // 8
    return ProgramInfo(info.id, info.name.decode(), tag, instructions, info.verified_insns)


def map_info(fd: int) -> MapInfo:
    """Describes a map."""
    info = _MapInfo()
    _info(fd, info, "cannot ask the kernel about a map")
    return MapInfo(
        info.id,
        info.type,
        info.name.decode(),
        info.key_size,
        info.value_size,
        info.max_entries,
        info.map_flags,
    )


def link_info(fd: int) -> LinkInfo:
    """Describes a link."""
    info = _LinkInfo()
    _info(fd, info, "cannot ask the kernel about a link")
    return LinkInfo(info.id, info.prog_id, info.ifindex)


def program_name(number: int) -> str | None:
    """Name of a loaded program by its id; None when the kernel does not tell."""
    fd = library().bpf_prog_get_fd_by_id(number)
    if fd < 0:
        return None
    try:
        return program_info(fd).name
    finally:
        os.close(fd)


def create_map(
    kind: int, name: str, key_size: int, value_size: int, entries: int, flags: int = 0
) -> int:
    """Creates a map without type information; returns its descriptor, which the caller closes."""
    options = _MapOptions(sz=c.sizeof(_MapOptions), map_flags=flags)
    create = library().bpf_map_create
    fd = create(kind, name.encode(), key_size, value_size, entries, c.byref(options))
    return check(fd, f"cannot create map {name} with {entries} entries")


def open_map(number: int) -> int:
    """Descriptor of a map by its id; the caller closes it."""
    return check(library().bpf_map_get_fd_by_id(number), f"cannot open map {number}")


def _pointer(data: bytes | bytearray | npt.NDArray[Any]) -> c.c_void_p:
    """Address of a buffer that stays alive in the caller."""
    if isinstance(data, np.ndarray):
        return c.c_void_p(data.ctypes.data)
    if isinstance(data, bytearray):
        return c.c_void_p(c.addressof(c.c_char.from_buffer(data)))
    return c.cast(c.c_char_p(data), c.c_void_p)


def update(fd: int, key: int | bytes, value: bytes, what: str) -> None:
    """Writes one element; an int key is an array index. `what` goes into the error."""
    key = key.to_bytes(4, "little") if isinstance(key, int) else key
    check(library().bpf_map_update_elem(fd, _pointer(key), _pointer(value), 0), what)


def update_many(fd: int, entries: Sequence[tuple[bytes, bytes]], what: str) -> None:
    """Writes many elements, thousands a system call."""
    for begin in range(0, len(entries), _BATCH):
        part = entries[begin : begin + _BATCH]
        keys = b"".join(key for key, _ in part)
        values = b"".join(value for _, value in part)
        count = c.c_uint32(len(part))
        batch = library().bpf_map_update_batch
        check(batch(fd, _pointer(keys), _pointer(values), c.byref(count), None), what)


def lookup(fd: int, key: int | bytes, size: int) -> bytes | None:
    """Reads one element of `size` bytes (per-CPU maps: of all CPUs); None when there is none."""
    key = key.to_bytes(4, "little") if isinstance(key, int) else key
    value = bytearray(size)
    result = library().bpf_map_lookup_elem(fd, _pointer(key), _pointer(value))
    if result == -errno.ENOENT:
        return None
    check(result, "cannot read a map")
    return bytes(value)


def lookup_all(fd: int, entries: int, size: int) -> bytes:
    """Reads an array map's `entries` elements of `size` bytes each (per-CPU maps: of all CPUs).

    Raises KernelError where the kernel gives fewer.
    """
    keys, values, position = bytearray(4 * entries), bytearray(size * entries), bytearray(4)
    count = c.c_uint32(entries)
    batch = library().bpf_map_lookup_batch
    at, into = _pointer(keys), _pointer(values)
    result = batch(fd, None, _pointer(position), at, into, c.byref(count), None)
    if result != -errno.ENOENT:  # which says that there are no more
        check(result, "cannot read a map")
    if count.value != entries:  # the others would be zeros that nobody counted
        raise KernelError(f"cannot read a map: {count.value} of {entries} elements came")
    return bytes(values)


def delete(fd: int, key: int | bytes) -> bool:
    """Removes one element; False when there was none."""
    key = key.to_bytes(4, "little") if isinstance(key, int) else key
    result = library().bpf_map_delete_elem(fd, _pointer(key))
    if result == -errno.ENOENT:
        return False
    check(result, "cannot remove an element of a map")
    return True


def map_values(fd: int, dtype: np.dtype[Any], length: int, writable: bool) -> npt.NDArray[Any]:
    """Maps an array map's values (BPF_F_MMAPABLE) as `length` records of `dtype`.

    The memory stays mapped as long as an array refers to it. A value's size is a multiple of 8
    in the kernel; callers give dtypes whose size is one.
    """
    size = -(-length * dtype.itemsize // _PAGE) * _PAGE
    access = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    try:
        memory = mmap.mmap(fd, size, mmap.MAP_SHARED, access)
    except OSError as error:
        raise failure(error.errno or 0, "cannot map a table into memory") from error
    values = np.frombuffer(memory, dtype, count=length)
    if not writable:
        values.flags.writeable = False
    return values


def pin(fd: int, path: Path) -> None:
    """Gives a map, program or link a name in bpffs."""
    check(library().bpf_obj_pin(fd, os.fsencode(path)), f"cannot pin {path}")


def open_pin(path: Path) -> int:
    """Descriptor of a pinned object; the caller closes it."""
    return check(library().bpf_obj_get(os.fsencode(path)), f"cannot open {path}")


def create_link(program: int, ifindex: int, kind: int, flags: int, what: str) -> int:
    """Attaches a program; returns the link's descriptor. `kind`: XDP, TCX_INGRESS, TCX_EGRESS."""
    options = _LinkOptions(sz=c.sizeof(_LinkOptions), flags=flags)
    pointer = c.byref(options) if flags else None
    return check(library().bpf_link_create(program, ifindex, kind, pointer), what)


def update_link(link: int, program: int, what: str) -> None:
    """Replaces a link's program; no packet passes without one."""
    check(library().bpf_link_update(link, program, None), what)


def detach_link(link: int) -> None:
    """Takes a link's program off at once; that its interface is gone is fine."""
    library().bpf_link_detach(link)


def attached_programs(ifindex: int, kind: int) -> list[int]:
    """Ids of the programs on one of an interface's TCX hooks, in the namespace that is current."""
    room = 64  # BPF_MPROG_MAX of linux/bpf_mprog.h
    numbers = (c.c_uint32 * room)()
    options = _QueryOptions(
        sz=c.sizeof(_QueryOptions), prog_ids=c.addressof(numbers), prog_cnt=room
    )
    result = library().bpf_prog_query_opts(ifindex, kind, c.byref(options))
    check(result, "cannot ask which programs an interface has")
    return list(numbers[: options.prog_cnt])


def test_run(
    program: int,
    data: bytes,
    repeat: int = 1,  # noqa: PT028 (no pytest function: the name is the kernel's)
    context: bytes | None = None,  # noqa: PT028
    room: int = 0,  # noqa: PT028
) -> tuple[int, int, bytes]:
    """Runs a program on a packet (BPF_PROG_TEST_RUN); nothing reaches an interface.

    Returns its return value, the mean time a run in ns, and up to `room` bytes of the packet
    as it left. `context` is a struct xdp_md or __sk_buff.
    """
    out = bytearray(room) if room else None
    run = _TestRun(
        sz=c.sizeof(_TestRun),
        data_in=_pointer(data),
        data_size_in=len(data),
        data_out=_pointer(out) if out is not None else None,
        data_size_out=room,
        ctx_in=_pointer(context) if context is not None else None,
        ctx_size_in=len(context) if context is not None else 0,
        repeat=repeat,
    )
    result = library().bpf_prog_test_run_opts(program, c.byref(run))
    check(result, f"cannot test-run a program on {len(data)} bytes")
    return run.retval, run.duration, bytes(out[: run.data_size_out]) if out is not None else b""


def test_runner(program: int, room: int) -> Callable[[bytes], int]:
    """`test_run` for many packets of up to `room` bytes: one buffer, one request, no answer copied.

    The function that it returns runs the program once on a packet and gives its return value.
    """
    buffer = c.create_string_buffer(room)
    run = _TestRun(sz=c.sizeof(_TestRun), data_in=c.addressof(buffer), repeat=1)
    call, reference, move = library().bpf_prog_test_run_opts, c.byref(run), c.memmove

    def once(data: bytes) -> int:
        size = len(data)
        move(buffer, data, size)
        run.data_size_in = size
        run.data_size_out = 0  # libbpf leaves the last packet's size there
        if call(program, reference):
            check(-1, f"cannot test-run a program on {size} bytes")
        return int(run.retval)

    return once


def send(program: int, data: bytes, count: int) -> None:
    """Runs an XDP program on `count` frames, which really go where it sends them.

    In the namespace that is current. Raises KernelError, also where a signal broke it off.
    """
    live_frames = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES
    run = _TestRun(
        sz=c.sizeof(_TestRun),
        data_in=_pointer(data),
        data_size_in=len(data),
        repeat=count,
        flags=live_frames,
    )
    result = library().bpf_prog_test_run_opts(program, c.byref(run))
    check(result, f"cannot send {count} frames")


def enter_netns(fd: int) -> None:
    """Moves the calling thread into a network namespace."""
    clone_newnet = 0x40000000
    libc = c.CDLL(None, use_errno=True)
    if libc.setns(fd, clone_newnet):
        code = c.get_errno()
        hint = (
            "that is a namespace of another kind; `ip netns list` shows those of the network"
            if code == errno.EINVAL
            else "entering another network namespace takes CAP_SYS_ADMIN"
        )
        raise failure(code, "cannot enter the network namespace", hint)
