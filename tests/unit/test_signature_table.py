# SPDX-License-Identifier: Apache-2.0
"""[[signature]] tables: what is refused, with which line, and what their names refer to."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.match_tables import CLASS
from xdpprobe import catalogue, signature_file, signature_table
from xdpprobe.errors import DataError
from xdpprobe.signature_table import LengthField, Span

Write = Callable[..., Path]
GOOD = r"""# comment
[[signature]]
protocol = "p"
app = "a"
l4 = "udp"
match = [
    '[\x23\xe3].{47}$',  # 'other'
    '.{4}\m{f0:40}',
]
port = [123, "6881-6889"]
length = "48-80"
field = { at = 2, size = 2, order = "little", plus = -4, is = "within" }
from = "responder"
packet = "2-3"
name = "later"
after = "first"
confidence = 80
source = "RFC 5905, 7.3"

[[signature]]
name = "first"
l4 = "tcp"
match = 'abc'
search = 32

[[app]]
id = 7200
name = "a"
title = "A"
category = "work"

[[protocol]]
id = 511
name = "p"
title = "P"
category = "network"
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(text: str, name: str = "mine.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return put


def test_good_file(write: Write) -> None:
    found = catalogue.load([write(GOOD)]).signatures
    one, two = found[:2]
    assert (one.protocol_id, one.app_id, one.l4, one.sender) == (511, 7200, "udp", "responder")
    assert [regex.text for regex in one.match] == [r"[\x23\xe3].{47}$", r".{4}\m{f0:40}"]
    assert one.port == ((123, 123), (6881, 6889))
    assert (one.length, one.packet) == ((48, 80), (2, 3))
    assert one.field == LengthField(2, 2, little=True, plus=-4, within=True)
    assert (one.name, one.after, one.search, one.confidence) == ("later", "first", 1, 80)
    assert one.source == "RFC 5905, 7.3"
    assert not one.final
    assert one.where("match", one.match[1].text).endswith(":8")
    assert (two.protocol_id, two.app_id, two.search, two.confidence) == (0, 0, 32, 90)
    assert two.packet == Span(1, 1)
    assert two.length == signature_table.ANY_LENGTH


def test_defaults(write: Write) -> None:
    text = '[[signature]]\nprotocol = "dns"\nl4 = "udp"\nport = 5353\n'
    one = catalogue.load([write(text)]).signatures[0]
    assert (one.confidence, one.packet, one.by_port, one.final) == (20, (1, 8), True, False)


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        ('protocol = "p"', 'protocol = "q"', 3, "protocol: no [[protocol]] is named 'q'"),
        ('protocol = "p"', 'protocol = "youtube"', 3, "no [[protocol]] is named 'youtube'"),
        ('app = "a"', 'app = "b"', 4, "app: no [[app]] is named 'b'"),
        ('app = "a"', 'app = "A"', 4, "app: 'A' is not 1 to 31 lower-case"),
        ('l4 = "udp"', 'l4 = "sctp"', 5, "l4: 'sctp' is neither 'udp' nor 'tcp'"),
        ('l4 = "udp"', "l4 = [17]", 5, "l4: [17] is neither 'udp' nor 'tcp'"),
        ('l4 = "udp"\n', "", 2, "[[signature]] has no 'l4'"),
        ("'.{4}", "'(.{4}", 8, "'(' without its ')'"),
        ("'.{4}\\m{f0:40}'", "5", 6, "match: 5 is not a string"),
        ("'.{4}\\m{f0:40}',\n", "'a'," * 8, 6, "match: has more than 8 regexes"),
        ("match = 'abc'", "match = []", 23, "match: is not a list with something in it"),
        ("match = 'abc'", "match = 'a*'", 23, "matches every payload"),
        ("match = 'abc'", 'match = "(?i)a\\u00e9"', 23, "no printable ASCII"),
        ("match = 'abc'\nsearch = 32\n", "", 20, "neither 'match' nor 'port'"),
        ("match = 'abc'\n", "match = 'abc$'\n", 24, "'search' and '$' exclude each other"),
        ("match = 'abc'\n", "match = ['a', 'b']\n", 24, "'search' needs one 'match'"),
        ("search = 32", "search = 256", 24, "search: 256 is not within 1..255"),
        ("search = 32", "search = 0", 24, "search: 0 is not within 1..255"),
        ('[123, "6881', '["123", "6881', 10, "port: '123' is no number and no range"),
        ('[123, "6881', '[65536, "6881', 10, "port: 65536 is not within 0..65535"),
        ('[123, "6881', '[123, 123, "6881', 10, "stands in it twice"),
        ("6881-6889", "6889-6881", 10, "port: '6889-6881' ends before it begins"),
        ("6881-6889", "6881-", 10, "port: '6881-' is no number and no range"),
        ("6881-6889", "-6881", 10, "port: '-6881' is no number and no range"),
        ("6881-6889", "+1-6881", 10, "port: '+1-6881' is no number and no range"),
        ("6881-6889", "1-" + "9" * 99, 10, "is no number and no range"),
        ('"48-80"', "0", 11, "length: 0 is not within 1..2047"),
        ('"48-80"', '"48-2047"', 11, "from 2047 bytes on lengths are not told apart"),
        ('"48-80"', "3000", 11, "from 2047 bytes on lengths are not told apart"),
        ('"48-80"', '"3000-"', 11, "length: 3000 is not within 1..2047"),
        ('"48-80"', "[48]", 11, "length: [48] is no number and no range"),
        ('"48-80"', "true", 11, "length: True is no number and no range"),
        ("at = 2, ", "", 12, "field: has no 'at'"),
        ("size = 2, ", "", 12, "field: has no 'size'"),
        ("size = 2, ", "size = 5, ", 12, "field: size: 5 is not within 1..4"),
        ("at = 2, ", "at = 255, ", 12, "field: stands behind the first 256 bytes"),
        ("at = 2, ", "on = 1, at = 2, ", 12, "field: unknown key 'on'"),
        ('"little"', '"middle"', 12, "field: order: 'middle' is neither 'big' nor 'little'"),
        ('"within"', '"less"', 12, "field: is: 'less' is neither 'equal' nor 'within'"),
        ("plus = -4", "plus = -65536", 12, "field: plus: -65536 is not within"),
        ("plus = -4", "multiplier = 0", 12, "field: multiplier: 0 is not within 1..255"),
        ("plus = -4", "multiplier = 256", 12, "field: multiplier: 256 is not within 1..255"),
        ("field = {", "field = [] # {", 12, "field: is not a table"),
        ('"responder"', '"client"', 13, "from: 'client' is neither 'initiator' nor 'responder'"),
        ('"2-3"', '"2-9"', 14, "packet: 9 is not within 1..8"),
        ('"2-3"', "0", 14, "packet: 0 is not within 1..8"),
        ('name = "later"', 'name = ""', 15, "name: '' is not 1 to 31"),
        ('after = "first"', 'after = "nobody"', 16, "after: no signature is named 'nobody'"),
        ('after = "first"', 'after = "later"', 16, "a signature cannot come after itself"),
        ("confidence = 80", "confidence = 0", 17, "confidence: 0 is not within 1..100"),
        ("RFC", "x" * 200, 18, "source: "),
        ('name = "first"\n', "", 20, "neither 'protocol' nor 'app'"),
        ("search = 32", "serch = 32", 24, "unknown key 'serch' in [[signature]]"),
        ("[[signature]]\nname", "[[signatures]]\nname", 20, "unknown table or key 'signatures'"),
    ],
)
def test_mistake_with_line(write: Write, old: str, new: str, line: int, why: str) -> None:
    assert old in GOOD
    path = write(GOOD.replace(old, new, 1))
    with pytest.raises(DataError) as caught:
        catalogue.load([path])
    assert (caught.value.where, why in caught.value.why) == (f"{path}:{line}", True), caught.value
    assert "\n" not in str(caught.value)


