# SPDX-License-Identifier: Apache-2.0
"""Every fault of docs/faults.md names a test, and the tests that it names are there."""

import re
from collections.abc import Iterator

from tests.repo.tree import ROOT

NAMED = re.compile(r"`([\w/]+\.py)::(\w+)")


def rows() -> Iterator[str]:
    """Rows of the tables, without their heads and the rows that only hold a group's title."""
    body = False
    for line in (ROOT / "docs" / "faults.md").read_text().splitlines():
        if not line.startswith("|"):
            body = False
        elif re.fullmatch(r"[|\s:-]+", line):
            body = True
        elif body and not line.startswith("| **"):
            yield line


def test_every_fault_has_a_test_that_exists() -> None:
    found = list(rows())
    assert len(found) > 30
    assert [row for row in found if not NAMED.search(row)] == []
    missing = []
    for file, name in NAMED.findall("\n".join(found)):
        path = ROOT / "tests" / file.removeprefix("tests/")
        if not path.is_file() or not re.search(rf"^def {name}\(", path.read_text(), re.MULTILINE):
            missing.append(f"{file}::{name}")
    assert missing == []
