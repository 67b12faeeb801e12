# SPDX-License-Identifier: Apache-2.0
"""What a client's QUIC Initials hold, opened by another's cipher and without a look at the tag.

Sources: RFC 9000 (packets, frames), 9001 (protection), 9369 (version 2).
"""

from collections.abc import Iterable, Iterator

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests import quic

TAG = 16


class Fields:
    """A cursor over bytes; ValueError beyond their end."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ValueError("a field reaches beyond what holds it")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        """RFC 9000, 16."""
        size = 1 << (self.take(1)[0] >> 6)
        self.at -= 1
        return int.from_bytes(self.take(size), "big") & (1 << (8 * size - 2)) - 1


def initials(datagram: bytes, ids: Iterable[bytes] = ()) -> Iterator[bytes]:
    """What the datagram's Initials hold under the keys of their own ids and of `ids`, right or
    wrong. Ends where the datagram is none of QUIC's."""
    fields = Fields(datagram)
    try:
        while fields.at < len(datagram):
            start = fields.at
            first = fields.take(1)[0]
            version = int.from_bytes(fields.take(4), "big")
            if first & 0xC0 != 0xC0 or version not in quic.VERSIONS:
                return
            own = fields.take(fields.take(1)[0])
            fields.take(fields.take(1)[0])
            kind = (first >> 4) - (version in (quic.V2, quic.V2_DRAFT)) & 3
            if kind == quic.RETRY:
                return
            if kind == quic.INITIAL:
                fields.take(fields.number())
            length = fields.number()
            at = fields.at - start
            fields.take(length)
            if kind == quic.INITIAL and length >= 4 + TAG:
                packet = datagram[start : fields.at]
                for client_id in {own, *ids}:
                    yield _clear(packet, at, quic.keys(version, client_id))
    except ValueError:
        return


def _clear(packet: bytes, at: int, by: quic.Keys) -> bytes:
    cipher = Cipher(algorithms.AES(by.hp), modes.ECB()).encryptor()
    mask = cipher.update(packet[at + 4 : at + 20])
    width = ((packet[0] ^ mask[0]) & 3) + 1
    hidden = zip(packet[at : at + width], mask[1:], strict=False)
    number = int.from_bytes(bytes(a ^ b for a, b in hidden), "big")
    nonce = (int.from_bytes(by.iv, "big") ^ number).to_bytes(12, "big")
    counter = modes.CTR(nonce + b"\0\0\0\2")
    return Cipher(algorithms.AES(by.key), counter).decryptor().update(packet[at + width : -TAG])


def pieces(clear: bytes) -> list[quic.Piece]:
    """The CRYPTO frames of what was opened, up to the first frame that is no Initial's."""
    fields, found = Fields(clear), []
    try:
        while fields.at < len(clear):
            kind = fields.number()
            if kind in (quic.CRYPTO, quic.GOOGLES_CRYPTO):
                offset = fields.number()
                found.append(quic.Piece(offset, fields.take(fields.number())))
            elif kind in (2, 3):
                fields.number()
                fields.number()
                for _ in range(1 + 2 * fields.number() + 3 * (kind == 3)):
                    fields.number()
            elif kind == 0x1C:
                fields.number()
                fields.number()
                fields.take(fields.number())
            elif kind > 1:
                break
    except ValueError:
        pass
    return found
