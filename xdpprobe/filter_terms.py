# SPDX-License-Identifier: Apache-2.0
"""What each key of a filter means, as a test on whole columns. `filter.py` has the grammar.

A term is made from a key, an operator and a value (ValueError: what was expected instead) and then
asked twice: `check` whether the names it uses exist in a probe, `mask` which flows it holds for.
"""

import difflib
import fnmatch
import ipaddress
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from xdpprobe import flows
from xdpprobe.flows import Indexes, Mask
from xdpprobe.snapshot import Array, Snapshot

# Addresses that count as inside for `dir:`: private (RFC 1918, 4193), shared (6598), link-local
# (3927, 4291), loopback, multicast, broadcast and unspecified ones.
INSIDE = [
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "224.0.0.0/4",
        "255.255.255.255/32",
        "::/128",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
        "ff00::/8",
    )
]


class Columns:
    """Columns of the flows in question, made when first asked for."""

    def __init__(self, snapshot: Snapshot, rows: Indexes) -> None:
        self.snapshot = snapshot
        self.rows = rows

    def hot(self, field: str) -> Array:
        """A field of flow_hot."""
        column: Array = self.snapshot.hot[field][self.rows]
        return column

    def cold(self, field: str) -> Array:
        """A field of flow_cold."""
        column: Array = self.snapshot.cold[field][self.rows]
        return column

    @cached_property
    def initiator(self) -> Indexes:
        """0 or 1: the endpoint that opened the flow."""
        return flows.initiator(self.snapshot, self.rows)

    @cached_property
    def label(self) -> Array:
        """The application, else the protocol."""
        return flows.labels(self.snapshot, self.rows)

    @cached_property
    def addresses(self) -> Array:
        """(n, 2, 2): the two halves of both addresses, the initiator's first."""
        raw = np.ascontiguousarray(self.cold("address"))
        words = raw.view(">u8").astype(np.uint64).reshape(len(raw), 2, 2)
        return np.where((self.initiator == 1)[:, None, None], words[:, ::-1], words)

    @cached_property
    def ports(self) -> Array:
        """(n, 2): both ports, the initiator's first."""
        raw = self.cold("port").astype(np.uint32)
        ports = raw[:, :, 0] << 8 | raw[:, :, 1]
        return np.where((self.initiator == 1)[:, None], ports[:, ::-1], ports)


Test = Callable[[Columns], Mask]
# What is wrong with a term's names, and what there is instead.
Complaint = tuple[str, str]
# The complaint about a term in this probe; None: nothing is wrong.
Check = Callable[[Snapshot], Complaint | None]


@dataclass(frozen=True)
class Term:
    """One key with its value."""

    mask: Test
    check: Check = lambda _: None


def pattern(value: str, regex: bool) -> Callable[[str], bool]:
    """A text test: a regular expression found anywhere, or globs (commas between) of the whole."""
    if regex:
        compiled = _compiled(value)
        return lambda text: compiled.search(text) is not None
    globs = [re.compile(fnmatch.translate(part), re.IGNORECASE) for part in parts(value)]
    return lambda text: any(glob.match(text) for glob in globs)


