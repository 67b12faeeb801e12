# SPDX-License-Identifier: Apache-2.0
"""Tables as they are printed, at a fixed width."""

import io
import json

import pytest
from rich.console import Console, RenderableType

from tests.unit import view_samples as samples
from xdpprobe import aggregate, flows, grouping
from xdpprobe.views import report, text
from xdpprobe.views.tables import (
    RateRow,
    apps_table,
    flow_rates_table,
    flows_table,
    hosts_table,
    rates_table,
)


def render(what: RenderableType, width: int = 80) -> list[str]:
    """The printed lines, without the blanks at their ends."""
    out = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    out.print(what)
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"), (999, "999"), (999.6, "1.00k"), (1234, "1.23k"), (9996, "10.0k"),
        (99960, "100k"), (999_600, "1.00M"), (7_002_000_000, "7.00G"), (2**64, "18.4E"),
        (-1500, "-1.50k"), (1e30, "huge"),
    ],
)  # fmt: skip
def test_quantity(value: float, shown: str) -> None:
    assert text.quantity(value) == shown
    assert len(shown.lstrip("-")) <= 5


def test_rate_in_bits_and_bytes() -> None:
    assert text.rate(125_000, bits=True) == "1.00M"
    assert text.rate(125_000, bits=False) == "125k"


@pytest.mark.parametrize(
    ("part", "whole", "shown"), [(1, 3, "33%"), (1, 30, "3.3%"), (5, 5, "100%"), (0, 0, "")]
)
def test_percent(part: float, whole: float, shown: str) -> None:
    assert text.percent(part, whole) == shown


def test_sparkline_scales_to_its_greatest_value() -> None:
    assert text.sparkline([0, 1, 4, 8], 6) == "   ▂▅█"
    assert text.sparkline([9, 0, 0], 2) == "  "
    assert text.sparkline([], 3) == "   "
    assert text.sparkline([1], 0) == ""


def test_endpoints() -> None:
    assert text.endpoint("10.0.0.1", 80) == "10.0.0.1:80"
    assert text.endpoint("2001:db8::1", 443) == "[2001:db8::1]:443"
    assert text.endpoint("2001:db8::1", 0) == "2001:db8::1"


def test_apps_table() -> None:
    snapshot = samples.small()
    totals = aggregate.label_totals(snapshot)
    rows = aggregate.app_rows(snapshot, totals)
    whole = sum(sum(row.bytes) for row in rows)
    lines = render(apps_table(rows, whole))
    assert lines[0].split() == [
        "APPLICATION",
        "CATEGORY",
        "FLOWS",
        "PACKETS",
        "UP",
        "DOWN",
        "BYTES",
        "SHARE",
    ]
    assert lines[1].split() == [
        "doubleclick",
        "ads",
        "1",
        "909k",
        "2.00M",
        "7.00G",
        "7.00G",
        "100%",
    ]
    assert len(lines) == 5
    assert max(map(len, lines)) <= 80


def test_flows_table_shows_the_name_for_the_address() -> None:
    snapshot = samples.small()
    lines = render(flows_table(flows.decode(snapshot, flows.live(snapshot))), 120)
    assert "10.0.0.2:51000" in lines[1]
    assert "r3.googlevideo.com:443" in lines[1]
    assert "[2001:db8::53]:53" in lines[2]


def test_flows_at_80_columns_have_both_ports_and_their_time() -> None:
    snapshot = samples.empty()
    samples.put(snapshot, 3, "192.168.1.100", 51000, "203.0.113.10", born=754, state=1)
    (flow,) = flows.decode(snapshot, flows.live(snapshot))
    title, line = render(flows_table([flow]))
    assert title.split()[-1] == "TIME"
    assert line.split() == [
        "192.168.1.100:51000", "203.0.113.10:443", "tcp", "unknown", "100", "100", "estab", "13m",
    ]  # fmt: skip
    row = RateRow("", "unknown", False, 1, (1000, 0), (100, 100), flow=flow)
    title, line = render(flow_rates_table([row], bits=True))
    assert title.split() == ["FROM", "TO", "APPLICATION", "UP", "b/s", "DN", "b/s", "BYTES", "TIME"]
    assert line.split() == [
        "192.168.1.100:51000", "203.0.113.10:443", "unknown", "8.00k", "0", "200", "13m",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0s"), (9.94, "9.9s"), (9.96, "10s"), (99.4, "99s"), (99.6, "2m"), (5969, "99m"),
        (5971, "2h"), (170_000, "47h"), (172_800, "2d"), (1e12, "999d"),
    ],
)  # fmt: skip
def test_span(seconds: float, shown: str) -> None:
    assert text.span(seconds) == shown
    assert len(shown) <= 4


