# SPDX-License-Identifier: Apache-2.0
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import captures
from xdpprobe.capture import MAX_INTERFACES, Capture, Packet
from xdpprobe.errors import DataError

FRAMES = [bytes([i]) * (60 + i) for i in range(23)]


def read(path: Path, content: bytes) -> tuple[list[Packet], str | None]:
    file = path / "capture"
    file.write_bytes(content)
    with Capture(file) as capture:
        return list(capture), capture.damage


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1), (0xA1B2CD34, 1000)]
)
def test_pcap_in_every_form(tmp_path: Path, order: str, magic: int, unit: int) -> None:
    content = captures.pcap(FRAMES, order=order, magic=magic, start=(1_700_000_000, 999_999))
    packets, damage = read(tmp_path, content)
    assert damage is None
    assert [p.data for p in packets] == FRAMES
    assert packets[0].time_ns == 1_700_000_000_000_000_000 + 999_999 * unit
    assert packets[22].time_ns - packets[0].time_ns == 22 * 10**9


def test_pcap_keeps_the_length_on_the_wire(tmp_path: Path) -> None:
    packets, _ = read(tmp_path, captures.pcap([b"x" * 60], lengths=[1514]))
    assert (packets[0].wire_length, len(packets[0].data)) == (1514, 60)


def test_pcap_without_its_frame_check_sequence(tmp_path: Path) -> None:
    # Two 16-bit words of FCS, said in the top bits of the link type field.
    packets, _ = read(tmp_path, captures.pcap([b"x" * 64], link_type=1 | 1 << 26 | 2 << 28))
    assert packets[0] == Packet(1000 * 10**9, 60, b"x" * 60, 1)


def test_pcap_without_packets(tmp_path: Path) -> None:
    assert read(tmp_path, captures.pcap([])) == ([], None)


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_sections_interfaces_and_kinds_of_packets(tmp_path: Path, order: str) -> None:
    other = {"<": ">", ">": "<"}[order]
    content = (
        captures.section(order)
        + captures.interface(order, 1, snap_length=80)
        + captures.interface(order, 113, options=[(2, b"any"), (9, b"\x09"), (0, b"")])
        + captures.block(order, 0xBAD, b"somebody's own")
        + captures.packet(b"a" * 61, order, ticks=1_500_000)
        + captures.packet(b"b" * 62, order, interface=1, ticks=2_000_000_007, length=70)
        + captures.packet(b"c" * 63, order, kind=captures.OLD, interface=1, ticks=3)
        + captures.packet(b"d" * 80, order, kind=captures.SIMPLE, length=1000)
        + captures.section(other)
        + captures.interface(other, 101, options=[(9, b"\x83"), (14, struct.pack(other + "q", 5))])
        + captures.packet(b"e" * 64, other, ticks=9)
    )
    packets, damage = read(tmp_path, content)
    assert damage is None
    assert packets == [
        Packet(1_500_000_000, 61, b"a" * 61, 1),
        Packet(2_000_000_007, 70, b"b" * 62, 113),
        Packet(3, 63, b"c" * 63, 113),
        Packet(0, 1000, b"d" * 80, 1),
        Packet(6_125_000_000, 64, b"e" * 64, 101),
    ]


def test_pcapng_without_its_frame_check_sequence(tmp_path: Path) -> None:
    content = captures.section() + captures.interface(options=[(13, b"\x04")])
    packets, _ = read(tmp_path, content + captures.packet(b"x" * 64))
    assert (packets[0].wire_length, packets[0].data) == (60, b"x" * 60)


def test_pcapng_times_stay_within_what_the_tables_hold(tmp_path: Path) -> None:
    early = struct.pack("<q", -(1 << 40))
    late = struct.pack("<q", 1 << 62)
    for offset, expected in ((early, 0), (late, (1 << 63) - 1)):
        content = captures.section() + captures.interface(options=[(14, offset)])
        packets, _ = read(tmp_path, content + captures.packet(b"x", ticks=5))
        assert packets[0].time_ns == expected


def whole_files() -> list[bytes]:
    ng = captures.section() + captures.interface()
    return [captures.pcap(FRAMES[:3]), ng + b"".join(captures.packet(f) for f in FRAMES[:3])]


