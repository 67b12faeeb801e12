# SPDX-License-Identifier: Apache-2.0
"""A benchmark's frames are what they are called, and its figures are what was measured."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from tests.reference.client_hello import ClientHello, parse_client_hello
from tests.reference.dns import parse_message
from tests.reference.http import parse_request
from tests.reference.packet import FlowPacket, parse_frame
from tests.reference.tunnel import parse_inside
from xdpprobe.bench import messages
from xdpprobe.bench.frames import Route
from xdpprobe.bench.ledger import Tally
from xdpprobe.bench.report import Report, cpu_model, figures
from xdpprobe.bench.rows import NAMES, Row, all_rows
from xdpprobe.views.bench import bench_table

ROWS = all_rows()


def ids(row: Row) -> str:
    return f"{row.name}, {row.flows}"


@pytest.mark.parametrize("name", NAMES)
def test_messages_carry_the_name(name: str) -> None:
    for hello, size in (
        (messages.classic_hello(name), 517),
        (messages.modern_hello(name), 1800),
    ):
        assert len(hello) == size
        assert parse_client_hello(hello) == ClientHello(name)
    request = parse_request(messages.http_request(name))
    assert request is not None
    assert request.host == name
    query = parse_message(messages.dns_query(name))
    assert query is not None
    assert query.name == name
    answer = parse_message(messages.dns_answer(name))
    assert answer is not None
    assert (answer.name, answer.response) == (name, True)


def test_a_hello_in_segments_has_its_name_in_the_last_one() -> None:
    assert parse_client_hello(messages.modern_hello("github.com")[:1448]) is None


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_frames_parse_and_fit(row: Row) -> None:
    assert len(row.frames) <= 64  # what bpf/bench.bpf.c has room for
    assert {len(frame) for frame in row.frames} == {len(row.frames[0])}
    assert len(row.frames[0]) <= 2048
    assert len(row.frames) % row.per_flow == 0
    assert len({len(frame) for frame in row.opening}) <= 1
    assert len(row.name) <= 33  # what the table has room for
    assert len({len(frame) for frame in row.answers}) <= 1
    for frame in (*row.frames, *row.opening, *row.answers):
        packet = parse_inside(frame)
        if row.tracked:
            assert isinstance(packet, FlowPacket)
            assert packet.vlan == row.route.vlan
        elif isinstance(packet, FlowPacket):
            assert packet.fragment is not None
            assert packet.fragment[1] > 0
        else:
            assert {f"REASON_{packet.upper()}"} == set(row.gains)


@pytest.mark.parametrize("size", [64, 128, 512, 1500])
def test_a_frame_is_as_long_as_its_row_says(size: int) -> None:
    (row,) = (row for row in ROWS if row.name == f"established flow, {size} B frame")
    assert [len(frame) for frame in row.frames] == [size]


def test_two_tags_and_a_tunnel_are_there() -> None:
    def shape(name: str) -> bytes:
        (row,) = (row for row in ROWS if row.name == name)
        return row.frames[0]

    assert shape("established flow, QinQ")[12:22].hex() == "88a8000781000008" + "0800"
    assert isinstance(parse_frame(shape("established flow in VXLAN")), FlowPacket)
    outer = parse_frame(shape("established flow in VXLAN"))
    inner = parse_inside(shape("established flow in VXLAN"))
    assert isinstance(outer, FlowPacket)
    assert isinstance(inner, FlowPacket)
    assert (outer.dport, inner.dport) == (4789, 40444)


@pytest.mark.parametrize("row", [row for row in ROWS if row.tracked], ids=ids)
def test_what_is_rewritten_is_the_clients_address_and_port(row: Row) -> None:
    def ends(frame: bytearray) -> FlowPacket:
        packet = parse_inside(bytes(frame))
        assert isinstance(packet, FlowPacket)
        return packet

    frame = bytearray(row.frames[0])
    before = ends(frame)
    at, port_at = row.route.address_at, row.route.port_at
    frame[at : at + 4], frame[port_at : port_at + 2] = b"\x0a\x01\x02\x03", b"\x12\x34"
    after = ends(frame)
    client, server = (before.src, before.sport), (before.dst, before.dport)
    if row.route.answering:
        client, server = server, client
    moved = (client[0][:12] + b"\x0a\x01\x02\x03", 0x1234)
    wanted = [server, moved] if row.route.answering else [moved, server]
    assert [(after.src, after.sport), (after.dst, after.dport)] == wanted


def test_an_answer_has_an_alias_and_its_addresses() -> None:
    answer = messages.dns_answer("github.com")
    alias = answer.index(b"\4edge\xc0\x0c")
    pointer = (0xC000 | alias).to_bytes(2, "big")
    assert answer[12:24] == b"\6github\3com\0"
    assert answer.count(pointer + b"\0\1\0\1") == 2
    assert len(answer) == 192


def test_a_request_says_how_long_it_is() -> None:
    request = messages.stun_request()
    assert (len(request), int.from_bytes(request[2:4], "big")) == (100, 80)


def test_a_tally_moves_on_by_what_an_opening_did() -> None:
    start = Tally(10, 1000, 9, 2, {"a": 1, "b": 0})
    earlier = Tally(20, 2000, 19, 3, {"a": 4, "b": 0})
    later = Tally(25, 2500, 23, 4, {"a": 6, "b": 1})
    assert start.plus(later, earlier) == Tally(15, 1500, 13, 3, {"a": 3, "b": 1})


def test_figures_are_those_of_the_median_round() -> None:
    row = Row("a", Route(443), (b"",), flows=7)
    (figure,) = figures(row, [100, 140, 90, 300, 95], [40, 70, 41, 41, 40], 50)
    # The differences are 60, 70, 49, 259, 55.
    assert (figure.ns, figure.empty_ns, figure.net_ns) == (100, 40, 60)
    assert (figure.min_ns, figure.max_ns, figure.ratio) == (49, 259, 2.5)
    assert (figure.per, figure.flows, figure.packets) == ("packet", 7, 250)


def test_a_connection_costs_what_its_packets_do() -> None:
    row = Row("a", Route(443), (b"", b""), per_flow=2)
    packet, connection = figures(row, [100], [40], 50)
    assert (packet.per, packet.net_ns) == ("packet", 60)
    assert (connection.per, connection.net_ns, connection.ns) == ("connection", 120, 200)
    assert connection.ratio == packet.ratio


def test_what_is_of_no_flow_has_no_number_of_flows() -> None:
    row = Row("a", Route(443), (b"",), tracked=False)
    assert figures(row, [100], [40], 50)[0].flows is None
    assert figures(replace(row, tracked=True), [100], [40], 50)[0].flows == 0


def test_report_names_the_machine() -> None:
    found = Report("tc", 1024, 6000, 250, figures(ROWS[0], [100], [40], 50), ["x"]).to_json()
    assert (found["schema"], found["hook"], found["capacity"], found["hz"]) == (2, "tc", 1024, 250)
    assert all(found[name] for name in ("kernel", "machine", "cpu"))
    assert found["rows"][0]["net_ns"] == 60


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n\nmodel name\t: Other\n",
            "Some CPU @ 2 GHz",
        ),
        ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "0x41 0xd0c"),
        ("", "unknown"),
    ],
)
def test_cpu_model(tmp_path: Path, text: str, name: str) -> None:
    source = tmp_path / "cpuinfo"
    source.write_text(text)
    assert cpu_model(source) == name


def test_table_fits_80_columns() -> None:
    found = [f for row in ROWS for f in figures(row, [49_999], [9_999], 1)]
    out = Console(file=io.StringIO(), width=80, color_system=None, highlight=False)
    out.print(bench_table(found))
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert len(lines) == len(found) + 1
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)
    assert lines[1].split()[1] == "none"
