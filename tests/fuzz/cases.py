# SPDX-License-Identifier: Apache-2.0
"""Findings as small files, and the same files as regression tests.

A file is JSON: what was sent, with what settings, over which hook, and what was expected. Moved to
tests/fuzz/cases under a name that says what was wrong, it is replayed by the default test run.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.batch import Batch, batch_of

FOLDER = Path(__file__).parent / "cases"
TRIALS = 400  # test runs of a batch that making it smaller may take


@dataclass(frozen=True)
class Case:
    """part: which part of fuzzing understands it. settings: of the arena. packets: in hex, each
    with the bytes that are read directly (0: all) and those taken off first. expected: what the
    part makes of it; wrong: what was seen instead."""

    part: str
    hook: str
    settings: dict[str, int]
    packets: list[tuple[str, int, int]]
    expected: Any
    wrong: list[str] = field(default_factory=list)

    def batch(self) -> Batch:
        """The packets."""
        batch = batch_of([bytes.fromhex(data) for data, _, _ in self.packets])
        batch.linear[:] = [linear for _, linear, _ in self.packets]
        batch.trim[:] = [trim for _, _, trim in self.packets]
        return batch


def packets_of(batch: Batch) -> list[tuple[str, int, int]]:
    """As they stand in a case."""
    return [
        (batch.packet(row).hex(), int(batch.linear[row]), int(batch.trim[row]))
        for row in range(len(batch))
    ]


def save(case: Case, folder: Path) -> Path:
    """Writes a case; its name comes from its content, so that one finding is one file."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(case), indent=1) + "\n"
    path = folder / f"{case.part}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    path.write_text(text)
    return path


def read(path: Path) -> Case:
    """Reads one that `save` wrote."""
    content = json.loads(path.read_text())
    content["packets"] = [tuple(packet) for packet in content["packets"]]
    return Case(**content)


def reduced(batch: Batch, fails: Callable[[Batch], bool], trials: int = TRIALS) -> Batch:
    """The fewest packets found that still fail, in their order: halves are left out first."""
    rows = np.arange(len(batch))
    step = len(rows) // 2
    while step and trials:
        start = 0
        while start < len(rows) and len(rows) > 1 and trials:
            fewer = np.delete(rows, np.arange(start, min(start + step, len(rows))))
            trials -= 1
            if len(fewer) and fails(batch.take(fewer)):
                rows = fewer
            else:
                start += step
        step //= 2
    return batch.take(rows)
