# SPDX-License-Identifier: Apache-2.0
"""What TLS servers answer first, and certificates that may be as wrong as a test wants them.

Sources: RFC 5246 (7.4.1.3, 7.4.2), RFC 8446 (4.1.3), RFC 5280 (4.1, 4.2.1.6), X.690 (8.1).
"""

import random
import struct
from collections.abc import Sequence

from tests.hellos import KEY_SHARE, PRE_SHARED_KEY, VERSIONS, records, vector

CHANGE_CIPHER_SPEC = b"\x14\x03\x03\x00\x01\x01"
SERVER_HELLO_DONE = b"\x0e\x00\x00\x00"
NEW_SESSION_TICKET = b"\x04" + vector(b"\x00\x00\x1c\x20" + vector(bytes(160), 2), 3)
COMMON_NAME, ORGANISATION = b"\x55\x04\x03", b"\x55\x04\x0a"
ORGANISATIONAL_UNIT = b"\x55\x04\x0b"
KEY_USAGE, SUBJECT_ALT_NAME = b"\x55\x1d\x0f", b"\x55\x1d\x11"


def der(tag: int, *content: bytes) -> bytes:
    """An element, its length in as few bytes as DER wants."""
    body = b"".join(content)
    if len(body) < 0x80:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def sequence(*content: bytes) -> bytes:
    return der(0x30, *content)


def name(*attributes: tuple[bytes, bytes]) -> bytes:
    """A distinguished name of (identifier, text)."""
    return sequence(
        *(der(0x31, sequence(der(6, oid), der(0x0C, text))) for oid, text in attributes)
    )


def extension(oid: bytes, value: bytes, *, critical: bool = False) -> bytes:
    return sequence(der(6, oid), b"\x01\x01\xff" if critical else b"", der(4, value))


def alternatives(names: Sequence[bytes]) -> bytes:
    """subjectAltName: host names, and an address before them, as real ones have it."""
    return extension(
        SUBJECT_ALT_NAME,
        sequence(der(0x87, bytes(4)), *(der(0x82, n) for n in names)),
    )


def certificate(
    names: Sequence[bytes] | None = (),
    common: bytes | None = None,
    *,
    extensions: bytes | None = None,
    subject: bytes | None = None,
    padding: int = 0,
) -> bytes:
    """A certificate for these hosts, signed by nobody. names None: without the extension.

    extensions, subject: in the place of what would stand there. padding: bytes of the key.
    """
    if extensions is None:
        usage = extension(KEY_USAGE, b"\x03\x02\x05\xa0", critical=True)
        extensions = usage + (alternatives(names) if names is not None else b"")
    attributes = [(ORGANISATION, b"Example")]
    attributes += [] if common is None else [(COMMON_NAME, common)]
    algorithm = sequence(der(6, bytes.fromhex("2a864886f70d01010b")), b"\x05\x00")
    body = sequence(
        der(0xA0, b"\x02\x01\x02"),
        der(2, b"\x01\x02\x03"),
        algorithm,
        name((COMMON_NAME, b"ca.issuer.example")),
        sequence(der(0x17, b"260101000000Z"), der(0x17, b"270101000000Z")),
        name(*attributes) if subject is None else subject,
        sequence(algorithm, der(3, bytes(65 + padding))),
        der(0xA3, sequence(extensions)) if extensions else b"",
    )
    return sequence(body, algorithm, der(3, bytes(257)))


def certificate_message(*chain: bytes) -> bytes:
    return b"\x0b" + vector(vector(b"".join(vector(one, 3) for one in chain), 3), 3)


def server_hello(
    *,
    version: int = 0x0303,
    selected: int | None = None,
    resumed: bool = False,
    extensions: bytes | None = b"\xff\x01\x00\x01\x00",
    session: int = 32,
    seed: int = 0,
) -> bytes:
    """selected: the version in supported_versions. resumed: with pre_shared_key."""
    source = random.Random(seed)
    body = struct.pack(">H", version) + source.randbytes(32) + vector(source.randbytes(session), 1)
    body += b"\xc0\x2f\x00"
    if selected is not None:
        share = struct.pack(">H", 29) + vector(source.randbytes(32), 2)
        extensions = struct.pack(">H", KEY_SHARE) + vector(share, 2)
        if resumed:
            extensions += struct.pack(">HHH", PRE_SHARED_KEY, 2, 0)
        extensions += struct.pack(">HHH", VERSIONS, 2, selected)
    if extensions is not None:
        body += vector(extensions, 2)
    return b"\x02" + vector(body, 3)


def flight(*chain: bytes, apart: bool = True, version: int = 0x0303) -> bytes:
    """The first flight of a server that speaks TLS 1.2 or before, a message a record or all in
    one."""
    messages = [server_hello(version=version), certificate_message(*chain), SERVER_HELLO_DONE]
    if apart:
        return b"".join(records(message, version=0x0303) for message in messages)
    return records(b"".join(messages), version=0x0303)
