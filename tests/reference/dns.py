# SPDX-License-Identifier: Apache-2.0
"""The name that a DNS message asks for. Source: RFC 1035 sections 3.1, 4.1 and 4.2.2."""

from dataclasses import dataclass

from tests.reference.names import server_name

HEADER = 12
MAX_LABEL = 63
MAX_WIRE_NAME = 255
RESPONSE = 0x8000
# This project's own bounds: what has more is more likely something else on these ports.
MAX_QUESTIONS, MAX_RECORDS = 16, 512
OPCODES = range(7)  # RFC 8490 has the highest; 3 was never assigned, and does no harm


@dataclass(frozen=True)
class Message:
    """The first question's name (None: the root, or a name with bytes no host name has) and type;
    `response`: whether this is an answer."""

    name: str | None
    type: int
    response: bool


def parse_message(message: bytes) -> Message | None:
    """The message of a datagram. None: it was cut. ValueError: no DNS message, or no question."""
    if len(message) < HEADER:
        return None
    flags, questions = _number(message, 2), _number(message, 4)
    if flags >> 11 & 0xF not in OPCODES or questions == 0:
        raise ValueError("no question")
    if questions > MAX_QUESTIONS or max(_number(message, at) for at in (6, 8, 10)) > MAX_RECORDS:
        raise ValueError("more questions or records than a message has")
    labels, at = [], HEADER
    while True:
        if at >= len(message):
            return None
        length = message[at]
        if length == 0:
            break
        # The first name of a message has nothing before it that a pointer could point at.
        if length > MAX_LABEL:
            raise ValueError("a label of forbidden length")
        labels.append(message[at + 1 : at + 1 + length])
        at += 1 + length
        if at - HEADER + 1 > MAX_WIRE_NAME:
            raise ValueError("a name of more than 255 bytes")
    if at + 5 > len(message):
        return None
    name = server_name(b".".join(labels)) if labels else None
    return Message(name, _number(message, at + 1), bool(flags & RESPONSE))


def parse_stream(stream: bytes) -> Message | None:
    """The first message of a TCP stream, where two bytes of length precede each."""
    if len(stream) < 2:
        return None
    length = _number(stream, 0)
    if length < HEADER:
        raise ValueError("a message shorter than its header")
    answer = parse_message(stream[2 : 2 + length])
    if answer is None and len(stream) >= 2 + length:
        raise ValueError("a message that ends inside its question")
    return answer


def _number(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 2], "big")
