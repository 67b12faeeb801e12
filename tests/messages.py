# SPDX-License-Identifier: Apache-2.0
"""HTTP, DNS and SSH messages for tests."""

import struct
from collections.abc import Sequence

TYPE_A, TYPE_AAAA, TYPE_HTTPS = 1, 28, 65
FLAGS_QUERY, FLAGS_ANSWER = 0x0100, 0x8180
SSH_CLIENT = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n"
HTTP_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def http_request(
    host: bytes | None,
    *,
    method: bytes = b"GET",
    target: bytes = b"/",
    before: Sequence[bytes] = (b"User-Agent: curl/7.88.1", b"Accept: */*"),
    field: bytes = b"Host: ",
    version: bytes = b"HTTP/1.1",
    body: bytes = b"",
) -> bytes:
    """A request whose Host field comes after the fields `before`."""
    lines = [b" ".join((method, target, version)), *before]
    if host is not None:
        lines.append(field + host)
    return b"\r\n".join((*lines, b"", body))


def dns_name(name: bytes) -> bytes:
    """The name's labels as they go over the wire; the empty name is the root."""
    labels = name.removesuffix(b".").split(b".") if name.strip(b".") else []
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\x00"


def dns_query(name: bytes, kind: int = TYPE_A, *, identification: int = 1) -> bytes:
    head = struct.pack(">HHHHHH", identification, FLAGS_QUERY, 1, 0, 0, 0)
    return head + dns_name(name) + struct.pack(">HH", kind, 1)


def dns_answer(name: bytes, address: bytes, *, identification: int = 1) -> bytes:
    """An answer of one address record, whose name points back at the question."""
    kind = TYPE_A if len(address) == 4 else TYPE_AAAA
    head = struct.pack(">HHHHHH", identification, FLAGS_ANSWER, 1, 1, 0, 0)
    question = dns_name(name) + struct.pack(">HH", kind, 1)
    return head + question + struct.pack(">HHHIH", 0xC00C, kind, 1, 60, len(address)) + address
