# SPDX-License-Identifier: Apache-2.0
"""The compiled table against a plain reading of the rules, and both against hand-made cases."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpprobe.abi import load_abi
from xdpprobe.rules import NameRule, PublicSuffix, RuleIndex, compile_rules

ABI = load_abi()
KEY, RULE = ABI.dtype("name_key"), ABI.dtype("name_rule")
WIDTH = KEY["text"].itemsize

Table = dict[bytes, tuple[int, int, int, int, int]]


def table_of(rules: list[NameRule], suffixes: dict[str, PublicSuffix] | None = None) -> Table:
    """Key text (as long as its prefix) -> the fields of its value."""
    table: Table = {}
    for key_bytes, value_bytes in compile_rules(rules, KEY, RULE, suffixes):
        key = np.frombuffer(key_bytes, KEY)[0]
        value = np.frombuffer(value_bytes, RULE)[0]
        text, bits = key["text"].tobytes(), int(key["prefix_bits"])
        assert bits % 8 == 0
        assert not any(text[bits // 8 :])
        table[text[: bits // 8]] = (
            int(value["suffix_app"]),
            int(value["exact_app"]),
            int(value["length"]),
            int(value["public_suffix"]),
            int(value["wildcard"]),
        )
    return table


def look_up(table: Table, name: str) -> tuple[int, int, int, int, int] | None:
    """What the kernel's trie answers: the longest entry that begins the reversed name."""
    key = (name[::-1].encode() + b".")[:WIDTH]
    found = [text for text in table if key.startswith(text)]
    return table[max(found, key=len)] if found else None


def kernel_app(table: Table, name: str) -> int:
    rule = look_up(table, name)
    if rule is None:
        return 0
    suffix_app, exact_app, length, *_ = rule
    return exact_app if exact_app and len(name) == length else suffix_app


@pytest.mark.parametrize(
    ("name", "app"),
    [
        ("example.com", 1),
        ("www.example.com", 1),
        ("notexample.com", 0),
        ("com", 0),
        ("mail.example.com", 2),
        ("imap.mail.example.com", 2),
        ("one.example.com", 3),
        ("below.one.example.com", 1),
        ("only.example.net", 4),
        ("below.only.example.net", 0),
        ("example.net", 0),
        ("both.example.org", 6),
        ("below.both.example.org", 5),
    ],
)
def test_longest_rule_decides(name: str, app: int) -> None:
    rules = [
        NameRule("example.com", 1),
        NameRule("mail.example.com", 2),
        NameRule("one.example.com", 3, exact=True),
        NameRule("only.example.net", 4, exact=True),
        NameRule("both.example.org", 5),
        NameRule("both.example.org", 6, exact=True),
    ]
    assert kernel_app(table_of(rules), name) == app
    assert RuleIndex(rules).match(name)[0] == app


def test_match_says_which_rule() -> None:
    index = RuleIndex([NameRule("example.com", 1), NameRule("a.example.com", 2, exact=True)])
    assert index.match("A.example.COM.") == (2, "=a.example.com")
    assert index.match("b.a.example.com") == (1, "example.com")
    assert index.match("example.org") == (0, "")


def test_key_layout() -> None:
    [(key, value)] = compile_rules([NameRule("example.com", 700)], KEY, RULE)
    assert key == (12 * 8).to_bytes(4, "little") + b"moc.elpmaxe.".ljust(WIDTH, b"\0")
    record = np.frombuffer(value, RULE)[0]
    assert (record["suffix_app"], record["exact_app"], record["length"]) == (700, 0, 11)


def test_longest_name_that_fits() -> None:
    name = "a" * 59 + ".com"
    table = table_of([NameRule(name, 9)])
    assert kernel_app(table, name) == 9
    assert kernel_app(table, "x." + name) == 9
    assert kernel_app(table, "x" + name) == 0
    with pytest.raises(ValueError, match="longer than the 63 bytes"):
        compile_rules([NameRule("a" + name, 9)], KEY, RULE)


