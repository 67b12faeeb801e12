# SPDX-License-Identifier: Apache-2.0
"""The name that a DNS message asks for, and the addresses that an answer gives it.

Sources: RFC 1035 sections 3.1, 3.2, 4.1 and 4.2.2, RFC 2181 section 8 (times to live), RFC 3596
(AAAA).
"""

import struct
from dataclasses import dataclass

from tests.reference.names import server_name

HEADER = 12
RECORD = 10  # bytes of a record between its name and its data
MAX_LABEL = 63
POINTER = 0xC0  # and above: the first of two bytes that point to the rest of a name
MAX_WIRE_NAME = 255
RESPONSE = 0x8000
# This project's own bounds: what has more is more likely something else on these ports.
MAX_QUESTIONS, MAX_RECORDS = 16, 512
MAX_ANSWERS, MAX_STEPS = 16, 128  # records, and labels with them, that are looked at
LEAST_SECONDS, MOST_SECONDS = 60, 3600  # that an address counts, whatever its time to live
TYPE_A, TYPE_AAAA, CLASS_IN = 1, 28, 1
LENGTHS = {TYPE_A: 4, TYPE_AAAA: 16}
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


@dataclass(frozen=True)
class Address:
    """An address of 4 or 16 bytes, and for how long it counts."""

    packed: bytes
    seconds: int


def answer_addresses(message: bytes) -> list[Address]:
    """The addresses in an answer's own section, in order, up to where it is cut or damaged.

    None where it is no answer to one question. Whose they are is not looked at: what stands there
    is the question's, by way of aliases or not.
    """
    try:
        parsed = parse_message(message)
    except ValueError:
        return []
    if parsed is None or not parsed.response or _number(message, 4) != 1:
        return []
    at = HEADER
    while message[at]:
        at += 1 + message[at]
    at += 5
    steps, found = MAX_STEPS, []
    for _ in range(min(_number(message, 6), MAX_ANSWERS)):
        while at < len(message) and 0 < message[at] <= MAX_LABEL and steps > 0:
            at += 1 + message[at]
            steps -= 1
        if at >= len(message) or steps <= 0 or 0 < message[at] < POINTER:
            break
        steps -= 1
        head = at + (2 if message[at] else 1)
        kind, group, time, length = struct.unpack(
            ">HHIH", message[head : head + RECORD].ljust(RECORD, b"\0")
        )
        at = head + RECORD + length
        if at > len(message):
            break
        if group == CLASS_IN and length == LENGTHS.get(kind):
            time = 0 if time >> 31 else time
            seconds = min(max(time, LEAST_SECONDS), MOST_SECONDS)
            found.append(Address(message[head + RECORD : at], seconds))
    return found


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
