# SPDX-License-Identifier: Apache-2.0
"""Signature files: what is refused, with which line, and how layers stand above each other."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpprobe import catalogue, signature_file
from xdpprobe.errors import DataError
from xdpprobe.rules import RuleIndex

Write = Callable[..., Path]
GOOD = """\
# comment with [[app]] in it
[[app]]
id = 7200
name = "my-app"
title = "My application"
category = "work"
domains = [
    "my-app.example",  # "other.example"
    "other.example",
]
exact = ["www.third.example"]

[[app]]
id = 7201
name = "second"
title = "Second"
category = "video"
exact = ['my-app.example']
source = "vendor documentation"
"""


def change(old: str, new: str) -> bytes:
    assert old in GOOD
    return GOOD.replace(old, new, 1).encode()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def put(data: bytes | str, name: str = "mine.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return put


def test_good_file(write: Write) -> None:
    path = write(GOOD)
    found = catalogue.load([path])
    label = found.labels[7200]
    assert (label.name, label.category, label.kind) == ("my-app", "work", "application")
    index = RuleIndex(found.rules)
    assert index.match("a.other.example") == (7200, "other.example")
    assert index.match("my-app.example") == (7201, "=my-app.example")
    assert index.match("www.my-app.example") == (7200, "my-app.example")
    assert index.match("a.www.third.example") == (0, "")
    assert found.files[-1] == path
    assert found.entries[7201].source == "vendor documentation"


LONG = "a" * 60 + ".com"
MISTAKES = [
    (change("id = 7200", "id = 511"), 3, "id: 511 is not within 512..8191"),
    (change("id = 7200", "id = 8192"), 3, "id: 8192 is not within 512..8191"),
    (change("id = 7200", "id = true"), 3, "id: is not a whole number"),
    (change("id = 7200", 'id = "7200"'), 3, "id: is not a whole number"),
    (change("id = 7200", "id = 7201"), 14, "id: 7201 of second belongs to my-app"),
    (change("id = 7200", "id = 512"), 3, "id 512 is youtube in "),
    (change("id = 7200\n", ""), 2, "has no 'id'"),
    (change('"my-app"', '"My-App"'), 4, "name: 'My-App' is not 1 to 31 lower-case"),
    (change('"my-app"', '"' + "a" * 32 + '"'), 4, "is not 1 to 31 lower-case"),
    (change('"my-app"', '"my--app"'), 4, "in groups joined by '-'"),
    (change('"my-app"', '""'), 4, "lower-case"),
    (change('"second"', '"my-app"'), 15, "name: 'my-app' of my-app belongs to my-app"),
    (change('"my-app"', '"youtube"'), 3, "youtube has id 512 in "),
    (change('"My application"', '"a\\u001b[0m"'), 5, "printable"),
    (change('"My application"', '"' + "x" * 41 + '"'), 5, "1 to 40 printable characters"),
    (change('"work"', '"fun"'), 6, "category: 'fun' is not a category"),
    (change('"work"', '["work"]'), 6, "is not a category"),
    (change('"other.example",\n', '"Other.example",\n'), 9, "has capital letters"),
    (change('"other.example",\n', '"*.other.example",\n'), 9, "has a wildcard"),
    (change('"other.example",\n', '"mün.example",\n'), 9, "is not ASCII"),
    (change('"other.example",\n', '"other.example.",\n'), 9, "is not a domain name"),
    (change('"other.example",\n', '"other..example",\n'), 9, "is not a domain name"),
    (change('"other.example",\n', '"-other.example",\n'), 9, "is not a domain name"),
    (change('"other.example",\n', '"",\n'), 9, "is not a domain name"),
    (change('"other.example",\n', '"10.0.0.1",\n'), 9, "is an address, not a name"),
    (change('"other.example",\n', f'"{LONG}",\n'), 9, "is longer than 63 bytes"),
    (change('"other.example",\n', '"my-app.example",\n'), 8, "stands in it twice"),
    (change('"other.example",\n', "5,\n"), 7, "5 is not a string"),
    (change("exact = ['my", "domains = ['my"), 18, "domains: 'my-app.example' of second belongs"),
    (change('exact = ["www.third.example"]', "exact = []"), 11, "something in it"),
    (change('exact = ["www.third.example"]', 'exact = "x.y"'), 11, "is not a list"),
    (
        change("exact = ['my-app.example']\n", "").replace(b"id = 7201", b"id = 7167"),
        13,
        "neither 'domains' nor 'exact' nor 'prefix'",
    ),
    (change("source = ", 'prefix = "10.0.0.0/8"\nsource = '), 19, "is not a list"),
    (change("source = ", "prefix = [7]\nsource = "), 19, "7 is not a string"),
    (change("source = ", 'prefix = [\n"10.0.0.1/8"]\nsource = '), 20, "is not how that prefix"),
    (change("source = ", 'prefix = ["10.0.0.1"]\nsource = '), 19, "is no prefix"),
    (change("source = ", 'prefix = ["::/0"]\nsource = '), 19, "takes in the IPv4 addresses"),
    (
        change("source = ", 'prefix = ["10.0.0.0/8",\n"10.0.0.0/8"]\nsource = '),
        19,
        "'10.0.0.0/8' stands in it twice",
    ),
    (
        change("exact = [", 'prefix = ["10.0.0.0/8"]\nexact = [').replace(
            b"exact = ['", b"prefix = ['10.0.0.0/8']\nexact = ['"
        ),
        19,
        "prefix: '10.0.0.0/8' of second belongs to my-app already",
    ),
    (change("source = ", "ech_public_names = []\nsource = "), 19, "something in it"),
    (change("source = ", 'ech_public_names = "a.example"\nsource = '), 19, "is not a list"),
    (
        change("source = ", 'ech_public_names = [\n"*.example"]\nsource = '),
        20,
        "ech_public_names: '*.example' has a wildcard",
    ),
    (
        change("source = ", 'ech_public_names = ["a.example",\n"a.example"]\nsource = '),
        19,
        "'a.example' stands in it twice",
    ),
    (change('source = "v', 'sauce = "v'), 19, "unknown key 'sauce' in [[app]]"),
    (change("source = ", "l4 = [1]\nsource = "), 19, "unknown key 'l4' in [[app]]"),
    (change("[[app]]\nid", "[[apps]]\nid"), 2, "unknown table or key 'apps'"),
    (change("title = ", "title : "), 5, "is not valid TOML"),
    (change("title = ", "name = "), 5, "is not valid TOML"),
    (change('"vendor documentation"', '"vendor'), 19, "is not valid TOML"),
    (change('"vendor documentation"', '"""a\n[[app]]"""'), 19, "multi-line strings"),
    (change("source = ", "sour.ce = "), 19, "a dot outside of quotes"),
    (change("source = ", '"sour" . "ce" = '), 19, "a dot outside of quotes"),
    (change('"vendor documentation"', "vendor.documentation # 'a.b'"), 19, "a dot outside of"),
    (change("vendor documentation", "v" * 5000), 19, "v...vv"),
    (change("id = 7200", "id = 0x" + "f" * 6000), 3, "a number that does not fit into 64 bits"),
    (change("id = 7200", "id = " + "9" * 6000), 3, "a number that does not fit into 64 bits"),
    (change("id = 7200", "id = -0_1"), 3, "is not valid TOML"),
    (change("id = 7200", "id = -9223372036854775809"), 3, "does not fit into 64 bits"),
    (change("id = 7200", "id = 0x8000_0000_0000_0000"), 3, "does not fit into 64 bits"),
    (change("id = 7200", "id = 0o1" + "0" * 21), 3, "does not fit into 64 bits"),
    (change("id = 7200", "id = 0b1" + "0" * 63), 3, "does not fit into 64 bits"),
    (change("id = 7200", "id = -9223372036854775808"), 3, "is not within 512..8191"),
    (change("id = 7200", "id = 0x7fffffffffffffff"), 3, "is not within 512..8191"),
    (change("source = ", "prefix = [\n1,  # 1\n0x" + "f" * 17 + "]\nsource = "), 21, "64 bits"),
    (GOOD.encode().replace(b"vendor", b"\xff"), 19, "is not UTF-8"),
    (GOOD.encode() + b"[x]\n", 20, "unknown table or key 'x'"),
    (b"[[protocol]]\nid = 512\n", 1, "has no 'name'"),
]


def test_long_numbers_in_texts_are_none(write: Write) -> None:
    wide = "9" * 50
    title = change("My application", f"{wide[:20]}").replace(b"# comment", b"# " + wide.encode())
    found = catalogue.load([write(title.replace(b"vendor", f"= {wide} ".encode()))])
    assert found.entries[7200].title == wide[:20]
    assert found.entries[7201].source == f"= {wide}  documentation"


@pytest.mark.parametrize(("data", "line", "why"), MISTAKES)
def test_mistake_with_line(write: Write, data: bytes, line: int, why: str) -> None:
    path = write(data)
    with pytest.raises(DataError) as caught:
        catalogue.load([path])
    assert caught.value.where == f"{path}:{line}"
    assert why in caught.value.why
    assert "\n" not in str(caught.value)


# The time for each grew with its square, to far above what is allowed below.
TWICE = [f'"a{min(number, 59_999)}.b",' for number in range(60_001)]
LONG = {
    "a domain twice": GOOD + f"domains = [{''.join(TWICE)}]",
    "a dotted key": ".".join("a" * 200_000) + " = 1",
    "a blank line": " " * 200_000 + "\nx = 1",
}


@pytest.mark.parametrize("case", LONG)
def test_long_mistakes_are_found_in_time(write: Write, case: str) -> None:
    path = write(LONG[case].encode())
    began = time.process_time()
    with pytest.raises(DataError):
        signature_file.parse(path, path.read_bytes())
    assert time.process_time() - began < 5


PROTOCOL = '[[protocol]]\nid = 511\nname = "p"\ntitle = "P"\ncategory = "network"\nl4 = %s\n'


@pytest.mark.parametrize(
    ("l4", "why"),
    [
        ("[256]", "is not an IP protocol number"),
        ("[true]", "is not an IP protocol number"),
        ("[6]", "TCP or UDP"),
        ("[200, 200]", "twice"),
    ],
)
def test_l4_mistakes(write: Write, l4: str, why: str) -> None:
    path = write(PROTOCOL % l4)
    with pytest.raises(DataError, match=re.escape(f"{path}:6: l4: ")) as caught:
        catalogue.load([path])
    assert why in caught.value.why


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"app = 5\n", "not written as [[app]] tables"),
        (b"app = [{id = 7200}]\n", "not written as [[app]] tables"),
        (b"[app]\nid = 7200\n", "not written as [[app]] tables"),
        (b"x = " + b"[" * 5000, "too deep"),
        (b"#" * ((1 << 20) + 1), "is larger than 1048576 bytes"),
    ],
)
def test_mistake_of_the_whole_file(write: Write, data: bytes, why: str) -> None:
    path = write(data)
    with pytest.raises(DataError) as caught:
        catalogue.load([path])
    assert caught.value.where == str(path)
    assert why in caught.value.why


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    nested = tmp_path / "nested"
    (nested / "inner.toml").mkdir(parents=True)
    dangling = tmp_path / "dangling"
    dangling.mkdir()
    (dangling / "a.toml").symlink_to("nowhere")
    for path, why in [
        (tmp_path / "missing", "does not exist"),
        (tmp_path / "empty", "holds no .toml file"),
        (tmp_path / "pipe.toml", "is no regular file"),
        (nested, "irectory"),
        (dangling, "No such file"),
    ]:
        with pytest.raises(DataError, match=why):
            catalogue.load([path])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(write: Write) -> None:
    path = write(GOOD)
    path.chmod(0)
    with pytest.raises(DataError, match="Permission denied"):
        catalogue.load([path])


def app(number: int, name: str, domain: str) -> str:
    return (
        f'[[app]]\nid = {number}\nname = "{name}"\ntitle = "T"\ncategory = "work"\n'
        f'domains = ["{domain}"]\n'
    )


def test_later_layer_redefines_an_app(write: Write) -> None:
    shipped = catalogue.load().entries[512]
    found = catalogue.load([write(app(512, shipped.name, "tube.example"))])
    index = RuleIndex(found.rules)
    assert index.match("tube.example")[0] == 512
    assert index.match(shipped.domains[0])[0] != 512
    assert found.labels[512].category == "work"


def test_later_layer_takes_a_domain_over(write: Write) -> None:
    first = write(app(7300, "first", "mine.example"), "1.toml")
    second = write(app(7301, "second", "mine.example"), "2.toml")
    assert RuleIndex(catalogue.load([first, second]).rules).match("mine.example")[0] == 7301
    assert RuleIndex(catalogue.load([second, first]).rules).match("mine.example")[0] == 7300
    with pytest.raises(DataError, match=re.escape(f"already ({first}:6)")):
        catalogue.load([first.parent])  # one layer: nobody stands above


def test_hidden_files_are_left_alone(write: Write) -> None:
    path = write(GOOD)
    write("broken", ".#mine.toml")
    assert catalogue.load([path.parent]).files[-1] == path


def test_later_layer_takes_an_ip_protocol_over(write: Write) -> None:
    assert catalogue.load([write(PROTOCOL % "[47, 200]")]).l4[47] == 511
    assert catalogue.load().l4[47] != 511


def test_digest_depends_on_names_and_contents(write: Write) -> None:
    first = catalogue.load([write(GOOD, "a.toml")]).digest
    assert len(first) == 32
    assert first == catalogue.load([write(GOOD, "a.toml")]).digest
    assert first != catalogue.load([write(GOOD, "b.toml")]).digest
    assert first != catalogue.load([write(GOOD + "#", "a.toml")]).digest


def test_rule_limit(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = catalogue.load()
    room = len(shipped.rules) + len(shipped.ech_names)
    monkeypatch.setattr(catalogue, "RULE_LIMIT", room + 2)
    with pytest.raises(DataError, match="domains in all"):
        catalogue.load([write(GOOD)])


ECH = 'ech_public_names = ["public.example", "other.example"]\n'


def test_public_names_of_ech_and_layers(write: Write) -> None:
    """They may be domains as well, and several applications' at once."""
    shipped = catalogue.load().ech_names
    both = write(GOOD.replace("exact = [", ECH + "exact = ["), "a.toml")
    assert catalogue.load([both]).ech_names == shipped | {"public.example", "other.example"}
    one = write(GOOD + 'ech_public_names = ["other.example"]\n', "b.toml")
    assert catalogue.load([both, one]).ech_names == shipped | {"other.example"}
    none = write(GOOD, "c.toml")
    assert catalogue.load([both, one, none]).ech_names == shipped


