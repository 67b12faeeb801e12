# SPDX-License-Identifier: Apache-2.0
"""The machines that guests are: what differs between them, and nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """A guest's machine. debian: as Debian calls it. wheels: as PyPI's file names call it.

    qemu: the emulator with its machine and processor. console: the first serial port.
    """

    debian: str
    wheels: str
    qemu: tuple[str, ...]
    console: str


# x86-64-v2: QEMU's translation of the wider vectors of later ones takes ten times as long.
AMD64 = Architecture(
    "amd64", "x86_64", ("qemu-system-x86_64", "-M", "q35,sata=off", "-cpu", "Nehalem"), "ttyS0"
)
# With the atomic instructions of Armv8.1, which the kernel's JIT then uses, and without pointer
# authentication, which is slow to translate.
ARM64 = Architecture(
    "arm64", "aarch64", ("qemu-system-aarch64", "-M", "virt", "-cpu", "neoverse-n1"), "ttyAMA0"
)
NATIVE = AMD64  # what this machine is: its packages do for guests like it
ALL = {architecture.debian: architecture for architecture in (AMD64, ARM64)}
