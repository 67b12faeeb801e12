# SPDX-License-Identifier: Apache-2.0
"""What came of the guests: one row a boot, from pytest's JUnit XML; Markdown from them."""

import datetime
import fnmatch
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from guest import Boot

# What guest.sh writes behind the tests' results.
_EXIT = re.compile(r"<!-- exit (\d+) -->")
_KERNEL = re.compile(r"<!-- kernel (.*) -->")

_HEAD = """\
# Kernels

Written by `sudo make vm-test` from [kernels.json](kernels.json); do not edit. It boots Debian's
kernels under QEMU without KVM and runs the tests in them; each row is of the last run on the day
it names. A skip is a test that this kernel or card cannot run, for a reason that
vm-test/matrix.toml lists; any other skip fails. Seconds are those of a guest that had one of the
machine's two processors, or less; a kernel's cards share one.

"""
_VERIFIER = """
## Work of the verifier

Instructions that each kernel's verifier took for a program (`bpf_prog_info.verified_insns`), with
`--tunnels inner --privacy cut`, which are the most code; at a million it refuses. A program that
takes a quarter more than tests/bpf/verified.toml says fails until that is written there.

"""


@dataclass
class Row:
    """One boot. skipped: reason -> tests. troubles: why it is not good, a line each.

    verified: program -> instructions that the verifier took (tests/bpf/test_verified.py).
    """

    kernel: str
    release: str
    suite: str
    card: str
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)
    verified: dict[str, int] = field(default_factory=dict)
    day: str = field(default_factory=lambda: str(datetime.date.today()))

    def line(self) -> str:
        """For a person who waits."""
        what = f"{self.kernel} {self.suite} {self.card}".strip()
        skipped = sum(self.skipped.values())
        found = f"{self.passed} passed, {self.failed} failed, {skipped} skipped"
        return f"{what}: {found}, {self.seconds:.0f} s"


def complaints(boot: Boot) -> list[str]:
    """What the guest's kernel printed that it should not have."""
    return _KERNEL.findall(boot.answer.decode(errors="replace"))


def row(
    kernel: str, release: str, suite: str, card: str, boot: Boot, allowed: list[dict[str, Any]]
) -> Row:
    """Reads a guest's answer. allowed: globs of `reason`, perhaps `test`, `kernel`, `card`.

    card: only what was tested on that one, the first parameter of such a test (conftest.py).
    """
    found = Row(kernel, release, suite, card, boot.seconds)
    if boot.timed_out:
        found.troubles.append("it was ended: it took too long")
    if boot.clock_astray:
        found.troubles.append("the guest's clock ran at another speed than this machine's")
    text = boot.answer.decode(errors="replace")
    found.troubles += [f"the kernel said: {words}" for words in complaints(boot)]
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        found.troubles.append("it gave no answer")
        return found
    cases = list(root.iter("testcase"))
    for case in cases:
        if not card or re.search(rf"\[{re.escape(card)}[]-]", case.get("name") or ""):
            _count(case, found, allowed)
    for entry in root.iter("property"):
        kind, _, program = (entry.get("name") or "").partition(" ")
        if kind == "verified":
            found.verified[program] = int(entry.get("value") or 0)
    codes = _EXIT.findall(text) if boot.code is None else [boot.code]
    failed = any(child.tag in ("failure", "error") for case in cases for child in case)
    if (int(codes[0]) if codes else True) and not failed:
        found.troubles.append(f"the tests ended early: exit code {codes[0] if codes else 'none'}")
    elif not found.passed and not found.failed:
        found.troubles.append("no test passed")
    return found


def _count(case: ElementTree.Element, found: Row, allowed: list[dict[str, Any]]) -> None:
    name = f"{case.get('classname')}.{case.get('name')}"
    for child in case:
        said = (child.get("message") or "").splitlines() or [""]
        if child.tag in ("failure", "error"):
            found.failed += 1
            found.troubles.append(f"{name}: {said[0]}")
            return
        if child.tag == "skipped":
            found.skipped[said[0]] += 1
            if not any(_allows(entry, name, said[0], found) for entry in allowed):
                found.troubles.append(f"{name} was skipped: {said[0]}")
            return
    found.passed += 1


def _allows(entry: dict[str, Any], test: str, reason: str, found: Row) -> bool:
    return (
        fnmatch.fnmatch(reason, entry["reason"])
        and fnmatch.fnmatch(test, f"*{entry.get('test', '')}*")
        and fnmatch.fnmatch(found.kernel, entry.get("kernel", "*"))
        and fnmatch.fnmatch(found.card, entry.get("card", "*"))
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown: a line a boot."""
    lines = [
        "| Linux | card | suite | passed | failed | skipped | s | day |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for found in rows:
        cells = (
            found.release,
            found.card or "-",
            found.suite,
            str(found.passed),
            str(found.failed) if found.passed or found.failed else "no answer",
            str(sum(found.skipped.values())),
            f"{found.seconds:.0f}",
            found.day,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def verifier_table(rows: Sequence[Row]) -> str:
    """Markdown: a line a program, a column a kernel; the two hooks' programs are often alike."""
    columns = {found.release: found.verified for found in rows if found.verified}
    programs = sorted({program for column in columns.values() for program in column})
    lines = [f"| program | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for program in programs:
        counts = (column.get(program) for column in columns.values())
        cells = ["-" if count is None else f"{count:,}" for count in counts]
        lines.append(f"| `{program}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def document(rows: Sequence[Row]) -> str:
    """docs/kernels.md."""
    reasons: Counter[tuple[str, str]] = Counter()
    for found in rows:
        for reason, tests in found.skipped.items():
            reasons[found.kernel, reason] += tests
    skips = [f"- {kernel}: {tests} x {reason}" for (kernel, reason), tests in reasons.items()]
    parts = [_HEAD, table(rows), _VERIFIER, verifier_table(rows)]
    if skips:
        parts += ["\n## Skipped\n\n", "\n".join(skips), "\n"]
    return "".join(parts)
