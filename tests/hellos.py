# SPDX-License-Identifier: Apache-2.0
"""TLS handshake messages for tests: ClientHellos of any size and order, as browsers send them.

Everything random comes from a seed, so that a failure can be repeated. Sources: RFC 8446 (messages,
records), 6066 (server_name), 7301 (ALPN), 7685 (padding), 8701 (GREASE),
draft-ietf-tls-esni (ECH), draft-ietf-tls-ecdhe-mlkem (key share sizes).
"""

import random
import struct
from collections.abc import Sequence

SERVER_NAME, STATUS_REQUEST, GROUPS, POINT_FORMATS, SIGNATURES = 0, 5, 10, 11, 13
ALPN, CERTIFICATE_TIMESTAMPS, PADDING, EXTENDED_SECRET, COMPRESS = 16, 18, 21, 23, 27
SESSION_TICKET, PRE_SHARED_KEY, VERSIONS, PSK_MODES, KEY_SHARE = 35, 41, 43, 45, 51
APPLICATION_SETTINGS, ECH, RENEGOTIATION = 17613, 0xFE0D, 0xFF01

X25519, X25519MLKEM768 = 29, 4588
SHARE_LENGTHS = {X25519: 32, X25519MLKEM768: 1184 + 32}
SUITES = (0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0x009C, 0x002F)
GREASE = tuple(value << 12 | 0xA00 | value << 4 | 0xA for value in range(16))

HANDSHAKE, ALERT, APPLICATION_DATA = 22, 21, 23
MAX_RECORD = 1 << 14

Extension = tuple[int, bytes]


def vector(body: bytes, width: int) -> bytes:
    """`body` behind its length in `width` bytes."""
    return len(body).to_bytes(width, "big") + body


def server_name(name: bytes, *, kind: int = 0) -> Extension:
    return SERVER_NAME, vector(bytes([kind]) + vector(name, 2), 2)


def alpn(protocols: Sequence[bytes] = (b"h2", b"http/1.1")) -> Extension:
    return ALPN, vector(b"".join(vector(p, 1) for p in protocols), 2)


def key_share(groups: Sequence[int], source: random.Random) -> Extension:
    shares = b""
    for group in groups:
        share = source.randbytes(SHARE_LENGTHS.get(group, 1))
        shares += struct.pack(">H", group) + vector(share, 2)
    return KEY_SHARE, vector(shares, 2)


def pre_shared_key(source: random.Random, ticket_length: int = 224) -> Extension:
    """Always the last extension (RFC 8446, 4.2.11)."""
    identity = vector(source.randbytes(ticket_length), 2) + source.randbytes(4)
    return PRE_SHARED_KEY, vector(identity, 2) + vector(vector(source.randbytes(32), 1), 2)


def ech(source: random.Random, payload_length: int = 176) -> Extension:
    """An outer ClientHello's extension; what GREASE looks like as well."""
    head = struct.pack(">BHHB", 0, 1, 1, source.randrange(256))
    encapsulated, payload = source.randbytes(32), source.randbytes(payload_length)
    return ECH, head + vector(encapsulated, 2) + vector(payload, 2)


def filler(length: int, number: int = PADDING) -> Extension:
    """An extension whose body has `length` bytes."""
    return number, bytes(length)


def client_hello(
    extensions: Sequence[Extension] | None = (),
    *,
    seed: int = 0,
    session_id: bytes | None = None,
    suites: Sequence[int] = SUITES,
    version: int = 0x0303,
) -> bytes:
    """The handshake message with these extensions in this order; None: without the field."""
    source = random.Random(seed)
    session = source.randbytes(32) if session_id is None else session_id
    body = struct.pack(">H", version) + source.randbytes(32) + vector(session, 1)
    body += vector(b"".join(struct.pack(">H", suite) for suite in suites), 2) + b"\x01\x00"
    if extensions is not None:
        body += vector(
            b"".join(struct.pack(">H", number) + vector(data, 2) for number, data in extensions), 2
        )
    return b"\x01" + vector(body, 3)


