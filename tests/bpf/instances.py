# SPDX-License-Identifier: Apache-2.0
"""Loaded data planes for tests: loaded once for all that ask alike, and wiped in between.

Loading is the verifier's work, which takes half a second, and a guest without KVM ten.
"""

import ctypes
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from tests.bpf.plane import FEW_HELLOS, FLOWS, HELLOS, zero
from xdpprobe import abi, syscall
from xdpprobe.libbpf import library
from xdpprobe.loader import Constants, Loaded, load_object

MOST = 6  # that wait to be asked for again: each holds some 50 MB of tables
OF_PROGRAMS = {"scratch", "joined"}  # memory of a packet's way, which no packet finds again

_idle: OrderedDict[str, Loaded] = OrderedDict()


@contextmanager
def lent(constants: Constants | None = None, **options: Any) -> Iterator[Loaded]:
    """What load_object(constants, **options) gives, without anything in its tables."""
    key = repr((sorted((constants or {}).items()), sorted(options.items())))
    loaded = _idle.pop(key, None)
    if loaded is None:
        loaded = load_object(constants, **options)
    else:
        wipe(loaded)
    try:
        yield loaded
    except BaseException:
        loaded.close()
        raise
    _idle[key] = loaded
    while len(_idle) > MOST:
        _idle.popitem(last=False)[1].close()


def ordinary() -> AbstractContextManager[Loaded]:
    """What most tests need: all hooks, and an assembler with few slots."""
    return lent(FEW_HELLOS, flows=FLOWS, names=FLOWS, sizes={"hello_slots": HELLOS})


def close() -> None:
    """Unloads all that wait."""
    while _idle:
        _idle.popitem()[1].close()


def wipe(loaded: Loaded) -> None:
    """Makes all tables as they are after loading: empty, and arrays zero."""
    for name, table in loaded.abi.maps.items():
        if name in OF_PROGRAMS or table.type == abi.PROG_ARRAY:
            continue
        if table.mappable:
            loaded.array(name, writable=True).view(np.uint8)[:] = 0
        elif table.type in (abi.ARRAY, abi.PERCPU_ARRAY):
            zero(loaded.map_fd(name), table.type == abi.PERCPU_ARRAY)
        else:
            empty(loaded.map_fd(name), table.key_size)


def empty(fd: int, size: int) -> None:
    """Removes all elements; `size`: of a key."""
    key = next_key(fd, size)
    while key is not None:
        # An array of maps keeps its indices.
        key = next_key(fd, size, None if syscall.delete(fd, key) else key)


def next_key(fd: int, size: int, key: bytes | None = None) -> bytes | None:
    """The key behind this one, or the first; None: there is none."""
    found = ctypes.create_string_buffer(size)
    before = None if key is None else ctypes.create_string_buffer(key, size)
    more = library().bpf_map_get_next_key(fd, before, found) == 0
    return found.raw if more else None
