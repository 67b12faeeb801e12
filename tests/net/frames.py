# SPDX-License-Identifier: Apache-2.0
"""Raw frames onto a cable, from within its namespace."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.net.conftest import End
from xdpprobe import netns

# An experimental EtherType (IEEE 802, 88B5): nothing on the way answers it.
FRAME = b"\xff" * 6 + b"\x02\0\0\0\0\x01" + b"\x88\xb5" + bytes(50)


@contextmanager
def sender(end: End) -> Iterator[socket.socket]:
    """A packet socket that sends on the interface of `end`."""
    with netns.entered(netns.named(end.namespace.name)):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        opened.bind((end.interface, 0))
    with opened:
        yield opened


def send(end: End, count: int, frame: bytes = FRAME) -> None:
    """Sends a frame `count` times."""
    with sender(end) as opened:
        for _ in range(count):
            opened.send(frame)