def simple_hello(name: bytes | None, *, seed: int = 0) -> bytes:
    """A hello like curl's: about 200 bytes and the name."""
    extensions = [] if name is None else [server_name(name)]
    extensions += [
        (POINT_FORMATS, b"\x01\x00"),
        (GROUPS, vector(struct.pack(">HH", X25519, 23), 2)),
        alpn(),
        (SIGNATURES, vector(bytes.fromhex("0403080404010503"), 2)),
        (VERSIONS, vector(bytes.fromhex("03040303"), 1)),
        key_share([X25519], random.Random(seed)),
    ]
    return client_hello(extensions, seed=seed)


def browser_hello(
    name: bytes | None,
    *,
    seed: int = 0,
    resumes: bool | None = None,
    shuffle: bool = True,
) -> bytes:
    """A hello as Chrome has sent since 2024: GREASE at both ends, the extensions between shuffled,
    a post-quantum key share, GREASE ECH. About 1.7 to 2.1 kB; `resumes`: with a pre-shared key
    (None: the seed decides)."""
    source = random.Random(seed)
    grease = source.sample(GREASE, 4)
    middle = [] if name is None else [server_name(name)]
    middle += [
        (EXTENDED_SECRET, b""),
        (RENEGOTIATION, b"\x00"),
        (GROUPS, vector(struct.pack(">HHHHH", grease[2], X25519MLKEM768, X25519, 23, 24), 2)),
        (POINT_FORMATS, b"\x01\x00"),
        (SESSION_TICKET, b""),
        alpn(),
        (STATUS_REQUEST, b"\x01\x00\x00\x00\x00"),
        (SIGNATURES, vector(bytes.fromhex("04030804040105030805050108060601"), 2)),
        (CERTIFICATE_TIMESTAMPS, b""),
        key_share([grease[2], X25519MLKEM768, X25519], source),
        (PSK_MODES, b"\x01\x01"),
        (VERSIONS, vector(struct.pack(">HHH", grease[3], 0x0304, 0x0303), 1)),
        (COMPRESS, b"\x02\x00\x02"),
        (APPLICATION_SETTINGS, vector(vector(b"h2", 1), 2)),
        ech(source, source.choice((144, 176, 208, 240))),
    ]
    if shuffle:
        source.shuffle(middle)
    extensions = [(grease[0], b""), *middle, (grease[1], b"\x00")]
    if source.random() < 0.5 if resumes is None else resumes:
        extensions.append(pre_shared_key(source))
    return client_hello(extensions, seed=seed, suites=(grease[2], *SUITES))


def sized_hello(name: bytes, size: int, *, seed: int = 0) -> bytes:
    """A hello of exactly `size` bytes (message header included), the name anywhere in it.

    Raises ValueError for fewer bytes than it takes to say the name.
    """
    source = random.Random(seed)
    room = size - len(client_hello([server_name(name)], seed=seed))
    if room < 0 or 0 < room < 4:
        raise ValueError(f"no hello for {name!r} has {size} bytes")
    extensions = [server_name(name)]
    while room:
        # Each extension costs four bytes; never leave one to three that none could fill.
        length = source.choice((room, source.randint(4, room)))
        if 0 < room - length < 4:
            length = room
        number = source.choice((PADDING, SESSION_TICKET, *GREASE, 0x5500, 0xFF77))
        extensions.append((number, source.randbytes(length - 4)))
        room -= length
    source.shuffle(extensions)
    return client_hello(extensions, seed=seed)


def records(
    message: bytes, lengths: Sequence[int] = (), *, kind: int = HANDSHAKE, version: int = 0x0301
) -> bytes:
    """`message` in records of these lengths; what they leave over in records as long as can be."""
    stream, at = b"", 0
    for length in (*lengths, *[MAX_RECORD] * (len(message) // MAX_RECORD + 1)):
        piece = message[at : at + length]
        if not piece:
            break
        stream += struct.pack(">BH", kind, version) + vector(piece, 2)
        at += len(piece)
    return stream


def server_hello(*, seed: int = 0) -> bytes:
    """The message with which a TLS 1.3 server answers."""
    source = random.Random(seed)
    extensions = struct.pack(">HHH", VERSIONS, 2, 0x0304)
    share = struct.pack(">H", X25519) + vector(source.randbytes(32), 2)
    extensions += struct.pack(">H", KEY_SHARE) + vector(share, 2)
    body = b"\x03\x03" + source.randbytes(32) + vector(source.randbytes(32), 1)
    body += b"\x13\x01\x00" + vector(extensions, 2)
    return b"\x02" + vector(body, 3)
