# SPDX-License-Identifier: Apache-2.0
"""Aggregates of the kernel's own making count as the packets that the wire carries. tc only: XDP
comes before they are made, and after they are cut."""

import pytest

from tests import packets as p
from tests.bpf.plane import Plane
from tests.packets import Conversation, Endpoint
from xdpprobe.loader import Loaded

PLAIN = Conversation()
TUNNEL = Conversation(Endpoint("203.0.113.1", 50000), Endpoint("203.0.113.2", 4789))
GSO_BY_FRAGS = 0xFFFF  # linux/skbuff.h


def context(segments: int, size: int) -> bytes:
    """A struct __sk_buff with gso_segs and gso_size."""
    fields = bytearray(192)
    fields[164:168] = segments.to_bytes(4, "little")
    fields[176:180] = size.to_bytes(4, "little")
    return bytes(fields)


def of_sctp(payload: bytes) -> bytes:
    return PLAIN.network(p.sctp(payload, p.CLIENT, p.SERVER), p.SCTP)


@pytest.mark.parametrize(
    ("talk", "l4", "frame", "payload", "segments", "size"),
    [
        (PLAIN, p.TCP, PLAIN.tcp(bytes(3400)), 3400, 3, 1448),
        # Cut inside of the tunnel, each with both headers.
        (TUNNEL, p.UDP, TUNNEL.udp(p.vxlan(PLAIN.tcp(bytes(2800)), 42)), 2800, 2, 1400),
        (TUNNEL, p.UDP, TUNNEL.udp(p.vxlan(PLAIN.tcp(bytes(2999)), 42)), 2999, 6, 500),
        (PLAIN, p.SCTP, of_sctp(bytes(3000)), 3000, 3, GSO_BY_FRAGS),
    ],
    ids=["tcp", "vxlan", "vxlan, many", "sctp"],
)
def test_an_aggregate_counts_as_the_packets_on_the_wire(
    loaded: Loaded,
    talk: Conversation,
    l4: int,
    frame: bytes,
    payload: int,
    segments: int,
    size: int,
) -> None:
    plane = Plane(loaded, "tc")
    plane.clear()
    # gso_segs tells only of SCTP: elsewhere it may be wrong (0 of what a guest sent).
    plane.send(frame, context=context(segments if l4 == p.SCTP else 0, size))
    flow = plane.flow(talk, l4)
    assert flow is not None
    assert sum(flow.packets) == segments
    assert sum(flow.bytes) == payload + segments * (len(frame) - payload)
