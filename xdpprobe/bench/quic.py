# SPDX-License-Identifier: Apache-2.0
"""A client's first QUIC packets, protected as real ones are, without a cryptographic library.

The tag at their end is zero: the data plane does not look at it. Sources: RFC 9000 and 9001,
RFC 9369 (version 2), FIPS 197 (AES).
"""

import hashlib
import hmac
import struct
from functools import cache
from random import Random

DATAGRAM = 1200  # bytes, RFC 9000, 14.1
V1, V2 = 1, 0x6B3343CF
_SALTS = {
    V1: bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
    V2: bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
}
_TAG = 16


def initial(
    name: str, hello: bytes, offset: int = 0, version: int = V1, to: bytes | None = None
) -> bytes:
    """An Initial of 1,200 bytes with these bytes of a hello, which stand at `offset` in it.

    name: what the client's connection id is made of. to: the id it is sent to, where the server
    has chosen another one.
    """
    client_id = Random(name).randbytes(8)
    key, iv, hp = _keys(version, client_id)
    to = client_id if to is None else to
    head = bytes([0xC0 | (version == V2) << 4]) + struct.pack(">I", version)
    head += bytes([len(to)]) + to + bytes(2)  # no id of its own, no token
    length = DATAGRAM - len(head) - 2
    head += struct.pack(">HB", 0x4000 | length, 0)
    frame = b"\x06" + struct.pack(">HH", 0x4000 | offset, 0x4000 | len(hello)) + hello
    clear = frame.ljust(length - 1 - _TAG, b"\0")
    sealed = _counter_mode(key, iv, clear) + bytes(_TAG)
    mask = _encrypt(hp, sealed[3:19])
    first, number = head[0] ^ mask[0] & 0x0F, head[-1] ^ mask[1]
    return bytes([first]) + head[1:-1] + bytes([number]) + sealed


def short_packet() -> bytes:
    """A 1-RTT packet (RFC 9000, 17.3.1), of bytes that nobody can open."""
    return b"\x41" + Random(3).randbytes(1250)


def _keys(version: int, client_id: bytes) -> tuple[bytes, bytes, bytes]:
    secret = hmac.digest(_SALTS[version], client_id, hashlib.sha256)
    secret = _expand(secret, "client in", 32)
    word = "quicv2" if version == V2 else "quic"
    key, iv, hp = (_expand(secret, f"{word} {use}", n) for use, n in _USES)
    return key, iv, hp


_USES = (("key", 16), ("iv", 12), ("hp", 16))


def _expand(secret: bytes, label: str, length: int) -> bytes:
    name = b"tls13 " + label.encode()
    info = struct.pack(">HB", length, len(name)) + name + b"\0\x01"
    return hmac.digest(secret, info, hashlib.sha256)[:length]


def _counter_mode(key: bytes, iv: bytes, data: bytes) -> bytes:
    blocks = range(-(-len(data) // 16))
    stream = b"".join(_encrypt(key, iv + struct.pack(">I", 2 + block)) for block in blocks)
    return bytes(a ^ b for a, b in zip(data, stream, strict=False))


def _double(byte: int) -> int:
    return byte << 1 ^ (0x11B if byte & 0x80 else 0)


@cache
def _box() -> bytes:
    """FIPS 197, 5.1.1: inverses, by a generator's powers and logarithms, and rotations of them."""
    powers = [1]
    while len(powers) < 255:
        powers.append(powers[-1] ^ _double(powers[-1]))
    logs = {power: n for n, power in enumerate(powers)}
    box = bytearray([0x63])
    for byte in range(1, 256):
        inverse = powers[-logs[byte] % 255]
        turned = inverse | inverse << 8
        box.append(0x63 ^ inverse ^ (turned >> 7 ^ turned >> 6 ^ turned >> 5 ^ turned >> 4) & 0xFF)
    return bytes(box)


@cache
def _round_keys(key: bytes) -> list[bytes]:
    words, constant = [key[i : i + 4] for i in range(0, 16, 4)], 1
    while len(words) < 44:
        word = words[-1]
        if len(words) % 4 == 0:
            word = (word[1:] + word[:1]).translate(_box())
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = _double(constant)
        words.append(bytes(a ^ b for a, b in zip(words[-4], word, strict=True)))
    return [b"".join(words[i : i + 4]) for i in range(0, 44, 4)]


def _encrypt(key: bytes, block: bytes) -> bytes:
    """FIPS 197, 5.1."""
    first, *middle, last = _round_keys(key)
    state = bytes(a ^ b for a, b in zip(block, first, strict=True))
    for round_key in middle:
        state = _mixed(_shifted(state))
        state = bytes(a ^ b for a, b in zip(state, round_key, strict=True))
    return bytes(a ^ b for a, b in zip(_shifted(state), last, strict=True))


def _shifted(state: bytes) -> bytes:
    state = state.translate(_box())
    return bytes(state[(i + 4 * (i % 4)) % 16] for i in range(16))


def _mixed(state: bytes) -> bytes:
    mixed = bytearray()
    for at in range(0, 16, 4):
        column = state[at : at + 4]
        every = column[0] ^ column[1] ^ column[2] ^ column[3]
        mixed += bytes(
            column[i] ^ every ^ _double(column[i] ^ column[(i + 1) % 4]) for i in range(4)
        )
    return bytes(mixed)
