# SPDX-License-Identifier: Apache-2.0
"""The shared library libbpf.so.1, as far as the loader needs it, by ctypes.

Here are the library, its silence, and objects (open, set up, load). Calls on descriptors of maps,
programs and links are in `syscall.py`. Works with libbpf 1.1 (Debian 12) and later.
"""

import ctypes as c
import errno
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xdpprobe.errors import DataError, KernelError, ProbeError, StateError
from xdpprobe.privileges import failure

_POINTER = c.c_void_p
_SIZE = c.POINTER(c.c_size_t)
_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "libbpf_version_string": (c.c_char_p, []),
    "libbpf_set_print": (_POINTER, [_POINTER]),
    "libbpf_num_possible_cpus": (c.c_int, []),
    "libbpf_probe_bpf_prog_type": (c.c_int, [c.c_int, _POINTER]),
    "libbpf_probe_bpf_map_type": (c.c_int, [c.c_int, _POINTER]),
    "libbpf_probe_bpf_helper": (c.c_int, [c.c_int, c.c_int, _POINTER]),
    "bpf_object__open_file": (_POINTER, [c.c_char_p, _POINTER]),
    "bpf_object__load": (c.c_int, [_POINTER]),
    "bpf_object__close": (None, [_POINTER]),
    "bpf_object__next_map": (_POINTER, [_POINTER, _POINTER]),
    "bpf_object__next_program": (_POINTER, [_POINTER, _POINTER]),
    "bpf_object__find_map_by_name": (_POINTER, [_POINTER, c.c_char_p]),
    "bpf_map__name": (c.c_char_p, [_POINTER]),
    "bpf_map__fd": (c.c_int, [_POINTER]),
    "bpf_map__is_internal": (c.c_bool, [_POINTER]),
    "bpf_map__reuse_fd": (c.c_int, [_POINTER, c.c_int]),
    "bpf_map__set_autocreate": (c.c_int, [_POINTER, c.c_bool]),
    "bpf_map__set_max_entries": (c.c_int, [_POINTER, c.c_uint32]),
    "bpf_map__set_pin_path": (c.c_int, [_POINTER, c.c_char_p]),
    "bpf_map__initial_value": (_POINTER, [_POINTER, _SIZE]),
    "bpf_program__name": (c.c_char_p, [_POINTER]),
    "bpf_program__fd": (c.c_int, [_POINTER]),
    "bpf_program__set_autoload": (c.c_int, [_POINTER, c.c_bool]),
    "bpf_map_create": (
        c.c_int,
        [c.c_int, c.c_char_p, c.c_uint32, c.c_uint32, c.c_uint32, _POINTER],
    ),
    "bpf_map_update_elem": (c.c_int, [c.c_int, _POINTER, _POINTER, c.c_uint64]),
    "bpf_map_lookup_elem": (c.c_int, [c.c_int, _POINTER, _POINTER]),
    "bpf_map_delete_elem": (c.c_int, [c.c_int, _POINTER]),
    "bpf_map_update_batch": (
        c.c_int,
        [c.c_int, _POINTER, _POINTER, c.POINTER(c.c_uint32), _POINTER],
    ),
    "bpf_map_lookup_batch": (
        c.c_int,
        [c.c_int, *[_POINTER] * 4, c.POINTER(c.c_uint32), _POINTER],
    ),
    "bpf_map_get_fd_by_id": (c.c_int, [c.c_uint32]),
    "bpf_prog_get_fd_by_id": (c.c_int, [c.c_uint32]),
    "bpf_obj_pin": (c.c_int, [c.c_int, c.c_char_p]),
    "bpf_obj_get": (c.c_int, [c.c_char_p]),
    "bpf_obj_get_info_by_fd": (c.c_int, [c.c_int, _POINTER, c.POINTER(c.c_uint32)]),
    "bpf_link_create": (c.c_int, [c.c_int, c.c_int, c.c_int, _POINTER]),
    "bpf_link_detach": (c.c_int, [c.c_int]),
    "bpf_link_update": (c.c_int, [c.c_int, c.c_int, _POINTER]),
    "bpf_prog_query_opts": (c.c_int, [c.c_int, c.c_int, _POINTER]),
    "bpf_prog_test_run_opts": (c.c_int, [c.c_int, _POINTER]),
    "ring_buffer__new": (_POINTER, [c.c_int, _POINTER, _POINTER, _POINTER]),
    "ring_buffer__free": (None, [_POINTER]),
    "ring_buffer__poll": (c.c_int, [_POINTER, c.c_int]),
}

