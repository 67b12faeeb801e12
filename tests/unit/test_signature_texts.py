# SPDX-License-Identifier: Apache-2.0
"""Signatures by a text: what is refused, with which line, and the table that they become."""

from pathlib import Path

import numpy as np
import pytest

from tests.reference import http
from xdpprobe import abi, catalogue, signature_file
from xdpprobe.errors import DataError
from xdpprobe.patterns import check
from xdpprobe.patterns.texts import compile_texts, texts_of
from xdpprobe.signature_texts import KEYS, METHODS, TEXT_LIMIT, TEXTS_LIMIT

GOOD = """[[app]]
id = 7200
name = "a"
title = "A"
category = "work"

[[protocol]]
id = 511
name = "p"
title = "P"
category = "network"

[[signature]]
app = "a"
user_agent = [
    "Made/",
    "Other made/2",
]
content_type = ["application/made"]
confidence = 95
source = "made up"

[[signature]]
protocol = "p"
app = "a"
stun_attribute = [0x8054, 0xffff]
stun_realm = ["relay.example.com"]
stun_software = ["made"]
"""


def load(path: Path, text: str, name: str = "mine.toml") -> catalogue.Catalogue:
    file = path / name
    file.write_text(text)
    return catalogue.load([file])


def test_what_a_file_says(tmp_path: Path) -> None:
    one, two = load(tmp_path, GOOD).signatures[:2]
    assert [text.data for text in one.texts] == [b"Made/", b"Other made/2", b"application/made"]
    assert [text.kind for text in two.texts] == [
        *["stun_attribute"] * 2,
        "stun_realm",
        "stun_software",
    ]
    assert [text.data for text in two.texts] == [
        b"\x80\x54",
        b"\xff\xff",
        b"moc.elpmaxe.yaler.",
        b"made",
    ]
    assert (one.app_id, one.confidence, one.final, one.by_port) == (7200, 95, True, False)
    assert (two.protocol_id, two.confidence, two.l4) == (511, 90, "")


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        ('"Made/"', '"Ma"', 16, "user_agent: 'Ma' is not 3 to 63 printable ASCII characters"),
        ('"Made/"', f'"{"m" * 64}"', 16, "is not 3 to 63 printable ASCII characters"),
        ('"Made/"', '" Made"', 16, "begins with a blank"),
        ('"Made/"', '"Mäde"', 16, "is not 3 to 63 printable ASCII characters"),
        ('"Made/"', '"Ma\\nde"', 15, "is not 3 to 63 printable ASCII characters"),
        ('"Made/"', '"Made/", "Made/"', 16, "stands in it twice"),
        ('"Made/"', "5", 15, "user_agent: 5 is not a string"),
        ('["application/made"]', "[]", 19, "content_type: is not a list with something in it"),
        ('["application/made"]', '"application/made"', 19, "is not a list with something in it"),
        (
            "content_type = [",
            'request = ["GET /", "SUBSCRIBE /", ',
            19,
            "'SUBSCRIBE /' begins with no method",
        ),
        ("content_type = [", 'request = ["M-SEARCH *", ', 19, "begins with no method that"),
        ("content_type = [", 'request = ["get /", ', 19, "'get /' begins with no method that"),
        ("content_type = [", 'request = ["GETS", ', 19, "'GETS' begins with no method that"),
        ("content_type = [", 'request = ["GE", ', 19, "is not 3 to 63 printable ASCII"),
        ('source = "made up"', 'l4 = "tcp"', 21, "'user_agent' and 'l4' exclude each other"),
        ('source = "made up"', "match = 'a'", 21, "'user_agent' and 'match' exclude each other"),
        ('source = "made up"', 'after = "x"', 21, "'user_agent' and 'after' exclude each other"),
        ('source = "made up"', 'protocol = "p"', 21, "'user_agent' says nothing of the protocol"),
        ('app = "a"\nuser', "user", 13, "neither 'protocol' nor 'app'"),
        ("0x8054", "65536", 26, "65536 is not an attribute's type"),
        ("0x8054", "0x" + "f" * 6000, 26, "a number that does not fit into 64 bits"),
        ("confidence = 95", f"confidence = 0x{'f' * 6000}", 20, "does not fit into 64 bits"),
        ("0x8054", "-1", 26, "-1 is not an attribute's type"),
        ("0x8054", "true", 26, "True is not an attribute's type"),
        ("0x8054", '"0x8054"', 26, "'0x8054' is not an attribute's type"),
        ("0x8054", "0xffff", 26, "65535 stands in it twice"),
        ("0x8054", "0x14", 26, "0x0014 is looked at for its text"),
        ("0x8054", "0x8022", 26, "0x8022 is looked at for its text"),
        ('"relay.example.com"', '"*.example.com"', 27, "has a wildcard"),
        ('"relay.example.com"', '"192.0.2.1"', 27, "is an address, not a name"),
        ('"relay.example.com"', f'"{"a" * 59}.com"', 27, "is longer than 62 bytes"),
        ('"relay.example.com"', '"relay.Example.com"', 27, "has capital letters"),
        ("stun_software =", "server =", 24, "'server' says nothing of the protocol"),
        ("stun_software =", "soap_action =", 24, "'soap_action' says nothing of the protocol"),
        ("stun_software =", "certificate =", 24, "'certificate' says nothing of the protocol"),
        ("stun_software =", "alpn =", 24, "'alpn' says nothing of the protocol"),
        ("stun_software", "stun_softwere", 28, "unknown key 'stun_softwere' in [[signature]]"),
    ],
)
def test_mistake_with_line(tmp_path: Path, old: str, new: str, line: int, why: str) -> None:
    assert old in GOOD
    with pytest.raises(DataError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    assert (caught.value.where, why in caught.value.why) == (
        f"{tmp_path / 'mine.toml'}:{line}",
        True,
    ), caught.value
    assert "\n" not in str(caught.value)


def test_a_text_belongs_to_one_signature_of_a_layer(tmp_path: Path) -> None:
    again = GOOD + '\n[[signature]]\napp = "a"\nuser_agent = ["Made/"]\n'
    with pytest.raises(DataError, match=r"stands in .*mine\.toml:16 too") as caught:
        load(tmp_path, again)
    assert caught.value.where.endswith("mine.toml:32")


def test_a_higher_layer_takes_a_text_over(tmp_path: Path) -> None:
    load(tmp_path, GOOD, "lower.toml")
    higher = tmp_path / "higher.toml"
    higher.write_text('[[signature]]\napp = "youtube"\nuser_agent = ["Made/"]\n')
    known = catalogue.load([tmp_path / "lower.toml", higher])
    layouts = abi.load_abi()
    table = dict(compile_texts(known.signatures, layouts))
    youtube = next(entry.id for entry in known.entries.values() if entry.name == "youtube")
    key = np.zeros((), layouts.dtype("text_key"))
    key["prefix_bits"], key["kind"] = 8 * 6, layouts.enums["text_kind"]["TEXT_USER_AGENT"]
    key["text"][:5] = np.frombuffer(b"Made/", np.uint8)
    value = np.frombuffer(table[key.tobytes()], layouts.dtype("text_value"))[0]
    assert (int(value["app"]), int(value["confidence"]), int(value["final"])) == (youtube, 90, 1)


@pytest.mark.parametrize(
    ("kind", "confidence", "in_place"),
    [("server", 100, 1), ("server", 99, 0), ("content_type", 100, 0), ("user_agent", 100, 0)],
)
def test_a_certain_server_answers_in_the_place_of_the_host(
    tmp_path: Path, kind: str, confidence: int, in_place: int
) -> None:
    text = f'[[signature]]\napp = "youtube"\n{kind} = ["Made/"]\nconfidence = {confidence}\n'
    signatures = load(tmp_path, text).signatures[:1]
    layouts = abi.load_abi()
    ((_, value),) = compile_texts(signatures, layouts)
    assert int(np.frombuffer(value, layouts.dtype("text_value"))[0]["in_place"]) == in_place


def test_the_table_is_not_endless(tmp_path: Path) -> None:
    """The layer that is too much is named, and in it what has most; others' texts count once."""
    shipped = {(text.kind, text.data) for _, text in texts_of(catalogue.load().signatures)}
    listed = [f'"made {number}"' for number in range(TEXTS_LIMIT - len(shipped))]
    made = f'[[signature]]\napp = "youtube"\nuser_agent = [{", ".join(listed)}]\n'
    full = load(tmp_path, made, "1.toml")
    assert len(compile_texts(full.signatures, abi.load_abi())) == TEXTS_LIMIT
    lower, upper = tmp_path / "1.toml", tmp_path / "2.toml"
    upper.write_text('[[signature]]\napp = "netflix"\nuser_agent = ["made 0"]\n')
    catalogue.load([lower, upper])
    upper.write_text('\n[[signature]]\napp = "netflix"\nuser_agent = ["more made"]\n')
    for paths, guilty in (([lower, upper], f"{upper}:2"), ([tmp_path], f"{lower}:1")):
        with pytest.raises(DataError, match="more than 16384 texts") as caught:
            catalogue.load(paths)
        assert caught.value.where == guilty


def test_limits_are_the_data_planes() -> None:
    found = abi.load_abi()
    assert found.dtype("text_key")["text"].itemsize == TEXT_LIMIT
    inner = found.maps["texts"].inner
    assert inner is not None
    assert inner.max_entries == TEXTS_LIMIT
    kinds = set(found.enums["text_kind"]) - {"TEXT_NONE"}
    assert kinds == {f"TEXT_{key.upper()}" for key in KEYS}


def test_a_domain_of_a_realm_takes_in_what_is_below_it() -> None:
    """As with name rules: reversed, and a dot, so that it ends at a label's boundary."""
    texts = KEYS["stun_realm"](["example.com"])
    assert b"moc.elpmaxe.yaler.".startswith(texts[0].data)
    assert not b"moc.elpmaxeton.".startswith(texts[0].data)


@pytest.mark.parametrize(
    ("agent", "doubtful"),
    [
        ("Mozilla/", True),
        ("Moz", True),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64) Apple", True),
        ("Mozilla/5.0 (iPhone", True),
        ("Mozilla/5.0 (Nintendo", False),
        ("Mozilla/5.0 (Linux; Android 9; AFT", False),
        ("Made/", False),
    ],
)
def test_what_browsers_begin_with_is_doubted(agent: str, doubtful: bool) -> None:
    path = Path("mine.toml")
    text = GOOD.replace('"Made/"', f'"{agent}"')
    contents = signature_file.parse(path, text.encode())
    why = f"user_agent: {agent!r} is what browsers begin with"
    expected = [(f"{path}:16", why)] if doubtful else []
    assert check.text_doubts(contents.signatures) == expected


def test_the_methods_of_requests() -> None:
    """All that the reference knows, which the data plane is held against; and what begins one."""
    assert set(METHODS) == {method.decode() for method in http.METHODS}
    for method in METHODS:
        lines = [method, f"{method} ", f"{method} /a"]
        assert [text.shown for text in KEYS["request"](lines)] == lines
    assert KEYS["request"](["PRO"])[0].data == b"PRO"
