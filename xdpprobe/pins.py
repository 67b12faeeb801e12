# SPDX-License-Identifier: Apache-2.0
"""The directory in bpffs that keeps a probe alive without any process, and its lock.

    DIR/xdpprobe/ABI-HASH/           mode 0700
        clock_read                   program, for test runs
        maps/NAME                    every map but the PROG_ARRAYs
        slots/N/HOOK_link            links of interface slot N (none at clsact)
        slots/N/GENERATION/...       entry programs, and the PROG_ARRAYs that they call into
        slots/N/GENERATION/code_HASH  a directory: what the code in those arrays was made from
    DIR/xdpprobe/ABI-HASH_replaced/  one that an attach, which goes on, is about to replace

A generation is one load of entry programs for a slot, with the stages behind them, new or another
generation's; an update pins the next one, switches, and removes the one before. Names in bpffs have
no dots. The lock is an flock on DIR/xdpprobe, so it covers what it protects: one bpffs.
"""

import ctypes
import errno
import fcntl
import os
import shlex
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from xdpprobe import syscall
from xdpprobe.advice import BPFFS
from xdpprobe.errors import KernelError, PrivilegeError, ProbeError, StateError

DEFAULT = BPFFS
_MAGIC = 0xCAFE4A11  # BPF_FS_MAGIC of linux/magic.h
_LOCK_PATIENCE_S = 30.0
_CHOOSE = "--bpffs takes the directory where a BPF file system is mounted"


def _filesystem_type(path: Path) -> int:
    """f_type of statfs(2), which the os module does not tell."""
    buffer = (ctypes.c_long * 32)()  # larger than struct statfs anywhere
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(path), buffer):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(buffer[0]) & 0xFFFFFFFF


def check_bpffs(bpffs: Path) -> None:
    """Raises StateError or PrivilegeError unless a BPF file system is mounted there."""
    quoted = shlex.quote(str(bpffs))
    # Without the mode anybody may make files there: the kernel's default is 1777.
    hint = f"mount one: mount -t bpf -o mode=0700 bpf {quoted}"
    try:
        is_directory = stat.S_ISDIR(bpffs.stat().st_mode)
        kind = _filesystem_type(bpffs)
    except FileNotFoundError:
        raise StateError(
            f"there is no directory {bpffs}", f"mkdir -p {quoted} && {hint[11:]}"
        ) from None
    except ValueError as error:  # a NUL
        raise StateError(f"{bpffs} cannot be used: {error}", _CHOOSE) from None
    except OSError as error:
        raise _refused(error, bpffs) from error
    if not is_directory:
        raise StateError(f"{bpffs} is not a directory", _CHOOSE)
    if kind != _MAGIC:
        # A mount would hide what is there.
        free = bpffs == DEFAULT or not any(bpffs.iterdir())
        raise StateError(f"no BPF file system is mounted at {bpffs}", hint if free else _CHOOSE)


