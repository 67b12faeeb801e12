# SPDX-License-Identifier: Apache-2.0
"""Conditions of a [[signature]] on the text of one field: what a message says of its sender.

Such a signature has no other conditions: the data plane looks the text up, it matches no bytes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from xdpprobe import signature_values as values
from xdpprobe.signature_values import Bad

TEXT_LIMIT = 63  # TEXT_LEN of bpf/abi_knowledge.h
ALPN_LIMIT = 31  # below HELLO_ALPN of bpf/abi.h
CERTAIN = 100  # confidence of a server that it answers in the place of who was asked
SHORTEST = 3  # what begins a text says nothing if it is shorter
TEXTS_LIMIT = 16_384  # of all signatures: max_entries of bpf/knowledge.h, texts
# Those that bpf/http.h takes for a request's: RFC 9110, 9; RFC 5789; RFC 4918, 9; RFC 3253, 3.6.
# fmt: off
METHODS = (
    "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LOCK", "MKCOL", "MOVE", "OPTIONS", "PATCH",
    "POST", "PROPFIND", "PROPPATCH", "PUT", "REPORT", "TRACE", "UNLOCK",
)
# fmt: on
_READ_AS_TEXT = {0x0014: "stun_realm", 0x8022: "stun_software"}


class Text(NamedTuple):
    """kind: a key below, and a name of enum text_kind. data: as it is looked up."""

    kind: str
    data: bytes
    shown: str | int  # as it stands in the file


def _beginning(value: object) -> bytes:
    if not isinstance(value, str):
        raise Bad(f"{value!r} is not a string")
    if not (value.isascii() and value.isprintable() and SHORTEST <= len(value) <= TEXT_LIMIT):
        raise Bad(
            f"{value!r} is not {SHORTEST} to {TEXT_LIMIT} printable ASCII characters", value=value
        )
    if value[0] == " ":
        raise Bad(f"{value!r} begins with a blank, which no text does", value=value)
    return value.encode()


def _request(value: object) -> bytes:
    data = _beginning(value)
    begins = [f"{method} ".encode() for method in METHODS]
    if not any(data.startswith(begin) or begin.startswith(data) for begin in begins):
        why = f"{value!r} begins with no method that requests are known by"
        raise Bad(why, f"known are {', '.join(METHODS)}", value)
    return data


def _alpn(value: object) -> bytes:
    """Looked up as a whole: with the NUL that ends it in the data plane."""
    if not isinstance(value, str):
        raise Bad(f"{value!r} is not a string")
    if not (value.isascii() and value.isprintable() and 0 < len(value) <= ALPN_LIMIT):
        raise Bad(f"{value!r} is not 1 to {ALPN_LIMIT} printable ASCII characters", value=value)
    return value.encode() + b"\0"


def _attribute(value: object) -> bytes:
    if type(value) is not int or value not in range(1 << 16):
        raise Bad(f"{value!r} is not an attribute's type (0..0xffff)")
    if value in _READ_AS_TEXT:
        raise Bad(f"{value:#06x} is looked at for its text", f"use {_READ_AS_TEXT[value]!r}")
    return value.to_bytes(2, "big")


def _realm(value: object) -> bytes:
    (domain,) = values.domains([value])
    if len(domain) >= TEXT_LIMIT:
        raise Bad(f"{domain!r} is longer than {TEXT_LIMIT - 1} bytes", value=domain)
    reversed_name: str = domain[::-1]
    return reversed_name.encode() + b"."


def _texts(kind: str, check: Callable[[object], bytes]) -> Callable[[object], tuple[Text, ...]]:
    def texts(value: object) -> tuple[Text, ...]:
        found = tuple([Text(kind, check(item), item) for item in values.items(value)])  # type: ignore[arg-type]
        values.once(tuple([text.shown for text in found]))
        return found

    return texts


KEYS: dict[str, Callable[[object], Any]] = {
    "user_agent": _texts("user_agent", _beginning),
    "content_type": _texts("content_type", _beginning),
    "request": _texts("request", _request),
    "stun_attribute": _texts("stun_attribute", _attribute),
    "stun_realm": _texts("stun_realm", _realm),
    "stun_software": _texts("stun_software", _beginning),
    "alpn": _texts("alpn", _alpn),
    "server": _texts("server", _beginning),
    "soap_action": _texts("soap_action", _beginning),
    "certificate": _texts("certificate", _beginning),
}
# The protocol, which is known by then, of those that say nothing of it.
_WITHIN = {
    "user_agent": "HTTP",
    "content_type": "HTTP",
    "request": "HTTP",
    "server": "HTTP",
    "soap_action": "HTTP",
    "certificate": "TLS",
    "alpn": "TLS's or QUIC's",
}
_BESIDE = ("protocol", "app", "confidence", "source")


def check_together(given: dict[str, Any]) -> None:
    """What no value is wrong in by itself; `value` of a Bad is here the key to point at."""
    kinds = [key for key in KEYS if key in given]
    for key in given:
        if key not in _BESIDE and key not in KEYS:
            raise Bad(f"{kinds[0]!r} and {key!r} exclude each other", value=key)
    if not given.keys() & {"protocol", "app"}:
        raise Bad("a signature has neither 'protocol' nor 'app'")
    within = next((key for key in kinds if key in _WITHIN), None)
    if within and "protocol" in given:
        why = f"{within!r} says nothing of the protocol, which is {_WITHIN[within]}"
        raise Bad(why, "give it an 'app'", "protocol")
