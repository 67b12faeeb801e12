# SPDX-License-Identifier: Apache-2.0
"""A run of `make bench` loses no part that it has finished, and says what it cannot do."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from xdpprobe.bench.measure import twice
from xdpprobe.errors import DataError, StateError

TOOLS = Path(__file__).resolve().parents[2] / "tools"
CAPTURED = "tcpdump: listening on eth0\n{} packets captured\n"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import bench

    return bench


@pytest.fixture
def data_of(bench: ModuleType) -> ModuleType:
    module: ModuleType = bench.bench_data
    return module


@pytest.mark.parametrize(
    ("said", "losses"),
    [
        ("12 packets received by filter\n3 packets dropped by kernel\n", (12, 3)),
        ("1 packet received by filter\n1 packet dropped by kernel\n", (1, 1)),
        (
            "5 packets received by filter\n0 packets dropped by kernel\n"
            "1 packet dropped by interface\n",
            (5, 0),
        ),
    ],
)
def test_losses_are_what_tcpdump_says(
    bench: ModuleType, said: str, losses: tuple[int, int]
) -> None:
    import bench_pairs  # beside the module of the fixture

    assert bench_pairs.losses_said(CAPTURED.format(9) + said) == losses


def test_a_tcpdump_that_does_not_say_its_losses_is_no_figure(bench: ModuleType) -> None:
    import bench_pairs

    with pytest.raises(StateError, match="does not say what it missed"):
        bench_pairs.losses_said(CAPTURED.format(9))


def test_parts_are_kept_as_they_are_finished(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(effort: Any, progress: Any) -> Any:
        return {}["packets dropped by kernel"]

    parts = {"rows": lambda effort, progress: [1], "goal": broken, "flows": broken}
    monkeypatch.setattr(bench, "PARTS", parts)
    kept: list[dict[str, Any]] = []
    with pytest.raises(StateError, match="goal: KeyError: 'packets dropped by kernel'"):
        bench.take(list(parts), bench.QUICK, {}, lambda data: kept.append(dict(data)))
    assert [data.get("rows") for data in kept] == [[1]]
    assert "goal" not in kept[0]

    # What goes on with it measures the rest alone, and has the parts in their order.
    parts |= {"rows": broken, "goal": lambda effort, progress: 2, "flows": lambda *_: 3}
    data = bench.take(["goal", "flows"], bench.QUICK, kept[0])
    assert list(data)[-3:] == ["rows", "goal", "flows"]
    assert (data["rows"], data["goal"], data["flows"]) == ([1], 2, 3)


def test_what_is_void_twice_is_given_up() -> None:
    tries, told = [0], list[str]()

    def take() -> int:
        tries[0] += 1
        raise StateError(f"{tries[0]} of 7 frames", "measure again")

    with pytest.raises(StateError, match="2 of 7 frames"):
        twice(take, told.append)
    assert (tries, told) == ([2], ["once more, as 1 of 7 frames\n"])


def test_a_part_that_is_to_be_measured_anew_is_not_kept(data_of: ModuleType) -> None:
    known = data_of.begin(False, {}, ()) | {"rows": [1], "goal": 2}
    data = data_of.begin(False, known, ["rows"])
    assert "rows" not in data
    assert data["goal"] == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kernel": "6.1.0-9"}, "kernel 6.1.0-9, not "),
        ({"cpu": "Some CPU"}, "cpu Some CPU, not "),
        ({"clang": "9.9"}, "clang 9.9, not "),
        ({}, "xdpprobe 0.0.1, not "),
    ],
)
def test_parts_of_another_place_do_not_stay(
    data_of: ModuleType, change: dict[str, str], said: str
) -> None:
    known = data_of.begin(False, {}, ()) | {"rows": [1]}
    known["machine"] |= change
    if not change:
        known["version"] = "0.0.1"
    with pytest.raises(StateError, match=r"measured elsewhere: .*; measure all parts") as caught:
        data_of.begin(False, known, ["goal"])
    assert said in str(caught.value)


def test_parts_of_this_place_stay_with_their_days_and_tools(
    data_of: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = data_of.begin(False, {}, ()) | {"rows": [1], "date": "2026-01-02"}
    known["machine"] |= {"iperf3": "3.12", "memory": 1, "load": {"start": 99.0, "end": 0.0}}
    monkeypatch.setenv("PATH", str(tmp_path))  # iperf3 is not installed any more
    data = data_of.begin(False, known, ["goal"])
    assert data["rows"] == [1]
    assert data["date"].startswith("2026-01-02 to 20")
    assert data["machine"]["iperf3"] == "3.12"
    assert data["machine"]["load"]["start"] == 99.0
    again = data_of.begin(False, data, ["goal"])
    assert again["date"] == data["date"]


def test_the_load_at_the_end_is_noted(data_of: ModuleType) -> None:
    data = data_of.begin(False, {}, ())
    data["machine"]["load"] = {"start": 1e6, "end": 1e6}
    data_of.note_load(data)
    assert data["machine"]["load"]["start"] == 1e6
    assert 0 <= data["machine"]["load"]["end"] < 1e6


def test_data_are_written_where_no_directory_is(data_of: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "some" / "where" / "performance.json"
    data = data_of.begin(True, {}, ())
    data_of.write(data, path)
    assert data_of.read(path) == data
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_data_that_cannot_be_written_or_read_say_so(data_of: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("no JSON")
    with pytest.raises(DataError, match=r"performance\.json: cannot be written"):
        data_of.write({}, file / "performance.json")
    with pytest.raises(DataError, match="file: cannot be read"):
        data_of.read(file)
    file.write_text(json.dumps({"schema": 99}))
    with pytest.raises(DataError, match="schema 1"):
        data_of.read(file)


def test_a_tool_that_is_not_installed_has_no_version(
    data_of: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = data_of.machine()
    assert [found[tool] for tool in ("clang", "iperf3", "tcpdump")] == ["unknown"] * 3
    assert found["cpus"] > 0


def test_there_must_be_something_to_continue(tmp_path: Path) -> None:
    argv = [sys.executable, str(TOOLS / "bench.py"), "--continue"]
    argv += ["--data", str(tmp_path / "a" / "performance.json")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    # Without root, that is what it says first.
    assert "performance.json.unfinished: cannot be read" in done.stderr or "sudo" in done.stderr
