# SPDX-License-Identifier: Apache-2.0
"""Floods of one-packet flows, made in the kernel by the benchmark's feeder: millions in seconds."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

from tests.bpf.plane import HOOKS
from xdpprobe.bench.feeder import Feeder
from xdpprobe.bench.frames import SYN, Route
from xdpprobe.bench.rows import Row
from xdpprobe.loader import Loaded


class Scan(Route):
    """From one host to every port of another.

    Where the feeder would write the client's address it writes over both ports, and over the first
    of them its own once more: 256 source ports, 65,536 destination ports.
    """

    @property
    def address_at(self) -> int:
        """Offset of the source port, which the destination port follows."""
        return self.port_at


# The server is the same in all of them; the addresses stand in xdpprobe/bench/frames.py.
_SCAN, _WEB, _OTHER = Scan(443), Route(443), Route(40444)
FLOODS: dict[str, tuple[Route, bytes]] = {
    "datagrams": (_OTHER, _OTHER.udp(Random(5).randbytes(200))),
    "SYNs from many hosts": (_WEB, _WEB.tcp(sequence=0, flags=SYN)),
    "SYNs from one host": (_SCAN, _SCAN.tcp(sequence=0, flags=SYN)),
}


class Flood:
    """Each packet of it is a new flow; `sent`: (packets, bytes) so far."""

    def __init__(self, feeder: Feeder, length: int) -> None:
        self._feeder, self._length = feeder, length
        self.sent = (0, 0)

    def go_on(self, packets: int) -> None:
        """Sends so many more."""
        self._feeder.tested(packets)
        self.sent = (self.sent[0] + packets, self.sent[1] + packets * self._length)


@contextmanager
def flood(loaded: Loaded, hook: str, kind: str) -> Iterator[Flood]:
    """A flood of FLOODS before the entry point of a hook."""
    route, frame = FLOODS[kind]
    row = Row(kind, route, (frame,))
    with Feeder(hook, loaded.prog_fd(HOOKS[hook][0]), row, row.frames, 1) as feeder:
        yield Flood(feeder, len(frame))
