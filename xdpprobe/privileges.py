# SPDX-License-Identifier: Apache-2.0
"""Which of the needed capabilities this process has, and the error for when the kernel says no."""

import errno
import os
from pathlib import Path

from xdpprobe.errors import KernelError, PrivilegeError, ProbeError

# linux/capability.h. CAP_SYS_ADMIN contains CAP_BPF and CAP_PERFMON. Without CAP_PERFMON the
# verifier refuses pointer arithmetic that the data plane does.
_NEEDED = {"CAP_BPF": 39, "CAP_NET_ADMIN": 12, "CAP_PERFMON": 38}
_SYS_ADMIN = 21
_BY_SYS_ADMIN = ("CAP_BPF", "CAP_PERFMON")


def missing_capabilities() -> list[str]:
    """Names of the capabilities that attaching needs and this process lacks."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            have = int(line.split()[1], 16)
            admin = bool(have >> _SYS_ADMIN & 1)
            return [
                name
                for name, bit in _NEEDED.items()
                if not have >> bit & 1 and not (admin and name in _BY_SYS_ADMIN)
            ]
    return list(_NEEDED)


def require(what: str) -> None:
    """Raises PrivilegeError, beginning with `what`, unless every capability is there."""
    missing = missing_capabilities()
    if missing:
        raise PrivilegeError(
            f"{what}: this process lacks {', '.join(missing)}",
            f"run it as root, or with {', '.join(_NEEDED)}",
        )


def failure(code: int, what: str, hint: str = "") -> ProbeError:
    """The error for a failed kernel call; `code` is a positive errno."""
    if code in (errno.EPERM, errno.EACCES):
        missing = missing_capabilities()
        if missing:
            return PrivilegeError(
                f"{what}: {os.strerror(code).lower()}; this process lacks {', '.join(missing)}",
                "run it as root",
            )
    if code == errno.EMFILE:
        hint = "raise the limit on open files: ulimit -n 1024"
    return KernelError(what, code, hint)
