# SPDX-License-Identifier: Apache-2.0
"""Messages as specifications have them are named by the shipped signatures, each by itself."""

import ast
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.match_tables import Layouts
from xdpprobe import catalogue
from xdpprobe.patterns.compiler import compile_signatures
from xdpprobe.patterns.lookup import Payload, fitting
from xdpprobe.signature_table import DEPTH, LENGTH_MAX, Signature

LIST = Path(__file__).with_name("published_messages.txt")
CLIENT_PORT = 40001
FILLER = bytes(range(7, 250))
COMPILED = compile_signatures(catalogue.load().signatures, Layouts())


class Message(NamedTuple):
    """The first payload that is seen of a flow, and what it must be called."""

    protocol: str
    l4: str
    sender: str
    port: int
    data: bytes


def message(line: str) -> Message:
    protocol, l4, sender, port, length, text = line.split(" ", 5)
    head = ast.literal_eval(f'b"{text}"' if '"' not in text else f"b'''{text}'''")
    filler = FILLER * (1 + int(length) // len(FILLER))
    return Message(protocol, l4, sender, int(port), (head + filler)[: int(length)])


MESSAGES = [
    message(line) for line in LIST.read_text().splitlines() if line and not line.startswith("#")
]


def counts(signature: Signature, sent: Message) -> bool:
    """Whether it names a flow, and its port, where it goes by that alone, is the responder's."""
    if not (signature.protocol or signature.app):
        return False
    return not signature.by_port or any(
        span.low <= sent.port <= span.high for span in signature.port
    )


def named(sent: Message) -> str | None:
    ports = (sent.port, CLIENT_PORT)
    payload = Payload(
        head=sent.data[:DEPTH],
        length=min(len(sent.data), LENGTH_MAX),
        udp=sent.l4 == "udp",
        responder=sent.sender == "responder",
        ports=ports if sent.sender == "responder" else ports[::-1],
    )
    rows = COMPILED.rows[payload.kind]
    fits = (rows[number].signature for number in fitting(COMPILED, payload))
    first = next((one for one in fits if counts(one, sent)), None)
    return first and (first.protocol or first.app)


@pytest.mark.parametrize("sent", MESSAGES, ids=lambda sent: f"{sent.protocol}-{sent.port}")
def test_a_published_message(sent: Message) -> None:
    assert named(sent) == sent.protocol, sent.data[:48].hex()
