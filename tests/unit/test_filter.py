# SPDX-License-Identifier: Apache-2.0
"""The filter language: against a plain evaluation row by row, and its complaints."""

import contextlib
import fnmatch
import ipaddress
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import view_samples as samples
from xdpprobe import filter_limit, flows
from xdpprobe.errors import UsageError
from xdpprobe.filter import KEYS, Filter
from xdpprobe.filter_terms import INSIDE
from xdpprobe.snapshot import Snapshot

Row = flows.Flow
Oracle = Callable[[Row], bool]
Expression = tuple[str, Oracle]


@cache
def table() -> tuple[Snapshot, list[Row]]:
    snapshot = samples.crowd(256, 150)
    return snapshot, flows.decode(snapshot, flows.live(snapshot))


def matching(text: str, snapshot: Snapshot) -> list[int]:
    wanted = Filter(text)
    wanted.check(snapshot)
    return wanted.rows(snapshot).tolist()


@cache
def within(address: str, network: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)


@cache
def inside(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in INSIDE)


def compare(operator: str, left: float, right: float) -> bool:
    return {
        ">": left > right,
        ">=": left >= right,
        "<": left < right,
        "<=": left <= right,
        "=": left == right,
        ":": left == right,
    }[operator]


def label_terms() -> st.SearchStrategy[Expression]:
    words = ["youtube", "tls", "dns", "unknown", "net*", "*b*"]
    apps = st.lists(st.sampled_from(words), min_size=1, max_size=2).map(
        lambda some: (
            f"app:{','.join(some)}",
            lambda row: any(fnmatch.fnmatch(row.label, word) for word in some),
        )
    )
    categories = st.sampled_from(["video", "ads", "net*", "unknown"]).map(
        lambda word: (f"CAT:{word}", lambda row: fnmatch.fnmatch(row.category, word))
    )
    protocols = st.sampled_from(["tls", "quic", "udp", "tcp", "115", "esp"]).map(
        lambda word: (f"proto:{word}", lambda row: word in (row.protocol, row.l4))
    )
    transports = st.sampled_from(["tcp", "17", "115", "es?"]).map(
        lambda word: (
            f"l4:{word}",
            lambda row: fnmatch.fnmatch(row.l4, {"17": "udp"}.get(word, word)),
        )
    )
    return st.one_of(apps, categories, protocols, transports)


def address_terms() -> st.SearchStrategy[Expression]:
    networks = ["10.0.0.0/8", "192.0.0.0/2", "10.10.3.10", "2001:db8::/32", "::/0", "0.0.0.0/0"]
    networks += ["2001:db8::0a0a:0/112", "8.8.8.0/25"]
    ends: dict[str, Callable[[Row], list[str]]] = {
        "host": lambda row: [row.src, row.dst],
        "src": lambda row: [row.src],
        "dst": lambda row: [row.dst],
    }
    prefixes = st.tuples(st.sampled_from(list(ends)), st.sampled_from(networks)).map(
        lambda t: (f"{t[0]}:{t[1]}", lambda row: any(within(a, t[1]) for a in ends[t[0]](row)))
    )
    meanings = {"out": (True, False), "in": (False, True), "local": (True, True)}
    meanings["transit"] = (False, False)
    directions = st.sampled_from(list(meanings)).map(
        lambda word: (
            f"dir:{word}",
            lambda row: (inside(row.src), inside(row.dst)) == meanings[word],
        )
    )
    return st.one_of(prefixes, directions)


def name_terms() -> st.SearchStrategy[Expression]:
    globs = st.sampled_from(["*.video.example", "host1?.*", "*", "HOST7.cdn.example"]).map(
        lambda glob: (
            f"sni:{glob}",
            lambda row: row.host is not None and fnmatch.fnmatch(row.host, glob.lower()),
        )
    )
    regexes = st.sampled_from([r"^host\d\.", "cdn|(video)", "9"]).map(
        lambda regex: (
            f"name:/{regex}/",
            lambda row: row.host is not None and re.search(regex, row.host) is not None,
        )
    )
    return st.one_of(globs, regexes)


def number_terms() -> st.SearchStrategy[Expression]:
    operators = st.sampled_from([">", ">=", "<", "<=", "=", ":"])
    counts: dict[str, Callable[[Row], float]] = {
        "bytes": lambda row: sum(row.bytes),
        "packets": lambda row: sum(row.packets),
    }
    limits = {"0": 0, "1500": 1500, "2k": 2e3, "1M": 1e6, "1.5Mi": 1.5 * 2**20, "1g": 1e9}
    counters = st.tuples(st.sampled_from(list(counts)), operators, st.sampled_from(list(limits)))
    now = samples.WALL_NS / 1e9
    ages: dict[str, Callable[[Row], float]] = {
        "age": lambda row: now - row.first,
        "idle": lambda row: now - row.last,
        "duration": lambda row: row.duration,
    }
    # Limits that no flow meets to the rounding of its times.
    times = {"100.0005": 100.0005, "2m": 120.0, "5000.5ms": 5.0005, "0.1h": 360.0}
    spans = st.tuples(
        st.sampled_from(list(ages)), st.sampled_from([">", "<"]), st.sampled_from(list(times))
    )
    return st.one_of(
        counters.map(
            lambda t: (
                f"{t[0]}{t[1]}{t[2]}",
                lambda row: compare(t[1], counts[t[0]](row), limits[t[2]]),
            )
        ),
        spans.map(
            lambda t: (
                f"{t[0]} {t[1]} {t[2]}",
                lambda row: compare(t[1], ages[t[0]](row), times[t[2]]),
            )
        ),
    )


