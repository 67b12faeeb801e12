# SPDX-License-Identifier: Apache-2.0
"""Compiled patterns: which of several answers, what is refused, and in what time."""

import contextlib
import random
import time
from pathlib import Path

import pytest

from tests.effort import examples
from tests.match_tables import ROW, Layouts, Packet, answer
from tests.reference.patterns import matches
from xdpprobe import signature_file
from xdpprobe.errors import DataError
from xdpprobe.patterns import check
from xdpprobe.patterns.compiler import Compiled, compile_signatures
from xdpprobe.patterns.odds import port_odds

LAYOUTS = Layouts()
Table = dict[str, object]


def text_of(*tables: Table) -> str:
    """A file of [[signature]] tables; l4 is udp, a name is given, if nothing else is said."""
    lines = []
    for table in tables:
        lines.append("[[signature]]")
        for key, value in {"l4": "udp", "name": "n", **table}.items():
            lines.append(f"{key} = {value if key == 'field' else _toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f"'{value}'" if isinstance(value, str) else str(value)


def made(*tables: Table) -> Compiled:
    found = signature_file.parse(Path("x.toml"), text_of(*tables).encode()).signatures
    for number, signature in enumerate(found, 1):  # the catalogue would
        signature.protocol_id = 100 + number if signature.protocol else 0
        signature.app_id = 600 + number if signature.app else 0
    return compile_signatures(found, LAYOUTS)


def chosen(tables: Compiled, payload: bytes, **packet: object) -> int | None:
    """The number of the signature that answers."""
    row = answer(tables, Packet(payload, **packet))  # type: ignore[arg-type]
    return None if row is None else int(row["signature"])


def test_nothing_at_all() -> None:
    tables = made()
    assert chosen(tables, b"abc") is None
    assert tables.classes["words"].tolist() == [0] * 4


def test_a_row_carries_what_the_file_says() -> None:
    tables = made(
        {"match": "x", "after": "b", "confidence": 89, "protocol": "p", "app": "a"},
        {
            "match": ".{3}ab*c",
            "name": "b",
            "app": "a",
            "field": '{ at = 1, size = 2, order = "little", plus = -7, is = "within" }',
        },
        {"port": 53, "protocol": "p"},
    )
    rows = tables.classes[2]["row"]
    by_number = {int(row["signature"]): row for row in rows[:3]}
    assert {name: int(by_number[0][name]) for name in ROW.names or ()} == {
        **dict.fromkeys(ROW.names or (), 0),
        "protocol": 101,
        "app": 601,
        "method": 6,
        "confidence": 89,
    }
    one = by_number[1]
    assert (int(one["app"]), int(one["final"]), int(one["stage"])) == (602, 1, 1)
    assert int(one["state"]) >= 2
    assert (int(one["field_at"]), int(one["field_size"])) == (1, 2)
    assert (int(one["field_flags"]), int(one["plus"])) == (3, -7)
    port = by_number[2]
    assert (int(port["method"]), int(port["confidence"]), int(port["final"])) == (1, 20, 0)


def test_which_of_several_answers() -> None:
    tables = made(
        {"port": 53, "confidence": 100, "protocol": "p"},
        {"match": "abc", "confidence": 99},  # only notes
        {"match": "abc", "confidence": 50, "protocol": "p"},
        {"match": "ab", "confidence": 60, "protocol": "p"},
        {"match": "abcd", "confidence": 60, "protocol": "p"},
        {"match": "abcd", "confidence": 60, "protocol": "p"},
    )
    assert chosen(tables, b"abcd", ports=(9, 53)) == 4
    assert chosen(tables, b"abcx", ports=(9, 53)) == 3
    assert chosen(tables, b"x", ports=(9, 53)) == 0
    assert [row.number for row in tables.rows[2]] == [4, 5, 3, 2, 1, 0]


def test_sides_and_protocols() -> None:
    tables = made({"match": "a", "from": "responder"}, {"match": "a", "l4": "tcp"})
    assert [len(rows) for rows in tables.rows] == [1, 1, 0, 1]
    assert chosen(tables, b"a") is None
    assert chosen(tables, b"a", responder=True) == 0
    assert chosen(tables, b"a", l4="tcp") == 1
    assert chosen(tables, b"a", l4="tcp", number=2) is None


def test_after() -> None:
    tables = made({"match": "a"}, {"match": "b", "name": "m", "after": "n"})
    assert tables.stages == {"n": 1}
    assert int(tables.classes[2]["row"][1]["stage"]) == 0 or chosen(tables, b"b") is None
    row = answer(tables, Packet(b"a"))
    assert int(row["stage"]) == 1
    assert chosen(tables, b"b") is None
    assert chosen(tables, b"b", stage=1) == 1
    assert chosen(tables, b"a", stage=1) == 0


@pytest.mark.parametrize(
    ("match", "rows", "states"),
    [
        ("abc", 1, 2),
        ("a|b|c", 1, 2),
        ("(0[1-3]|1[1-3])x", 1, 2),
        ("ab?.*", 1, 2),
        ("ab{1,16}c", 16, 2),
        ("(GET|PUT|POST) /", 3, 2),
        (".{47}$", 1, 2),
        (r"\x01.{200}$", 1, 2),
        ("ab{1,17}c", 1, 21),
        (".{32}a", 1, 35),
        ("a.*b", 1, 4),
    ],
)
def test_what_takes_an_automaton(match: str, rows: int, states: int) -> None:
    tables = made({"match": match})
    assert (len(tables.rows[2]), tables.states) == (rows, states)


def test_equal_ends_are_shared() -> None:
    alone = made({"match": "a+xyzxyzxyz"}).states
    both = made({"match": "a+xyzxyzxyz"}, {"match": "b+xyzxyzxyz", "l4": "tcp"}).states
    assert both == alone + 2


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"match": ".{9}", "length": "1-8"}, "can never match"),
        ({"match": ".{9}$", "length": 10}, "can never match"),
        ({"match": ["ab", "ac"]}, "can never match"),
        ({"match": ["a.*b", "b"]}, "can never match"),
        ({"match": ["(a{16})+b", "(a{17})+b"]}, "can never match"),
        ({"match": ["ab$", "..$", "a$"]}, "can never match"),
        ({"match": ["a{1,9}b$", "a*c"]}, "can never match"),
        ({"match": "a", "length": 2, "field": "{ at = 1, size = 2 }"}, "can never match"),
        ({"match": "aaa", "field": "{ at = 0, size = 1, plus = -97 }"}, "can never match"),
        ({"match": r"\x09$", "field": "{ at = 0, size = 1 }"}, "can never match"),
        ({"match": "(a|bb){1,40}c$"}, "lengths; at most 16"),
        ({"match": "[ab]*a[ab]{20}c"}, "needs more than 8192 states"),
        ({"match": "[ab]*a[ab]{11}c"}, "together need more than 4096 states"),
        ({"match": "((a|bc){0,90}){0,90}d"}, "stands for too much"),
    ],
)
def test_what_cannot_be(table: Table, why: str) -> None:
    with pytest.raises(DataError) as caught:
        made({"match": "good"}, table)
    assert caught.value.where == "x.toml:8"
    assert why in caught.value.why


