# SPDX-License-Identifier: Apache-2.0
import pytest

from tests import packets as p
from tests.framecases import NO_FLOW, WITH_FLOW, Expected
from tests.packets import CLIENT, SERVER, Conversation
from tests.reference.packet import FlowPacket, Fragments, parse_frame


@pytest.mark.parametrize(("frame", "expected"), WITH_FLOW.values(), ids=list(WITH_FLOW))
def test_a_frame_belongs_to_its_flow(frame: bytes, expected: Expected) -> None:
    flow = parse_frame(frame)
    assert isinstance(flow, FlowPacket)
    assert (flow.vlan, flow.l4) == (expected.vlan, expected.l4)
    assert (flow.src, flow.sport) == (expected.source.mapped, expected.source.port)
    assert (flow.dst, flow.dport) == (expected.destination.mapped, expected.destination.port)
    assert flow.payload == expected.payload


@pytest.mark.parametrize(("frame", "reason"), NO_FLOW.values(), ids=list(NO_FLOW))
def test_a_frame_without_a_flow_has_a_reason(frame: bytes, reason: str) -> None:
    assert parse_frame(frame) == reason


@pytest.mark.parametrize(("frame", "expected"), WITH_FLOW.values(), ids=list(WITH_FLOW))
def test_a_cut_frame_has_the_same_flow_or_none(frame: bytes, expected: Expected) -> None:
    whole = parse_frame(frame)
    assert isinstance(whole, FlowPacket)
    for length in range(len(frame)):
        flow = parse_frame(frame[:length])
        if isinstance(flow, FlowPacket):
            assert flow.key == whole.key
            assert expected.payload.startswith(flow.payload)
        else:
            assert flow == "truncated"


def test_both_directions_are_one_flow() -> None:
    talk = Conversation()
    there, back = parse_frame(talk.tcp()), parse_frame(talk.tcp(from_client=False))
    assert isinstance(there, FlowPacket)
    assert isinstance(back, FlowPacket)
    assert there.key == back.key
    assert there.src == back.dst


def datagram_in_fragments(size: int = 3000) -> tuple[bytes, list[bytes]]:
    datagram = p.udp(bytes(range(256)) * (size // 256), CLIENT, SERVER)
    pieces = []
    for at in range(0, len(datagram), 1480):
        piece, more = datagram[at : at + 1480], at + 1480 < len(datagram)
        packet = p.ipv4(piece, CLIENT, SERVER, p.UDP, offset=at, more=more, identification=77)
        pieces.append(p.ethernet(packet))
    return datagram, pieces


def test_later_fragments_have_the_ports_of_the_first() -> None:
    _, pieces = datagram_in_fragments()
    assert len(pieces) == 2
    table = Fragments()
    first, second = table.parse(pieces[0]), table.parse(pieces[1])
    assert isinstance(first, FlowPacket)
    assert isinstance(second, FlowPacket)
    assert first.key == second.key
    assert second.payload == b""


def test_a_later_fragment_without_its_first_belongs_nowhere() -> None:
    _, pieces = datagram_in_fragments()
    assert Fragments().parse(pieces[1]) == "fragment"
