# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference.md, the commands' own help texts, and docs/counters.md, what the data
plane's header says of each counter, so that both are written once.

Run by `make docs`; tests/repo fails when a file is behind.
"""

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path

from xdpprobe.cli import build_parser

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "reference.md"
COUNTERS = ROOT / "docs" / "counters.md"
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


_COUNTER = re.compile(
    r"^\t(REASON|LOSS|INFO)_(\w+)(?: = 0)?,\s*/\*(.*?)\*/", re.DOTALL | re.MULTILINE
)
_KINDS = {
    "REASON": "Packets that belong to no flow, and why. They are passed on like all others.",
    "LOSS": "What could not be done, and would else be lost in silence.",
    "INFO": "What is good to know.",
}
COUNTERS_INTRODUCTION = """\
# Counters

What `xdpprobe status` and `dump` print: packets, or hellos, names and flows, since the probe was
attached. Written by `make docs` from `bpf/abi_counters.h`.
"""


def counters() -> str:
    """docs/counters.md."""
    header = (ROOT / "bpf" / "abi_counters.h").read_text()
    parts = []
    for kind, meaning in _KINDS.items():
        rows = "".join(
            _row(kind, name, text)
            for other, name, text in _COUNTER.findall(header)
            if other == kind
        )
        parts.append(f"\n{meaning}\n\n| counter | what it counts |\n|---|---|\n{rows}")
    return COUNTERS_INTRODUCTION + "".join(parts)


def _row(kind: str, name: str, text: str) -> str:
    shown = f"{kind} {name}".lower().replace("_", " ")
    return f"| `{shown}` | {' '.join(text.replace('*', ' ').split())} |\n"


if __name__ == "__main__":
    TARGET.write_text(reference())
    COUNTERS.write_text(counters())
