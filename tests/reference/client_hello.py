# SPDX-License-Identifier: Apache-2.0
"""The server name of a TLS ClientHello, from the bytes of one direction of a TCP connection.

Sources: RFC 8446 sections 4.1.2 (ClientHello) and 5.1 (records), RFC 5246 (the same before 1.3),
RFC 6066 section 3 (server_name).
"""

from dataclasses import dataclass

from tests.reference.names import server_name

RECORD_HANDSHAKE = 22
RECORD_HEADER = 5
MAX_RECORD = 1 << 14  # RFC 8446, 5.1: a plaintext record's content
MESSAGE_CLIENT_HELLO = 1
MESSAGE_HEADER = 4
MAX_HELLO = 1 << 14  # this project's own bound, message header included
EXTENSION_SERVER_NAME = 0
NAME_TYPE_HOST = 0


@dataclass(frozen=True)
class ClientHello:
    """`name`: the server's, as `server_name` gives it; None: no such extension, or a bad name."""

    name: str | None


class _NeedMore(Exception):
    """The bytes end where a field goes on."""


class _Fields:
    """A cursor over `data`, of which `end` bytes are declared and perhaps fewer are there."""

    def __init__(self, data: bytes, end: int) -> None:
        self.data, self.end, self.at = data, end, 0

    def take(self, count: int) -> bytes:
        if self.at + count > self.end:
            raise ValueError("a field reaches beyond what holds it")
        if self.at + count > len(self.data):
            raise _NeedMore
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, count: int) -> int:
        return int.from_bytes(self.take(count), "big")


def parse_client_hello(stream: bytes) -> ClientHello | None:
    """The hello that `stream` begins with, as soon as its server name (or its lack) is certain.

    None: more bytes are needed. ValueError: this is no ClientHello, or one that contradicts itself.
    """
    message = handshake_message(stream)
    try:
        fields = _Fields(message, MESSAGE_HEADER)
        if fields.number(1) != MESSAGE_CLIENT_HELLO:
            raise ValueError("not a ClientHello")
        length = fields.number(3)
        if length > MAX_HELLO - MESSAGE_HEADER:
            raise ValueError("a hello longer than any is taken to be")
        fields.end += length
        return _hello(fields)
    except _NeedMore:
        return None


def handshake_message(stream: bytes) -> bytes:
    """The first handshake message's bytes, out of as many records as it is spread over.

    As far as they are there; never beyond the message's end. ValueError: not such records.
    """
    message, at, wanted = b"", 0, MESSAGE_HEADER
    while at < len(stream) and len(message) < wanted:
        if stream[at] != RECORD_HANDSHAKE:
            raise ValueError("not a handshake record")
        # RFC 8446, 5.1: the version is for old peers' sake; its first byte has always been 3. Of
        # the first record so is the second one no more than 4: else it is something else.
        if stream[at + 1 : at + 2] not in (b"", b"\x03") or (at == 0 and stream[2:3] > b"\x04"):
            raise ValueError("not a TLS record")
        if at + RECORD_HEADER > len(stream):
            break
        length = int.from_bytes(stream[at + 3 : at + 5], "big")
        if not 1 <= length <= MAX_RECORD:
            raise ValueError("a record of forbidden length")
        message += stream[at + RECORD_HEADER : at + RECORD_HEADER + length]
        at += RECORD_HEADER + length
        if wanted == MESSAGE_HEADER and len(message) >= MESSAGE_HEADER:
            wanted += int.from_bytes(message[1:MESSAGE_HEADER], "big")
    return message[:wanted]


def _hello(fields: _Fields) -> ClientHello:
    if fields.take(2)[0] != 3:
        raise ValueError("not a version of TLS")
    fields.take(32)  # random
    session_length = fields.number(1)
    if session_length > 32:
        raise ValueError("a session id of more than 32 bytes")
    fields.take(session_length)
    suites_length = fields.number(2)
    if suites_length < 2 or suites_length % 2:
        raise ValueError("a list of cipher suites of forbidden length")
    fields.take(suites_length)
    compressions_length = fields.number(1)
    if compressions_length < 1:
        raise ValueError("no compression method")
    fields.take(compressions_length)
    if fields.at == fields.end:  # extensions are younger than TLS
        return ClientHello(None)
    if fields.number(2) != fields.end - fields.at:
        raise ValueError("extensions of another length than the message leaves")
    while fields.at < fields.end:
        kind, length = fields.number(2), fields.number(2)
        body = fields.take(length)
        if kind == EXTENSION_SERVER_NAME:
            return ClientHello(_host(body))
    return ClientHello(None)


def _host(body: bytes) -> str | None:
    """The first name of the list, which is the only one: no other type was ever defined."""
    if not body:
        return None
    fields = _Fields(body, len(body))
    if fields.number(2) != len(body) - 2:
        raise ValueError("a list of names of another length than its extension")
    if fields.number(1) != NAME_TYPE_HOST:
        return None
    return server_name(fields.take(fields.number(2)))