def test_public_names_of_ech_count_as_domains(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = catalogue.load()
    room = len(shipped.rules) + len(shipped.ech_names)
    path = write(GOOD + ECH)
    monkeypatch.setattr(catalogue, "RULE_LIMIT", room + 6)
    catalogue.load([path])
    monkeypatch.setattr(catalogue, "RULE_LIMIT", room + 5)
    with pytest.raises(DataError, match=r"more than \d+ domains in all") as caught:
        catalogue.load([path])
    assert caught.value.where == f"{path}:13"


def test_protocols_must_be_the_data_planes(write: Write) -> None:
    found = catalogue.load()
    catalogue.verify_protocols(found.entries, {"PROTOCOL_UNKNOWN": 0, "PROTOCOL_TLS": 1})
    with pytest.raises(DataError, match="protocol 1 is dns, not tls"):
        catalogue.verify_protocols(found.entries, {"PROTOCOL_DNS": 1})
    with pytest.raises(DataError, match=r"protocol 499 \(new\) is defined in no file"):
        catalogue.verify_protocols(found.entries, {"PROTOCOL_NEW": 499})


@given(st.data())
def test_damaged_files_end_in_data_error(data: st.DataObject) -> None:
    """Bytes deleted, doubled or replaced anywhere: entries or a DataError, nothing else."""
    raw = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw) - 1))
        length = data.draw(st.integers(0, 12))
        raw[at : at + length] = data.draw(st.binary(max_size=6) | st.just(bytes(raw[at : at + 20])))
        if not raw:
            break
    path = Path("damaged.toml")
    try:
        signature_file.parse(path, bytes(raw))
        return
    except DataError as error:
        mistake = error
    assert mistake.where.startswith("damaged.toml")
    assert "\n" not in str(mistake)


