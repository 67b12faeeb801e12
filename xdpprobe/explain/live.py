# SPDX-License-Identifier: Apache-2.0
"""`signatures explain`: what the label of a flow in the probe means, and what may have given it."""

import argparse
import ipaddress
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xdpprobe import catalogue as catalogues
from xdpprobe import filter as filters
from xdpprobe import flows
from xdpprobe.catalogue import Catalogue
from xdpprobe.explain import words
from xdpprobe.filter import Filter
from xdpprobe.flows import L4_NAMES, Flow
from xdpprobe.probe import Probe
from xdpprobe.rules import RuleIndex
from xdpprobe.signature_table import PACKETS, Signature
from xdpprobe.snapshot import Snapshot
from xdpprobe.sorting import order
from xdpprobe.streams import printable, say
from xdpprobe.views import report
from xdpprobe.views.text import endpoint

LIMIT = 10  # flows
CANDIDATES = 12  # signatures of a flow
NOT_KEPT = (
    "The kernel keeps no bytes of packets, and not which packet or signature decided: only the"
    " label, the method, the confidence and the server name. `signatures test` tells all of a"
    " capture's flows."
)
OTHER_FILES = (
    "the probe runs other signatures than the files that are read here: what is listed may not be"
    " what decided; name the probe's files with --signatures, or load these"
)

_V6_END = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?")
_END = re.compile(r"([^\s:\[\]]+):(\d{1,5})")


def flow_filter(text: str) -> Filter:
    """A filter for what the user wrote: a filter, or the two ends as `flows` prints them.

    Raises UsageError where it is neither.
    """
    tokens = [token for token in text.split() if token != ">"]
    ends = [_end(token) for token in tokens if token.lower() not in L4_NAMES.values()]
    if not ends or None in ends or len(ends) != 2:
        return Filter(text)
    first, second = (end for end in ends if end)
    terms = [f"l4:{token}" for token in tokens if token.lower() in L4_NAMES.values()]
    for key, (host, port) in zip(("src", "dst"), (first, second), strict=True):
        terms.append(f"{key}:{host}" if _is_address(host) else f'name:"{host}"')
        if port:
            terms.append(f"{key[0]}port:{port}")
    return Filter(" ".join(terms))


def _end(token: str) -> tuple[str, str] | None:
    """(address or name, port) of one end; None for what is none."""
    if found := _V6_END.fullmatch(token):
        return found[1], found[2] or ""
    if _is_address(token):
        return token, ""
    found = _END.fullmatch(token)
    if not found or found[1].lower() in filters.KEYS or '"' in token:
        return None
    return found[1], found[2]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Evidence:
    """One of a flow's two labels, with what may have given it."""

    kind: str  # "app" or "protocol"
    label: str
    title: str
    category: str
    method: str
    confidence: int
    rule: str | None
    candidates: list[Signature]

    def to_json(self) -> dict[str, Any]:
        """One object of `evidence`."""
        shown = self.candidates[:CANDIDATES]
        return {
            "kind": self.kind,
            "label": self.label,
            "title": self.title,
            "category": self.category,
            "method": self.method,
            "meaning": words.METHODS.get(self.method, ""),
            "confidence": self.confidence,
            "rule": self.rule,
            "candidates": [words.signature_json(signature) for signature in shown],
            "candidates_left_out": len(self.candidates) - len(shown),
        }

    def lines(self) -> Iterator[str]:
        """The same for people."""
        title = f" ({self.title}, {self.category})" if self.title else ""
        yield f"{self.kind} {self.label}{title} by {self.method}, confidence {self.confidence}"
        if meaning := words.METHODS.get(self.method):
            yield f"  {self.method}: {meaning}"
        if self.rule:
            yield f"  rule {self.rule}"
        if self.candidates:
            yield "  one of these signatures may have given it:"
        for signature in self.candidates[:CANDIDATES]:
            yield f"    {words.signature_text(signature)}"
            yield f"      {words.conditions(signature)}"
        if len(self.candidates) > CANDIDATES:
            yield f"    and {len(self.candidates) - CANDIDATES} more"
        elif not self.candidates and self.method in ("pattern", "port") and not self.rule:
            yield "  no signature that is read here gives that label with that confidence"