def test_too_many_of_all() -> None:
    with pytest.raises(DataError, match="1025 rows of signatures for TCP, initiator"):
        made(*({"match": f"{n:05d}", "l4": "tcp"} for n in range(1025)))
    with pytest.raises(DataError, match="257 classes of lengths"):
        made(*({"match": "a", "length": n} for n in range(1, 513, 2)))
    with pytest.raises(DataError, match="257 classes of ports"):
        made(*({"port": n} for n in range(256)))
    with pytest.raises(DataError, match="more than 63 names") as caught:
        made(
            *({"match": "a", "name": f"n{n}"} for n in range(64)),
            *({"match": "b", "after": f"n{n}"} for n in range(64)),
        )
    assert caught.value.where == f"x.toml:{64 * 4 + 64 * 5}"


def test_as_many_as_there_may_be() -> None:
    tables = made(*({"match": f"{n:05d}", "length": "5-"} for n in range(1024)))
    assert chosen(tables, b"01023") == 1023
    tables = made(*({"port": n} for n in range(255)))
    assert chosen(tables, b"x", ports=(300, 254)) == 254
    tables = made(
        *({"match": "a", "name": f"n{n}"} for n in range(63)),
        *({"match": "b", "after": f"n{n}"} for n in range(63)),
    )
    assert chosen(tables, b"b", stage=63) == 63 + 62


