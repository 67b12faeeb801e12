# SPDX-License-Identifier: Apache-2.0
"""The filter language, one for every command.

    app:youtube host:10.0.0.0/8 sni:*.google.com port:443 dir:out proto:quic bytes>1M not cat:ads

Terms side by side must all hold (`and` may stand between them); `or` binds weaker, `not` stronger;
parentheses group. A value may list alternatives with commas, hold blanks in "double quotes", and,
where text is compared, be a glob (* ? [...]) or a /regular expression/ (as Python has them; found
anywhere in the text; a filter that takes more than 3 s of CPU time is given up, with a message).
Letter case does not count.

    app:      application, or the protocol where none is known (as `apps` shows them)
    cat:      category                  proto:    wire protocol (tls, quic...) or transport
    l4:       transport (tcp) or number sni: name:  server name
    host:     address or prefix of either end; src: of the initiator; dst: of the other
    port:     port or range of either end; sport: of the initiator; dport: of the other
    dir:      out, in, local, transit: initiator inside and responder outside, and so on; inside
              are private, shared, link-local, loopback, multicast and broadcast addresses
    method:   evidence (sni, quic-sni, http-host, port...)
    state:    new, established, closed, expired; est will do
    vlan:     VLAN id or range, 0: untagged
    iface:    interface of the first packet
    tls:      version that both ends go on with: 1.2, 1.3..., or a number as JSON has it (0x7f1c);
    resumed:  yes, no: an earlier TLS session goes on; as tls:, only where the server's answer was
              seen
    sni-mismatch:  yes: the server's certificate is for other names than the one asked for
    ja4: alpn:  of the client's TLS hello: its fingerprint, and the first protocol it offers
    ech:      real (the true server name is encrypted), grease, none
    bytes packets  > >= < <= = a number with K M G T (1000) or Ki Mi Gi Ti (1024); both directions
    age idle duration  > >= < <= = seconds, or with ms s m h d: since the first packet, since the
              last packet, from first to last
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_

import numpy as np

from xdpprobe import filter_terms as terms
from xdpprobe import filter_tls
from xdpprobe.errors import UsageError
from xdpprobe.filter_limit import limited
from xdpprobe.filter_terms import Columns, Term, Test
from xdpprobe.flows import Indexes, Mask, live
from xdpprobe.snapshot import Snapshot

MAX_LENGTH = 4096
MAX_DEPTH = 50

_TEXT_KEYS: dict[str, Callable[[str, bool], Term]] = {
    "app": lambda value, regex: terms.label_term("app", value, regex),
    "cat": lambda value, regex: terms.label_term("cat", value, regex),
    "proto": lambda value, regex: terms.label_term("proto", value, regex),
    "l4": terms.l4_term,
    "sni": terms.name_term,
    "name": terms.name_term,
    "iface": terms.interface_term,
    "ja4": filter_tls.ja4_term,
    "alpn": filter_tls.alpn_term,
}
_PLAIN_KEYS: dict[str, Callable[[str], Term]] = {
    "host": lambda value: terms.address_term(slice(0, 2), value),
    "src": lambda value: terms.address_term(slice(0, 1), value),
    "dst": lambda value: terms.address_term(slice(1, 2), value),
    "port": lambda value: terms.port_term(slice(0, 2), value),
    "sport": lambda value: terms.port_term(slice(0, 1), value),
    "dport": lambda value: terms.port_term(slice(1, 2), value),
    "dir": terms.direction_term,
    "method": lambda value: terms.enum_term("method", value),
    "state": lambda value: terms.enum_term("state", value),
    "vlan": terms.vlan_term,
    "tls": filter_tls.version_term,
    "resumed": filter_tls.resumed_term,
    "sni-mismatch": filter_tls.mismatch_term,
    "ech": filter_tls.ech_term,
}
KEYS = [*_TEXT_KEYS, *_PLAIN_KEYS, *terms.NUMBERS]

_KEY = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_-]*)\s*(:|>=|<=|=|>|<)")
_WORD = re.compile(r'[^\s()"]+')
_REGEX = re.compile(r"/((?:[^/\\]|\\.)+)/(?=[\s()]|$)")
_QUOTED = re.compile(r'"([^"]+)"(?=[\s()]|$)')
_PLAIN = re.compile(r'([^\s()"]+)')
_EXPECTED = {
    _REGEX: "expected a regular expression between slashes: /ab+c/",
    _QUOTED: 'expected some text between double quotes: "a b"',
    _PLAIN: "expected a value right after it",
}


@dataclass(frozen=True)
class _Node:
    """A part of the expression: how it is evaluated, and its terms with their columns (from 0)."""

    mask: Test
    terms: tuple[tuple[int, Term], ...]


class Filter:
    """A parsed filter. `text` is what the user wrote."""

    def __init__(self, text: str) -> None:
        """Parses; UsageError says where it went wrong and what was expected."""
        self.text = text
        self._root = _Parser(text).parse()

    def check(self, snapshot: Snapshot) -> None:
        """UsageError for the first name (application, category...) that this probe lacks."""
        for column, term in self._root.terms:
            complaint = term.check(snapshot)
            if complaint:
                raise _error(self.text, column, *complaint)

    def rows(self, snapshot: Snapshot) -> Indexes:
        """Indexes of the flows it holds for; UsageError where it takes too long."""
        candidates = live(snapshot)
        with limited():
            return candidates[self._root.mask(Columns(snapshot, candidates))]

    def mask(self, snapshot: Snapshot) -> Mask:
        """One truth value a table entry; entries that hold no complete flow are False."""
        result = np.zeros(len(snapshot.hot), dtype=np.bool_)
        result[self.rows(snapshot)] = True
        return result


def _error(text: str, column: int, what: str, expected: str) -> UsageError:
    """The one form of every complaint; the last line points at the column."""
    return UsageError(
        f"filter: {what} at column {column + 1}", f"{expected}\n  {text}\n  {' ' * column}^"
    )


class _Parser:
    """Recursive descent over the text; `at` is the place of the next token."""

    def __init__(self, text: str) -> None:
        # Line breaks and tabs would put the caret in a wrong place.
        self.text = "".join(" " if c.isspace() else c for c in text)
        self.at = 0
        self.depth = 0

    def parse(self) -> _Node:
        if len(self.text) > MAX_LENGTH:
            raise UsageError(
                f"filter: {len(self.text)} characters", f"at most {MAX_LENGTH} are read"
            )
        node = self._either()
        if self.at < len(self.text):
            raise self._unexpected("a term such as app:youtube, `or`, or the end")
        return node

    def _skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at] == " ":
            self.at += 1

    def _peek(self) -> str:
        """The next parenthesis or word, in lower case; '' at the end."""
        self._skip()
        if self.text[self.at : self.at + 1] in ("(", ")", '"'):
            return self.text[self.at]
        match = _WORD.match(self.text, self.at)
        return match[0].lower() if match else ""

    def _take(self, word: str) -> bool:
        if self._peek() != word:
            return False
        self.at += len(word)
        return True

    def _unexpected(self, expected: str) -> UsageError:
        word = self._peek()
        what = f"{word!r} is not understood" if word else "the filter ends too early"
        return _error(self.text, self.at, what, f"expected {expected}")

    def _either(self) -> _Node:
        nodes = [self._all()]
        while self._take("or"):
            nodes.append(self._all())
        return _join(nodes, or_)

    def _all(self) -> _Node:
        nodes = [self._one()]
        while True:
            if self._take("and"):
                nodes.append(self._one())
            elif self._peek() in ("", ")", "or"):
                return _join(nodes, and_)
            else:
                nodes.append(self._one())

    def _one(self) -> _Node:
        negated = False
        while self._take("not"):
            negated = not negated
        node = self._group() if self._peek() == "(" else self._term()
        if not negated:
            return node
        return _Node(lambda c: ~node.mask(c), node.terms)

    def _group(self) -> _Node:
        opened = self.at
        self._take("(")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _error(self.text, opened, "too many parentheses", f"at most {MAX_DEPTH} deep")
        node = self._either()
        if not self._take(")"):
            raise _error(self.text, opened, "this parenthesis is not closed", "expected )")
        self.depth -= 1
        return node

    def _term(self) -> _Node:
        self._skip()
        start = self.at
        match = _KEY.match(self.text, start)
        if not match:
            raise self._unexpected("a term such as app:youtube or bytes>1M")
        key, operator = match[1].lower(), match[2]
        if key not in KEYS:
            raise _error(self.text, start, f"no key {match[1]!r}", f"keys: {' '.join(KEYS)}")
        self.at = match.end()
        term = self._make(key, operator, match.start(2))
        return _Node(term.mask, ((start, term),))

    def _make(self, key: str, operator: str, at: int) -> Term:
        """Reads the value and makes the term."""
        self._skip()
        start = self.at
        is_regex = self.text.startswith("/", start)
        form = _REGEX if is_regex else _QUOTED if self.text.startswith('"', start) else _PLAIN
        match = form.match(self.text, start)
        if not match:
            raise _error(self.text, start, f"{key} has no whole value", _EXPECTED[form])
        self.at = match.end()
        value = match[1]
        try:
            if key in terms.NUMBERS:
                return terms.number_term(key, operator, value)
            if operator not in (":", "="):
                raise _error(self.text, at, f"{key} has no order", f"expected {key}:{value}")
            if key in _TEXT_KEYS:
                return _TEXT_KEYS[key](value, is_regex)
            if is_regex:
                raise ValueError("a plain value")
            return _PLAIN_KEYS[key](value)
        except ValueError as error:
            what = f"{key} cannot be {value!r}"
            raise _error(self.text, start, what, f"expected {error}") from None


def _join(nodes: list[_Node], operator: Callable[[Mask, Mask], Mask]) -> _Node:
    if len(nodes) == 1:
        return nodes[0]
    return _Node(
        lambda c: reduce(operator, (node.mask(c) for node in nodes)),
        tuple(term for node in nodes for term in node.terms),
    )
