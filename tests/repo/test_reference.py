# SPDX-License-Identifier: Apache-2.0
"""The command reference has every command with every option, and each command has an example."""

import argparse
import re
from collections.abc import Iterator

import pytest

from tests.repo.tree import ROOT
from xdpprobe.cli import build_parser


def commands(parser: argparse.ArgumentParser, title: str) -> Iterator[tuple[str, set[str], str]]:
    """(title, option strings, epilog) of a parser and of every command below it."""
    options = {option for action in parser._actions for option in action.option_strings}
    yield title, options, parser.epilog or ""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield from commands(command, f"{title} {name}")


COMMANDS = list(commands(build_parser(), "xdpprobe"))


def section(title: str) -> str:
    """The reference's text on a command, "" where it has none."""
    text = (ROOT / "docs" / "reference.md").read_text()
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize(("title", "options", "epilog"), COMMANDS, ids=[row[0] for row in COMMANDS])
def test_a_command_is_in_the_reference(title: str, options: set[str], epilog: str) -> None:
    text = section(title)
    assert text, f"run: make docs ({title} is not in docs/reference.md)"
    written = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", text))
    assert options - written == set(), "run: make docs"
    assert epilog.strip() in text, "run: make docs"


@pytest.mark.parametrize(("title", "options", "epilog"), COMMANDS, ids=[row[0] for row in COMMANDS])
def test_a_command_helps_with_an_example(title: str, options: set[str], epilog: str) -> None:
    assert re.search(rf"^ +(sudo )?{title}\b", epilog, re.MULTILINE), epilog
