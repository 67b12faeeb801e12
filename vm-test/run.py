# SPDX-License-Identifier: Apache-2.0
"""Boots Debian's kernels and runs the project's tests in them; the table goes to docs/kernels.md.

    python vm-test/run.py [--kernel NAME ...] [--suite NAME ...] [--work DIR]

matrix.toml says which kernels and suites there are, and which tests may be skipped for what
reason: any other skip is a failure, like a failed test or a guest that does not answer in time.
"""

import argparse
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import architecture
import debian
import guest
import image
import kernels
import record
import report

HERE = Path(__file__).resolve().parent
PYTEST = (
    ".venv/bin/python -m pytest -q -p no:cacheprovider --color=no"
    " -o junit_logging=no -o junit_family=xunit1"  # which has room for properties of a test
)
RUNNING = "running"  # the kernel that needs no guest
# A guest is ten times slower (tests/effort.py, tests/shortcuts.py).
EFFORT = f"XDPPROBE_EFFORT=0.1 XDPPROBE_READ={image.READ}"


@dataclass(frozen=True)
class Job:
    """One boot of the matrix."""

    kernel: str
    suite: str
    tests: str
    seconds: float
    cpus: int = 1
    cards: tuple[str, ...] = ()  # QEMU's network devices, two of each

    @property
    def name(self) -> str:
        """As its logs are called."""
        return f"{self.kernel}-{self.suite}"

    def line(self, answer: str) -> str:
        """What a shell is given; the results go to the file `answer`."""
        line = f"{PYTEST} --junitxml={answer} {self.tests}"
        if self.kernel != RUNNING:
            line = f"{EFFORT} {line}"
        return f"CARDS={','.join(self.cards)} {line}" if self.cards else line


@dataclass
class Plan:
    """The matrix as far as it was asked for, and its machines."""

    matrix: dict[str, Any]
    work: Path
    jobs: list[Job] = field(default_factory=list)
    machines: dict[str, guest.Machine] = field(default_factory=dict)


def jobs(matrix: dict[str, Any], chosen: list[str], suites: list[str]) -> Iterator[Job]:
    ordinary = [name for name, what in matrix["suite"].items() if not what.get("only")]
    for kernel in chosen:
        facts = matrix["kernel"][kernel]
        for suite in facts.get("suites", ordinary):
            what = matrix["suite"][suite]
            cards = tuple(facts.get("cards", what["cards"])) if "cards" in what else ()
            if suite in suites:
                cpus = what.get("cpus", 1)
                yield Job(kernel, suite, what["tests"], what["seconds"], cpus, cards)


def unasked(table: dict[str, Any]) -> list[str]:
    return [name for name, what in table.items() if not what.get("asked")]


