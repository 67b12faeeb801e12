# SPDX-License-Identifier: Apache-2.0
"""Records as the data plane writes them: a flow got its name, ended, or was pushed out.

Each reader brings a ring buffer of its own, puts it into a free element of `readers` and sets its
bit in `control`. It pins the ring under `readers/` with its process number and start time in the
name, so that the next reader can tell the element of one that was killed.
"""

import ctypes as c
import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xdpprobe import syscall
from xdpprobe.abi import RINGBUF
from xdpprobe.errors import KernelError, StateError
from xdpprobe.instance import Instance
from xdpprobe.libbpf import library, uninterrupted
from xdpprobe.probe import Probe
from xdpprobe.processes import start_time

RING_BYTES = 1 << 20
MOST = 1024  # records a batch: while they come faster than they are read, a poll has no end
_FULL = -errno.EXFULL  # ends a poll early; no error of its own
_SAMPLE = c.CFUNCTYPE(c.c_int, c.c_void_p, c.c_void_p, c.c_size_t)


def _directory(instance: Instance) -> Path:
    return instance.pins.path / "readers"


def _pin_name(element: int) -> str:
    return f"{element}_{os.getpid()}_{start_time(os.getpid())}"


def _set_bit(instance: Instance, element: int, on: bool) -> None:
    control = instance.tables().array("control", writable=True)
    bits = int(control["readers"][0])
    control["readers"][0] = bits | 1 << element if on else bits & ~(1 << element)


def _release(instance: Instance, element: int, pin: Path) -> None:
    """Gives an element back; the data plane stops writing first."""
    _set_bit(instance, element, False)
    syscall.delete(instance.map_fd("readers"), element)
    pin.unlink(missing_ok=True)


def _pins(instance: Instance) -> tuple[dict[int, Path], dict[int, Path]]:
    """Element -> pin of the readers that run, and of those that died."""
    running: dict[int, Path] = {}
    dead: dict[int, Path] = {}
    with suppress(FileNotFoundError):  # nobody has read yet
        for pin in _directory(instance).iterdir():
            element, process, began = (int(part) for part in pin.name.split("_"))
            (running if start_time(process) == began else dead)[element] = pin
    return running, dead


def reclaim(instance: Instance) -> set[int]:
    """Frees the elements of readers that died; returns those in use. Under the probe's lock."""
    running, dead = _pins(instance)
    for element, pin in dead.items():
        _release(instance, element, pin)
    return set(running)


def readers(instance: Instance) -> int:
    """How many follow the probe. What those have that were killed is freed."""
    running, dead = _pins(instance)
    if dead:
        with instance.pins.lock():
            running = dict.fromkeys(reclaim(instance), Path())
    return len(running)


@contextmanager
def _ring(instance: Instance, size: int) -> Iterator[int]:
    """A ring in a free element; yields its descriptor. Raises StateError when all are taken."""
    pins = instance.pins
    fd = syscall.create_map(RINGBUF, "reader", 0, 0, size)
    try:
        with pins.lock():
            pins.make_directory(_directory(instance))
            used = reclaim(instance)
            limit = instance.abi.maps["readers"].max_entries
            free = [element for element in range(limit) if element not in used]
            if not free:
                raise StateError(
                    f"{limit} readers follow the probe, and that is the limit", "end one of them"
                )
            element = free[0]
            pin = _directory(instance) / _pin_name(element)
            syscall.pin(fd, pin)
            value = fd.to_bytes(4, "little")
            syscall.update(instance.map_fd("readers"), element, value, "cannot add a reader")
            _set_bit(instance, element, True)
        try:
            yield fd
        finally:
            # The lock is for the bits, which stand in one word. Who is killed while waiting for
            # it leaves a pin whose name tells that.
            if pin.exists():
                with pins.lock():
                    _release(instance, element, pin)
    finally:
        os.close(fd)


@contextmanager
def followed(probe: Probe, size: int = RING_BYTES) -> Iterator[Iterator[npt.NDArray[Any]]]:
    """Opens a ring of `size` bytes (a power of two); yields an endless iterator over records.

    Every item is an array of struct flow_record, in order, at most MOST of them, perhaps none
    (after a quarter of a second without any). On leaving, the ring is given back. Raises
    StateError when four readers follow already, or, while iterating, when the probe is detached
    or attached anew.
    """
    dtype = probe.abi.dtype("flow_record")
    received: list[bytes] = []

    def keep(_context: int, data: int, length: int) -> int:
        received.append(c.string_at(data, min(length, dtype.itemsize)))
        return 0 if len(received) < MOST else _FULL

    callback = _SAMPLE(keep)
    with ExitStack() as stack:
        fd = stack.enter_context(_ring(probe.instance, size))
        handle = library().ring_buffer__new(fd, c.cast(callback, c.c_void_p), None, None)
        if not handle:
            raise KernelError("cannot read a ring buffer", c.get_errno())
        stack.callback(library().ring_buffer__free, handle)
        yield _batches(probe, handle, received, dtype)


def _batches(
    probe: Probe, handle: int, received: list[bytes], dtype: np.dtype[Any]
) -> Iterator[npt.NDArray[Any]]:
    while True:
        with uninterrupted():
            result = library().ring_buffer__poll(handle, 250)
        if result < 0 and result not in (-errno.EINTR, _FULL):
            raise KernelError("cannot read a ring buffer", -result)
        data = b"".join(record for record in received if len(record) == dtype.itemsize)
        received.clear()
        if not data:
            probe.check()
        yield np.frombuffer(data, dtype)
