# SPDX-License-Identifier: Apache-2.0
"""Rules in nDPI's format: what becomes of each, and which lines are said."""

from pathlib import Path

import pytest

from xdpprobe import catalogue as catalogues
from xdpprobe.catalogue import Catalogue
from xdpprobe.cli import main
from xdpprobe.convert import Converted, convert
from xdpprobe.rules import RuleIndex


@pytest.fixture(scope="module")
def known() -> Catalogue:
    return catalogues.load()


def converted(tmp_path: Path, known: Catalogue, *lines: str) -> Converted:
    file = tmp_path / "protos.txt"
    file.write_text("\n".join(lines) + "\n")
    return convert(file, known, "work")


def loaded(tmp_path: Path, text: str) -> Catalogue:
    file = tmp_path / "made.toml"
    file.write_text(text)
    return catalogues.load([file])


def test_ports_of_known_and_new_names(tmp_path: Path, known: Catalogue) -> None:
    done = converted(
        tmp_path,
        known,
        "#  Format:",
        "",
        "tcp:81,tcp:8181@HTTP",
        "tcp:3000,udp:5061-5062@My Thing=1234",
        "tcp:3001@My Thing",
    )
    assert done.complaints == []
    made = loaded(tmp_path, done.text)
    mine = [s for s in made.signatures if s.file.path == tmp_path / "made.toml"]
    assert [(s.title, s.l4, [tuple(span) for span in s.port]) for s in mine] == [
        ("http", "tcp", [(81, 81), (8181, 8181)]),
        ("my-thing", "tcp", [(3000, 3000), (3001, 3001)]),
        ("my-thing", "udp", [(5061, 5062)]),
    ]
    assert all(s.by_port for s in mine)
    assert made.entries[7168].title == "My Thing"
    assert "# My Thing: lines 4, 5\n" in done.text


def test_hosts(tmp_path: Path, known: Catalogue) -> None:
    done = converted(
        tmp_path,
        known,
        'host:"Example.com",host:"*.sub.example.net"@Mine',
        'host:"^www.example.org$"@Mine',
        'host:"more.example"@Netflix',
        'host:"nflxso.net"@Mine',
    )
    assert done.complaints == []
    made = loaded(tmp_path, done.text)
    index = RuleIndex(made.rules)
    answers = {
        "a.example.com": "mine",
        "sub.example.net": "mine",
        "www.example.org": "mine",
        "www.netflix.com": "netflix",
        "more.example": "netflix",
        "a.nflxso.net": "mine",
    }
    for name, app in answers.items():
        number, _ = index.match(name)
        assert made.labels[number].name == app, name
    assert index.match("a.www.example.org") == (0, "")
    netflix = next(entry for entry in known.entries.values() if entry.name == "netflix")
    assert made.entries[netflix.id].category == netflix.category


def test_addresses_become_prefixes(tmp_path: Path, known: Catalogue) -> None:
    done = converted(
        tmp_path, known, "ip:192.0.2.7@Mine", "ip:198.51.100.9/24@Mine", "ip:[2001:db8:0::]/32@Mine"
    )
    assert done.complaints == []
    assert 'prefix = ["192.0.2.7/32", "198.51.100.0/24", "2001:db8::/32"]' in done.text
    assert loaded(tmp_path, done.text).entries[7168].name == "mine"


BAD = [
    ('nbpf:"host 192.168.1.1 and port 80"@HomeRouter', "nbpf: cannot be converted"),
    ('ja4:"t13d1516h2"@X', "ja4: cannot be converted"),
    ('host_risk_mask:".home"=0', "host_risk_mask: cannot be converted"),
    ('trusted_issuer_dn:"CN=8, O=Code42, C=US"', "no signature goes by a certificate's fields"),
    ("new_thing:1@X", "new_thing: cannot be converted"),
    ("ip:192.0.2.1/32:443@X", "has a port"),
    ("ip:[2001:db8::1]:443@X", "has a port"),
    ("ip:example.com@X", "is no address"),
    ("ip:fe80::1%eth0@X", "is no address"),
    ('host:"^www.example.org"@X', "is the beginning of names"),
    ('host:"a*b.example"@X', "has a wildcard"),
    ('host:""@X', "is not a domain name"),
    ("tcp:0@X", "is no port"),
    ("tcp:70000@X", "is no port"),
    ("tcp:9-8@X", "is no port"),
    ("tcp:80", "has no @"),
    ("tcp:80@", "has no @"),
    ("tcp:80@!!", "has no letter or digit"),
    ("tcp:80@\x01", "cannot be printed"),
    ("hello", "is no rule from column 1 on"),
    ("tcp:80,@X", "is no rule from column 8 on"),
    ("tcp:80 x@X", "is no"),
    ("x" * 70000, "is longer than"),
]


@pytest.mark.parametrize(("line", "why"), BAD, ids=[line[:20] for line, _ in BAD])
def test_what_cannot_be_converted_is_said(
    tmp_path: Path, known: Catalogue, line: str, why: str
) -> None:
    done = converted(tmp_path, known, "# comment", line)
    (complaint,) = done.complaints
    assert complaint.startswith(f"{tmp_path / 'protos.txt'}:2: ")
    assert why in complaint
    assert len(complaint) < 600
    assert done.text == ""


def test_a_name_belongs_to_one(tmp_path: Path, known: Catalogue) -> None:
    done = converted(tmp_path, known, 'host:"a.example"@One', 'host:"a.example"@Two', "tcp:1@Two")
    assert len(done.complaints) == 1
    assert "belongs to One already (line 1)" in done.complaints[0]
    assert {7168, 7169} <= loaded(tmp_path, done.text).entries.keys()


def test_odd_names_make_a_file_that_loads(tmp_path: Path, known: Catalogue) -> None:
    names = ['a"""b', "a'''c", "Straße 7", "x" * 200, "x" * 199 + "y", "C++", "tab\\t", "a\"''"]
    done = converted(tmp_path, known, *(f"tcp:{n}@{name}" for n, name in enumerate(names, 1)))
    assert done.complaints == []
    made = loaded(tmp_path, done.text)
    assert sum(number >= 7168 for number in made.entries) == len(names)


def test_more_names_than_ids(tmp_path: Path, known: Catalogue) -> None:
    done = converted(tmp_path, known, *(f"tcp:1@Name{n}" for n in range(1030)))
    assert len(done.complaints) == 1030 - 1024
    assert "gets no id" in done.complaints[0]
    assert done.text.count("[[app]]") == 1024


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "protos.txt"
    file.write_text('tcp:3000@ntop\nnbpf:"x"@Y\n')
    assert main(["signatures", "convert", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "[[signature]]" in out
    assert err == (
        f"xdpprobe: {file}:2: nbpf: cannot be converted: packet filters are no signatures\n"
    )
    file.write_text('nbpf:"x"@Y\n')
    assert main(["signatures", "convert", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == f"xdpprobe: {file}: no line could be converted"
    file.write_bytes(b"tcp:1@\xff\n")
    assert main(["signatures", "convert", str(file)]) == 1
    assert capsys.readouterr().err == f"xdpprobe: {file}:1: is not UTF-8\n"
    assert main(["signatures", "convert", str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
