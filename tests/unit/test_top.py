# SPDX-License-Identifier: Apache-2.0
"""The model of `top`, its picture at several sizes, and its keys."""

import argparse
import asyncio
import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from tests.unit import view_samples as samples
from xdpprobe import filter_limit, flows
from xdpprobe.commands import top
from xdpprobe.errors import StateError, UsageError
from xdpprobe.filter import Filter
from xdpprobe.snapshot import Snapshot
from xdpprobe.views.text import endpoint
from xdpprobe.views.top_app import TopApp
from xdpprobe.views.top_model import VIEWS, Frame, Model, to_json
from xdpprobe.views.top_screen import State, build, layout


class Source:
    """A crowd of flows that moves on by a second each time it is read; `fail` ends it."""

    def __init__(self, count: int = 300) -> None:
        counters = {"LOSS_HELLO_FULL": (3, 0), "LOSS_NAME_FULL": (40, 0), "INFO_NAMED": (9, 0)}
        counters["LOSS_BUDGET"] = (7, 0)  # unknown flows are no loss
        self.snapshot = replace(samples.crowd(1024, count), counters=counters)
        self.read = 0
        self.fail = False

    def __call__(self) -> Snapshot:
        if self.fail:
            raise StateError("the probe was detached", "attach again")
        if self.read:
            self.snapshot = samples.later(self.snapshot, 1.0, share=0.5, seed=self.read)
        self.read += 1
        return self.snapshot


def model(wanted: Filter | None = None, readings: int = 2) -> Model:
    made, source = Model(wanted), Source()
    for _ in range(readings):
        made.update(source)
    return made


def moved(made: Model) -> dict[str, tuple[float, float]]:
    """Bytes from and to the initiator that each label moved in the last second, by rows."""
    now = made.snapshot
    source = Source()
    source()
    before = {f.index: f for f in flows.decode(source.snapshot, flows.live(source.snapshot))}
    sums: dict[str, tuple[float, float]] = {}
    for flow in flows.decode(now, flows.live(now)):
        old, sofar = before[flow.index].bytes, sums.get(flow.label, (0.0, 0.0))
        sums[flow.label] = (
            sofar[0] + flow.bytes[0] - old[0],
            sofar[1] + flow.bytes[1] - old[1],
        )
    return sums


def test_rates_of_applications() -> None:
    made = model()
    frame = made.frame()
    expected = moved(made)
    assert {row.name for row in frame.rows} == set(expected)
    assert [row.rate for row in frame.rows] == [
        pytest.approx(expected[row.name]) for row in frame.rows
    ]
    totals = [sum(row.rate) for row in frame.rows]
    assert totals == sorted(totals, reverse=True)
    assert sum(frame.header.rate) == pytest.approx(sum(totals))
    assert (frame.header.used, frame.header.capacity) == (300, 1024)
    assert (frame.header.losses, frame.header.worst_loss) == (43, "name_full")


def test_filter_limits_rates_and_rows() -> None:
    made = model(Filter("app:youtube"))
    frame = made.frame(panel=5)
    (row,) = frame.rows
    assert row.rate == pytest.approx(moved(made)["youtube"])
    assert {r.note for r in frame.names} == {"youtube"}
    made.set_filter(None)
    assert len(made.frame().rows) > 5


def test_history_grows_with_readings_and_forgets_with_the_filter() -> None:
    made = model(readings=4)
    assert len(made.frame().rows[0].history) == 3
    made.set_filter(Filter("app:youtube"))
    assert len(made.frame().rows[0].history) == 1


@pytest.mark.parametrize("view", ["hosts", "names"])
@pytest.mark.parametrize("sort", VIEWS["hosts"])
def test_groups_in_pieces_are_the_groups_at_once(view: str, sort: str) -> None:
    made = model()
    for reverse in (False, True):
        whole = made.frame(view, sort, reverse, (0, 10_000)).rows
        pieces = [
            row
            for first in range(0, len(whole), 7)
            for row in made.frame(view, sort, reverse, (first, 7)).rows
        ]
        assert pieces == whole
        assert len(whole) > 20


@pytest.mark.parametrize("sort", VIEWS["flows"])
def test_flows_in_pieces_are_the_flows_at_once(sort: str) -> None:
    made = model()
    whole = made.frame("flows", sort, False, (0, 10_000)).rows
    assert len(whole) == 300
    assert made.frame("flows", sort, False, (290, 20)).rows == whole[290:]


def test_hosts_have_the_sums_of_their_flows() -> None:
    made = model()
    rows = made.frame("hosts", "bytes", False, (0, 10_000)).rows
    now = made.snapshot
    for row in rows[:5]:
        own = [f for f in flows.decode(now, flows.live(now)) if f.src == row.name]
        assert row.flows == len(own)
        assert row.octets == (sum(f.bytes[0] for f in own), sum(f.bytes[1] for f in own))


def test_losses_stand_out_when_they_grow() -> None:
    made, source = Model(), Source()
    made.update(source)
    assert made.frame().header.new_losses == 0
    source.snapshot = replace(source.snapshot, counters={"LOSS_NAME_FULL": (50, 0)})
    made.update(source)
    assert made.frame().header.new_losses == 7


