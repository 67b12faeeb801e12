# SPDX-License-Identifier: Apache-2.0
"""Signatures by pattern, held against a packet one by one with Python's `re`.

Independent of the compiler: of the project it takes what a file says, as it was read.
"""

import re
from functools import cache

from tests.match_tables import Packet
from xdpprobe.signature_table import Signature

_DEPTH = 256
_LENGTH_MAX = 2047
_TOKEN = re.compile(
    r"\\m\{(?P<mask>..):(?P<wanted>..)\}|\\(?P<escape>x..|.)|(?P<special>.)", re.DOTALL
)


@cache
def translated(text: str) -> re.Pattern[bytes]:
    """The same regex for `re`, but without a `$` at its end."""
    flags = re.DOTALL
    if text.startswith("(?i)"):
        text, flags = text[4:], flags | re.IGNORECASE
    if text.endswith("$") and not text.endswith(r"\$"):
        text = text[:-1]
    parts = []
    inside = False
    for token in _TOKEN.finditer(text):
        special = token["special"]
        if token["mask"]:
            allowed = _masked(int(token["mask"], 16), int(token["wanted"], 16))
            parts.append(allowed if inside else f"[{allowed}]")
        elif token["escape"]:
            parts.append(_escape(token["escape"]))
        elif inside:
            inside = special != "]"
            previous = text[token.start() - 1]
            plain = special in "]-" or special.isalnum() or (special == "^" and previous == "[")
            parts.append(special if plain else "\\" + special)
        else:
            inside = special == "["
            parts.append({"(": "(?:", "]": r"\]", "}": "}"}.get(special, special))
    return re.compile("".join(parts).encode(), flags)


def _masked(mask: int, wanted: int) -> str:
    return "".join(f"\\x{byte:02x}" for byte in range(256) if byte & mask == wanted)


def _escape(escape: str) -> str:
    if escape == "0":
        return r"\x00"
    return escape if escape == "" else "\\" + escape


def matches(signature: Signature, packet: Packet) -> bool:
    """Whether a signature fits a packet; `after` is left to the caller."""
    payload = packet.payload
    if signature.l4 != packet.l4:
        return False
    if signature.sender and packet.responder != (signature.sender == "responder"):
        return False
    if not signature.packet.low <= packet.number <= signature.packet.high:
        return False
    # Alone, a port says something where it is the responder's.
    ports = packet.ports if signature.match else packet.ports[not packet.responder :][:1]
    if signature.port and not any(
        span.low <= port <= span.high for span in signature.port for port in ports
    ):
        return False
    if not signature.length.low <= min(len(payload), _LENGTH_MAX) <= signature.length.high:
        return False
    return _field_agrees(signature, payload) and all(
        _regex_matches(regex.text, signature.search, payload) for regex in signature.match
    )


def _regex_matches(text: str, search: int, payload: bytes) -> bool:
    pattern = translated(text)
    if text.endswith("$") and not text.endswith(r"\$"):
        return pattern.fullmatch(payload) is not None
    return any(pattern.match(payload[:_DEPTH], begin) for begin in range(search))


def _field_agrees(signature: Signature, payload: bytes) -> bool:
    field = signature.field
    if field is None:
        return True
    octets = payload[field.at : field.at + field.size]
    if len(octets) < field.size:
        return False
    value = int.from_bytes(octets, "little" if field.little else "big")
    said = value * field.multiplier + field.plus
    return said <= len(payload) if field.within else said == len(payload)
