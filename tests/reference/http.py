# SPDX-License-Identifier: Apache-2.0
"""The host of an HTTP/1 request. Source: RFC 9112 sections 2.2, 3 and 5; RFC 9110 section 7.2."""

import re
from dataclasses import dataclass

from tests.reference.names import server_name

METHODS = (
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"OPTIONS",
    b"PATCH",
    b"CONNECT",
    b"TRACE",
    # RFC 4918 and 3253: WebDAV.
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
)
MAX_TARGET = 16384


@dataclass(frozen=True)
class Request:
    """`host`: from the Host field, or CONNECT's target, without port; None if there is none or no
    name in it. `protocol`: one of enum protocol, as CONNECT and requests for a whole URI are to
    proxies."""

    method: str
    host: str | None
    protocol: str = "HTTP"


def parse_request(stream: bytes) -> Request | None:
    """The request that `stream` begins with, as soon as its host (or the lack of one) is certain.

    None: more bytes are needed. ValueError: this is no HTTP/1 request.
    """
    method = _method(stream)
    if method is None:
        return None
    line, found, rest = stream.partition(b"\n")
    if not found:
        if len(stream) > MAX_TARGET:
            raise ValueError("a request line without an end")
        return None
    target, _, version = line.removesuffix(b"\r")[len(method) + 1 :].rpartition(b" ")
    if not target or not re.fullmatch(rb"HTTP/1\.[0-9]", version):
        raise ValueError("not a request line of HTTP/1")
    if method == b"CONNECT" and not target.startswith(b"/"):  # RFC 9112, 3.2.3
        return Request(method.decode(), host_of(target), "HTTP_CONNECT")
    protocol = "HTTP_PROXY" if re.match(rb"(?i)https?://", target) else "HTTP"
    while True:
        line, found, rest = rest.partition(b"\n")
        if not found:
            return None
        line = line.removesuffix(b"\r")
        if not line:
            return Request(method.decode(), None, protocol)
        field, colon, value = line.partition(b":")
        if colon and field.lower() == b"host":
            return Request(method.decode(), host_of(value.strip(b" \t")), protocol)


def _method(stream: bytes) -> bytes | None:
    for method in METHODS:
        if stream.startswith(method + b" "):
            return method
    if any((method + b" ").startswith(stream) for method in METHODS):
        return None
    raise ValueError("not a method of HTTP/1")


def host_of(value: bytes) -> str | None:
    """The name or address in `host[:port]`; an IPv6 address keeps its brackets. It ends where a
    blank or a control character, which no host has, ends it."""
    value = re.split(rb"[\x00-\x20]", value, maxsplit=1)[0]
    if value.startswith(b"["):
        address, closed, _ = value.partition(b"]")
        return server_name(address + closed) if closed else None
    return server_name(value.partition(b":")[0])


def is_response(stream: bytes) -> bool | None:
    """Whether `stream` begins with an HTTP/1 status line; None: more bytes are needed."""
    start = stream[:9]
    pattern = (b"HTTP/1.0 ", b"HTTP/1.1 ")
    if start in pattern:
        return True
    return None if any(p.startswith(start) for p in pattern) else False
