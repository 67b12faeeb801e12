# SPDX-License-Identifier: Apache-2.0
"""The compiled name rules in the kernel's own trie: does its longest match mean what we meant?"""

import os
from collections.abc import Iterator

import numpy as np
import pytest

from tests.effort import some
from xdpprobe import catalogue, public_suffix, syscall
from xdpprobe.abi import load_abi
from xdpprobe.rules import NameRule, RuleIndex, compile_rules

ABI = load_abi()
KEY, RULE = ABI.dtype("name_key"), ABI.dtype("name_rule")
CATALOGUE = catalogue.load()


def trie(entries: list[tuple[bytes, bytes]]) -> int:
    inner = ABI.maps["name_rules"].inner
    assert inner is not None
    size = max(len(entries), 1)
    fd = syscall.create_map(inner.type, "test", KEY.itemsize, RULE.itemsize, size, inner.flags)
    syscall.update_many(fd, entries, "cannot store the rules")
    return fd


def app_of(fd: int, name: str) -> int:
    """As bpf/name.h: the reversed name and a dot, cut to the key; then exact before suffix."""
    text = (name[::-1].encode() + b".")[: KEY["text"].itemsize]
    key = np.zeros((), KEY)
    key["prefix_bits"] = 8 * len(text)
    key["text"][: len(text)] = np.frombuffer(text, np.uint8)
    value = syscall.lookup(fd, key.tobytes(), RULE.itemsize)
    if value is None:
        return 0
    rule = np.frombuffer(value, RULE)[0]
    exact = rule["exact_app"] and rule["length"] == len(name)
    return int(rule["exact_app"] if exact else rule["suffix_app"])


@pytest.fixture(scope="module", params=["plain", "cut"])
def shipped(request: pytest.FixtureRequest) -> Iterator[int]:
    suffixes = None
    if request.param == "cut":
        if not public_suffix.SYSTEM_LIST.exists():
            pytest.skip("the package publicsuffix is not installed")
        suffixes = public_suffix.load()
    fd = trie(compile_rules(CATALOGUE.rules, KEY, RULE, suffixes))
    yield fd
    os.close(fd)


def test_every_shipped_rule_and_its_neighbours(shipped: int) -> None:
    index = RuleIndex(CATALOGUE.rules)
    for rule in some(CATALOGUE.rules):
        below, beside, above = f"x.{rule.name}", f"x{rule.name}", rule.name.partition(".")[2]
        for name in (rule.name, below, beside, above or rule.name):
            assert app_of(shipped, name) == index.match(name)[0], name


def test_names_longer_than_the_key() -> None:
    longest = "a" * 59 + ".com"
    rules = [NameRule(longest, 600), NameRule("a.com", 601, exact=True)]
    fd = trie(compile_rules(rules, KEY, RULE))
    try:
        for name in (longest, "x." + longest, "x" * 150 + "." + longest, "x" + longest):
            assert app_of(fd, name) == RuleIndex(rules).match(name)[0], name
    finally:
        os.close(fd)