class Teller:
    """Tells what flows' labels mean, with the signatures that are read here."""

    def __init__(self, known: Catalogue, snapshot: Snapshot) -> None:
        self._known = known
        self._snapshot = snapshot
        self._methods = flows.method_words(snapshot)
        self._rules = RuleIndex(known.rules)

    def evidence(self, flow: Flow) -> list[Evidence]:
        """What is known of the application, then of the protocol."""
        hot = self._snapshot.hot[flow.index]
        found = []
        for kind in ("app", "protocol"):
            number = int(hot[kind])
            if not number:
                continue
            label = self._snapshot.label(number)
            method = int(hot[f"{kind}_method"])
            entry = self._known.entries.get(number)
            evidence = Evidence(
                kind=kind,
                label=label.name,
                title=entry.title if entry else "",
                category=label.category,
                method=self._methods.get(method, str(method)),
                confidence=int(hot[f"{kind}_confidence"]),
                rule=None,
                candidates=[],
            )
            found.append(self._with_origin(evidence, number, flow))
        return found

    def _with_origin(self, evidence: Evidence, number: int, flow: Flow) -> Evidence:
        candidates: list[Signature] = []
        rule = None
        if evidence.method in ("pattern", "port"):
            candidates = [s for s in self._known.signatures if _may(s, evidence, number, flow)]
            if evidence.kind == "protocol" and not candidates:
                rule = words.l4_rule(self._known, number)
        elif evidence.kind == "app":
            app, _ = self._rules.match(flow.host or "")
            if app == number:
                rule = words.rule_text(self._known, self._rules, flow.host)
        return replace(evidence, candidates=candidates, rule=rule)


def _may(signature: Signature, evidence: Evidence, number: int, flow: Flow) -> bool:
    """Whether a signature can have given a flow that label with that evidence."""
    return (
        number == (signature.app_id if evidence.kind == "app" else signature.protocol_id)
        and signature.l4 in ("", flow.l4)
        and signature.by_port == (evidence.method == "port")
        and signature.confidence == evidence.confidence
        and (
            not signature.port
            or any(
                low <= p <= high for low, high in signature.port for p in (flow.sport, flow.dport)
            )
        )
    )


def inspection(snapshot: Snapshot, flow: Flow) -> dict[str, Any]:
    """How far the look into a flow's payloads has come."""
    hot = snapshot.hot[flow.index]
    end = 1 if int(hot["flags"]) & snapshot.enums["flow_flag"]["FLOW_INITIATOR_1"] else 0
    spent = [int(hot["spent"][end]), int(hot["spent"][1 - end])]
    final = bool(int(hot["flags"]) & snapshot.enums["flow_flag"]["FLOW_FINAL"])
    return {"decided": final, "payloads": spent, "at_most": PACKETS}


def _lines(flow: Flow, evidence: Sequence[Evidence], looked: dict[str, Any]) -> Iterator[str]:
    named = f" {flow.host}" if flow.host else ""
    label = " on ".join(part for part in (flow.app, flow.protocol) if part) or "unknown"
    ends = f"{endpoint(flow.src, flow.sport)} > {endpoint(flow.dst, flow.dport)}"
    yield f"{flow.l4} {ends} {label}{named}"
    for one in evidence:
        for line in one.lines():
            yield f"  {line}"
    if not evidence:
        yield "  nothing has named it"
    up, down = looked["payloads"]
    state = "decided" if looked["decided"] else "open"
    yield (
        f"  inspection: {state}; payload packets looked at: {up} of the initiator,"
        f" {down} of the responder, {looked['at_most']} each at most"
    )


def run(args: argparse.Namespace) -> int:
    """Prints what is known of the flows."""
    wanted = flow_filter(" ".join(args.flow))
    known = catalogues.load(args.paths)
    limit = (LIMIT if args.limit is None else args.limit) or None
    with Probe.open(args.bpffs) as probe:
        snapshot = probe.snapshot()
        wanted.check(snapshot)
        rows = wanted.rows(snapshot)
        shown = order(snapshot, rows, "bytes", False, limit)
        found = flows.decode(snapshot, shown)
        same = probe.tables().read("info")["signatures"].tobytes() == known.digest
    teller = Teller(known, snapshot)
    told = [(flow, teller.evidence(flow), inspection(snapshot, flow)) for flow in found]
    if args.json:
        head = {"same_signatures": same, "not_kept": NOT_KEPT}
        report.print_json(head, "flows", (_json(*one) for one in told))
        return 0
    for one in told:
        for line in _lines(*one):
            sys.stdout.write(printable(line) + "\n")
    if len(shown) < len(rows):
        print(f"{len(rows) - len(shown)} more flows: --limit 0 shows all")
    print(NOT_KEPT if told else "no flows")
    sys.stdout.flush()
    if not same:
        say(OTHER_FILES)
    return 0


def _json(flow: Flow, evidence: Sequence[Evidence], looked: dict[str, Any]) -> dict[str, Any]:
    return {
        **flow.to_json(),
        "evidence": [one.to_json() for one in evidence],
        "inspection": looked,
    }
