# SPDX-License-Identifier: Apache-2.0
"""Ports used again, forged SYNs, and the identification numbers of fragments."""

import numpy as np
import pytest

from tests import hellos
from tests.bpf.instances import lent
from tests.bpf.plane import Plane
from tests.packets import (
    ACK,
    FIN,
    RST,
    SYN,
    UDP,
    Conversation,
    Endpoint,
    ethernet,
    ipv4,
    udp,
    vxlan,
)
from xdpprobe.clock import Clock

OLD, NEW = b"old.example", b"new.example"


def hello(name: bytes) -> bytes:
    return hellos.records(hellos.browser_hello(name, seed=8))


def name(plane: Plane, talk: Conversation) -> str | None:
    flow = plane.flow(talk)
    assert flow is not None
    return flow.name


def begun(plane: Plane) -> tuple[Conversation, Conversation]:
    """A named connection, and another one with the same addresses and ports."""
    talk = plane.new_talk()
    plane.send(*talk.handshake(), *talk.segments(hello(OLD)))
    assert name(plane, talk) == OLD.decode()
    again = Conversation(talk.client, talk.server, client_isn=777_000_000, server_isn=888_000_000)
    return talk, again


def test_a_new_connection_after_a_fin(plane: Plane) -> None:
    """Of a connection whose other direction goes another way."""
    talk, again = begun(plane)
    plane.send(talk.tcp(seq=5000, flags=FIN | ACK))
    plane.send(again.handshake()[0], again.handshake()[2], *again.segments(hello(NEW)))
    assert name(plane, again) == NEW.decode()


def test_a_new_connection_after_silence(plane: Plane) -> None:
    _, again = begun(plane)
    hot = plane.loaded.array("flow_hot", writable=True)
    clock = Clock(plane.loaded.prog_fd("clock_read"), plane.loaded.map_fd("clock"))
    now = clock.reading(plane.loaded.hz).jiffies
    hot["seen"][np.flatnonzero(hot["tag"])] = (now - 6 * plane.loaded.hz) % 2**32
    plane.send(*again.handshake(), *again.segments(hello(NEW)))
    assert name(plane, again) == NEW.decode()


def test_the_answer_to_a_syn_that_went_another_way(plane: Plane) -> None:
    talk, again = begun(plane)
    plane.send(talk.tcp(seq=5000, flags=RST))
    plane.send(again.handshake()[1], again.handshake()[2], *again.segments(hello(NEW)))
    assert name(plane, again) == NEW.decode()


def test_the_same_syn_again_changes_nothing(plane: Plane) -> None:
    talk, _ = begun(plane)
    plane.send(talk.tcp(seq=5000, flags=FIN | ACK), talk.handshake()[0])
    assert name(plane, talk) == OLD.decode()


def test_a_forged_syn_does_not_hide_a_hello(plane: Plane) -> None:
    talk = plane.new_talk()
    forged = Conversation(talk.client, talk.server, client_isn=1 << 30)
    plane.send(*talk.handshake(), forged.handshake()[0], *talk.segments(hello(OLD)))
    assert name(plane, talk) == OLD.decode()


@pytest.mark.parametrize("flags", [SYN, SYN | ACK])
@pytest.mark.parametrize("from_client", [True, False])
def test_a_forged_syn_does_not_turn_a_flow_round(
    plane: Plane, flags: int, from_client: bool
) -> None:
    talk, forged = begun(plane)
    hot = plane.loaded.array("flow_hot")
    (index,) = np.flatnonzero(hot["tag"])
    initiator = plane.loaded.abi.enums["flow_flag"]["FLOW_INITIATOR_1"]
    before = int(hot["flags"][index]) & initiator
    plane.send(forged.tcp(seq=0, flags=flags, from_client=from_client))
    assert int(hot["flags"][index]) & initiator == before
    assert name(plane, talk) == OLD.decode()


def fragments(port: int, network: int | None = None) -> tuple[bytes, bytes]:
    """A datagram of 2 fragments, in a VXLAN network or not."""
    source, destination = Endpoint("192.0.2.1", port), Endpoint("198.51.100.9", port)
    whole = udp(bytes(1000), source, destination)
    halves = (ipv4(whole[:504], source, destination, UDP, more=True, identification=77),)
    halves += (ipv4(whole[504:], source, destination, UDP, offset=504, identification=77),)
    if network is None:
        return ethernet(halves[0]), ethernet(halves[1])
    near, far = Endpoint("203.0.113.1", 50000), Endpoint("203.0.113.2", 4789)
    outer = [udp(vxlan(ethernet(half), network), near, far) for half in halves]
    first, second = (ethernet(ipv4(datagram, near, far, UDP)) for datagram in outer)
    return first, second


def test_fragments_of_two_networks_with_the_same_addresses() -> None:
    with lent({"tunnels": 1}, flows=1024) as loaded:
        for hook in ("xdp", "tc"):
            plane = Plane(loaded, hook)
            plane.clear()
            one, two = fragments(1111, 1), fragments(2222, 2)
            plane.send(one[0], two[0], one[1], two[1])
            found = sorted((flow.ends[0][1], sum(flow.packets)) for flow in plane.flows())
            assert found == [(1111, 2), (2222, 2)]


def test_a_fragment_is_not_of_a_datagram_of_long_ago() -> None:
    with lent({"fragment_timeout": 0}, flows=1024, programs=["xdp_entry"]) as loaded:
        plane = Plane(loaded, "xdp")
        first, second = fragments(1111)
        plane.send(first)
        clock = Clock(loaded.prog_fd("clock_read"), loaded.map_fd("clock"))
        then = clock.reading(loaded.hz).jiffies
        while clock.reading(loaded.hz).jiffies <= then + 1:
            pass
        before = plane.counters("REASON_FRAGMENT")
        plane.send(second)
        assert plane.counted(before)["REASON_FRAGMENT"][0] == 1
