# SPDX-License-Identifier: Apache-2.0
"""tools/unnamed.py: what payloads have in common, and drafts that fit all of them."""

import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.match_tables import Packet
from tests.reference import patterns as reference
from xdpprobe import catalogue as catalogues

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def unnamed(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import unnamed

    return unnamed


def samples(
    unnamed: ModuleType, *payloads: bytes, port: int = 9000, responder: bool = False
) -> list[Any]:
    return [unnamed.Sample("udp", port, responder, data[:256], len(data)) for data in payloads]


def test_groups_by_port_direction_and_likeness(unnamed: ModuleType) -> None:
    one = samples(unnamed, b"hello one", b"hello two", b"hello six")
    other = samples(unnamed, b"\x01\x02\x03\x04rest", b"\x01\x02\x03\x04tail")
    back = samples(unnamed, b"hello you", b"hello all", responder=True)
    lone = [sample for p in range(4) for sample in samples(unnamed, b"ping ping!", port=5000 + p)]
    found = unnamed.groups([*one, *other, *back, *lone])
    assert [(g.port, g.responder, len(g.samples)) for g in found] == [
        (None, False, 4),
        (9000, False, 3),
        (9000, False, 2),
        (9000, True, 2),
    ]


@pytest.mark.parametrize("order", ["big", "little"])
@pytest.mark.parametrize(("size", "at", "plus"), [(2, 3, 5), (4, 0, 4), (2, 0, -3), (4, 8, 0)])
def test_length_fields(unnamed: ModuleType, order: Any, size: int, at: int, plus: int) -> None:
    dice = random.Random(1)
    payloads = []
    for _ in range(8):
        data = bytearray(dice.randbytes(dice.randint(20, 90)))
        data[at : at + size] = (len(data) - plus).to_bytes(size, order)
        payloads.append(bytes(data))
    assert unnamed.Field(at, size, order, plus) in unnamed.fields(samples(unnamed, *payloads))


def test_no_length_field_where_all_are_of_one_length(unnamed: ModuleType) -> None:
    assert unnamed.fields(samples(unnamed, b"\0\4abcd", b"\0\4efgh")) == []


@pytest.mark.parametrize(
    ("payloads", "expected"),
    [
        ([b"GET abc", b"GET defg"], "GET "),
        ([b"\x01\0\0\0aa", b"\x01\0\0\0bb"], r"\x01\x00{3}..$"),
        ([b"it's 1", b"it's 22"], r"it\x27s "),
        ([b"abcd", b"wxyz"], ""),
        ([bytes([0x40 + n]) + b"x" * (n + 1) for n in range(7)], r"\m{f0:40}x"),
        ([b"\xfe" * 300, b"\xfe" * 300], r"\xfe{32}"),
    ],
)
def test_regex(unnamed: ModuleType, payloads: list[bytes], expected: str) -> None:
    assert unnamed.regex(samples(unnamed, *payloads), None) == expected


def test_a_draft_fits_its_group(unnamed: ModuleType, tmp_path: Path) -> None:
    dice = random.Random(3)
    for _ in range(60):
        constant, length = dice.randbytes(dice.randint(1, 12)), dice.randint(14, 80)
        equal = dice.random() < 0.5
        payloads = [
            constant + dice.randbytes(length if equal else dice.randint(4, 400)) for _ in range(9)
        ]
        group = unnamed.Group("udp", 9000, False, samples(unnamed, *payloads))
        text = "\n".join(unnamed.draft(1, group, "a.pcap"))
        file = tmp_path / "draft.toml"
        file.write_text(text)
        (signature,) = (s for s in catalogues.load([file]).signatures if s.file.path == file)
        for data in payloads:
            assert reference.matches(signature, Packet(data, ports=(40000, 9000))), text


def test_one_flow_makes_no_draft(unnamed: ModuleType) -> None:
    group = unnamed.Group("udp", 9000, False, samples(unnamed, b"abc"))
    lines = list(unnamed.draft(1, group, "a.pcap"))
    assert all(line.startswith("#") for line in lines)
