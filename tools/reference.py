# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference.md, the commands' own help texts, so that they are written once.

Run by `make docs`; tests/repo/test_reference.py fails when the file is behind.
"""

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

from xdpprobe.cli import build_parser

TARGET = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
WIDTH = "100"  # columns, whatever terminal this runs in
INTRODUCTION = """\
# Command reference

What `xdpprobe COMMAND --help` prints, written by `make docs`.
"""


def commands(parser: argparse.ArgumentParser, title: str) -> Iterator[tuple[str, str]]:
    """(title, help text) of a parser and of every command below it."""
    yield title, parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from commands(command, f"{title} {name}")


def reference() -> str:
    """The whole document."""
    os.environ["COLUMNS"] = WIDTH
    parts = [
        f"\n## {title}\n\n```\n{text}```\n" for title, text in commands(build_parser(), "xdpprobe")
    ]
    return INTRODUCTION + "".join(parts)


if __name__ == "__main__":
    TARGET.write_text(reference())
