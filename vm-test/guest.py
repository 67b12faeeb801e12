# SPDX-License-Identifier: Apache-2.0
"""One boot: a kernel under QEMU without KVM runs a shell line and gives back one file."""

import base64
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from architecture import Architecture
from image import PROJECT
from kernels import Kernel

MEMORY_MB = 3072
GRACE = 30.0  # seconds between asking a run to end and ending it
_UP = re.compile(rb"<!-- up (\d+)")  # guest.sh: seconds
_ETHERNET = "02:00:00:00:ca:{:02x}"  # nobody's whom tests send to
_children: set[subprocess.Popen[bytes]] = set()
stopping = threading.Event()


@dataclass(frozen=True)
class Boot:
    """What came of it. answer: b"" where there is none. seconds: wall time.

    code: the line's exit code; None where it is in the answer (guest.sh).
    """

    answer: bytes
    seconds: float
    timed_out: bool
    code: int | None = None

    @property
    def clock_astray(self) -> bool:
        """Whether the guest's clock ran at another speed than this machine's.

        A kernel measures its processor's clock as it starts, and gets it wrong for good where the
        processor is taken away just then: 40 times as fast was seen (7.2).
        """
        up = _UP.search(self.answer)
        return up is not None and not self.timed_out and not 0.5 < int(up[1]) / self.seconds < 1.5


def without(line: str, log: Path, answer: Path, *, seconds: float) -> Boot:
    """Runs `line`, which writes `answer`, on this machine: its kernel needs no guest."""
    return _run(["bash", "-c", f"exec env {line}"], log, answer, seconds, guest=False)


def _run(command: list[str], log: Path, answer: Path, seconds: float, *, guest: bool) -> Boot:
    answer.unlink(missing_ok=True)
    begun = time.monotonic()
    timed_out = False
    # Whatever ends this process ends the child too; Ctrl-C is told to it by `end_all`.
    command = ["setpriv", "--pdeathsig", "KILL" if guest else "TERM", *command]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=PROJECT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _children.add(child)
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
            _end(child)
        finally:
            _children.discard(child)
    data = answer.read_bytes() if answer.exists() else b""
    code = None if guest else child.returncode
    return Boot(data, time.monotonic() - begun, timed_out, code)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Tests have time to remove what they made."""
    with suppress(ProcessLookupError):  # it has just ended by itself
        os.killpg(child.pid, signal.SIGINT)
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def end_all() -> None:
    """Ends whatever is running; `stopping` says from now on that it did not end by itself."""
    stopping.set()
    for child in list(_children):
        _end(child)


@dataclass(frozen=True)
class Machine:
    """What the guests of one kernel have in common. root, modules: squashfs images."""

    architecture: Architecture
    kernel: Kernel
    root: Path
    modules: Path
    initramfs: Path
    work: Path

    def boot(
        self,
        line: str,
        log: Path,
        answer: Path,
        *,
        seconds: float,
        cpus: int = 1,
        cards: Sequence[str] = (),
    ) -> Boot:
        """Runs `line` in the guest, whose console goes to `log` and /run/answer to `answer`.

        cards: QEMU's network devices; two of each, wired to each other.
        """
        command = self._command(line, answer, cpus, cards)
        return _run(command, log, answer, seconds, guest=True)

    def _command(self, line: str, answer: Path, cpus: int, cards: Sequence[str]) -> list[str]:
        run = base64.b64encode(line.encode()).decode()
        # Mitigations shield nothing here, and cost an eighth of the time.
        words = f"console={self.architecture.console} quiet mitigations=off panic=-1"
        words += f" project={PROJECT} run={run}"
        # One thread for all processors: with more, QEMU may run code that the kernel has just
        # changed as it was before (7.2: "Oops: int3" in bpf_dispatcher_xdp_func).
        command = [*self.architecture.qemu, "-accel", "tcg,thread=single", "-smp", str(cpus)]
        command += ["-m", str(MEMORY_MB), "-display", "none", "-nodefaults", "-no-reboot"]
        command += ["-kernel", str(self.kernel.image), "-initrd", str(self.initramfs)]
        command += ["-append", words, "-serial", "stdio"]
        command += ["-chardev", f"file,id=answer,path={answer}", "-device", "virtio-serial-pci"]
        command += ["-device", "virtserialport,chardev=answer"]
        for image in (self.root, self.modules):
            command += ["-drive", f"file={image},format=raw,if=virtio,readonly=on"]
        for number in range(2 * len(cards)):
            command += ["-netdev", f"hubport,id=port{number},hubid={number // 2}"]
            address = _ETHERNET.format(number)
            command += ["-device", f"{cards[number // 2]},netdev=port{number},mac={address}"]
        return command