def _arguments(matrix: dict[str, Any]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    named, suites = list(matrix["kernel"]), list(matrix["suite"])
    parser.add_argument("--kernel", action="append", choices=named, help="these only")
    parser.add_argument("--suite", action="append", choices=suites, help="these only")
    parser.add_argument("--work", type=Path, default=image.PROJECT / ".vm", help="for images, logs")
    return parser.parse_args()


def _prepare(plan: Plan) -> None:
    roots: dict[architecture.Architecture, tuple[Path, Path]] = {}
    for name in dict.fromkeys(job.kernel for job in plan.jobs if job.kernel != RUNNING):
        facts = plan.matrix["kernel"][name]
        kind = architecture.ALL[facts.get("architecture", architecture.NATIVE.debian)]
        apt = debian.Apt(facts["suite"], kind.debian, plan.work)
        kernel = kernels.fetch(name, apt, facts["package"], plan.work)
        if kind not in roots:
            root = image.root_directory(plan.work, kind, apt)
            roots[kind] = root, image.squashed(root, root.with_suffix(".squashfs"))
        root, packed = roots[kind]
        plan.machines[name] = guest.Machine(
            kind,
            kernel,
            packed,
            image.modules_image(kernel, plan.work),
            image.initramfs(kernel, root, plan.work),
            plan.work,
        )
        print(f"vm-test: {name} is Linux {kernel.release}", file=sys.stderr)


def _boot(plan: Plan, job: Job, log: Path, answer: Path) -> guest.Boot:
    return plan.machines[job.kernel].boot(
        job.line("/run/answer"), log, answer, seconds=job.seconds, cpus=job.cpus, cards=job.cards
    )


def _run(plan: Plan, job: Job) -> list[report.Row]:
    """A row, or one a card."""
    log = plan.work / "logs" / f"{job.name}.log"
    answer = log.with_suffix(".answer")
    if job.kernel == RUNNING:
        release = os.uname().release
        boot = guest.without(job.line(str(answer)), log, answer, seconds=job.seconds)
    else:
        release = plan.machines[job.kernel].kernel.release
        boot = _boot(plan, job, log, answer)
        if boot.clock_astray and not report.complaints(boot) and not guest.stopping.is_set():
            print(f"vm-test: {job.name}: the guest's clock was wrong; once more", file=sys.stderr)
            log.replace(log.with_suffix(".astray.log"))
            boot = _boot(plan, job, log, answer)
    allowed = plan.matrix.get("skip", [])
    rows = [
        report.row(job.kernel, release, job.suite, card, boot, allowed)
        for card in job.cards or [""]
    ]
    if guest.stopping.is_set():
        return rows  # of a run that was broken off: they say nothing, and are not to be on record
    if not plan.matrix["suite"][job.suite].get("asked"):
        known, suites = list(plan.matrix["kernel"]), list(plan.matrix["suite"])
        record.note(image.PROJECT / "docs", rows, known, suites)
    for row in rows:
        print(f"vm-test: {row.line()}", file=sys.stderr, flush=True)
        for trouble in row.troubles:
            print(f"vm-test:   {trouble}", file=sys.stderr)
        if row.troubles:
            print(f"vm-test:   what it printed: {log}", file=sys.stderr, flush=True)
    return rows


def _all(plan: Plan) -> list[report.Row]:
    """Runs one more at once than there are processors, since each waits now and then; those that
    may take longest first, but the guests' images are made while this machine's own suites run."""
    (plan.work / "logs").mkdir(parents=True, exist_ok=True)
    order = sorted(plan.jobs, key=lambda job: -job.seconds)
    rows: dict[Job, Future[list[report.Row]]] = {}
    with ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 1) as pool:
        try:
            rows |= {job: pool.submit(_run, plan, job) for job in order if job.kernel == RUNNING}
            _prepare(plan)
            rows |= {job: pool.submit(_run, plan, job) for job in order if job.kernel != RUNNING}
            return [row for job in plan.jobs for row in rows[job].result()]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            guest.end_all()
            raise


def _said(error: Exception) -> str:
    """The last lines that a command printed before it failed."""
    if not isinstance(error, subprocess.CalledProcessError):
        return ""
    said = b"\n".join(text for text in (error.stdout, error.stderr) if text).decode(
        errors="replace"
    )
    return "".join(f"\n  {line}" for line in said.strip().splitlines()[-10:])


def main() -> int:
    """Exit code 0: all passed; 1: something did not; 2: it could not be tried; 130: interrupted."""
    matrix = tomllib.loads((HERE / "matrix.toml").read_text())
    args = _arguments(matrix)
    plan = Plan(matrix, args.work.resolve())
    chosen = args.kernel or unasked(matrix["kernel"])
    plan.jobs = list(jobs(matrix, chosen, args.suite or unasked(matrix["suite"])))
    if not plan.jobs:
        print("vm-test: none of these kernels runs any of these suites", file=sys.stderr)
        return 2
    try:
        rows = _all(plan)
    except debian.Unavailable as error:
        print(f"vm-test: {error}", file=sys.stderr)
        return 2
    except (OSError, subprocess.SubprocessError) as error:
        print(f"vm-test: it cannot be tried here: {error}{_said(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vm-test: interrupted; all guests are ended", file=sys.stderr)
        return 130
    print(report.table(rows))
    return int(any(row.troubles for row in rows))


if __name__ == "__main__":
    sys.exit(main())
