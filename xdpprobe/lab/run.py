# SPDX-License-Identifier: Apache-2.0
"""What belongs to which run, and how a killed run's remains are told and removed.

Everything the lab makes outside its own process (namespaces, /etc/netns directories, a work
directory with mounts) is named `xdplab-PID-START-...`. START is the process's start time
(/proc/PID/stat, field 22), so a number that the kernel gave to another process since is no alibi.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from xdpprobe.errors import KernelError, PrivilegeError, StateError
from xdpprobe.lab.orderly import deferred
from xdpprobe.processes import start_time

OWNED = re.compile(r"xdplab-(\d+)-(\d+)-")
NETNS_DIRECTORY = Path("/run/netns")
NETNS_CONFIG = Path("/etc/netns")
WORK_ROOT = Path("/run")
COMMAND_TIMEOUT = 20.0


def prefix() -> str:
    """What names of this process's things begin with."""
    return f"xdplab-{os.getpid()}-{start_time(os.getpid())}-"


def is_abandoned(name: str) -> bool:
    """Whether a thing of that name was made by a lab whose process has gone."""
    match = OWNED.match(name)
    return match is not None and start_time(int(match[1])) != int(match[2])


def require_root(what: str) -> None:
    """Raise PrivilegeError unless the process is root."""
    if os.geteuid() != 0:
        raise PrivilegeError(f"{what} needs root", "run it with sudo")


def require_tools(tools: dict[str, str]) -> None:
    """Raise StateError when a command is missing. tools: command -> the Debian package it is in."""
    missing = {tool: package for tool, package in tools.items() if shutil.which(tool) is None}
    if missing:
        raise StateError(
            f"not installed: {', '.join(sorted(missing))}",
            f"apt-get install {' '.join(sorted(set(missing.values())))}",
        )


def command(argv: Sequence[str], text: str | None = None) -> str:
    """Run a command of the system, `text` on its standard input; its standard output.

    Raises KernelError with the command's last words when it fails or takes too long.
    """
    try:
        with deferred():  # or it would go on making what is being removed already
            done = subprocess.run(
                argv,
                input=text,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT,
                check=False,
                start_new_session=True,  # Ctrl-C is for this process; a removal goes on
            )
    except FileNotFoundError as error:
        raise StateError(f"not installed: {argv[0]}", "run: make setup") from error
    except subprocess.TimeoutExpired as error:
        raise KernelError(f"{' '.join(argv)}: no answer in {COMMAND_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        words = " / ".join(done.stderr.split("\n")[:2]).strip(" /")
        raise KernelError(f"{' '.join(argv)}: {words or f'exit code {done.returncode}'}")
    return done.stdout


def remove_namespace(name: str) -> None:
    """Delete a namespace, end what runs in it and remove its /etc/netns directory."""
    if (NETNS_DIRECTORY / name).exists():
        for pid in _pids(name):
            _kill(pid)
        command(["ip", "netns", "delete", name])
    shutil.rmtree(NETNS_CONFIG / name, ignore_errors=True)
    with contextlib.suppress(OSError):  # others have theirs there, or it never was
        NETNS_CONFIG.rmdir()


def remove_work_directory(path: Path) -> None:
    """Unmount what is mounted below `path`, then remove it."""
    for mount in reversed(list(_mounts_below(path))):
        command(["umount", "--lazy", str(mount)])
    shutil.rmtree(path, ignore_errors=True)


def remove_abandoned() -> list[str]:
    """Remove what killed runs left behind; the names of what was removed."""
    removed = []
    for name in _names(NETNS_DIRECTORY, NETNS_CONFIG):
        if is_abandoned(name):
            remove_namespace(name)
            removed.append(name)
    for name in _names(WORK_ROOT):
        if is_abandoned(name):
            remove_work_directory(WORK_ROOT / name)
            removed.append(name)
    return removed


def _names(*directories: Path) -> list[str]:
    found = {entry.name for path in directories if path.is_dir() for entry in path.iterdir()}
    return sorted(name for name in found if OWNED.match(name))


def _pids(name: str) -> list[int]:
    return [int(pid) for pid in command(["ip", "netns", "pids", name]).split()]


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _mounts_below(path: Path) -> Iterator[Path]:
    for line in Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines():
        mount = Path(line.split()[1])
        if mount.is_relative_to(path):
            yield mount
