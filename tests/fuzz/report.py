# SPDX-License-Identifier: Apache-2.0
"""What a run did and found: kept while it goes on, a table at its end."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.fuzz import cases

MOST = 5  # findings of a part: then it ends, for more of the same help nobody


@dataclass
class Tally:
    """One part: what it counts (`unit`), how many are done, and where its findings lie."""

    part: str
    unit: str
    folder: Path
    done: int = 0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether enough was found."""
        return len(self.findings) >= MOST

    def found(self, case: cases.Case) -> None:
        """Keeps a finding; the same one twice is one."""
        path = str(cases.save(case, self.folder))
        if path not in self.findings:
            self.findings.append(path)

    def row(self) -> dict[str, object]:
        """For the JSON report."""
        return {
            "part": self.part,
            "unit": self.unit,
            "done": self.done,
            "seconds": round(self.seconds, 1),
            "findings": self.findings,
        }


def show(tallies: list[Tally], console: Console) -> None:
    """The closing table, and where the findings are."""
    table = Table("part", "of", "done", "seconds", "findings", box=None, pad_edge=False)
    for tally in tallies:
        table.add_row(
            tally.part,
            tally.unit,
            f"{tally.done:,}",
            f"{tally.seconds:.0f}",
            str(len(tally.findings)),
        )
    console.print(table)
    for path in (path for tally in tallies for path in tally.findings):
        console.print(f"finding: {path}", soft_wrap=True)
