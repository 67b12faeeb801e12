# SPDX-License-Identifier: Apache-2.0
"""Where names are cut, against the list's own algorithm applied to its text, rule by rule."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpprobe import public_suffix
from xdpprobe.errors import DataError, StateError
from xdpprobe.rules import PublicSuffix

LIST = """
// ===BEGIN ICANN DOMAINS===
com
uk
co.uk
jp
*.kawasaki.jp
!city.kawasaki.jp
*.ck
!www.ck
公司.cn
cn
// ===END ICANN DOMAINS===
// ===BEGIN PRIVATE DOMAINS===
github.io
// ===END PRIVATE DOMAINS===
"""


def registered(name: str, text: str) -> str:
    """The list's algorithm as it is published: all rules that match, the prevailing one, a label
    more. A name without that label is its own registered domain."""
    labels = name.split(".")
    matching = []
    icann = text.split("===END ICANN DOMAINS===")[0]
    for line in icann.splitlines():
        rule = line.strip().encode("idna").decode() if not line.startswith("//") else ""
        parts = rule.removeprefix("!").split(".")
        ends = labels[-len(parts) :]
        same = all(a in ("*", b) for a, b in zip(parts, ends, strict=False))
        if rule and len(ends) == len(parts) and same:
            matching.append(rule)
    exceptions = [rule for rule in matching if rule.startswith("!")]
    if exceptions:
        suffix = exceptions[0].count(".")
    else:
        suffix = max((rule.count(".") + 1 for rule in matching), default=1)
    return ".".join(labels[-suffix - 1 :])


def cut(name: str, suffixes: dict[str, PublicSuffix]) -> str:
    """What the data plane does with the values of the longest node (name_cut in bpf/name.h)."""
    parts = name.split(".")
    above = [".".join(parts[first:]) for first in range(len(parts))]
    found = next((suffixes[part] for part in above if part in suffixes), None)
    keep, at = 2, 0
    if found:
        keep, at = 2 + found.wildcard, found.length
    for i in range(at, len(name)):
        position = len(name) - 1 - i
        if name[position] == ".":
            keep -= 1
            if not keep:
                return name[position + 1 :]
    return name


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("a.b.example.com", "example.com"),
        ("example.com", "example.com"),
        ("com", "com"),
        ("www.example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("a.b.c.kawasaki.jp", "b.c.kawasaki.jp"),
        ("c.kawasaki.jp", "c.kawasaki.jp"),
        ("a.city.kawasaki.jp", "city.kawasaki.jp"),
        ("a.b.ck", "a.b.ck"),
        ("x.www.ck", "www.ck"),
        ("a.b.xn--55qx5d.cn", "b.xn--55qx5d.cn"),
        ("user.github.io", "github.io"),  # the second section does not count
        ("a.b.unknown", "b.unknown"),
        ("localhost", "localhost"),
    ],
)
def test_registered_domain(name: str, domain: str) -> None:
    assert registered(name, LIST) == domain
    assert cut(name, public_suffix.parse(LIST)) == domain


LABEL = st.sampled_from(["com", "uk", "co", "jp", "kawasaki", "city", "ck", "www", "a", "cn"])


@given(st.lists(LABEL, min_size=1, max_size=5).map(".".join))
def test_cut_agrees_with_the_algorithm(name: str) -> None:
    assert cut(name, public_suffix.parse(LIST)) == registered(name, LIST)


@pytest.mark.skipif(
    not public_suffix.SYSTEM_LIST.exists(), reason="the package publicsuffix is not installed"
)
def test_the_systems_list() -> None:
    suffixes = public_suffix.load()
    assert len(suffixes) > 6000
    assert all(node.isascii() and len(node) <= 63 for node in suffixes)
    for name, domain in [
        ("www.bbc.co.uk", "bbc.co.uk"),
        ("r3.googlevideo.com", "googlevideo.com"),
        ("a.b.city.kawasaki.jp", "city.kawasaki.jp"),
        ("a.b.c.bd", "b.c.bd"),
    ]:
        assert cut(name, suffixes) == domain


def test_missing_list_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        public_suffix.load(tmp_path / "none.dat")
    assert "publicsuffix" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "where", "why"),
    [
        (b"", "", "holds no ICANN domains"),
        (b"com\nnet\n", "", "holds no ICANN domains"),
        (b"\xff\xfe", "", "is not UTF-8"),
        ("// ===BEGIN ICANN DOMAINS===\n\nü..x\n".encode(), ":3", "no domain name"),
    ],
)
def test_broken_list(tmp_path: Path, data: bytes, where: str, why: str) -> None:
    path = tmp_path / "list.dat"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        public_suffix.load(path)
    assert caught.value.where == f"{path}{where}"
    assert why in caught.value.why
