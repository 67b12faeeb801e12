# SPDX-License-Identifier: Apache-2.0
"""A command line inside of the tests' process, where starting Python anew takes seconds.

Guests without KVM use it (XDPPROBE_EFFORT below 1): the kernel is the one that is tested there.
Everywhere else each command is a process of its own.
"""

import io
import os
import subprocess
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout

from xdpprobe.cli import main


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of `xdpprobe ARGUMENTS` with its output captured."""
    out, err = _file(), _file()
    before = sys.argv, sys.stdin
    sys.argv = ["xdpprobe", *arguments]
    try:
        with open(os.devnull) as sys.stdin, redirect_stdout(out), redirect_stderr(err):
            code = main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.argv, sys.stdin = before
    return subprocess.CompletedProcess(arguments, code, _text(out), _text(err))


def start(arguments: list[str]) -> int:
    """Runs it in a process that begins as this one is; its number, for os.waitpid."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        done = run(arguments)
        code = done.returncode
        os.write(2, done.stderr.encode())
    finally:
        os._exit(code)


def _file() -> io.TextIOWrapper:
    return io.TextIOWrapper(tempfile.TemporaryFile(), encoding="utf-8")


def _text(file: io.TextIOWrapper) -> str:
    with file:
        file.flush()
        file.seek(0)
        return file.read()