def other_terms() -> st.SearchStrategy[Expression]:
    ends: dict[str, Callable[[Row], list[int]]] = {
        "port": lambda row: [row.sport, row.dport],
        "sport": lambda row: [row.sport],
        "dport": lambda row: [row.dport],
    }
    ranges = {"443": (443, 443), "0": (0, 0), "256-500": (256, 500), "65535": (65535, 65535)}
    ports = st.tuples(st.sampled_from(list(ends)), st.sampled_from(list(ranges))).map(
        lambda t: (
            f"{t[0]}:{t[1]}",
            lambda row: any(ranges[t[1]][0] <= p <= ranges[t[1]][1] for p in ends[t[0]](row)),
        )
    )
    plain: list[Expression] = [
        ("state:est", lambda row: row.state == "established"),
        ("state:new,closed", lambda row: row.state in ("new", "closed")),
        ("method:sni", lambda row: row.method == "sni"),
        ("method:quic-sni,port", lambda row: row.method in ("quic-sni", "port")),
        ("tls:1.2,1.3", lambda row: row.tls.version in ("1.2", "1.3")),
        ("tls:SSL3", lambda row: row.tls.version == "ssl3"),
        ("tls:1.3,0x7F1C", lambda row: row.tls.version in ("1.3", "0x7f1c")),
        ("tls:0x303", lambda row: row.tls.version == "1.2"),
        ("resumed:yes", lambda row: row.tls.resumed is True),
        ("resumed:no", lambda row: row.tls.resumed is False),
        ("sni-mismatch:yes", lambda row: row.tls.sni_mismatch),
        ("sni-mismatch:NO", lambda row: not row.tls.sni_mismatch),
        ("vlan:5", lambda row: row.vlan == 5),
        ("vlan:0", lambda row: row.vlan is None),
        ("vlan:1-4095", lambda row: row.vlan is not None),
        ("iface:eth*", lambda row: row.interface == "eth0"),
        ('iface:"wan"', lambda row: row.interface == "wan"),
    ]
    return st.one_of(ports, st.sampled_from(plain))


