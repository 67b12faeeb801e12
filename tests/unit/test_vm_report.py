# SPDX-License-Identifier: Apache-2.0
"""What `make vm-test` makes of a guest's answer: nothing that went wrong may pass for good."""

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

GUESTS = Path(__file__).resolve().parents[2] / "vm-test"
ALLOWED = [{"reason": "*: no native XDP", "card": "vmxnet3"}]
PASSED = '<testcase classname="a" name="good[vmxnet3-tc]"/>'
FAILED = '<testcase classname="a" name="bad[vmxnet3]"><failure message="assert 1 == 2"/></testcase>'
BROKEN = (
    '<testcase classname="a" name="worse[vmxnet3]"><error message="failed on setup"/></testcase>'
)
SKIPPED = (
    '<testcase classname="a" name="not[vmxnet3]">'
    '<skipped message="vmxnet3: no native XDP"/></testcase>'
)


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules `guest` and `report` of vm-test/, which is no package."""
    monkeypatch.syspath_prepend(str(GUESTS))
    import guest
    import report

    yield guest, report
    for name in (
        "architecture",
        "debian",
        "foreign",
        "guest",
        "image",
        "kernels",
        "record",
        "report",
        "run",
    ):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("answer", "card", "timed_out", "counts", "trouble"),
    [
        (PASSED + SKIPPED, "vmxnet3", False, (1, 0, 1), None),
        (PASSED + SKIPPED, "", False, (1, 0, 1), "a.not[vmxnet3] was skipped"),
        (PASSED + FAILED, "", False, (1, 1, 0), "a.bad[vmxnet3]: assert 1 == 2"),
        (PASSED + BROKEN, "", False, (1, 1, 0), "a.worse[vmxnet3]: failed on setup"),
        (PASSED, "", True, (1, 0, 0), "took too long"),
        ("", "", False, (0, 0, 0), "no test passed"),
        (None, "", False, (0, 0, 0), "gave no answer"),
    ],
)
def test_rows(
    guests: Any,
    answer: str | None,
    card: str,
    timed_out: bool,
    counts: tuple[int, int, int],
    trouble: str | None,
) -> None:
    guest, report = guests
    code = 1 if answer and ("failure" in answer or "error" in answer) else 0
    text = "" if answer is None else f"<testsuites>{answer}</testsuites>"
    boot = guest.Boot(f"{text}\n<!-- exit {code} -->\n".encode(), 12.0, timed_out)
    row = report.row("6.1", "6.1.0-50", "cards", card, boot, ALLOWED)
    assert (row.passed, row.failed, sum(row.skipped.values())) == counts
    assert bool(row.troubles) == (trouble is not None)
    assert trouble is None or any(trouble in line for line in row.troubles)
    assert "| 6.1.0-50 |" in report.document([row])


@pytest.mark.parametrize(
    ("behind", "code", "trouble"),
    [
        ("<!-- exit 0 -->", None, None),
        ("", 0, None),
        ("<!-- exit 2 -->", None, "ended early: exit code 2"),
        ("", 2, "ended early: exit code 2"),
        ("", None, "ended early: exit code none"),
        ("<!-- exit 0 -->\n<!-- kernel [1.0] WARNING: at x.c -->", None, "WARNING: at x.c"),
    ],
)
def test_what_ended_early_or_made_the_kernel_complain(
    guests: Any, behind: str, code: int | None, trouble: str | None
) -> None:
    guest, report = guests
    data = f"<testsuites>{PASSED}</testsuites>\n{behind}\n".encode()
    row = report.row("6.1", "6.1.0-50", "bpf", "", guest.Boot(data, 1.0, False, code), [])
    assert row.passed == 1
    assert bool(row.troubles) == (trouble is not None)
    assert trouble is None or any(trouble in line for line in row.troubles)


def test_cards_of_one_boot_have_a_row_each(guests: Any) -> None:
    guest, report = guests
    other = FAILED.replace("vmxnet3", "virtio-net-pci")
    answer = f"<testsuites>{PASSED}{SKIPPED}{other}</testsuites><!-- exit 1 -->"
    boot = guest.Boot(answer.encode(), 90.0, False)
    rows = [
        report.row("6.1", "6.1.0-50", "cards", card, boot, ALLOWED)
        for card in ("vmxnet3", "virtio-net-pci", "e1000e")
    ]
    assert [(row.passed, row.failed, sum(row.skipped.values())) for row in rows] == [
        (1, 0, 1),
        (0, 1, 0),
        (0, 0, 0),
    ]
    assert [bool(row.troubles) for row in rows] == [False, True, True]


def test_the_record_keeps_what_passed_last(guests: Any, tmp_path: Path) -> None:
    guest, report = guests
    import record

    def row(kernel: str, suite: str, answer: str) -> Any:
        text = f"<testsuites>{answer}</testsuites>\n<!-- exit {int(FAILED in answer)} -->"
        boot = guest.Boot(text.encode(), 1.4, False)
        return report.row(kernel, f"{kernel}.9", suite, "vmxnet3", boot, ALLOWED)

    def note(*rows: Any) -> list[tuple[str, str]]:
        record.note(tmp_path, rows, ["6.1", "7.2"], ["bpf", "net"])
        return [(found.kernel, found.suite) for found in record.read(tmp_path)]

    assert note(row("7.2", "bpf", PASSED), row("6.1", "net", PASSED)) == [
        ("6.1", "net"),
        ("7.2", "bpf"),
    ]
    assert note(row("7.2", "bpf", PASSED + FAILED)) == [("6.1", "net")]
    assert note(row("6.1", "bpf", PASSED + SKIPPED)) == [("6.1", "bpf"), ("6.1", "net")]
    assert record.read(tmp_path)[0].skipped == {"vmxnet3: no native XDP": 1}
    assert (tmp_path / record.PAGE).read_text() == report.document(record.read(tmp_path))
    assert "| 6.1.9 | vmxnet3 | bpf | 1 | 0 | 1 | 1 |" in (tmp_path / record.PAGE).read_text()


def test_a_run_that_is_broken_off_is_not_on_record(
    guests: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    guest, _ = guests
    import record
    import run

    def broken_off(*_: Any, **__: Any) -> Any:
        guest.end_all()
        return guest.Boot(b"", 1.0, False, -2)

    noted: list[Any] = []
    monkeypatch.setattr(guest, "without", broken_off)
    monkeypatch.setattr(record, "note", lambda *arguments: noted.append(arguments))
    plan = run.Plan({"kernel": {"running": {}}, "suite": {"bpf": {}}}, tmp_path)
    (row,) = run._run(plan, run.Job("running", "bpf", "tests/bpf", 1.0))
    assert row.troubles
    assert noted == []
    guest.stopping.clear()
    monkeypatch.setattr(guest, "without", lambda *_, **__: guest.Boot(b"", 1.0, False, 1))
    run._run(plan, run.Job("running", "bpf", "tests/bpf", 1.0))
    assert len(noted) == 1


def test_the_page_in_docs_is_that_of_the_data(guests: Any) -> None:
    _, report = guests
    import record

    docs = GUESTS.parent / "docs"
    rows = record.read(docs)
    assert rows
    assert (docs / record.PAGE).read_text() == report.document(rows)


def test_every_boot_of_the_matrix_is_on_record(guests: Any) -> None:
    """A kernel on which a suite did not pass is none that the page may leave out."""
    import record
    import run

    matrix = tomllib.loads((GUESTS / "matrix.toml").read_text())
    kernels, suites = (run.unasked(matrix[table]) for table in ("kernel", "suite"))
    wanted = {
        (job.kernel, job.suite, card)
        for job in run.jobs(matrix, kernels, suites)
        for card in job.cards or [""]
    }
    rows = record.read(GUESTS.parent / "docs")
    assert wanted - {(row.kernel, row.suite, row.card) for row in rows} == set()


@pytest.mark.parametrize(
    ("seconds", "up", "astray"), [(30.0, 27, False), (116.0, 5814, True), (60.0, 9, True)]
)
def test_a_clock_that_ran_at_another_speed_is_seen(
    guests: Any, seconds: float, up: int, astray: bool
) -> None:
    guest, _ = guests
    answer = f"<!-- exit 0 -->\n<!-- up {up} -->\n".encode()
    assert guest.Boot(answer, seconds, False).clock_astray == astray


def test_a_guest_without_an_answer_says_nothing_of_its_clock(guests: Any) -> None:
    guest, _ = guests
    assert not guest.Boot(b"", 600.0, True).clock_astray
