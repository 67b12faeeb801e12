# SPDX-License-Identifier: Apache-2.0
"""What passed last, by kernel, suite and card: docs/kernels.json, and docs/kernels.md from it."""

import json
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from report import Row, document

DATA, PAGE = "kernels.json", "kernels.md"
_one_at_a_time = threading.Lock()


def read(docs: Path) -> list[Row]:
    """The rows that are on record."""
    path = docs / DATA
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    return [Row(**{**row, "skipped": Counter(row["skipped"])}) for row in rows]


def note(docs: Path, rows: Sequence[Row], kernels: Sequence[str], suites: Sequence[str]) -> None:
    """Puts rows in the place of those of the same boot; what did not pass is on record no more.

    kernels, suites: in the order of the page; what is not among them goes too.
    """
    with _one_at_a_time:
        _note(docs, rows, kernels, suites)


def _note(docs: Path, rows: Sequence[Row], kernels: Sequence[str], suites: Sequence[str]) -> None:
    known = {(row.kernel, row.suite, row.card): row for row in (*read(docs), *rows)}
    good = [
        row
        for row in known.values()
        if not row.troubles and row.kernel in kernels and row.suite in suites
    ]
    good.sort(key=lambda row: (kernels.index(row.kernel), suites.index(row.suite), row.card))
    data = [{**vars(row), "seconds": round(row.seconds)} for row in good]
    for entry in data:
        del entry["troubles"]  # it has none
    (docs / DATA).write_text(json.dumps({"rows": data}, indent=1) + "\n")
    (docs / PAGE).write_text(document(read(docs)))