def _refused(error: OSError, path: Path) -> ProbeError:
    if error.errno in (errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return StateError(f"{path} cannot be used: {os.strerror(error.errno).lower()}", _CHOOSE)
    if error.errno == errno.EROFS:
        return StateError(
            f"the BPF file system of {path} is mounted read-only",
            f"mount -o remount,rw {shlex.quote(str(path))}, or choose another with --bpffs",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return PrivilegeError(f"no permission for {path}", "run it as root")
    return KernelError(f"cannot use {path}", error.errno or 0)


class Pins:
    """The pin directory of one ABI version in one bpffs. Makes nothing by itself."""

    def __init__(self, bpffs: Path, abi_hash: str) -> None:
        self.bpffs = bpffs
        self.root = bpffs / "xdpprobe"
        self.path = self.root / abi_hash
        self.maps = self.path / "maps"
        self.slots = self.path / "slots"
        self.clock = self.path / "clock_read"
        self.aside = self.root / f"{abi_hash}_replaced"
        self._held = False

    def exists(self) -> bool:
        """Whether a probe of this version is, or was half, attached."""
        try:
            self._check_root()
            return self.path.is_dir()
        except OSError as error:
            raise _refused(error, self.root) from error

    def _check_root(self) -> None:
        """Raises StateError for a directory that somebody else made, or may write to."""
        try:
            found = self.root.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            raise _refused(error, self.root) from error
        if stat.S_ISDIR(found.st_mode) and found.st_uid in (0, os.geteuid()):
            if not found.st_mode & 0o077:
                return
            why = "is open to other users"
        else:
            why = "is not a directory of this user's"
        remove = f"rm -rf {shlex.quote(str(self.root))}"
        raise StateError(
            f"{self.root} {why}, so what it holds cannot be trusted",
            f"look at it, remove it ({remove}), or choose another place with --bpffs",
        )

    def other_versions(self) -> list[Path]:
        """Pin directories of probes of other ABI versions."""
        try:
            self._check_root()
            ours = (self.path, self.aside)
            return sorted(p for p in self.root.iterdir() if p.is_dir() and p not in ours)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _refused(error, self.root) from error

    def put_aside(self, undo: ExitStack) -> None:
        """Makes room for a new probe; what it replaces goes when the new one is complete."""
        undo.callback(self.recover)
        self.path.rename(self.aside)

    def recover(self) -> None:
        """Puts back what was put aside for an attach that came to nothing.

        What the attach left on interfaces must be off them: `detach.recover` is for one that was
        killed.
        """
        if self.aside.exists():
            self.remove(self.path)
            self.aside.rename(self.path)

    def make(self) -> None:
        """Makes the directories."""
        for path in (self.root, self.path, self.maps, self.slots):
            self.make_directory(path)

    def make_directory(self, path: Path) -> None:
        """Makes one directory of mode 0700; that it exists is fine."""
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise _refused(error, self.bpffs) from error

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the bpffs' lock: one attach, detach or reload at a time.

        Makes DIR/xdpprobe, and removes it when it is empty at the end. Raises StateError when
        another process holds the lock for longer than ten seconds.
        """
        check_bpffs(self.bpffs)
        fd = self._locked()
        self._held = True
        try:
            yield
        finally:
            self._held = False
            with suppress(OSError):  # not empty: something is attached
                self.root.rmdir()
            os.close(fd)

    def busy(self) -> bool:
        """Whether another process holds the lock now; waits for nothing."""
        fd = None if self._held else self._open_root()
        if fd is None:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _locked(self) -> int:
        deadline = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            self._check_root()
            self.make_directory(self.root)
            fd = self._open_root()
            if fd is None:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The holder before may have removed the directory that we opened.
                if self.root.exists() and os.fstat(fd).st_ino == self.root.stat().st_ino:
                    # Where others may make files, one may have been quicker with the directory.
                    self._check_root()
                    return fd
            except BlockingIOError:
                pass
            except ProbeError:
                os.close(fd)
                raise
            os.close(fd)
            if time.monotonic() > deadline:
                raise StateError(
                    "another xdpprobe is attaching or detaching", "try again when it is done"
                )
            time.sleep(0.02)

    def _open_root(self) -> int | None:
        """Descriptor of the root; None where the holder of the lock has just removed it."""
        try:
            return os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refused(error, self.root) from error

    def map(self, name: str) -> Path:
        """Where a map is pinned."""
        return self.maps / name

    def slot(self, number: int) -> Path:
        """Directory of an interface slot."""
        return self.slots / str(number)

    def used_slots(self) -> list[int]:
        """Numbers of the slots that have a directory."""
        try:
            return sorted(int(p.name) for p in self.slots.iterdir() if p.name.isdigit())
        except FileNotFoundError:
            return []

    def generations(self, slot: int) -> list[Path]:
        """Generation directories of a slot, oldest first."""
        found = [p for p in self.slot(slot).iterdir() if p.name.isdigit()]
        return sorted(found, key=lambda p: int(p.name))

    def mark_code(self, generation: Path, code: str) -> None:
        """Notes in a generation's directory what the stages there were made from."""
        self.make_directory(generation / f"code_{code}")

    def stages(self, name: str, code: str) -> Path | None:
        """Where a PROG_ARRAY is pinned whose stages were made from that; None: nowhere."""
        for slot in self.used_slots():
            for generation in self.generations(slot):
                if (generation / f"code_{code}").is_dir() and (generation / name).exists():
                    return generation / name
        return None

    def remove(self, path: Path) -> None:
        """Removes a directory with everything in it; what is not there is fine."""
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            raise KernelError(f"cannot remove {path}", errno.EBUSY, "is it mounted read-only?")


def pinned(path: Path) -> int | None:
    """Descriptor of a pinned object, None when nothing is pinned there."""
    return syscall.open_pin(path) if path.exists() else None
