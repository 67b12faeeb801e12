# SPDX-License-Identifier: Apache-2.0
"""A short run of `make fuzz` over the files that a user may hand over, always the same."""

import re

import pytest

from tests.fuzz import cases, files
from tests.fuzz.layout import layout_of
from tests.fuzz.seeds import own_groups
from tests.fuzz.targets import TARGETS, Broken
from xdpprobe.errors import UsageError


@pytest.mark.parametrize("name", TARGETS)
def test_only_the_projects_errors_come_out(name: str) -> None:
    tried, worst = files.round_of(name, 1, examples=60)
    assert tried >= 60
    assert worst is None


def test_earlier_findings() -> None:
    found = {path.stem: cases.read(path) for path in sorted(cases.FOLDER.glob("*.json"))}
    again = {name: files.replay(case) for name, case in found.items() if case.part == files.PART}
    assert {name: wrong for name, wrong in again.items() if wrong} == {}


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_right(name: str) -> None:
    read, seeds, _ = TARGETS[name]
    for data in seeds():
        read(data)


def test_what_goes_wrong_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: bytes) -> None:
        if data.count(b"7") > 1:
            raise ValueError("two sevens")
        raise UsageError("one of the project's own")

    seeds = lambda: [b"0123456789" * 5]  # noqa: E731
    monkeypatch.setitem(TARGETS, "sevens", (read, seeds, (b"7",)))
    tried, worst = files.round_of("sevens", 1)
    assert tried > 1
    assert worst is not None
    assert worst.wrong == ["ValueError: two sevens"]
    assert files.replay(worst) == worst.wrong
    assert len(worst.packets[0][0]) <= 2 * 50


def test_what_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(data: bytes) -> None:
        while not re.search(b"$^x", data):
            pass

    monkeypatch.setattr(files, "SECONDS", 0.02)
    monkeypatch.setitem(TARGETS, "endless", (read, lambda: [b""], ()))
    assert files.problems("endless", b"") == [f"{Broken.__name__}: did not end within 0.06 s"]


def test_fields_lie_inside_of_their_frame() -> None:
    frames = [one.frame for group in own_groups() for one in group]
    for frame in frames:
        layout = layout_of(frame)
        assert all(at >= 0 and at + width <= len(frame) for at, width in layout.fields)
    assert sum(len(layout_of(frame).fields) for frame in frames) > 10 * len(frames)