def test_no_byte_from_the_wire_reaches_the_terminal() -> None:
    snapshot = samples.small()
    samples.put_name(snapshot, 0, 77, b"[red]x[/]\x07\x9b2J.example")
    shown = flows.decode(snapshot, flows.live(snapshot))
    hosts = grouping.host_rows(snapshot, grouping.name_keys(snapshot, flows.live(snapshot)))
    for made in (flows_table(shown), hosts_table(hosts, "SERVER NAME")):
        joined = "\n".join(render(made, 200))
        assert r"[red]x[/]\x07\x9b2J.example" in joined
        assert "\x1b" not in joined
        assert "\x07" not in joined


@pytest.mark.parametrize("width", [40, 80, 120])
def test_tables_keep_to_their_width(width: int) -> None:
    snapshot = samples.crowd(256, 200)
    rows = flows.live(snapshot)
    names = grouping.host_rows(snapshot, grouping.name_keys(snapshot, rows))
    rates = [RateRow("n" * 90, "c" * 90, True, 10**9, (1e12, 1e12), (2**60, 0), (1.0,) * 60)] * 3
    for made in (
        flows_table(flows.decode(snapshot, rows)),
        hosts_table(names, "SERVER NAME"),
        rates_table(rates, ("APPLICATION", "CATEGORY"), 4e12, bits=True, bars=8),
    ):
        lines = render(made, width)
        assert max(map(len, lines)) <= width
    assert len(lines) == 4


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (80, ["APPLICATION", "CATEGORY", "FLOWS", "PACKETS", "UP", "DOWN", "BYTES", "SHARE"]),
        (50, ["APPLICATION", "CATEGORY", "FLOWS", "PACKETS", "UP", "DOWN"]),
        (40, ["APPLICATION", "CATEG…", "FLOWS", "PACKETS", "UP"]),
        (20, ["APPLICATION", "CATEGO…"]),
        (12, ["APPLICATION"]),
        (4, ["APP…"]),
    ],
)
def test_the_first_column_is_the_last_to_go(width: int, titles: list[str]) -> None:
    rows = aggregate.app_rows(s := samples.small(), aggregate.label_totals(s))
    lines = render(apps_table(rows, 1), width)
    assert lines[0].split() == titles
    assert lines[1][:3] == "dou"
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize(("columns", "cut"), [(None, False), ("80", True)])
def test_nothing_is_cut_where_no_width_is_said(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: str | None,
    cut: bool,
) -> None:
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    name = f"{'long-name.' * 9}example"
    rows = [grouping.HostTotal(name, 1, "app", "work", 1, (1, 1), (1, 1))]
    report.print_table(hosts_table(rows, "SERVER NAME"), 1, 1, "hosts")
    shown = capsys.readouterr().out
    assert (name in shown, "…" in shown) == (not cut, cut)


def test_json_report_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_json({"by": "name"}, "hosts", iter([{"a": 1}, {"b": [2, 3]}]))
    shown = capsys.readouterr().out
    assert shown == '{"schema":1,"by":"name","hosts":[{"a":1},{"b":[2,3]}]}\n'
    report.print_json({}, "apps", [])
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "apps": []}


def test_tables_say_what_they_leave_out(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_table(flows_table([]), 50, 60, "flows")
    assert "10 more flows: --limit 0 shows all" in capsys.readouterr().out
    report.print_table(flows_table([]), 0, 0, "flows")
    assert capsys.readouterr().out == "no flows\n"
