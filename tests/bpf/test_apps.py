# SPDX-License-Identifier: Apache-2.0
"""From a server name to its application: the longest rule on label boundaries decides."""

import random
from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests import hellos, messages
from tests.bpf.plane import Plane
from tests.effort import examples
from tests.packets import UDP
from xdpprobe import catalogue
from xdpprobe.loader import load_tables
from xdpprobe.rules import NameRule

SHIPPED = catalogue.load()
RULES = [
    NameRule("example.com", 1000),
    NameRule("video.example.com", 1001),
    NameRule("www.video.example.com", 1002, exact=True),
    NameRule("only.example.net", 1003, exact=True),
    NameRule("net", 1004),
    NameRule("co.uk", 1005, exact=True),
    NameRule("a" * 50 + ".example.org", 1006),
    NameRule("example.org", 1007),
]


def application(rules: Iterable[NameRule], name: str) -> int:
    """What the rules say of a name, asked one after the other; 0: none of them knows it."""
    exact = [rule for rule in rules if rule.exact and rule.name == name]
    below = [r for r in rules if not r.exact and f".{name}".endswith(f".{r.name}")]
    best = exact or sorted(below, key=lambda rule: len(rule.name))
    return best[-1].app if best else 0


def apps_of(plane: Plane, names: list[str]) -> list[int]:
    talks = [plane.new_talk() for _ in names]
    for talk, name in zip(talks, names, strict=True):
        plane.send(*talk.segments(hellos.records(hellos.simple_hello(name.encode()))))
    flows = [plane.flow(talk) for talk in talks]
    assert [flow and flow.name for flow in flows] == names
    return [flow.app for flow in flows if flow]


NAMES = [
    "example.com",
    "www.example.com",
    "notexample.com",
    "com",
    "video.example.com",
    "www.video.example.com",
    "x.www.video.example.com",
    "xvideo.example.com",
    "only.example.net",
    "not.only.example.net",
    "net",
    "example.co.uk",
    "co.uk",
    "example.org",
    "a" * 50 + ".example.org",
    "a" * 49 + ".example.org",
    "b" * 60 + ".example.org",
    "b." + "a" * 50 + ".example.org",
    "c" * 200 + ".example.com",
    "localhost",
]


def test_rules_by_hand(plane: Plane) -> None:
    load_tables(plane.loaded, replace(SHIPPED, rules=RULES))
    assert apps_of(plane, NAMES) == [application(RULES, name) for name in NAMES]


def test_the_shipped_rules(plane: Plane) -> None:
    load_tables(plane.loaded, SHIPPED)
    source = random.Random(3)
    names = []
    for rule in source.sample(SHIPPED.rules, len(examples(300))):
        names += [rule.name, f"cdn-{source.randrange(100)}.{rule.name}", f"x{rule.name}"]
    # Of all at once, a set of the name table would now and then have to hold a fifth one.
    for at in range(0, len(names), 90):
        plane.clear()
        some = names[at : at + 90]
        assert apps_of(plane, some) == [application(SHIPPED.rules, name) for name in some]


def test_a_reload_counts_from_the_next_flow_on(plane: Plane) -> None:
    load_tables(plane.loaded, replace(SHIPPED, rules=[NameRule("example.com", 1000)]))
    assert apps_of(plane, ["www.example.com"]) == [1000]
    load_tables(plane.loaded, replace(SHIPPED, rules=[NameRule("example.com", 1001)]))
    assert apps_of(plane, ["www.example.com"]) == [1001]
    load_tables(plane.loaded, replace(SHIPPED, rules=[]))
    assert apps_of(plane, ["www.example.com"]) == [0]


@pytest.mark.parametrize(
    ("port", "method"), [(443, "METHOD_SNI"), (80, "METHOD_HTTP_HOST"), (53, "METHOD_DNS")]
)
def test_the_evidence_is_kept(plane: Plane, port: int, method: str) -> None:
    load_tables(plane.loaded, replace(SHIPPED, rules=RULES))
    talk = plane.new_talk(port)
    name = b"video.example.com"
    if port == 53:
        plane.send(talk.udp(messages.dns_query(name)))
    elif port == 80:
        plane.send(*talk.segments(messages.http_request(name)))
    else:
        plane.send(*talk.segments(hellos.records(hellos.browser_hello(name))))
    flow = plane.flow(talk, UDP if port == 53 else 6)
    assert flow is not None
    assert flow.app == 1001
    assert flow.app_method == plane.loaded.abi.enums["method"][method]