THOUSAND = [
    {
        "match": rf"\x{n % 256:02x}{n:04d}.{{3}}[a-z]\m{{f0:{n % 16:x}0}}"
        + ("+x" if n % 5 == 0 else ""),
        "port": 1000 + n % 90,
        "length": f"{20 + n % 60}-",
    }
    for n in range(1000)
]


def test_a_thousand_take_little_time() -> None:
    began = time.process_time()
    tables = made(*THOUSAND)
    took = time.process_time() - began
    assert len(tables.rows[2]) == 1000
    assert took < 10


HOSTILE = {
    "exponents": [{"match": f"x{n:04d}[ab]*a[ab]{{10}}"} for n in range(900)],
    "counted groups": [{"match": "((((((a{256}){256}){256}){256}){256}){256}){0,256}b*c"}],
    "optional groups": [{"match": "(((((a?){256})?){256})?){256}b"}],
    "spans": [{"match": f".{{0,250}}x{n % 10}.{{0,20}}y"} for n in range(900)],
    "alternatives": [
        {"match": f"({'|'.join(f'{n + k:05d}' for k in range(150))})"} for n in range(900)
    ],
    "optional ends": [
        {"match": "a" * (n % 9 + 1) + "(a|bb|ccc|dddd){1,40}" + "x?" * 100} for n in range(900)
    ],
    "lengths": [{"match": "x" * (n % 30 + 1) + "(a|bb|ccc){1,5}(q|rr){0,4}$"} for n in range(900)],
    "lists": [{"match": [f".*{c}.*{c}{c}" for c in "abcdefgh"]} for _ in range(900)],
    "searches": [{"match": f"ab{n:03d}cd", "search": 255} for n in range(900)],
    "nesting": [{"match": "(x" * 20 + "a*y" + ")+" * 20}] * 900,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_end_in_time(case: str) -> None:
    began = time.process_time()
    with contextlib.suppress(DataError):
        made(*HOSTILE[case])
    assert time.process_time() - began < 20


def why_not(*tables: Table) -> list[tuple[str, str]]:
    return [(doubt.where, doubt.why) for doubt in check.doubts(made(*tables))]


GOOD: Table = {"match": "abcdefgh", "protocol": "p"}


def test_no_doubt() -> None:
    assert why_not(GOOD, {"match": "ij", "port": 53, "protocol": "p"}) == []
    lengths: Table = {"match": "..", "field": "{ at = 2, size = 4, plus = 6 }", "protocol": "p"}
    assert why_not(GOOD, {**lengths, "length": 6, "confidence": 89}) == []
    noted: Table = {"match": "abcdefgh", "name": "one"}
    assert why_not(noted, {**GOOD, "after": "one"}) == []


def test_doubts_about_chance() -> None:
    ((where, why),) = why_not(GOOD, {"match": "abc", "protocol": "p"})
    assert where == "x.toml:6"
    assert why.startswith("matches one of 1.7e+07 packets of random bytes (6.0e-08); ")
    assert why_not({"match": "abc", "protocol": "p", "confidence": 89}) == []


@pytest.mark.parametrize(
    "table",
    [
        {"match": "abcdefghi"},
        {"match": "abcdefgh", "length": "9-20"},
        {"match": "abcdefgh", "confidence": 50},
        {"match": "abcdefgh", "port": 53, "confidence": 80},
        {"match": "abcdefgh", "from": "initiator", "confidence": 80},
        {"match": "abcdefgh(i|jk)+l", "confidence": 80},
        {"match": "abcdefgh", "field": "{ at = 9, size = 1 }", "confidence": 80},
    ],
)
def test_doubts_about_what_is_never_reached(table: Table) -> None:
    better = {**GOOD, "confidence": 95}
    ((where, why),) = why_not({**table, "protocol": "p"}, better)
    assert where == "x.toml:1"
    assert why.startswith("is never reached: whatever it matches, p matches before (x.toml:")


def test_what_is_reached_now_and_then() -> None:
    wide = {**GOOD, "confidence": 95, "from": "initiator"}
    assert why_not({**GOOD, "confidence": 80}, wide) == []
    wide = {**GOOD, "confidence": 95, "field": "{ at = 9, size = 1 }"}
    assert why_not({**GOOD, "confidence": 80}, wide) == []
    wide = {**GOOD, "match": "abcdefg(h|ij)+", "confidence": 95}
    assert why_not({**GOOD, "match": "abcdefg(h|k)", "confidence": 80}, wide) == []


def test_doubts_about_what_costs_much() -> None:
    table: Table = {"match": ".", "field": "{ at = 0, size = 4 }", "protocol": "p"}
    ((_, why),) = why_not(GOOD, {**table, "confidence": 80})
    assert why.startswith("costs much: its automaton or length field is looked at in 100% of")
    assert why_not(GOOD, {**table, "port": 53}) == []
    assert why_not(GOOD, {**table, "match": ".{4}a"}) == []
    (doubt,) = why_not(GOOD, {"match": "abcdefgh", "search": 30, "app": "a"})
    assert doubt[1].startswith("costs much")


def test_doubts_about_what_came_before() -> None:
    first: Table = {"match": "abcdefgh", "name": "one", "protocol": "p"}
    (doubt,) = why_not(first, {"match": "ijklmnop", "after": "one", "protocol": "p"})
    assert doubt == (
        "x.toml:6",
        "can never match: nothing leads to 'one', as a match with confidence >= 90 ends the"
        " inspection",
    )
    loop = [
        {"match": "a", "name": "one", "after": "two"},
        {"match": "b", "name": "two", "after": "one"},
    ]
    assert [why for _, why in why_not(*loop)] == [
        "can never match: nothing leads to 'two'",
        "can never match: nothing leads to 'one'",
    ]
    assert [why for _, why in why_not({"match": "a"})] == ["has no use: no 'after' refers to 'n'"]


def test_odds_are_those_of_random_packets() -> None:
    """Everything that enters into the odds, each often enough to be counted."""
    tables = made(
        {"match": r"[\x00-\x7f][\x00-\x7f]", "app": "a"},
        {"match": r"[\x00-\x7f].*[\x00-\x03]", "app": "a"},
        {"match": r"(\m{80:00}|[\xf0-\xff].)+[\x00-\x0f]", "app": "a", "search": 3},
        {"match": ".", "length": "700-", "port": ["0-9999", "20000-29999"], "app": "a"},
        {"match": ".", "field": '{ at = 1, size = 2, is = "within" }', "app": "a"},
        {"match": r".[\x00-\x03]", "field": '{ at = 1, size = 2, is = "within" }', "app": "a"},
        {"match": r".[\x00-\x7f]", "field": "{ at = 1, size = 1, plus = 5 }", "app": "a"},
    )
    dice = random.Random(1)
    hits = [0] * len(tables.signatures)
    turns = len(examples(4000))
    for _ in range(turns):
        payload = dice.randbytes(dice.randint(1, 1400))
        packet = Packet(payload, ports=(dice.randrange(65536), dice.randrange(65536)))
        for number, signature in enumerate(tables.signatures):
            hits[number] += matches(signature, packet)
    said = check.odds(tables)
    for number, signature in enumerate(tables.signatures):
        wanted = said[number] * port_odds(signature.port)
        deviation = (wanted * (1 - wanted) / turns) ** 0.5
        assert abs(hits[number] / turns - wanted) <= 4 * deviation + 2 / turns, number


def test_sizes_are_told() -> None:
    lines = check.sizes(made(GOOD, {"match": "a+b.*c", "l4": "tcp"}))
    assert lines[0].startswith("rows: TCP, initiator 1, TCP, responder 1, UDP, initiator 1")
    assert any(line.startswith("states of automata: ") for line in lines)
    assert check.sizes(made()) == []
