# SPDX-License-Identifier: Apache-2.0
"""Every frame goes where the oracle says: to its flow, or to the counter of its reason."""

import random

import pytest

from tests.bpf.plane import Plane
from tests.effort import examples, some
from tests.framecases import NO_FLOW, WITH_FLOW, Expected
from tests.packets import CLIENT, SERVER, UDP, ethernet, ipv4, udp, vlan
from tests.reference.packet import Fragments

# Its memory of first fragments grows with the data plane's: both last for the session.
ORACLE = Fragments()


def assert_as_the_oracle(plane: Plane, frame: bytes) -> None:
    """Send one frame to an empty table and compare."""
    plane.clear()
    before = plane.counters("REASON_")
    expected = ORACLE.parse(frame)
    plane.send(frame)
    flows, reasons = plane.flows(), plane.counted(before)
    if isinstance(expected, str):
        assert flows == [], frame.hex()
        assert reasons == {f"REASON_{expected.upper()}": (1, len(frame))}, frame.hex()
        return
    assert reasons == {}, frame.hex()
    assert [(f.vlan, f.l4, *f.ends) for f in flows] == [expected.key], frame.hex()
    sender = flows[0].ends.index((expected.src, expected.sport))
    assert (flows[0].packets[sender], flows[0].bytes[sender]) == (1, len(frame)), frame.hex()
    assert (sum(flows[0].packets), sum(flows[0].bytes)) == (1, len(frame)), frame.hex()


@pytest.mark.parametrize(("frame", "expected"), WITH_FLOW.values(), ids=list(WITH_FLOW))
def test_a_frame_belongs_to_its_flow(plane: Plane, frame: bytes, expected: Expected) -> None:
    assert_as_the_oracle(plane, frame)


@pytest.mark.parametrize(("frame", "reason"), NO_FLOW.values(), ids=list(NO_FLOW))
def test_a_frame_without_a_flow_has_a_reason(plane: Plane, frame: bytes, reason: str) -> None:
    assert_as_the_oracle(plane, frame)


@pytest.mark.parametrize(("frame", "expected"), WITH_FLOW.values(), ids=list(WITH_FLOW))
def test_every_cut(plane: Plane, frame: bytes, expected: Expected) -> None:
    for length in some(range(plane.shortest(frame), len(frame))):
        assert_as_the_oracle(plane, frame[:length])


def test_damaged_frames(plane: Plane) -> None:
    source = random.Random(20)
    frames = [frame for frame, _ in (*WITH_FLOW.values(), *NO_FLOW.values())]
    for _ in examples(3000):
        frame = bytearray(source.choice(frames))
        for _ in range(source.randint(1, 4)):
            # Most of what a parser can trip over stands in the first bytes.
            frame[source.randrange(12, min(len(frame), 90))] = source.randrange(256)
        assert_as_the_oracle(plane, bytes(frame))


def test_fragments_belong_to_the_flow_of_the_first(plane: Plane) -> None:
    datagram = udp(bytes(4000), CLIENT, SERVER)
    pieces = [
        ethernet(ipv4(datagram[at : at + 1480], CLIENT, SERVER, UDP, offset=at, more=at < 2960))
        for at in range(0, len(datagram), 1480)
    ]
    before = plane.counters("REASON_")
    for piece in pieces:
        ORACLE.parse(piece)
    plane.send(*pieces)
    (flow,) = plane.flows()
    assert {port for _, port in flow.ends} == {CLIENT.port, SERVER.port}
    assert sum(flow.packets) == len(pieces) == 3
    assert sum(flow.bytes) == sum(map(len, pieces))
    assert plane.counted(before) == {}


def test_a_prime_number_of_packets_is_counted_exactly(plane: Plane) -> None:
    talk = plane.new_talk()
    there, back = talk.tcp(b"x" * 100), talk.tcp(from_client=False)
    plane.send(*[there] * 23, *[back] * 19)
    flow = plane.flow(talk)
    assert flow is not None
    assert sorted(zip(flow.packets, flow.bytes, strict=True)) == sorted(
        [(23, 23 * len(there)), (19, 19 * len(back))]
    )


def test_fragments_of_another_vlan_are_of_another_datagram(plane: Plane) -> None:
    whole = udp(bytes(64), CLIENT, SERVER)
    first = ipv4(whole[:32], CLIENT, SERVER, UDP, identification=77, more=True)
    later = ipv4(whole[32:], CLIENT, SERVER, UDP, identification=77, offset=32)
    before = plane.counters("REASON_FRAGMENT")
    plane.send(ethernet(first, tags=[vlan(7)]), ethernet(later, tags=[vlan(8)]))
    assert plane.counted(before)["REASON_FRAGMENT"][0] == 1
    plane.send(ethernet(later, tags=[vlan(7)]))
    (flow,) = plane.flows()
    assert sum(flow.packets) == 2
