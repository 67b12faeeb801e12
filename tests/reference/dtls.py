# SPDX-License-Identifier: Apache-2.0
"""The server name of a DTLS ClientHello, from a client's datagrams in the order of their arrival.

Sources: RFC 6347 sections 4.1 (records), 4.2.1 (cookies) and 4.2.3 (fragments), RFC 9147 sections 4
and 5. The hello of the highest message number counts; of a byte that comes twice, the first.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.reference.client_hello import MAX_HELLO, parse_client_hello

HANDSHAKE, CLIENT_HELLO = 22, 1
RECORD_HEADER, MESSAGE_HEADER = 13, 12


class Fragment(NamedTuple):
    """Bytes of a ClientHello from `offset` on; `length`: of all of it."""

    number: int
    length: int
    offset: int
    data: bytes


def fragments(datagram: bytes) -> Iterator[Fragment]:
    """Those in the records that begin a datagram and are not encrypted."""
    while len(datagram) >= RECORD_HEADER:
        end = RECORD_HEADER + int.from_bytes(datagram[11:13], "big")
        plain = datagram[0] == HANDSHAKE and datagram[1] == 254 and datagram[3:5] == b"\0\0"
        if not plain or end > len(datagram):
            return
        messages, datagram = datagram[RECORD_HEADER:end], datagram[end:]
        while messages:
            if len(messages) < MESSAGE_HEADER:
                return
            length, offset, size = (int.from_bytes(messages[i : i + 3], "big") for i in (1, 6, 9))
            stop = MESSAGE_HEADER + size
            if offset + size > length or stop > len(messages):
                return
            if messages[0] == CLIENT_HELLO and length <= MAX_HELLO:
                number = int.from_bytes(messages[4:6], "big")
                yield Fragment(number, length, offset, messages[MESSAGE_HEADER:stop])
            messages = messages[stop:]


def as_tls(body: bytes, length: int) -> bytes | None:
    """What a hello's first bytes would be in TLS: in a record, without a cookie. None: too few."""
    if len(body) < 35 or len(body) < 36 + body[34]:
        return None
    cookie = 35 + body[34]
    behind = cookie + 1 + body[cookie]
    if len(body) < behind:  # so that it is within the message, too
        return None
    plain = b"\x03\x03" + body[2:cookie] + body[behind:]
    size = length - (behind - cookie)
    message = b"\x01" + size.to_bytes(3, "big") + plain
    return b"\x16\x03\x01" + (4 + size).to_bytes(2, "big") + message


def server_name(datagrams: Iterable[bytes]) -> str | None:
    """None: there is none, or it did not come, or what came contradicts itself."""
    newest, have = (-1, 0), {}
    for datagram in datagrams:
        for piece in fragments(datagram):
            if piece.number > newest[0]:
                newest, have = (piece.number, piece.length), {}
            if (piece.number, piece.length) == newest:
                for at, byte in enumerate(piece.data, piece.offset):
                    have.setdefault(at, byte)
        body = bytes(have[i] for i in range(next(i for i in range(1 << 24) if i not in have)))
        stream = as_tls(body, newest[1])
        if stream is None:
            continue
        try:
            hello = parse_client_hello(stream)
        except ValueError:
            continue
        if hello is not None and hello.name:
            return hello.name
    return None