def _compiled(value: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():
            # What a later Python may read otherwise means what this one makes of it.
            warnings.simplefilter("ignore")
            return re.compile(value, re.IGNORECASE)
    except RecursionError:
        raise ValueError("a regular expression with fewer groups in each other") from None
    except (re.error, OverflowError) as error:
        raise ValueError(f"a regular expression ({error})") from None


def parts(value: str) -> list[str]:
    """The alternatives of a value; ValueError for an empty one."""
    found = value.split(",")
    if not all(found):
        raise ValueError("a value after each comma")
    return found


def _is_glob(text: str) -> bool:
    return any(c in text for c in "*?[")


_IN_CATALOGUE = "`signatures list` has the names"
_TRANSPORTS = f"expected {', '.join(flows.L4_NAMES.values())} or a number from 0 to 255"


def _known(value: str, known: Iterable[str], what: str, expected: str) -> Complaint | None:
    """The complaint about the first plain word of `value` that is not in `known`."""
    words = set(known)
    for part in parts(value):
        if not _is_glob(part) and part.lower() not in words:
            near = difflib.get_close_matches(part.lower(), words, 3)
            hint = f" (near: {', '.join(near)})" if near else ""
            return f"no {what} is called {part!r}{hint}", expected
    return None


def label_term(kind: str, value: str, regex: bool) -> Term:
    """app (application, else protocol), proto (wire protocol or transport), cat (category)."""
    matches = pattern(value, regex)

    def wanted(snapshot: Snapshot, numbers: Array) -> Mask:
        used = np.unique(numbers)
        names = (snapshot.label(int(n)) for n in used)
        hit = [matches(x.category if kind == "cat" else x.name) for x in names]
        return np.isin(numbers, used[np.array(hit, dtype=np.bool_)])

    def mask(c: Columns) -> Mask:
        if kind != "proto":
            return wanted(c.snapshot, c.label)
        return wanted(c.snapshot, c.hot("protocol")) | l4_mask(c, matches)

    def check(snapshot: Snapshot) -> Complaint | None:
        known = [*snapshot.labels.values(), snapshot.label(0)]
        if regex:
            return None
        if kind == "cat":
            return _known(value, (x.category for x in known), "category", _IN_CATALOGUE)
        if kind == "app":
            return _known(value, (x.name for x in known), "application", _IN_CATALOGUE)
        names = {x.name for x in known if x.kind == "protocol"} | set(flows.L4_NAMES.values())
        names |= {str(n) for n in range(256)}
        return _known(value, names, "protocol", f"{_IN_CATALOGUE}, or a transport")

    return Term(mask, check)


def l4_mask(c: Columns, matches: Callable[[str], bool]) -> Mask:
    """Flows whose transport's name, or number, matches."""
    hit = np.array([matches(flows.l4_name(n)) or matches(str(n)) for n in range(256)])
    return hit[c.cold("l4")]


def l4_term(value: str, regex: bool) -> Term:
    """l4: the transport's name or its IP protocol number."""
    matches = pattern(value, regex)
    known = set(flows.L4_NAMES.values()) | {str(n) for n in range(256)}
    return Term(
        lambda c: l4_mask(c, matches),
        lambda _: None if regex else _known(value, known, "transport", _TRANSPORTS),
    )


def enum_term(kind: str, value: str) -> Term:
    """method or state, by word; a state may be cut short (est)."""
    field = {"method": "method", "state": "flow_state"}[kind]

    def resolve(snapshot: Snapshot) -> dict[str, int]:
        words = flows.method_words if kind == "method" else flows.state_words
        return {word: number for number, word in words(snapshot).items()}

    chosen = parts(value.lower())

    def numbers(words: dict[str, int]) -> list[int]:
        return [
            number
            for part in chosen
            for word, number in words.items()
            if word == part or (kind == "state" and word.startswith(part))
        ]

    def mask(c: Columns) -> Mask:
        found = numbers(resolve(c.snapshot))
        if field == "flow_state":
            return np.isin(flows.states(c.snapshot, c.rows), found)
        used = np.where(c.hot("app") != 0, c.hot("app_method"), c.hot("protocol_method"))
        return np.isin(used, found)

    def check(snapshot: Snapshot) -> Complaint | None:
        words = resolve(snapshot)
        for part in chosen:
            if not any(w == part or (kind == "state" and w.startswith(part)) for w in words):
                return f"no {kind} is called {part!r}", f"expected {', '.join(words)}"
        return None

    return Term(mask, check)


def name_term(value: str, regex: bool) -> Term:
    """sni, name: the server name seen. A flow without one never matches."""
    matches = pattern(value, regex)

    def mask(c: Columns) -> Mask:
        column = c.cold("name")
        names = flows.resolve_names(c.snapshot, np.unique(column).tolist())
        hit = [number for number, text in names.items() if matches(text)]
        return np.isin(column, np.array(hit, dtype=np.uint64))

    return Term(mask)


def interface_term(value: str, regex: bool) -> Term:
    """iface: the interface of the flow's first packet."""
    matches = pattern(value, regex)

    def mask(c: Columns) -> Mask:
        return np.isin(c.cold("slot"), [n for n, name in c.snapshot.slots.items() if matches(name)])

    return Term(mask)


@dataclass(frozen=True)
class _Prefix:
    """A network in the table's 16-byte form, as two words: mask and value of each."""

    ipv4: bool
    high_mask: np.uint64
    high: np.uint64
    low_mask: np.uint64
    low: np.uint64


def _prefix(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> _Prefix:
    bits = network.prefixlen + (96 if network.version == 4 else 0)
    mask = (1 << 128) - (1 << (128 - bits))
    base = int(network.network_address) | (0xFFFF << 32 if network.version == 4 else 0)
    word = (1 << 64) - 1
    return _Prefix(
        bits >= 96 and base >> 32 == 0xFFFF,
        np.uint64(mask >> 64),
        np.uint64(base >> 64),
        np.uint64(mask & word),
        np.uint64(base & word),
    )


def _within(words: Array, prefixes: list[_Prefix]) -> Mask:
    """Which addresses (..., 2) lie in any of the prefixes."""
    high, low = np.ascontiguousarray(words[..., 0]), np.ascontiguousarray(words[..., 1])
    found = np.zeros(high.shape, dtype=np.bool_)
    # IPv4 addresses are mapped into ::ffff:0:0/96; to a user that is no part of IPv6.
    ipv4 = (high == 0) & (low >> np.uint64(32) == 0xFFFF)
    for prefix in prefixes:
        if prefix.ipv4:
            found |= ipv4 & ((low & prefix.low_mask) == prefix.low)
            continue
        some = ~ipv4 & ((high & prefix.high_mask) == prefix.high)
        if prefix.low_mask:
            some &= (low & prefix.low_mask) == prefix.low
        found |= some
    return found


def address_term(ends: slice, value: str) -> Term:
    """host (either end), src (initiator), dst: addresses or prefixes."""
    prefixes = []
    for part in parts(value):
        try:
            prefixes.append(_prefix(ipaddress.ip_network(part.strip("[]"), strict=False)))
        except ValueError:
            raise ValueError("an address or a prefix such as 10.0.0.0/8 or 2001:db8::/32") from None
    return Term(lambda c: _any(_within(c.addresses[:, ends], prefixes)))


def _any(found: Mask) -> Mask:
    """Whether any of a row's elements holds."""
    result: Mask = np.logical_or.reduce(found, axis=1)
    return result


def direction_term(value: str) -> Term:
    """dir: out, in, local, transit; by which ends are inside (see INSIDE)."""
    meanings = {"out": (True, False), "in": (False, True), "local": (True, True)}
    meanings["transit"] = (False, False)
    if not all(part in meanings for part in parts(value.lower())):
        raise ValueError("out, in, local or transit")
    wanted = [meanings[part] for part in parts(value.lower())]
    prefixes = [_prefix(network) for network in INSIDE]

    def mask(c: Columns) -> Mask:
        inside = _within(c.addresses, prefixes)
        found = np.zeros(len(inside), dtype=np.bool_)
        for first, second in wanted:
            found |= (inside[:, 0] == first) & (inside[:, 1] == second)
        return found

    return Term(mask)


def _ranges(value: str, limit: int, what: str) -> list[tuple[int, int]]:
    """`443`, `8000-8099`, with commas between."""
    result = []
    for part in parts(value):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part, re.ASCII)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not low <= high <= limit:
            raise ValueError(f"{what} from 0 to {limit}, or a range such as 1-9")
        result.append((low, high))
    return result


def port_term(ends: slice, value: str) -> Term:
    """port (either end), sport (initiator), dport."""
    ranges = _ranges(value, 65535, "a port")

    def mask(c: Columns) -> Mask:
        ports = c.ports[:, ends]
        found = np.zeros(ports.shape, dtype=np.bool_)
        for low, high in ranges:
            found |= (ports >= low) & (ports <= high)
        return _any(found)

    return Term(mask)


def vlan_term(value: str) -> Term:
    """vlan: the outermost VLAN id, 0 for untagged."""
    ranges = _ranges(value, 4095, "a VLAN id")

    def mask(c: Columns) -> Mask:
        vlan = c.cold("vlan")
        found = np.zeros(len(vlan), dtype=np.bool_)
        for low, high in ranges:
            found |= (vlan >= low) & (vlan <= high)
        return found

    return Term(mask)


_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZES |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_TIMES = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_COMPARE: dict[str, Callable[[Array, float], Mask]] = {
    ">": lambda column, value: column > value,
    ">=": lambda column, value: column >= value,
    "<": lambda column, value: column < value,
    "<=": lambda column, value: column <= value,
    "=": lambda column, value: column == value,
    ":": lambda column, value: column == value,
}


def _counter(field: str) -> Callable[[Columns], Array]:
    return lambda c: c.hot(field).sum(axis=1)


NUMBERS: dict[str, tuple[Callable[[Columns], Array], bool]] = {
    # key -> (column, whether it is a time)
    "bytes": (_counter("bytes"), False),
    "packets": (_counter("packets"), False),
    "age": (lambda c: flows.first_age(c.snapshot, c.rows), True),
    "idle": (lambda c: flows.last_age(c.snapshot, c.rows), True),
    "duration": (lambda c: flows.duration(c.snapshot, c.rows), True),
}


def number_term(key: str, operator: str, value: str) -> Term:
    """bytes, packets (both directions together); age, idle, duration in seconds."""
    column, is_time = NUMBERS[key]
    match = re.fullmatch(r"(\d{1,18}(?:\.\d{1,9})?)([a-z]*)", value.lower(), re.ASCII)
    units: dict[str, float] = {**_TIMES} if is_time else {**_SIZES}
    if not match or match[2] not in units:
        raise ValueError("a time such as 30, 5m or 2h" if is_time else "a number such as 500 or 1M")
    limit = float(match[1]) * units[match[2]]
    return Term(lambda c: _COMPARE[operator](column(c), limit))