def test_the_header_says_what_is_not_up_and_what_matches() -> None:
    made, source = Model(Filter("app:youtube")), Source()
    made.update(source)
    source.snapshot = replace(source.snapshot, trouble={1: "gone"})
    made.update(source)
    frame = made.frame()
    (row,) = frame.rows
    lines = drawn(frame, State(), 80, 24)
    assert lines[0].startswith(" wan GONE,eth0 ")
    assert lines[1].startswith(f" {row.flows} match; flows 300 of 1.02k (29%)")
    found = to_json(frame)
    assert (found["trouble"], found["matching"]) == ({"wan": "gone"}, row.flows)
    assert found["bytes_per_second"] == [round(rate) for rate in row.rate]


def test_json_object() -> None:
    made = model()
    found = to_json(made.frame("apps", "rate", False, (0, 1000), 3))
    assert found["schema"] == 1
    assert found["interfaces"] == ["eth0", "wan"]
    assert len(found["hosts"]) == len(found["names"]) == 3
    youtube = next(app for app in found["apps"] if app["app"] == "youtube")
    assert youtube["category"] == "video"
    assert youtube["bytes_per_second"] == [round(x) for x in moved(made)["youtube"]]
    json.dumps(found)


def drawn(frame: Frame, state: State, width: int, height: int) -> list[str]:
    out = Console(file=io.StringIO(), width=width, color_system=None)
    out.print(build(frame, state, width, height))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 12), (40, 8), (200, 60)])
@pytest.mark.parametrize("view", VIEWS)
def test_the_picture_fills_the_screen_and_no_more(size: tuple[int, int], view: str) -> None:
    width, height = size
    rows, panel = layout(view, height)
    state = State(view=view, filter="x" * 300)
    lines = drawn(model().frame(view, rows=(0, rows), panel=panel), state, width, height)
    assert len(lines) == height
    assert max(map(len, lines)) <= width


def test_the_picture_at_80_by_24() -> None:
    rows, panel = layout("apps", 24)
    lines = drawn(model().frame(rows=(0, rows), panel=panel), State(), 80, 24)
    assert lines[0].startswith(" eth0,wan ")
    assert "flows 300 of 1.02k (29%)  losses 43 (mostly name full)" in lines[1]
    assert lines[2].split()[:4] == ["APPLICATION", "CATEGORY", "FLOWS", "UP"]
    assert any("MOST ACTIVE HOSTS" in line and "MOST ACTIVE NAMES" in line for line in lines)
    assert "? help" in lines[-1]


def test_help_lists_every_key_and_fits() -> None:
    lines = drawn(model().frame(), State(help=True), 80, 24)
    assert len(lines) == 24
    for word in ("Tab", "/", "space", "PgUp", "q, Ctrl-C"):
        assert any(word in line for line in lines)


def shown(app: TopApp) -> list[str]:
    """What the terminal shows."""
    return [
        "".join(segment.text for segment in strip).rstrip()
        for strip in app.screen._compositor.render_strips()
    ]


def press(*keys: str, fail: bool = False) -> tuple[list[str], TopApp]:
    """Runs the view at 80x24 without its clock, presses keys, reads the screen."""
    source = Source()
    app = TopApp(source, State(interval=60.0), None)

    async def run() -> list[str]:
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            source.fail = fail
            for key in keys:
                await pilot.press(key)
            await pilot.pause()
            return shown(app)

    return asyncio.run(run()), app


def test_keys_change_the_view() -> None:
    assert press()[0][2].startswith("APPLICATION")
    assert press("2")[0][2].startswith("HOST")
    assert press("tab", "n")[0][2].startswith("SERVER NAME")
    assert press("n", "tab")[0][2].startswith("FROM")
    assert press("3", "tab")[0][2].startswith("APPLICATION")


def test_keys_change_order_and_unit() -> None:
    lines, _ = press("s", "S", "b")
    assert "by up reversed" in lines[1]
    assert "UP B/s" in lines[2]


def test_scrolling_stops_at_both_ends() -> None:
    lines, app = press("3", *["pagedown"] * 30)
    assert app._state.first == 300 - 20
    assert lines[-1].strip().startswith("1 apps")
    assert press("3", "pagedown", "up", "pageup", "pageup")[1]._state.first == 0


def test_pause_and_interval() -> None:
    lines, app = press("space", "plus")
    assert lines[-1].endswith("PAUSED")
    assert app._state.paused
    assert press("minus")[1]._state.interval == 30.0


def test_filter_is_typed_and_applied() -> None:
    lines, app = press("slash", *"app:youtube", "enter")
    assert lines[3].startswith("youtube")
    assert lines[4] == ""
    assert lines[-1].startswith(" filter: app:youtube ")
    assert lines[-1].endswith("/ filter  ? help  q quit")
    assert app._state.filter == "app:youtube"


