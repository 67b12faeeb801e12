# SPDX-License-Identifier: Apache-2.0
"""Boots Debian's kernels and runs the project's tests in them; the table goes to docs/kernels.md.

    python vm-test/run.py [--kernel NAME ...] [--suite NAME ...] [--work DIR]

matrix.toml says which kernels and suites there are, and which tests may be skipped for what
reason: any other skip is a failure, like a failed test or a guest that does not answer in time.
"""

import argparse
import os
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import image
import kernels
import report
from guest import Machine

HERE = Path(__file__).resolve().parent
PYTEST = ".venv/bin/python -m pytest -q -p no:cacheprovider -o junit_logging=no --color=no"


@dataclass(frozen=True)
class Job:
    """One boot of the matrix."""

    kernel: str
    suite: str
    line: str
    seconds: float
    card: str = ""

    @property
    def name(self) -> str:
        """As its logs are called."""
        return "-".join(part for part in (self.kernel, self.suite, self.card) if part)


@dataclass
class Plan:
    """The matrix as far as it was asked for, and its machines."""

    matrix: dict[str, Any]
    work: Path
    jobs: list[Job] = field(default_factory=list)
    machines: dict[str, Machine] = field(default_factory=dict)


def _jobs(matrix: dict[str, Any], chosen: list[str], suites: list[str]) -> Iterator[Job]:
    for kernel, facts in matrix["kernel"].items():
        if kernel not in chosen:
            continue
        for suite, what in matrix["suite"].items():
            if suite not in suites or bool(facts.get("refused")) != bool(what.get("refused")):
                continue
            line = f"{PYTEST} --junitxml=/run/answer {what['tests']}"
            for card in what.get("cards", [""]):
                before = f"CARD={card} " if card else ""
                yield Job(kernel, suite, before + line, what["seconds"], card)


def _arguments(matrix: dict[str, Any]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    named, suites = list(matrix["kernel"]), list(matrix["suite"])
    parser.add_argument("--kernel", action="append", choices=named, help="these only")
    parser.add_argument("--suite", action="append", choices=suites, help="these only")
    parser.add_argument("--work", type=Path, default=image.PROJECT / ".vm", help="for images, logs")
    return parser.parse_args()


def _prepare(plan: Plan) -> None:
    plan.work.mkdir(exist_ok=True)
    root = image.root_image(plan.work)
    for name in dict.fromkeys(job.kernel for job in plan.jobs):
        facts = plan.matrix["kernel"][name]
        kernel = kernels.fetch(name, facts["suite"], facts["package"], plan.work)
        plan.machines[name] = Machine(
            kernel,
            root,
            image.modules_image(kernel, plan.work),
            image.initramfs(kernel, plan.work),
            plan.work,
        )
        print(f"vm-test: {name} is Linux {kernel.release}", file=sys.stderr)


def _run(plan: Plan, job: Job) -> report.Row:
    machine = plan.machines[job.kernel]
    boot = machine.boot(job.line, job.name, seconds=job.seconds, card=job.card)
    log = plan.work / "logs" / f"{job.name}.log"
    allowed = plan.matrix.get("skip", [])
    row = report.row(job.kernel, machine.kernel.release, job.suite, job.card, boot, allowed)
    print(f"vm-test: {row.line()}", file=sys.stderr, flush=True)
    for trouble in row.troubles:
        print(f"vm-test:   {trouble}", file=sys.stderr)
    if row.troubles:
        print(f"vm-test:   the guest's console: {log}", file=sys.stderr, flush=True)
    return row


def main() -> int:
    """Exit code 0: all passed; 1: something did not; 2: it could not be tried."""
    matrix = tomllib.loads((HERE / "matrix.toml").read_text())
    args = _arguments(matrix)
    plan = Plan(matrix, args.work.resolve())
    kernels_asked = args.kernel or list(matrix["kernel"])
    plan.jobs = list(_jobs(matrix, kernels_asked, args.suite or list(matrix["suite"])))
    try:
        _prepare(plan)
    except kernels.Unavailable as error:
        print(f"vm-test: {error}", file=sys.stderr)
        return 2
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        rows = list(pool.map(lambda job: _run(plan, job), plan.jobs))
    if not args.kernel and not args.suite:
        (image.PROJECT / "docs/kernels.md").write_text(report.document(rows))
    print(report.table(rows))
    return int(any(row.troubles for row in rows))


if __name__ == "__main__":
    sys.exit(main())