def test_the_hint_says_the_other_kind(write: Write) -> None:
    path = write('[[signature]]\nprotocol = "youtube"\nl4 = "tcp"\nmatch = "a"\n')
    with pytest.raises(DataError, match="it is written as app = 'youtube'"):
        catalogue.load([path])


def test_names_are_those_of_all_files(write: Write) -> None:
    first = write('[[signature]]\nname = "one"\nl4 = "tcp"\nmatch = "a"\n', "1.toml")
    second = write(
        '[[signature]]\nprotocol = "tls"\nl4 = "tcp"\nmatch = "b"\nafter = "one"\n', "2.toml"
    )
    for paths in ([first, second], [second, first]):
        found = catalogue.load(paths).signatures[:2]
        assert [one.file.path for one in found] == paths[::-1]  # the last layer stands first
    (within,) = (catalogue.load([first.parent]).signatures[:2],)
    assert [one.file.path for one in within] == [first, second]


def test_a_signature_means_a_redefined_app(write: Write) -> None:
    lower = write(GOOD, "1.toml")
    upper = write('[[app]]\nid = 7200\nname = "a"\ntitle = "B"\ncategory = "web"\n', "2.toml")
    found = catalogue.load([lower, upper])
    assert found.labels[7200].category == "web"
    assert found.signatures[0].app_id == 7200


def test_an_app_that_lost_its_signature_is_said(write: Write) -> None:
    path = write('[[app]]\nid = 7167\nname = "a"\ntitle = "A"\ncategory = "work"\n')
    with pytest.raises(DataError, match="and no signature names it"):
        catalogue.load([path])


def test_limits_are_the_data_planes() -> None:
    assert CLASS["length_class"].shape[0] - 1 == signature_table.LENGTH_MAX
    assert CLASS["packet"].shape[0] == signature_table.PACKETS


def test_bad_utf_8_in_a_signature() -> None:
    data = GOOD.encode().replace(b"RFC", b"\xff")
    with pytest.raises(DataError, match=r"x\.toml:18: is not UTF-8"):
        signature_file.parse(Path("x.toml"), data)
