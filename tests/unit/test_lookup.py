# SPDX-License-Identifier: Apache-2.0
"""What the tables say of a packet, all of it: held against Python's `re` and the first answer."""

import random
from pathlib import Path

import pytest

from tests.match_tables import Layouts, Packet, answer
from tests.reference import patterns as reference
from xdpprobe import catalogue as catalogues
from xdpprobe.patterns.compiler import Compiled, compile_signatures
from xdpprobe.patterns.lookup import Payload, fitting, marks, why_behind
from xdpprobe.signature_table import DEPTH

HEAD = """
[[protocol]]
id = 500
name = "made"
title = "Made"
category = "network"

"""


def compiled(tmp_path: Path, *tables: str) -> Compiled:
    """The tables of some signatures, above the shipped ones."""
    file = tmp_path / "made.toml"
    file.write_text(HEAD + "\n".join(f"[[signature]]\n{table}\n" for table in tables))
    known = catalogues.load([file])
    made = [signature for signature in known.signatures if signature.file.path == file]
    return compile_signatures(made, Layouts())


def payload(data: bytes, udp: bool = True, ports: tuple[int, int] = (40000, 50000)) -> Payload:
    return Payload(data[:DEPTH], len(data), udp, False, ports)


def test_all_that_fits_in_order_of_precedence(tmp_path: Path) -> None:
    made = compiled(
        tmp_path,
        'protocol = "made"\nl4 = "udp"\nport = 50000',
        'protocol = "made"\nl4 = "udp"\nmatch = \'abcd\'\nconfidence = 60',
        'protocol = "made"\nl4 = "udp"\nmatch = \'ab\'\nconfidence = 60',
        'protocol = "made"\nl4 = "udp"\nmatch = \'[ax]b\'\nconfidence = 80',
        'name = "noted"\nl4 = "udp"\nmatch = \'abc\'\nconfidence = 99',
        'protocol = "made"\nl4 = "udp"\nmatch = \'abce\'\nconfidence = 99',
        'protocol = "made"\nl4 = "udp"\nmatch = \'[ay]b\'\nconfidence = 80',
    )
    rows = [made.rows[2][number] for number in fitting(made, payload(b"abcd"))]
    assert [row.number for row in rows] == [3, 6, 1, 2, 4, 0]
    reasons = [why_behind(rows[0], row) for row in rows[1:]]
    assert reasons[0] == "stands later in the files"
    assert reasons[1] == "lower confidence: 60, not 80"
    assert reasons[3] == "only notes that it matched"
    assert reasons[4] == "weaker method: by port alone"
    assert why_behind(rows[2], rows[3]).startswith("says less: ")


@pytest.mark.parametrize(
    ("table", "data", "expected"),
    [
        ("match = 'ab..[cd]'", b"ab12cz", [(0, 2), (4, 5)]),
        ("match = 'a.{5}$'", b"a12345", [(0, 1)]),
        ("match = 'a[0-9]{40}z'", b"a" + b"7" * 40 + b"z!", [(0, 42)]),
        ("match = 'xyz'\nsearch = 20", b"......xyz..", [(6, 9)]),
        ("match = 'a'\nfield = { at = 2, size = 2, plus = 4 }", b"a.\0\x02..", [(0, 1), (2, 4)]),
    ],
)
def test_bytes_that_a_match_is_about(
    tmp_path: Path, table: str, data: bytes, expected: list[tuple[int, int]]
) -> None:
    made = compiled(tmp_path, f'protocol = "made"\nl4 = "udp"\n{table}')
    (number,) = fitting(made, payload(data))
    assert marks(made.rows[2][number], payload(data)) == expected


def test_the_shipped_signatures_fit_what_they_say() -> None:
    """Each row that is found belongs to a signature that matches by the slow way, too."""
    known = catalogues.load()
    made = compile_signatures(known.signatures, Layouts())
    dice = random.Random(1)
    found = 0
    for _ in range(400):
        row = dice.choice(made.rows[2])
        if row.signature.after:
            continue
        data = bytearray(
            dice.randbytes(dice.randint(row.length.low, min(row.length.high, row.length.low + 200)))
        )
        for at, mask in enumerate(row.masks[: len(data)]):
            data[at] = dice.choice([byte for byte in range(256) if mask >> byte & 1])
        port = dice.choice(row.signature.port).low if row.signature.port else 50000
        packet = Packet(bytes(data), "udp", False, (40000, port), row.signature.packet.low)
        seen = Payload(bytes(data[:DEPTH]), len(data), True, False, packet.ports, packet.number)
        numbers = fitting(made, seen)
        first = answer(made, packet)
        assert (first is None) == (not numbers)
        assert first is None or first == made.classes[2]["row"][numbers[0]]
        for number in numbers:
            assert reference.matches(made.rows[2][number].signature, packet)
            found += 1
    assert found > 200
