# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe completion`: a script that completes the command line, made from the parser."""

import argparse
from typing import Any

_EPILOG = """\
example:
  xdpprobe completion bash > /etc/bash_completion.d/xdpprobe"""


def add_parser(subparsers: Any) -> None:
    """Adds the command."""
    parser = subparsers.add_parser(
        "completion",
        help="print a completion script for a shell",
        description="Prints a script that completes xdpprobe's commands and options.",
        epilog=_EPILOG,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="for this shell")
    parser.set_defaults(offline=True, run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the script."""
    import shtab

    from xdpprobe.cli import build_parser

    print(shtab.complete(build_parser(), shell=args.shell))
    return 0
