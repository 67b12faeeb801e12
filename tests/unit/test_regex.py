# SPDX-License-Identifier: Apache-2.0
"""The regex dialect: what is understood, and what is refused with which words."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reference.patterns import translated
from xdpprobe.patterns.regex import ANY, Byte, longest, parse_regex, shortest
from xdpprobe.signature_values import Bad

MISTAKES = [
    ("", "matches every payload"),
    ("a*", "matches every payload"),
    ("(a|)b?", "matches every payload"),
    ("a" * 1001, "longer than 1000 characters"),
    ("a\tb", "character 2 is no printable ASCII"),
    ("aé", "character 2 is no printable ASCII"),
    ("(a", "'(' without its ')'"),
    ("a)", "')' without its '('"),
    ("(" * 21 + "a" + ")" * 21, "more than 20 groups"),
    ("[a", "'[' without its ']'"),
    ("[]", "an empty [ ]"),
    ("[]a]", "an empty [ ]"),
    (r"[^\x00-\xff]", "no byte is in"),
    ("[b-a]", "ends before it begins"),
    (r"[\d-z]", "more than one byte"),
    ("*a", "'*' behind nothing"),
    ("a|+b", "'+' behind nothing"),
    ("a**", "one quantifier behind another"),
    ("a+?", "one quantifier behind another"),
    ("a{2}{3}", "one quantifier behind another"),
    ("a{", "'{' without a count"),
    ("a{x}", "'{' without a count"),
    ("a{,3}", "'{' without a count"),
    ("a{2", "'{' without its '}'"),
    ("a{2,3", "'{' without its '}'"),
    ("a{3,2}", "a count that ends before it begins"),
    ("a{257}", "a count above 256"),
    ("a{99999999999999999999}", "a count above 256"),
    ("^a", "every match begins at the first byte"),
    ("a$b", "'$' stands only at the very end"),
    ("(a$)", "'$' stands only at the very end"),
    ("a|b$", "'$' after one of several alternatives"),
    ("ab*$", "'$' after what may be longer than 256 bytes"),
    ("a{200}b{0,57}$", "'$' after what may be longer"),
    ("(?:a)", "groups have no '?'"),
    ("a(?i)b", "'(?i)' stands only at the very start"),
    ("\\", "ends too early"),
    (r"\x4", "two hexadecimal digits"),
    (r"\xg0", "two hexadecimal digits"),
    (r"\01", r"a digit behind \0"),
    (r"\D", r"unknown escape \D"),
    (r"\m{f0}", r"\m is not written as"),
    (r"\m{f0:4}", r"\m is not written as"),
    (r"\m{f0:41}", "matches no byte"),
    ("a{256}b", "needs more than the first 256 bytes"),
    ("((a{256}){256}){256}", "needs more than the first 256 bytes"),
]


@pytest.mark.parametrize(("text", "why"), MISTAKES)
def test_mistakes(text: str, why: str) -> None:
    with pytest.raises(Bad) as caught:
        parse_regex(text, 256)
    assert why in caught.value.why
    assert len(caught.value.why) < 200


def held(text: str) -> set[int]:
    node = parse_regex(text, 256).node
    assert isinstance(node, Byte)
    return {byte for byte in range(256) if node.mask >> byte & 1}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a", b"a"),
        (r"\x00", b"\0"),
        (r"\0", b"\0"),
        (r"[\r\n\t\\]", b"\r\n\t\\"),
        ("[a-]", b"a-"),
        ("[-a]", b"-a"),
        (r"[\]^-]", b"]^-"),
        ("[a-c]", b"abc"),
        (r"[\x61-\x63]", b"abc"),
        (r"\d", b"0123456789"),
        (r"\s", b" \t\r\n\v\f"),
        (r"\m{fc:40}", b"@ABC"),
        ("(?i)a", b"aA"),
        ("(?i)[a-b]", b"abAB"),
        ("a|b|[cd]", b"abcd"),
        (r"\$", b"$"),
    ],
)
def test_sets_of_bytes(text: str, wanted: bytes) -> None:
    assert held(text) == set(wanted)


def test_any_byte_is_any_byte() -> None:
    assert parse_regex(".", 256).node == Byte(ANY)
    assert held("(?i)[^a]") == set(range(256)) - {0x41, 0x61}


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("abc", 3, 3),
        ("a?b+", 1, None),
        ("(a|bcd){2,3}", 2, 9),
        ("a(){0,9}", 1, 1),
        ("(){5,}a", 1, 1),
    ],
)
def test_lengths(text: str, least: int, most: int | None) -> None:
    node = parse_regex(text, 256).node
    assert (shortest(node), longest(node)) == (least, most)


@given(st.text(alphabet="ab\\x0123[]^-(){}|?*+.$,:m", max_size=24))
def test_whatever_is_understood_means_the_same_to_python(text: str) -> None:
    try:
        parse_regex(text, 256)
    except Bad:
        return
    translated(text)


@given(st.text(max_size=60))
def test_nothing_but_bad_comes_out(text: str) -> None:
    with contextlib.suppress(Bad):
        parse_regex(text, 256)


def test_the_longest_is_read_in_time() -> None:
    began = time.process_time()
    for text in ("(" * 20 + "a" * 960 + ")" * 20, "[a-z]" * 200, r"\m{f0:40}" * 100, "a|" * 499):
        with contextlib.suppress(Bad):
            parse_regex(text, 256)
    assert time.process_time() - began < 2
