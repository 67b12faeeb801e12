# SPDX-License-Identifier: Apache-2.0
"""QUIC packets for tests: a client's Initials of any version, split, shuffled, put into datagrams.

Sources: RFC 9000 (packets, frames), 9001 (protection), 9369 (version 2), the drafts' salts.
"""

import hashlib
import hmac
import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

V1, V2, V2_DRAFT = 1, 0x6B3343CF, 0x709A50C4
Q050, T050, T051 = (int.from_bytes(name, "big") for name in (b"Q050", b"T050", b"T051"))
CRYPTO, GOOGLES_CRYPTO = 6, 8
INITIAL, ZERO_RTT, HANDSHAKE, RETRY = 0, 1, 2, 3
LEAST_DATAGRAM = 1200  # RFC 9000, 14.1

_DRAFT_29 = "afbfec289993d24c9e9786f19c6111e04390a899"
_DRAFT_23 = "c3eef712c72ebb5a11a7d2432bb46365bef9f502"
_SALTS = {
    V1: "38762cf7f55934b34d179ae6a4c80cadccbb7f0a",
    V2: "0dede3def700a6db819381be6e269dcbf9bd2ed9",
    V2_DRAFT: "a707c203a59b47184a1d62ca570406ea7ae3e5d3",
    0xFF000022: "38762cf7f55934b34d179ae6a4c80cadccbb7f0a",
    0xFF000021: "38762cf7f55934b34d179ae6a4c80cadccbb7f0a",
    **{0xFF000000 + draft: _DRAFT_29 for draft in range(29, 33)},
    **{0xFF000000 + draft: _DRAFT_23 for draft in range(23, 29)},
    0xFF000016: "7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a",
    0xFACEB001: "7fbcdb0e7c66bbe9193a96cd21519ebd7a02644a",
    0xFACEB002: _DRAFT_23,
    0xFACEB00E: _DRAFT_23,
    Q050: "504574efd066fe2f9d945cfcdbd3a7f0d3b56b45",
    T050: "7ff579e5acd072915580304c43a2367c60488310",
    T051: "7a4edef4e7ccee5fa4506c19124fc8ccda6e033d",
}
VERSIONS = tuple(_SALTS)
GOOGLES = (Q050, T050, T051)


class Keys(NamedTuple):
    """What protects a packet (RFC 9001, 5.1)."""

    key: bytes
    iv: bytes
    hp: bytes


class Piece(NamedTuple):
    """A CRYPTO frame: a part of the handshake's bytes."""

    offset: int
    data: bytes


def number(value: int, width: int = 0) -> bytes:
    """A variable-length number (RFC 9000, 16), in `width` bytes or as few as can be."""
    bits = next(i for i in range(4) if value < 1 << (8 << i) - 2 and width <= 1 << i)
    return (value | bits << (8 << bits) - 2).to_bytes(1 << bits, "big")


def crypto(piece: Piece, width: int = 0, *, kind: int = CRYPTO) -> bytes:
    return bytes([kind]) + number(piece.offset, width) + number(len(piece.data), width) + piece.data


def ack(largest: int = 3, ranges: Sequence[tuple[int, int]] = (), *, ecn: bool = False) -> bytes:
    frame = bytes([2 + ecn]) + number(largest) + number(9) + number(len(ranges)) + number(0)
    frame += b"".join(number(gap) + number(length) for gap, length in ranges)
    return frame + (number(1) + number(0) + number(2)) * ecn


def close(reason: bytes = b"") -> bytes:
    """CONNECTION_CLOSE (RFC 9000, 19.19)."""
    return b"\x1c" + number(0x100) + number(6) + number(len(reason)) + reason


@lru_cache(256)
def keys(version: int, client_id: bytes, *, server: bool = False) -> Keys:
    """Of the Initials of one side; `client_id` is what the client first sent to."""
    secret = _hmac(bytes.fromhex(_SALTS[version]), client_id)
    secret = _expand(secret, "server in" if server else "client in", 32)
    word = "quicv2" if version in (V2, V2_DRAFT) else "quic"
    return Keys(*(_expand(secret, f"{word} {use}", n) for use, n in _USES))