def test_no_rules() -> None:
    assert compile_rules([], KEY, RULE) == []


def test_public_suffixes_reach_deeper_rules() -> None:
    suffixes = {
        "uk": PublicSuffix(2),
        "co.uk": PublicSuffix(5),
        "ck": PublicSuffix(2, wildcard=True),
        "www.ck": PublicSuffix(2),
    }
    rules = [
        NameRule("shop.co.uk", 1),
        NameRule("a.www.ck", 2),
        NameRule("b.x.ck", 3, exact=True),
    ]
    table = table_of(rules, suffixes)
    assert look_up(table, "www.shop.co.uk") == (1, 0, 10, 5, 0)
    assert look_up(table, "other.co.uk") == (0, 0, 5, 5, 0)
    assert look_up(table, "other.uk") == (0, 0, 2, 2, 0)
    assert look_up(table, "a.www.ck") == (2, 0, 8, 2, 0)
    assert look_up(table, "b.x.ck") == (0, 3, 6, 2, 1)
    assert look_up(table, "c.b.x.ck") == (0, 3, 6, 2, 1)


def test_suffix_node_below_a_rule_keeps_the_app() -> None:
    table = table_of([NameRule("com", 1)], {"x.com": PublicSuffix(5)})
    assert look_up(table, "a.x.com") == (1, 0, 5, 5, 0)


# Few labels, so that rules, suffixes and names meet often.
LABELS = st.sampled_from(["a", "b", "ab", "c", "com", "x" * 20])
NAMES = st.lists(LABELS, min_size=1, max_size=5).map(".".join)
RULE_NAMES = NAMES.filter(lambda name: len(name) < WIDTH)
APPS = st.integers(512, 520)


@given(
    st.lists(st.builds(NameRule, RULE_NAMES, APPS, st.booleans()), max_size=12),
    st.dictionaries(
        RULE_NAMES, st.builds(PublicSuffix, st.integers(1, 60), st.booleans()), max_size=6
    ),
    st.lists(NAMES, max_size=12),
)
def test_table_and_rules_agree(
    rules: list[NameRule], suffixes: dict[str, PublicSuffix], names: list[str]
) -> None:
    table, index = table_of(rules, suffixes), RuleIndex(rules)
    for name in names + [rule.name for rule in rules]:
        assert kernel_app(table, name) == index.match(name)[0]
        above = [name[at:] for at in range(len(name)) if at == 0 or name[at - 1] == "."]
        wanted = next((suffixes[part] for part in above if part in suffixes), PublicSuffix(0))
        found = look_up(table, name)
        assert (found[3:] if found else (0, 0)) == (wanted.length, int(wanted.wildcard))


def test_100k_rules_in_two_seconds() -> None:
    rules = [NameRule(f"host{n}.site{n % 997}.example", 512 + n % 7000) for n in range(100_000)]
    assert min(seconds(rules) for _ in range(2)) < 2
    assert len({key for key, _ in compile_rules(rules, KEY, RULE)}) == 100_000


def seconds(rules: list[NameRule]) -> float:
    """CPU time of one compilation; the machine may be busy, so one run says little."""
    start = time.process_time()
    compile_rules(rules, KEY, RULE)
    return time.process_time() - start


def test_a_name_for_encrypted_ones_has_its_flag_alone() -> None:
    rules = [NameRule("cdn.example", 600)]
    entries = compile_rules(rules, KEY, RULE, None, {"outer.cdn.example": 1})
    values = {bytes(key): np.frombuffer(value, RULE)[0] for key, value in entries}
    found = {int(value["length"]): value for value in values.values()}
    assert found[len("cdn.example")]["flags"] == 0
    flagged = found[len("outer.cdn.example")]
    # What the shorter rule says of names below holds for it too.
    assert (flagged["flags"], flagged["suffix_app"], flagged["exact_app"]) == (1, 600, 0)
