# SPDX-License-Identifier: Apache-2.0
"""The documents name counters that there are."""

import re

import pytest

from tests.repo.tree import ROOT

COUNTER = re.compile(r"`((?:loss|reason|info) [a-z ]+)`")
DOCUMENTS = sorted(path.name for path in (ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_counter_that_is_named_exists(name: str) -> None:
    enum = (ROOT / "bpf" / "abi_counters.h").read_text()
    counters = set(re.findall(r"^\t((?:REASON|LOSS|INFO)_\w+)", enum, re.MULTILINE))
    text = (ROOT / "docs" / name).read_text()
    named = {word.upper().replace(" ", "_") for word in COUNTER.findall(text)}
    assert named or name != "faults.md"
    assert named - counters == set()
