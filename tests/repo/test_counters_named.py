# SPDX-License-Identifier: Apache-2.0
"""The documents name counters that there are."""

import re

import pytest

from tests.repo.tree import ROOT

COUNTER = re.compile(r"`((?:loss|reason|info) [a-z0-9 ]+)`")
DOCUMENTS = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_counter_that_is_named_exists(name: str) -> None:
    enum = (ROOT / "bpf" / "abi_counters.h").read_text()
    counters = set(re.findall(r"^\t((?:REASON|LOSS|INFO)_\w+)", enum, re.MULTILINE))
    text = (ROOT / "docs" / name).read_text()
    named = {word.upper().replace(" ", "_") for word in COUNTER.findall(text)}
    assert named or name != "faults.md"
    assert named - counters == set()


def test_every_counter_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from reference import counters

    text = (ROOT / "docs" / "counters.md").read_text()
    assert text == counters(), "run: make docs"
    enum = (ROOT / "bpf" / "abi_counters.h").read_text()
    known = re.findall(r"^\t((?:REASON|LOSS|INFO)_\w+)", enum, re.MULTILINE)
    named = [word.upper().replace(" ", "_") for word in COUNTER.findall(text)]
    assert sorted(named) == sorted(known)