@pytest.mark.parametrize("content", whole_files(), ids=["pcap", "pcapng"])
def test_every_cut_yields_the_whole_packets_and_says_so(tmp_path: Path, content: bytes) -> None:
    whole = {len(content)}
    for length in range(len(content)):
        try:
            packets, damage = read(tmp_path, content[:length])
        except DataError:
            assert length < 24
            continue
        assert [p.data for p in packets] == FRAMES[: len(packets)]
        if damage is None:  # a cut between two packets cannot be told from an end
            whole.add(length)
        else:
            assert f"after {len(packets)} whole packet" in damage
    # Between packets, and for pcapng between blocks before the first packet.
    assert len(whole) in (4, 5)


@pytest.mark.parametrize(
    ("block", "what"),
    [
        (struct.pack("<II", 6, 0) + bytes(60), "claims 0 bytes"),
        (struct.pack("<II", 6, 33) + bytes(60), "claims 33 bytes"),
        (struct.pack("<II", 0xBAD, 1 << 30) + bytes(60), "claims 1073741824 bytes"),
        (struct.pack("<II", 6, 200 << 20) + bytes(60), "claims 209715200 bytes"),
        (struct.pack("<II", 0xBAD, 64 << 20) + bytes(60), "ends inside a block"),
        (captures.packet(b"x", interface=7), "interface 7"),
        (captures.block("<", 6, bytes(8)), "less than twenty"),
        (captures.block("<", 3, b""), "less than four"),
        (captures.block("<", 1, b""), "less than eight"),
        (captures.block("<", 6, struct.pack("<IIIII", 0, 0, 0, 99, 99)), "a packet of 99 bytes"),
        (captures.block("<", 0x0A0D0D0A, bytes(16)), "byte-order"),
    ],
)
def test_a_block_that_makes_no_sense_ends_the_file(tmp_path: Path, block: bytes, what: str) -> None:
    content = captures.section() + captures.interface() + captures.packet(b"good")
    packets, damage = read(tmp_path, content + block + captures.packet(b"never"))
    assert [p.data for p in packets] == [b"good"]
    assert damage is not None
    assert what in damage


def test_a_packet_block_before_any_interface(tmp_path: Path) -> None:
    _, damage = read(tmp_path, captures.section() + captures.packet(b"x", kind=captures.SIMPLE))
    assert damage is not None
    assert "interface 0" in damage


def test_interfaces_do_not_fill_the_memory(tmp_path: Path) -> None:
    most = captures.section() + captures.interface() * MAX_INTERFACES
    last = captures.packet(b"last", interface=MAX_INTERFACES - 1)
    # A section counts its own.
    packets, damage = read(tmp_path, (most + last) * 2)
    assert ([p.data for p in packets], damage) == ([b"last"] * 2, None)
    packets, damage = read(tmp_path, most + last + captures.interface() + last)
    assert [p.data for p in packets] == [b"last"]
    assert damage == f"a section of more than {MAX_INTERFACES} interfaces, after 1 whole packet"


def test_an_absurd_packet_length_is_not_believed(tmp_path: Path) -> None:
    record = struct.pack("<IIII", 0, 0, 0xFFFFFFFF, 60)
    packets, damage = read(tmp_path, captures.pcap(FRAMES[:1]) + record)
    assert len(packets) == 1
    assert damage == "a packet claims 4294967295 bytes, after 1 whole packet"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty file"),
        (b"abc", "too short"),
        (b"#!/bin/sh\necho\n", "neither a pcap nor a pcapng"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00", "unpack it first"),
        (captures.pcap([])[:23], "ends inside its header"),
        (captures.section()[:11], "ends inside its first block"),
        (struct.pack("<III", 0x0A0D0D0A, 28, 0x12345678), "byte-order"),
    ],
)
def test_what_is_no_capture_is_refused_by_name(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(DataError, match=why) as caught:
        read(tmp_path, content)
    assert caught.value.where == str(tmp_path / "capture")


def test_what_cannot_be_opened_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a directory"):
        Capture(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        Capture(tmp_path / "nowhere")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped_bytes_end_in_packets_damage_or_one_error(
    tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(data.draw(st.sampled_from(whole_files())))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    try:
        packets, _ = read(tmp_path, bytes(content))
    except DataError:
        return
    assert sum(len(p.data) for p in packets) <= len(content)
    assert all(0 <= p.time_ns < 1 << 63 for p in packets)