def initial(
    frames: bytes,
    client_id: bytes,
    *,
    version: int = V1,
    packet: int = 0,
    to: bytes | None = None,
    source: bytes = b"",
    token: bytes = b"",
    width: int = 1,
    least: int = 0,
    server: bool = False,
) -> bytes:
    """A protected Initial with these frames, padded until it has `least` bytes.

    `to`: the id it is sent to, where that is not `client_id` any more. `width`: of its number.
    """
    to = client_id if to is None else to
    kind = 1 if version in (V2, V2_DRAFT) else 0
    head = bytes([0xC0 | kind << 4 | width - 1]) + struct.pack(">I", version)
    head += bytes([len(to)]) + to + bytes([len(source)]) + source + number(len(token)) + token
    around = len(head) + 2 + width + 16
    frames = frames.ljust(max(least - around, 4 - width + 1), b"\0")
    head += number(width + len(frames) + 16, 2) + packet.to_bytes(width, "big")
    return protect(head, frames, keys(version, client_id, server=server), packet, width)


def protect(head: bytes, frames: bytes, by: Keys, packet: int, width: int) -> bytes:
    """RFC 9001, 5.3 and 5.4."""
    nonce = int.from_bytes(by.iv, "big") ^ packet
    sealed = AESGCM(by.key).encrypt(nonce.to_bytes(12, "big"), frames, head)
    sample = sealed[4 - width : 20 - width]
    cipher = Cipher(algorithms.AES(by.hp), modes.ECB()).encryptor()
    mask = cipher.update(sample)
    hidden = bytes(a ^ b for a, b in zip(head[-width:], mask[1:], strict=False))
    return bytes([head[0] ^ mask[0] & 0x0F]) + head[1:-width] + hidden + sealed


def unopenable(seed: int) -> bytes:
    """A datagram that is an Initial by its header, of another random id each, and noise behind."""
    source = random.Random(seed)
    head = bytes([0xC0 | source.randrange(16)]) + struct.pack(">I", V1) + b"\x08"
    head += source.randbytes(8) + b"\0\0"
    body = LEAST_DATAGRAM - len(head) - 2
    return head + number(body, 2) + source.randbytes(body)


def long_packet(kind: int, to: bytes, payload: bytes, *, version: int = V1) -> bytes:
    """A 0-RTT or Handshake packet, of bytes that nobody can open."""
    if version in (V2, V2_DRAFT):
        kind = kind + 1 & 3
    head = bytes([0xC0 | kind << 4]) + struct.pack(">I", version)
    return head + bytes([len(to)]) + to + b"\0" + number(len(payload), 2) + payload


def retry(to: bytes, source: bytes, token: bytes, *, version: int = V1) -> bytes:
    """RFC 9000, 17.2.5; with a tag that is not right."""
    kind = 0 if version in (V2, V2_DRAFT) else RETRY
    head = bytes([0xC0 | kind << 4]) + struct.pack(">I", version)
    return head + bytes([len(to)]) + to + bytes([len(source)]) + source + token + bytes(16)


def google_hello(name: bytes | None, *, others: int = 3, size: int = 1024) -> bytes:
    """Google's CHLO: tags and where their values end, then the values."""
    values = [(b"PAD\0", bytes(size)), (b"VER\0", b"Q043"), (b"CCS\0", bytes(16))][:others]
    values[1:1] = [(b"SNI\0", name)] if name is not None else []
    head, end = b"CHLO" + struct.pack("<HH", len(values), 0), 0
    for tag, value in values:
        end += len(value)
        head += tag + struct.pack("<I", end)
    return head + b"".join(value for _, value in values)


def google_packet(hello: bytes, version: bytes, *, width: int = 1) -> bytes:
    """A client's first packet of Q024 to Q049: a stream frame with this hello."""
    frame = b"\xa0\x01" + struct.pack(">H", len(hello)) + hello
    if version >= b"Q044":
        head = bytes([0xC0 | width - 1]) + version + b"\x50" + bytes(8)
    else:
        head = bytes([0x0D | {1: 0, 2: 0x10, 4: 0x20, 6: 0x30}[width]]) + bytes(8) + version
    flags = b"\0" if version < b"Q034" else b""
    return head + bytes(width - 1) + b"\x01" + bytes(12) + flags + frame


@dataclass
class Client:
    """A client's first packets, all to the same connection id unless told otherwise."""

    client_id: bytes
    version: int = V1
    packet: int = 0

    def datagram(self, *pieces: Piece, least: int = LEAST_DATAGRAM) -> bytes:
        """One Initial with these pieces of the hello."""
        frames = b"".join(crypto(piece) for piece in pieces)
        self.packet += 1
        return initial(
            frames, self.client_id, version=self.version, packet=self.packet - 1, least=least
        )


_USES = (("key", 16), ("iv", 12), ("hp", 16))


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _expand(secret: bytes, label: str, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446, 7.1) of no more than a hash's length."""
    name = b"tls13 " + label.encode()
    return _hmac(secret, struct.pack(">HB", length, len(name)) + name + b"\0\x01")[:length]
