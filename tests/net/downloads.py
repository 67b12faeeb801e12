# SPDX-License-Identifier: Apache-2.0
"""Real TCP connections between the two ends of a cable, or of devices above it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests import hellos
from tests.net.conftest import End
from xdpprobe import netns

AMOUNT = 3_000_017  # bytes of a download


@contextmanager
def connected(client: End, server: End, port: int = 443) -> Iterator[tuple[socket.socket, ...]]:
    """A TCP connection between two ends."""
    with netns.entered(netns.named(server.namespace.name)):
        listening = socket.create_server((server.v4, port))
    with listening:
        with netns.entered(netns.named(client.namespace.name)):
            near = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with near:
            near.connect((server.v4, port))
            far, _ = listening.accept()
            with far:
                yield near, far


def download(client: End, server: End, amount: int = AMOUNT) -> None:
    """The client sends a ClientHello for www.youtube.com, the server sends bytes and closes."""
    with connected(client, server) as (near, far):
        near.sendall(hellos.records(hellos.simple_hello(b"www.youtube.com")))
        far.recv(4096)
        thread = threading.Thread(target=lambda: (far.sendall(bytes(amount)), far.close()))
        thread.start()
        while near.recv(1 << 16):
            pass
        thread.join()