def test_a_wrong_filter_is_explained_and_not_applied() -> None:
    lines, app = press("slash", *"app:yuotube", "enter")
    assert "no application is called 'yuotube' (near: youtube)" in lines[-2]
    assert lines[-1].strip() == "app:yuotube"
    assert app._state.filter == ""
    mended = press("slash", *"app:yuotube", "enter", *["backspace"] * 6, *"outube", "enter")[0]
    assert mended[-1].startswith(" filter: app:youtube ")
    assert "? help" in press("slash", *"app:x", "enter", "escape")[0][-1]


def test_the_filters_line_opens_with_the_filter_in_force() -> None:
    lines, _ = press("slash", *"app:youtube", "enter", "slash")
    assert lines[-1].strip() == "app:youtube"
    assert lines[-2].startswith(" keys: app cat ")
    assert lines[-2].endswith("Enter applies  Esc gives up")
    app = TopApp(Source(), State(interval=60.0, filter="app:dns"), Filter("app:dns"))

    async def given() -> str:
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.press("slash")
            return shown(app)[-1].strip()

    assert asyncio.run(given()) == "app:dns"


ENDLESS = "sni:/(.*)*(.*)*(.*)*!/"


def test_a_filter_without_end_is_explained_and_not_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(filter_limit, "SECONDS", 0.1)
    lines, app = press("slash", *"app:youtube", "enter", "slash", "ctrl+u", *ENDLESS, "enter")
    assert "filter: its regular expressions take more than 0.1 s" in lines[-2]
    assert app._state.filter == "app:youtube"
    assert lines[3].startswith("youtube")
    assert lines[4] == ""


def test_a_filter_that_becomes_endless_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_limit, "SECONDS", 0.1)
    source = Source()
    app = TopApp(source, State(interval=60.0, filter=ENDLESS), Filter(ENDLESS))

    async def run() -> list[str]:
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
            return shown(app)

    lines = asyncio.run(run())
    assert "take more than 0.1 s" in lines[-1]
    assert (app._state.filter, app._model.wanted) == ("", None)
    assert lines[4] != ""


def test_a_detached_probe_ends_the_view_with_its_error() -> None:
    _, app = press("space", "space", fail=True)
    assert isinstance(app.return_value, StateError)


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    top.add_parser(parser.add_subparsers())
    return parser.parse_args(["top", *words])


def test_once_prints_one_table_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    args = arguments("--once", "--interval", "0.1", "--limit", "3")
    assert top.show(args, Source(), None) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("APPLICATION")
    assert lines[6] == ""
    assert max(map(len, lines)) <= 80


def test_json_prints_an_object_each_interval(capsys: pytest.CaptureFixture[str]) -> None:
    args = arguments("--json", "--interval", "0.1", "--count", "2")
    assert top.show(args, Source(), None) == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [o["schema"] for o in objects] == [1, 1]
    assert objects[0]["seconds"] == 1.0


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("limit", [3, 0])
def test_json_has_the_rows_of_its_view(
    view: str, limit: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--view", view, "--limit", str(limit), "--sort", "bytes", "--count", "1")
    assert top.show(arguments("--json", "--interval", "0.1", *words), Source(), None) == 0
    found = json.loads(capsys.readouterr().out)
    lists = {"apps": {"apps", "hosts", "names"}, "flows": {"flow_list"}}.get(view, {view})
    assert {key for key in found if isinstance(found[key], list)} - lists == {
        "interfaces",
        "bytes_per_second",
    }
    rows = found["flow_list" if view == "flows" else view]
    expected = model().frame(view, "bytes", rows=(0, limit or 10_000)).rows
    assert [(row["bytes"], row["bytes_per_second"]) for row in rows] == [
        (list(row.octets), [round(rate) for rate in row.rate]) for row in expected
    ]
    if view == "flows":
        assert expected[0].flow is not None
        assert rows[0]["sport"] == expected[0].flow.sport
        assert found["flows"] == 300


def test_json_of_other_views_is_short_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    args = arguments("--json", "--interval", "0.1", "--view", "flows", "--count", "1")
    assert top.show(args, Source(), None) == 0
    assert len(json.loads(capsys.readouterr().out)["flow_list"]) == 20


@pytest.mark.parametrize(
    "words",
    [("--once", "--count", "3"), ("--view", "flows", "--sort", "flows"), ()],
)
def test_what_cannot_be_meant_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        top.run(arguments(*words))


def test_a_limit_of_the_live_view_is_explained() -> None:
    with pytest.raises(UsageError, match="--limit belongs to --once and --json"):
        top.run(arguments("--limit", "3"))


@pytest.mark.parametrize("words", [("--interval", "0"), ("--interval", "nan"), ("--count", "-1")])
def test_bad_numbers_are_refused(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        arguments(*words)
    assert caught.value.code == 2
    assert "is not a number" in capsys.readouterr().err


def test_endpoint_of_flows_view_names_the_server() -> None:
    made = model()
    (row,) = made.frame("flows", rows=(0, 1)).rows
    now = made.snapshot
    texts = {
        f"{endpoint(f.src, f.sport)} > {endpoint(f.host or f.dst, f.dport)}"
        for f in flows.decode(now, flows.live(now))
    }
    assert row.name in texts
