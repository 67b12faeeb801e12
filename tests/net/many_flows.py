# SPDX-License-Identifier: Apache-2.0
"""Sends datagrams, each of a flow of its own, as fast as it can, until its input ends.

    python -m tests.net.many_flows INTERFACE [PAYLOAD...]

Run in the interface's namespace. Flow i asks for the i-th of NAMES, and so on round and round; or
it sends the i-th of the payloads (in hex). Prints how many it sent.
"""

import select
import socket
import struct
import sys

from tests import messages
from tests.packets import Conversation, Endpoint

NAMES = [f"n{number:03}.corp.example" for number in range(500)] + ["www.youtube.com"]
CLIENT_AT, PORT_AT = 26, 34  # offsets of the client's address and port in a frame


def frame(name: str) -> bytes:
    """A query for the name; which flow it is of is written over it."""
    talk = Conversation(Endpoint("10.0.0.0", 1024), Endpoint("198.51.100.53", 53))
    return talk.udp(messages.dns_query(name.encode()))


def other(payload: bytes) -> bytes:
    """A datagram to a port that says nothing."""
    talk = Conversation(Endpoint("10.0.0.0", 1024), Endpoint("198.51.100.53", 9000))
    return talk.udp(payload)


def main(interface: str, payloads: list[bytes]) -> int:
    """Sends; returns how many."""
    frames = [bytearray(frame(name)) for name in NAMES]
    if payloads:
        frames = [bytearray(other(payload)) for payload in payloads * 200]
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as cable:
        cable.bind((interface, 0))
        while not select.select([sys.stdin], [], [], 0)[0]:
            for octets in frames:
                struct.pack_into(">I", octets, CLIENT_AT, 10 << 24 | sent >> 8)
                struct.pack_into(">H", octets, PORT_AT, 1024 + (sent & 0xFF))
                cable.send(octets)
                sent += 1
    return sent


if __name__ == "__main__":
    print(main(sys.argv[1], [bytes.fromhex(text) for text in sys.argv[2:]]))