def prefixes_of(*paths: Path) -> dict[str, int]:
    """Those that the shipped files do not have."""
    shipped = catalogue.load().prefixes.items()
    return dict(catalogue.load(paths).prefixes.items() - shipped)


def test_prefixes_and_layers(write: Write) -> None:
    prefixes = 'prefix = ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]\n'
    lower = write(GOOD.replace("exact = ['", prefixes + "exact = ['"), "a.toml")
    app = '[[app]]\nid = 7202\nname = "third"\ntitle = "Third"\ncategory = "work"\n'
    upper = write(app + 'prefix = ["192.0.2.0/24"]\n', "b.toml")
    assert prefixes_of(lower) == {"10.0.0.0/8": 7201, "192.0.2.0/24": 7201, "2001:db8::/32": 7201}
    assert prefixes_of(lower, upper) == {**prefixes_of(lower), "192.0.2.0/24": 7202}
    protocol = write(PROTOCOL % "[254]" + 'prefix = ["198.51.100.0/24"]\n', "c.toml")
    assert prefixes_of(protocol) == {"198.51.100.0/24": 511}
    assert prefixes_of(lower, write(GOOD, "d.toml")) == {}


def test_too_many_prefixes(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "PREFIX_LIMIT", 1)
    with pytest.raises(DataError, match="more than 1 prefixes in all"):
        catalogue.load([write(GOOD + 'prefix = ["10.0.0.0/8", "::1/128"]\n')])


def test_an_own_application_needs_nothing_that_leads_to_it(write: Write) -> None:
    found = catalogue.load([write(GOOD.replace("exact = ['my-app.example']\n", ""))])
    assert found.labels[7201].name == "second"
