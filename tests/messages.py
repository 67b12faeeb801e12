# SPDX-License-Identifier: Apache-2.0
"""HTTP, DNS and SSH messages for tests."""

import struct
from collections.abc import Sequence

TYPE_A, TYPE_CNAME, TYPE_AAAA, TYPE_HTTPS = 1, 5, 28, 65
QUESTION_NAME = b"\xc0\x0c"  # a pointer to it
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


def dns_record(
    data: bytes,
    kind: int | None = None,
    *,
    owner: bytes = QUESTION_NAME,
    seconds: int = 60,
    group: int = 1,
    length: int | None = None,
) -> bytes:
    """A resource record, of an address where `kind` is not given. `owner`: as it goes over the
    wire; `group`: its class; `length`: what it says of its data."""
    if kind is None:
        kind = TYPE_A if len(data) == 4 else TYPE_AAAA
    size = len(data) if length is None else length
    return owner + struct.pack(">HHIH", kind, group, seconds, size) + data


def dns_reply(
    name: bytes,
    *records: bytes,
    kind: int = TYPE_A,
    identification: int = 1,
    count: int | None = None,
    questions: int = 1,
) -> bytes:
    """An answer to `dns_query` of the same arguments. `count`: how many records it says it has."""
    answers = len(records) if count is None else count
    head = struct.pack(">HHHHHH", identification, FLAGS_ANSWER, questions, answers, 0, 0)
    question = dns_name(name) + struct.pack(">HH", kind, 1)
    return head + question * questions + b"".join(records)


def dns_answer(name: bytes, address: bytes, *, identification: int = 1) -> bytes:
    """An answer of one address record, whose name points back at the question."""
    kind = TYPE_A if len(address) == 4 else TYPE_AAAA
    return dns_reply(name, dns_record(address), kind=kind, identification=identification)