def combine(children: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.one_of(
        st.tuples(children, st.sampled_from([" ", " and ", "  AND "]), children).map(
            lambda t: (f"({t[0][0]}){t[1]}{t[2][0]}", lambda row: t[0][1](row) and t[2][1](row))
        ),
        st.tuples(children, children).map(
            lambda t: (f"({t[0][0]} or {t[1][0]})", lambda row: t[0][1](row) or t[1][1](row))
        ),
        children.map(lambda x: (f"not ({x[0]})", lambda row: not x[1](row))),
    )


terms = st.one_of(label_terms(), address_terms(), name_terms(), number_terms(), other_terms())


@settings(max_examples=250, deadline=None)
@given(st.recursive(terms, combine, max_leaves=5))
def test_masks_agree_with_rows(expression: Expression) -> None:
    text, oracle = expression
    snapshot, rows = table()
    assert matching(text, snapshot) == [row.index for row in rows if oracle(row)], text


def test_precedence_not_binds_before_and_before_or() -> None:
    snapshot, rows = table()

    def oracle(row: Row) -> bool:
        return (row.l4 == "tcp" and row.vlan != 5) or (row.l4 == "udp" and row.vlan == 5)

    expected = [row.index for row in rows if oracle(row)]
    assert matching("l4:tcp not vlan:5 or l4:udp vlan:5", snapshot) == expected
    assert 0 < len(expected) < len(rows)


def test_the_designs_example() -> None:
    snapshot = samples.small()
    samples.put_name(snapshot, 1, 99, b"www.google.com")
    samples.put(snapshot, 40, dport=443, l4=17, app=512, protocol=5, octets=(0, 1_000_001), name=99)
    text = "app:youtube host:10.0.0.0/8 sni:*.google.com port:443 dir:out proto:quic bytes>1M"
    assert matching(text + " not cat:ads", snapshot) == [40]
    assert matching(text + " cat:ads", snapshot) == []


def test_mask_is_false_where_no_flow_is() -> None:
    snapshot = samples.small()
    mask = Filter("not app:netflix").mask(snapshot)
    assert len(mask) == len(snapshot.hot)
    assert np.flatnonzero(mask).tolist() == [3, 9, 12, 20, 33]


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("", 1, "expected a term such as app:youtube"),
        ("youtube", 1, "expected a term"),
        ("app:youtube or", 15, "expected a term"),
        ("app:youtube )", 13, "expected a term such as app:youtube, `or`, or the end"),
        ("(app:youtube", 1, "expected )"),
        ("ap:youtube", 1, "keys: app cat"),
        ("app:", 5, "expected a value right after it"),
        ("app>x", 4, "expected app:x"),
        ("port:70000", 6, "from 0 to 65535"),
        ("port:9-1", 6, "a range such as 1-9"),
        ("port:/80/", 6, "a plain value"),
        ("vlan:5000", 6, "from 0 to 4095"),
        ("host:10.0.0.0/40", 6, "an address or a prefix"),
        ("host:google.com", 6, "an address or a prefix"),
        ("bytes>lots", 7, "a number such as 500 or 1M"),
        ("age>5parsec", 5, "a time such as 30"),
        ("tls:1.4", 5, "ssl3, 1.0, 1.1, 1.2, 1.3, or a number such as 0x7f1c"),
        ("tls:0x0000", 5, "or a number such as 0x7f1c"),  # what flows without TLS have
        ("tls:1.3,0x10304", 5, "or a number such as 0x7f1c"),
        ("resumed:maybe", 9, "yes or no"),
        ("dir:sideways", 5, "out, in, local or transit"),
        ("sni:/[/", 5, "a regular expression ("),
        ("sni:/a{99999999999}/", 5, "a regular expression (the repetition number is too large)"),
        (f"sni:/{'(' * 1000}a{')' * 1000}/", 5, "with fewer groups in each other"),
        ("sni:/abc", 5, "between slashes"),
        ('sni:"abc', 5, "between double quotes"),
        ("app:a,,b", 5, "a value after each comma"),
        ("state:,", 7, "a value after each comma"),
        ("method:,,", 8, "a value after each comma"),
        ("app:youtube not", 16, "expected a term"),
    ],
)
def test_complaints_point_at_the_place(text: str, column: int, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        Filter(text)
    message = str(caught.value)
    assert f"at column {column};" in message.splitlines()[0]
    assert expected in message
    caret = message.splitlines()[-1]
    assert caret.index("^") - 2 == column - 1
    assert caret.strip() == "^"


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("app:youtub", 1, "no application is called 'youtub' (near: youtube)"),
        ("bytes>1 cat:vidio", 9, "no category is called 'vidio' (near: video)"),
        ("(proto:tsl)", 2, "no protocol is called 'tsl' (near: tls)"),
        ("app:x", 1, "; `signatures list` has the names"),
        ("method:guess", 1, "no method is called 'guess' at column 1; expected none, port, "),
        ("state:half", 1, "; expected new, established, closed, expired"),
        ("l4:tpc", 1, "no transport is called 'tpc' (near: tcp)"),
        ("l4:999", 1, "; expected icmp, igmp, tcp, udp, "),
    ],
)
def test_unknown_names_are_refused_not_ignored(text: str, column: int, expected: str) -> None:
    wanted = Filter(text)
    with pytest.raises(UsageError) as caught:
        wanted.check(samples.small())
    assert expected in str(caught.value)
    assert f"at column {column};" in str(caught.value)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet='():/"or ntapbyes>1M.*\\,', max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert Filter(text).text == text


def test_limits() -> None:
    with pytest.raises(UsageError, match="at most 4096"):
        Filter("app:a " * 1000)
    with pytest.raises(UsageError, match="at most 50 deep"):
        Filter("(" * 60 + "app:a" + ")" * 60)
    Filter("not " * 500 + "app:a")


@pytest.mark.filterwarnings("error")
def test_regular_expressions_warn_of_nothing() -> None:
    Filter("sni:/[[a]/")


# The first two try exponentially many ways, the third the sixth power of the length.
@pytest.mark.parametrize("regex", ["(a+)+$", "(a|aa)*b", ".*.*.*.*.*.*x"])
def test_endless_expressions_are_given_up(regex: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filter_limit, "SECONDS", 0.1)
    snapshot = samples.small()
    samples.put_name(snapshot, 1, 99, b"a" * 200 + b"!")
    samples.put(snapshot, 40, name=99)
    before = signal.getsignal(signal.SIGVTALRM)
    with pytest.raises(UsageError, match=r"take more than 0\.1 s .*repeats inside of repeats"):
        matching(f"sni:/{regex}/", snapshot)
    assert matching("sni:/^a+!$/", snapshot) == [40]
    assert signal.getsignal(signal.SIGVTALRM) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_other_threads_filter_too() -> None:
    snapshot = samples.small()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(matching, "app:youtube", snapshot).result() == [3]


def test_the_limit_is_documented() -> None:
    from xdpprobe import filter as module

    assert f"more than {filter_limit.SECONDS:g} s" in (module.__doc__ or "")


def test_every_key_is_documented() -> None:
    from xdpprobe import filter as module

    for key in KEYS:
        assert re.search(rf"\b{key}\b", module.__doc__ or ""), key
