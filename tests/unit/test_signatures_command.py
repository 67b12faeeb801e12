# SPDX-License-Identifier: Apache-2.0
"""`xdpprobe signatures` as a user meets it; `load` needs a probe."""

import json
from pathlib import Path

import pytest

from tests.match_tables import Layouts
from xdpprobe import abi
from xdpprobe.cli import main

MINE = """\
[[app]]
id = 7200
name = "mine"
title = "Mine"
category = "work"
domains = ["mine.example", "docs.google.com"]
exact = ["one.example"]
prefix = ["192.0.2.0/24"]
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


def test_check(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signatures", "check", str(mine)]) == 0
    assert capsys.readouterr().out.startswith("no mistake: ")


def test_check_says_file_line_and_reason(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine.write_text(MINE.replace('"mine.example"', '"*.mine.example"'))
    assert main(["signatures", "check", str(mine)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"xdpprobe: {mine}:6: domains: '*.mine.example' has a wildcard; ")
    assert err.count("\n") == 1


def test_check_of_patterns(
    mine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(abi, "load_abi", Layouts)
    with mine.open("a") as file:
        file.write('[[signature]]\napp = "mine"\nl4 = "udp"\nmatch = \'abc\'\n')
    assert main(["signatures", "check", str(mine)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("no mistake: ")
    assert any(line.startswith(f"doubt: {mine}:9: matches one of ") for line in lines)
    assert any(line.startswith("patterns: states of automata: ") for line in lines)
    mine.write_text(mine.read_text().replace("abc", "(abc"))
    assert main(["signatures", "check", str(mine)]) == 1
    assert "'(' without its ')'" in capsys.readouterr().err


def test_list_tells_the_domains_in_force(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signatures", "list", "--json", "--signatures", str(mine)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == 1
    rows = {row["name"]: row for row in found["signatures"]}
    assert rows["mine"] == {
        "id": 7200,
        "name": "mine",
        "title": "Mine",
        "category": "work",
        "kind": "application",
        "domains": ["mine.example", "docs.google.com"],
        "exact": ["one.example"],
        "prefix": ["192.0.2.0/24"],
        "ech_public_names": [],
        "l4": [],
        "source": "",
        "file": "mine.toml",
    }
    assert "docs.google.com" not in rows["google-docs"]["domains"]
    assert rows["ospf"]["l4"] == [89]


def test_list_filter(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signatures", "list", "--filter", "GOOGLEVIDEO"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["NAME", "youtube"]
    assert main(["signatures", "list", "--filter", "no such thing"]) == 0
    assert capsys.readouterr().out == "no signatures\n"


def test_match(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["i.ytimg.com", "one.example", "a.one.example", "docs.google.com"]
    assert main(["signatures", "match", "--signatures", str(mine), *names]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "i.ytimg.com: youtube (video), by ytimg.com",
        "one.example: mine (work), by =one.example",
        "a.one.example: no application",
        "docs.google.com: mine (work), by docs.google.com",
    ]
    assert main(["signatures", "match", "--json", "t.co", "none.example"]) == 0
    assert json.loads(capsys.readouterr().out)["names"] == [
        {"name": "t.co", "app": "twitter", "category": "social", "rule": "t.co"},
        {"name": "none.example", "app": None, "category": None, "rule": None},
    ]


def test_a_verb_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["signatures"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
