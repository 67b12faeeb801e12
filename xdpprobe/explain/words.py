# SPDX-License-Identifier: Apache-2.0
"""What explanations of captures and of live flows say alike: signatures, payloads, evidence."""

from collections.abc import Sequence
from typing import Any

from xdpprobe.catalogue import SHIPPED, Catalogue
from xdpprobe.patterns.lookup import Payload, Span
from xdpprobe.rules import RuleIndex
from xdpprobe.signature_table import Signature

HEX_BYTES = 32  # of a payload that are shown; more where marked bytes stand behind
HEX_LIMIT = 64

METHODS = {
    "port": "one of the ports is registered for it, or known: the weakest evidence",
    "prefix": "an end has an address of a prefix that belongs to it",
    "statistics": "sizes and times of the packets",
    "peer": "an end was named as one of its peers",
    "dns": "a DNS message, or the name that a DNS answer gave for the address",
    "pattern": "a payload's bytes or a text in it fit a signature, or a rule knows its STUN realm",
    "ech-outer": "the outer server name of an encrypted ClientHello",
    "http-host": "the Host of an HTTP request",
    "http-server": "what answered an HTTP request in the place of its Host, by its Server field",
    "socks": "the name that a SOCKS proxy was asked for",
    "certificate": "a name in the server's certificate",
    "quic-sni": "the server name in a QUIC ClientHello",
    "sni": "the server name in a TLS ClientHello; without one, that it is a TLS hello",
}


def short(where: str) -> str:
    """`file:line`, without the directory of the shipped files."""
    return where.removeprefix(f"{SHIPPED}/")


def signature_json(signature: Signature) -> dict[str, Any]:
    """A signature for JSON: what it finds, and where it stands."""
    return {
        "title": signature.title,
        "name": signature.name or None,
        "where": short(signature.where()),
        "source": signature.source or None,
        "match": [regex.text for regex in signature.match],
        "texts": [{"kind": text.kind, "text": text.shown} for text in signature.texts],
        "confidence": signature.confidence,
    }


def signature_text(signature: Signature) -> str:
    """`file:line (source)`."""
    source = f" ({signature.source})" if signature.source else ""
    return short(signature.where()) + source


def conditions(signature: Signature) -> str:
    """What a signature asks for, in short."""
    texts = (regex.text for regex in signature.match)
    parts = [text if len(text) <= 60 else text[:57] + "..." for text in texts]
    parts += texts_asked(signature)
    if signature.port:
        parts.append("port " + ", ".join(_span(low, high) for low, high in signature.port))
    if signature.sender:
        parts.append(f"from the {signature.sender}")
    if signature.after:
        parts.append(f"after {signature.after}")
    return "; ".join(parts)


def texts_asked(signature: Signature) -> list[str]:
    """What a signature asks of texts, a kind each; of many texts the first."""
    found = []
    for kind in dict.fromkeys(text.kind for text in signature.texts):
        shown = [_shown(text.shown) for text in signature.texts if text.kind == kind]
        found.append(f"{kind} " + ", ".join(shown[:4]) + ("..." if len(shown) > 4 else ""))
    return found


def _shown(text: str | int) -> str:
    return text if isinstance(text, str) else f"{text:#06x}"


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"


def rule_text(known: Catalogue, index: RuleIndex, name: str | None) -> str | None:
    """The rule that gives a server name its application, with file:line; None: there is none."""
    app, rule = index.match(name or "")
    if not app:
        return None
    domain = rule.removeprefix("=")
    entry = known.entries[app]
    key = "exact" if rule.startswith("=") else "domains"
    return f"{rule} ({short(entry.where(key, domain))})"


def l4_rule(known: Catalogue, protocol: int) -> str | None:
    """What gives a protocol its flows by the number in the IP header; None: nothing does."""
    numbers = [number for number, label in known.l4.items() if label == protocol]
    if not numbers:
        return None
    listed = ", ".join(map(str, numbers))
    return f"IP protocol {listed} ({short(known.entries[protocol].where('l4'))})"


def hex_text(payload: Payload, marked: Sequence[Span] = ()) -> str:
    """The first bytes in hex, marked ones in brackets, with the printable ones behind."""
    last = max((end for _, end in marked), default=0)
    shown = min(len(payload.head), max(HEX_BYTES, min(last, HEX_LIMIT)))
    begins = {begin for begin, _ in marked}
    ends = {min(end, shown) for begin, end in marked if begin < shown}
    parts = []
    for at in range(shown):
        before = " " if at else ""
        opening = "[" if at in begins else ""
        parts.append(before + opening + f"{payload.head[at]:02x}" + ("]" if at + 1 in ends else ""))
    more = " ..." if shown < payload.length else ""
    return "".join(parts) + more + f"  {ascii_text(payload.head[:shown])}"


def ascii_text(data: bytes) -> str:
    """Bytes as text between bars, a dot for each that is not printable ASCII."""
    return "|" + "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data) + "|"