_PRINT = c.CFUNCTYPE(c.c_int, c.c_int, c.c_char_p, _POINTER)
_LOG_BYTES = 4 << 20
_WARNING = 0  # LIBBPF_WARN


class _Log(threading.local):
    """libbpf's warnings of this thread's last call: programs are loaded side by side."""

    def __init__(self) -> None:
        self.messages: list[str] = []


_log = _Log()


@lru_cache(maxsize=1)
def _vsnprintf() -> Callable[..., int]:
    function = c.CDLL(None).vsnprintf
    function.argtypes = [c.c_char_p, c.c_size_t, c.c_char_p, _POINTER]
    return function


def _keep(level: int, form: bytes, arguments: int) -> int:
    """Keeps libbpf's warnings (a verifier log among them) instead of printing them."""
    if level == _WARNING:
        # A va_list is handed on as the pointer that it is passed as on x86-64 and arm64.
        buffer = c.create_string_buffer(_LOG_BYTES)
        _vsnprintf()(buffer, _LOG_BYTES, form, arguments)
        _log.messages.append(buffer.value.decode(errors="replace"))
    return 0


# Referred to for as long as libbpf may call it.
_keep_callback = _PRINT(_keep)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the block: an exception is lost in a callback, and breaks off an undo."""
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield  # where Python handles no signal, none gets lost
        return
    caught = []
    signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if caught:
            signal.raise_signal(signal.SIGINT)


@lru_cache(maxsize=1)
def library() -> c.CDLL:
    """The library, loaded once, with prototypes set and its messages caught."""
    try:
        found = c.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise StateError(
            f"libbpf.so.1 cannot be loaded ({error})", "install it: apt install libbpf1"
        ) from error
    for name, (result, arguments) in _PROTOTYPES.items():
        try:
            function = getattr(found, name)
        except AttributeError:
            raise StateError(
                f"this libbpf.so.1 is too old: it has no {name}", "version 1.1 or later is needed"
            ) from None
        function.restype, function.argtypes = result, arguments
    found.libbpf_set_print(c.cast(_keep_callback, _POINTER))
    return found


def version() -> str:
    """Version of the library, as `1.1`."""
    text: bytes = library().libbpf_version_string()
    return text.decode().lstrip("v")


def possible_cpus() -> int:
    """How many values a per-CPU map has for a key."""
    return check(library().libbpf_num_possible_cpus(), "cannot count the CPUs")


def check(result: int, what: str, hint: str = "") -> int:
    """Passes a result of 0 or more through; turns a failure into the fitting error.

    PrivilegeError for EPERM and EACCES, KernelError otherwise; libbpf 1.x gives -errno.
    """
    if result >= 0:
        return result
    raise failure(-result if result != -1 else c.get_errno() or errno.EPERM, what, hint)


def _open_failure(code: int, path: Path) -> ProbeError:
    """libbpf has errors of its own, from 4000 up; its last message tells more than they do."""
    words = _log.messages[-1].strip().removeprefix("libbpf: ") if _log.messages else f"error {code}"
    return DataError(str(path), f"libbpf cannot read it: {words}", "build it again with `make bpf`")


def _load_failure(code: int, path: Path) -> ProbeError:
    """Names the program that the verifier refused and gives its last words."""
    text = "".join(_log.messages)
    program = re.search(r"prog '([^']+)'", text)
    subject = f"the kernel refused program {program[1]}" if program else f"cannot load {path.name}"
    if code in (errno.EPERM, errno.EACCES) and "BEGIN PROG LOAD LOG" not in text:
        return failure(code, subject)
    if code == errno.EMFILE:
        return failure(code, f"cannot load {path.name}")
    lines = [line.strip() for line in text.splitlines()]
    end = next((i for i, line in enumerate(lines) if "END PROG LOAD LOG" in line), len(lines))
    words = [line for line in lines[:end] if line and not line.startswith(("processed", "libbpf"))]
    if code == errno.ENOMEM:
        return KernelError(
            subject,
            code,
            "the tables do not fit into memory or the memory cgroup's limit: try a smaller --flows",
        )
    detail = " | ".join(words[-3:])
    return KernelError(subject, code, f"the kernel says: {detail}" if detail else "")


class Object:
    """An open object file: choose programs and maps, set constants, load. A context manager.

    Descriptors of maps and programs belong to the object and go when it is closed: pin them, or
    duplicate them, first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._library = library()
        _log.messages.clear()
        with uninterrupted():
            self._handle = self._library.bpf_object__open_file(os.fsencode(path), None)
        if not self._handle:
            raise _open_failure(c.get_errno(), path)
        self._maps = {
            self._library.bpf_map__name(handle).decode(): handle
            for handle in self._walk(self._library.bpf_object__next_map)
        }
        self._programs = {
            self._library.bpf_program__name(handle).decode(): handle
            for handle in self._walk(self._library.bpf_object__next_program)
        }
        for handle in self._maps.values():
            self._library.bpf_map__set_pin_path(handle, None)

    def _walk(self, following: Callable[[int, int | None], int | None]) -> Iterator[int]:
        handle = following(self._handle, None)
        while handle:
            yield handle
            handle = following(self._handle, handle)

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
        """Closes every descriptor of the object. May be called twice."""
        if self._handle:
            self._library.bpf_object__close(self._handle)
            self._handle = None

    def choose_programs(self, names: set[str]) -> None:
        """Only these programs will be loaded. Raises KernelError for a name it has not."""
        for name in sorted(names - set(self._programs)):
            raise KernelError(f"{self.path.name} has no program {name}", 0, "`make bpf` builds it")
        for name, handle in self._programs.items():
            self._library.bpf_program__set_autoload(handle, name in names)

    def choose_maps(self, names: set[str]) -> None:
        """Only these maps (and the constants) will be created."""
        for name, handle in self._maps.items():
            if name not in names and not self._library.bpf_map__is_internal(handle):
                self._library.bpf_map__set_autocreate(handle, False)

    def resize(self, name: str, entries: int) -> None:
        """Sets how many entries a map will have."""
        what = f"cannot give map {name} {entries} entries"
        check(self._library.bpf_map__set_max_entries(self._map(name), entries), what)

    def reuse(self, name: str, fd: int) -> None:
        """Uses an existing map, whose descriptor is duplicated, instead of creating one."""
        what = f"cannot use the existing map {name}"
        check(self._library.bpf_map__reuse_fd(self._map(name), fd), what)

    def set_constant(self, offset: int, data: bytes) -> None:
        """Writes into .rodata before the load."""
        handle = self._library.bpf_object__find_map_by_name(self._handle, b".rodata")
        size = c.c_size_t()
        address = self._library.bpf_map__initial_value(handle, c.byref(size)) if handle else None
        if not address or offset + len(data) > size.value:
            raise KernelError(f"{self.path.name} has no room for its constants")
        c.memmove(address + offset, data, len(data))

    def load(self) -> None:
        """Creates the maps and loads the programs. Raises KernelError with the verifier's words."""
        _log.messages.clear()
        with uninterrupted():
            result = self._library.bpf_object__load(self._handle)
        if result:
            raise _load_failure(-result, self.path)

    def _map(self, name: str) -> int:
        try:
            return self._maps[name]
        except KeyError:
            raise KernelError(f"{self.path.name} has no map {name}") from None

    def map_fd(self, name: str) -> int:
        """Descriptor of a loaded map."""
        what = f"map {name} is not loaded"
        return check(self._library.bpf_map__fd(self._map(name)), what)

    def program_fd(self, name: str) -> int:
        """Descriptor of a loaded program."""
        if name not in self._programs:
            raise KernelError(f"{self.path.name} has no program {name}")
        what = f"program {name} is not loaded"
        return check(self._library.bpf_program__fd(self._programs[name]), what)
