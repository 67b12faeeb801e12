# SPDX-License-Identifier: Apache-2.0
"""Everything that can go wrong, as one tree with exit codes.

    ProbeError            exit 1
      UsageError          exit 2   an option or argument that cannot be meant
      PrivilegeError      exit 1   the process may not do that
      KernelError         exit 1   the kernel refused; carries the errno
      StateError          exit 1   attached already, not attached, another version
      DataError           exit 1   a signature file or capture is broken

A message says what failed, on what, and what to try: `what` and `hint` are kept apart so that
the command line can print them on one line and JSON readers can tell them from each other.
"""

import errno as _errno
import os


class ProbeError(Exception):
    """Something the user has to know. `what` says what failed and on what, `hint` what to try."""

    exit_code = 1

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what}; {self.hint}" if self.hint else self.what


class UsageError(ProbeError):
    """An option or argument that cannot be meant so."""

    exit_code = 2


class PrivilegeError(ProbeError):
    """The process lacks a capability."""


class StateError(ProbeError):
    """The probe or the interface is not in the state that the request needs."""


class DataError(ProbeError):
    """A file of the user's is broken. `where` is `file` or `file:line`."""

    def __init__(self, where: str, why: str, hint: str = "") -> None:
        super().__init__(f"{where}: {why}", hint)
        self.where = where
        self.why = why


class KernelError(ProbeError):
    """The kernel refused a request; `code` is the (positive) errno, 0 where there is none."""

    def __init__(self, what: str, code: int = 0, hint: str = "") -> None:
        self.code = code
        self.reason = f"{os.strerror(code)} ({_errno.errorcode.get(code, code)})" if code else ""
        super().__init__(f"{what}: {self.reason}" if code else what, hint)
