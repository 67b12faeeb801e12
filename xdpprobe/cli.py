# SPDX-License-Identifier: Apache-2.0
"""The command line: finds the commands, parses, turns errors into one line and an exit code.

A command is a module in `xdpprobe.commands` with `add_parser(subparsers)` and `run(args) -> int`.
Only the one that is called is imported; a help text over all of them imports them all.
"""

import argparse
import errno
import os
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from xdpprobe import commands, streams
from xdpprobe.advice import BPFFS
from xdpprobe.errors import ProbeError, UsageError
from xdpprobe.version import VERSION

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
# A full disk, a quota, a size limit, a descriptor that is open for reading only.
_OF_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF)
# The order of the help text; a command that is not named here stands behind.
_ORDER = (
    "attach",
    "detach",
    "status",
    "doctor",
    "top",
    "apps",
    "hosts",
    "flows",
    "dump",
    "signatures",
    "peers",
    "replay",
    "bench",
    "demo",
)
_EPILOG = """\
examples:
  xdpprobe attach eth0       start counting and naming on eth0
  xdpprobe top               watch it
  xdpprobe detach --all      stop

`xdpprobe COMMAND --help` tells more. Exit codes: 0 done, 1 failed, 2 wrong use."""


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes end like all others, in one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **kwargs)
        self._below: dict[str, Parser] = {}

    def add_subparsers(self, **kwargs: Any) -> Any:
        action = super().add_subparsers(**kwargs)
        self._below = action.choices
        return action

    def add_bpffs_below(self) -> None:
        """Lets --bpffs stand after a command or verb too, without undoing what stood before it."""
        for parser in self._below.values():
            if not parser.get_default("offline"):
                _add_bpffs(parser, argparse.SUPPRESS)
            parser.add_bpffs_below()

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see `{self.prog} --help`")


def command_names() -> list[str]:
    """The commands there are, in the order of the help text."""
    found = [module.name for module in pkgutil.iter_modules(commands.__path__)]
    return sorted(found, key=lambda name: (*_rank(name), name))


def _rank(name: str) -> tuple[int]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER),)


def _add_bpffs(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "--bpffs",
        type=Path,
        metavar="DIR",
        default=default,
        help=f"BPF file system that holds the probe (default {BPFFS})",
    )


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """The parser with every command, or with one of them.

    A command that needs no probe has the default `offline`, and no --bpffs behind it.
    """
    parser = Parser(
        prog="xdpprobe",
        description="Names the applications that use a link, inside the kernel.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"xdpprobe {VERSION}")
    _add_bpffs(parser, None)  # `run` tells given from not given, and puts in the default
    parser.set_defaults(offline=False)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name in command_names() if only is None else [only]:
        import_module(f"xdpprobe.commands.{name}").add_parser(subparsers)
    parser.add_bpffs_below()
    return parser


def _command_of(arguments: Sequence[str]) -> str | None:
    """The command among the arguments, if it can be told without parsing them."""
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--bpffs":
            skip = True
        elif not argument.startswith("-"):
            return argument if argument in command_names() else None
    return None


def run(arguments: Sequence[str]) -> int:
    """Parses and runs. Raises ProbeError; exits by itself after --help and --version."""
    parser = build_parser(_command_of(arguments))
    args = parser.parse_args(arguments)
    if args.command is None:
        parser.print_help()
        return UsageError.exit_code
    if args.bpffs is None:
        args.bpffs = BPFFS
    elif args.offline:  # `signatures --bpffs DIR check`
        raise UsageError("--bpffs has no effect there: no probe is asked", "leave it out")
    code: int = args.run(args)
    return code


def _system_error(error: OSError) -> str:
    """What the system refused where nothing more is known of it."""
    if error.errno in _OF_OUTPUT and error.filename is None:
        return f"cannot write the output: {error.strerror}"
    where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script: returns the exit code."""
    streams.prepare()
    try:
        try:
            code = run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()
    except ProbeError as error:
        streams.say(str(error))
        return error.exit_code
    except BrokenPipeError:
        streams.give_up(sys.stdout)  # the reader has seen enough
        return 0
    except KeyboardInterrupt:
        return _INTERRUPTED
    except OSError as error:
        streams.give_up(sys.stdout)
        streams.say(_system_error(error))
        return ProbeError.exit_code
    return code
