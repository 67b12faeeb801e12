# SPDX-License-Identifier: Apache-2.0
"""What holds for every file: a licence, a place, and nothing of the machine it was written on."""

import re
from pathlib import Path

from tests.repo.tree import ROOT, files, text

ROOMS = {
    *(".ci", ".clang-format", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
    *("LICENSES", "MANIFEST.in", "Makefile", "README.md", "bench", "bpf", "docs"),
    *("pyproject.toml", "requirements-ci.txt", "setup.py", "tests", "tools", "vm-test", "xdpprobe"),
}

# Prose and bare data carry no header; neither do the licences themselves.
HEADERLESS = {".md", ".txt", ".json", ".pcap", ".pcapng", ".bin", ".svg", ".png", ".typed", ".dat"}

# The brackets keep this file from holding what it forbids.
MACHINE = re.compile(r"/w[o]rk/|/r[o]ot/|/h[o]me/\w|/[o]pt/\w|/t[m]p/\w")
UNFINISHED = re.compile(r"T[O]DO|F[I]XME|X[X]X:")


def has_header(name: Path) -> bool:
    return not (
        name.suffix in HEADERLESS
        or name.name in ("LICENSE", ".gitignore")
        or name.parts[0] == "LICENSES"
    )


def test_every_source_states_its_licence() -> None:
    wrong = []
    for name in filter(has_header, files()):
        licence = "GPL-2.0-only OR BSD-2-Clause" if name.parts[0] == "bpf" else "Apache-2.0"
        head = (text(name) or "").splitlines()[:2]
        if not any(f"SPDX-License-Identifier: {licence}" in line for line in head):
            wrong.append(str(name))
    assert wrong == []


def test_top_level_has_only_the_rooms_of_the_design() -> None:
    assert {name.parts[0] for name in files()} - ROOMS == set()


def test_no_file_names_a_place_of_some_machine() -> None:
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in files()
        for number, line in enumerate((text(name) or "").splitlines(), 1)
        if MACHINE.search(line)
    ]
    assert found == []


def test_nothing_is_marked_as_unfinished() -> None:
    assert [str(name) for name in files() if UNFINISHED.search(text(name) or "")] == []


def test_scripts_are_executable_and_stop_at_errors() -> None:
    scripts = [name for name in files() if (text(name) or "").startswith("#!/usr/bin/env bash")]
    assert scripts
    for name in scripts:
        assert (ROOT / name).stat().st_mode & 0o111, name
        assert re.search(r"^set -e?u", text(name) or "", re.MULTILINE), name


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE))
    described = set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    assert targets - described == {"tools-installed"}  # a step of the others
