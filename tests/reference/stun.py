# SPDX-License-Identifier: Apache-2.0
"""A plain reader of STUN's attributes (RFC 8489, 5 and 14), to hold the data plane against."""

from typing import NamedTuple

HEADER, COOKIE = 20, b"\x21\x12\xa4\x42"


class Attribute(NamedTuple):
    """One attribute."""

    type: int
    value: bytes


def attributes(payload: bytes) -> list[Attribute] | None:
    """The attributes as far as they are there; None: not a message with the magic cookie."""
    size = int.from_bytes(payload[2:4], "big")
    if len(payload) < HEADER or payload[0] & 0xC0 or payload[4:8] != COOKIE or size % 4:
        return None
    body = payload[HEADER : HEADER + size]
    found = []
    while len(body) >= 4:
        length = int.from_bytes(body[2:4], "big")
        if length > len(body) - 4:
            break
        found.append(Attribute(int.from_bytes(body[:2], "big"), body[4 : 4 + length]))
        body = body[4 + (length + 3) // 4 * 4 :]
    return found
