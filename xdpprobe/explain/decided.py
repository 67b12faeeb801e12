# SPDX-License-Identifier: Apache-2.0
"""A flow of a capture: what it is called, by which packet and signature, and what else fitted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from xdpprobe.catalogue import Catalogue
from xdpprobe.explain import words
from xdpprobe.explain.observe import Look, Observer, Seen, Verdict, describe
from xdpprobe.flows import Flow, method_words
from xdpprobe.patterns.lookup import Payload, Span, fitting, marks, why_behind
from xdpprobe.patterns.rows import Row
from xdpprobe.rules import RuleIndex
from xdpprobe.signature_table import Signature
from xdpprobe.snapshot import Snapshot
from xdpprobe.views.text import endpoint

OTHERS_LIMIT = 8  # signatures that fitted as well and are shown
KINDS = ("app", "protocol")
Given = tuple[str, tuple[int, int, int]]  # kind of label -> label, method, confidence


@dataclass(frozen=True)
class Step:
    """One change of a flow's verdict that is worth telling.

    labels: those that it gave. row: the signature's, None where no pattern gave them. others: what
    fitted too, and why it lost. text: the signature, where a text gave them. current: the flow is
    still called so.
    """

    labels: tuple[str, ...]
    method: str
    confidence: int
    payload: Payload | None
    current: bool
    row: Row | None = None
    marked: list[Span] = field(default_factory=list)
    others: list[tuple[Row, str]] = field(default_factory=list)
    rule: str | None = None
    text: Signature | None = None

    @property
    def signature(self) -> Signature | None:
        """The one that gave the labels."""
        return self.row.signature if self.row else self.text

    def to_json(self) -> dict[str, Any]:
        """One object of `decided`."""
        shown = self.others[:OTHERS_LIMIT]
        return {
            "labels": list(self.labels),
            "method": self.method,
            "confidence": self.confidence,
            "current": self.current,
            "rule": self.rule,
            "signature": words.signature_json(self.signature) if self.signature else None,
            "packet": payload_json(self.payload, self.marked) if self.payload else None,
            "others": [{**words.signature_json(row.signature), "lost": why} for row, why in shown],
            "others_left_out": len(self.others) - len(shown),
        }

    def lines(self) -> Iterator[str]:
        """The same for people."""
        before = "" if self.current else "before: "
        line = f"{before}{' on '.join(self.labels)} by {self.method}, confidence {self.confidence}"
        if self.signature:
            line += f": {words.signature_text(self.signature)}"
        elif self.rule:
            line += f": rule {self.rule}"
        yield line
        if self.text:
            yield f"  one of its texts: {'; '.join(words.texts_asked(self.text))}"
        if self.payload:
            yield f"  {describe(self.payload)}"
            yield f"  {words.hex_text(self.payload, self.marked)}"
        for row, why in self.others[:OTHERS_LIMIT]:
            other = f"{row.signature.title}, {words.signature_text(row.signature)}"
            yield f"  also fits: {other}; {why}"
        if len(self.others) > OTHERS_LIMIT:
            yield f"  also fit: {len(self.others) - OTHERS_LIMIT} more signatures"


@dataclass(frozen=True)
class Explained:
    """A flow with its steps, newest first; firsts: its first payloads, where nothing named it."""

    flow: Flow
    steps: list[Step]
    firsts: list[Payload]
    complaints: list[str]
    watched: bool = True

    def to_json(self) -> dict[str, Any]:
        """One object of `flows`."""
        flow = self.flow
        return {
            **{name: getattr(flow, name) for name in _FLOW_KEYS},
            "decided": [step.to_json() for step in self.steps],
            "payloads": [payload_json(payload, []) for payload in self.firsts],
            "disagreements": self.complaints,
            "watched": self.watched,
        }

    def lines(self) -> Iterator[str]:
        """The same for people, the flow first and the rest set in."""
        flow = self.flow
        named = f" {flow.host}" if flow.host else ""
        label = " on ".join(part for part in (flow.app, flow.protocol) if part) or "unknown"
        ends = f"{endpoint(flow.src, flow.sport)} > {endpoint(flow.dst, flow.dport)}"
        yield f"{flow.l4} {ends} {label}{named}"
        for complaint in self.complaints:
            yield f"  DISAGREEMENT: {complaint}"
        for step in self.steps:
            for line in step.lines():
                yield f"  {line}"
        if not self.watched:
            yield "  not watched: one of too many flows"
        elif not self.steps:
            yield f"  nothing matched{'' if self.firsts else ', as no payload was looked at'}"
        for payload in self.firsts:
            yield f"    {describe(payload)}"
            yield f"    {words.hex_text(payload)}"


_FLOW_KEYS = (
    "src",
    "sport",
    "dst",
    "dport",
    "l4",
    "protocol",
    "app",
    "host",
    "method",
    "confidence",
)


def payload_json(payload: Payload, marked: list[Span]) -> dict[str, Any]:
    """A payload packet for JSON; `marked`: [first byte, byte behind the last] of what fits."""
    return {
        "from": "responder" if payload.responder else "initiator",
        "number": payload.number,
        "length": payload.length,
        "hex": payload.head[: words.HEX_LIMIT].hex(),
        "marked": [list(span) for span in marked],
    }


def _gives(signature: Signature, given: Given) -> bool:
    """Whether a signature gives the label with that confidence."""
    kind, (label, _, confidence) = given
    ids = {"app": signature.app_id, "protocol": signature.protocol_id}
    return (ids[kind], signature.confidence) == (label, confidence)


class Explainer:
    """Explains the flows of one replay that was watched."""

    def __init__(self, observer: Observer, known: Catalogue, snapshot: Snapshot) -> None:
        self._observer = observer
        self._known = known
        self._snapshot = snapshot
        self._methods = method_words(snapshot)
        self._rules = RuleIndex(known.rules)
        self._by_text = [one for one in known.signatures if one.texts]

    def explain(self, flow: Flow) -> Explained:
        """What became of a flow. Everything is computed here, so that only what is shown costs."""
        seen = self._observer.flows.get(flow.index)
        if seen is None:
            idle = not self._observer.left_out
            return Explained(flow, [], [], [], watched=idle)
        steps = [step for look in reversed(seen.looks) if (step := self._step(flow, seen, look))]
        complaints = list(seen.complaints)
        hot = self._snapshot.hot[flow.index]
        if tuple(int(hot[name]) for name in Verdict._fields) != seen.verdict:
            complaints.append("the flow's verdict changed where nobody saw it")
        firsts = [] if steps else [seen.firsts[side] for side in sorted(seen.firsts)]
        return Explained(flow, steps, firsts, complaints)

    def _step(self, flow: Flow, seen: Seen, look: Look) -> Step | None:
        changed = [kind for kind in KINDS if look.after.of(kind) != look.before.of(kind)]
        given = [(kind, look.after.of(kind)) for kind in changed if look.after.of(kind)[0]]
        if not given:
            return None
        _, (_, method, confidence) = given[0]
        current = any(look.after.of(kind) == seen.verdict.of(kind) for kind, _ in given)
        labels = tuple(self._snapshot.label(verdict[0]).name for _, verdict in given)
        row, marked, others = self._row(look)
        text = self._text(look, given)
        if text or (row and not _gives(row.signature, given[0])):  # evidence is that of the first
            row, marked, others = None, [], []
        rule = None
        if row is None and text is None and self._by_realm(look, given):
            rule = words.rule_text(self._known, self._rules, look.realm)
        elif row is None and text is None and "app" in changed and current:
            rule = words.rule_text(self._known, self._rules, flow.host)
        elif row is None and look.payload is None:
            rule = words.l4_rule(self._known, look.after.protocol)
        word = self._methods.get(method, str(method))
        return Step(
            labels, word, confidence, look.payload, current, row, marked, others, rule, text
        )

    def _text(self, look: Look, given: Sequence[Given]) -> Signature | None:
        """The first signature by a text that gives what the packet's texts said."""
        if not any(look.told.gave(kind, label, sure) for kind, (label, _, sure) in given):
            return None
        said = look.told
        ids = ((one, (one.app_id, one.protocol_id, one.confidence)) for one in self._by_text)
        return next((one for one, gives in ids if gives == tuple(said)), None)

    def _by_realm(self, look: Look, given: Sequence[Given]) -> bool:
        """Whether a name rule that knows the packet's STUN realm gave the application."""
        app, _ = self._rules.match(look.realm)
        return any(
            kind == "app" and label == app and look.told.gave(kind, label, sure)
            for kind, (label, _, sure) in given
        )

    def _row(self, look: Look) -> tuple[Row | None, list[Span], list[tuple[Row, str]]]:
        """The row that decided, the bytes that it is about, and those that fitted as well."""
        payload = look.payload
        if look.row is None or payload is None:
            return None, [], []
        compiled = self._observer.compiled
        rows = compiled.rows[payload.kind]
        if look.row >= len(rows):
            return None, [], []
        first = rows[look.row]
        others: dict[int, tuple[Row, str]] = {}
        for number in fitting(compiled, payload):
            row = rows[number]
            if row.number != first.number:
                others.setdefault(row.number, (row, why_behind(first, row)))
        return first, marks(first, payload), list(others.values())
