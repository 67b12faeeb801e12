# SPDX-License-Identifier: Apache-2.0
"""A command line in a fork of this process, where starting Python anew takes seconds.

It is a process of its own all the same, with descriptors of its own; only its modules are those
that this one has read already. Guests without KVM use it (XDPPROBE_EFFORT below 1).
"""

import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from importlib import import_module
from typing import NoReturn

import xdpprobe
from xdpprobe.cli import main

_HIGHEST = 4096  # descriptors above it nobody here opens


def run(arguments: list[str], deadline: float) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of `xdpprobe ARGUMENTS` does; raises TimeoutExpired."""
    for module in pkgutil.walk_packages(xdpprobe.__path__, "xdpprobe."):
        if not module.name.endswith("__main__"):
            import_module(module.name)  # once; the fork has them
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if not child:
            _become(arguments, out.fileno(), err.fileno())
        watch = threading.Timer(deadline, os.kill, (child, signal.SIGKILL))
        watch.start()
        _, status = os.waitpid(child, 0)
        watch.cancel()
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGKILL:
            raise subprocess.TimeoutExpired(arguments, deadline)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(arguments, code, *texts)


def _become(arguments: list[str], out: int, err: int) -> NoReturn:
    code = 70
    try:
        nothing = os.open(os.devnull, os.O_RDONLY)
        for there, here in enumerate((nothing, out, err)):
            os.dup2(here, there)
        os.closerange(3, _HIGHEST)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
        sys.argv = ["xdpprobe", *arguments]
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # whatever happens, this must not go on as the tests' process
            os._exit(code)
