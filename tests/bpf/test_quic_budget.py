# SPDX-License-Identifier: Apache-2.0
"""Floods of Initials: no more of them are opened, or tried, than the budget has, the rest is
counted, costs little, and leaves other flows alone; who was skipped gets a name by its next
Initial."""

import os
from collections.abc import Iterator
from time import monotonic

import pytest

from tests import hellos, quic
from tests.bpf.instances import lent
from tests.bpf.plane import FLOWS, HOOKS, Plane
from tests.effort import examples, some
from tests.packets import UDP
from tests.quic import Piece
from xdpprobe.bench.feeder import Feeder
from xdpprobe.bench.frames import Route
from xdpprobe.bench.rows import Row
from xdpprobe.loader import Loaded

RATE, BURST = 1000, 50  # Initials a CPU and second
FLOOD = 1_000_000
NAME = "www.example.org"


@pytest.fixture(scope="module")
def frugal() -> Iterator[Loaded]:
    constants = {"quic_rate": RATE, "quic_burst": BURST}
    with lent(constants, flows=FLOWS, names=FLOWS) as loaded:
        yield loaded


def datagram(seed: int = 0) -> bytes:
    hello = hellos.simple_hello(NAME.encode(), seed=seed)
    return quic.Client(b"client").datagram(Piece(0, hello))


def packets(plane: Plane, *names: str) -> list[int]:
    counters = plane.counters()
    return [counters[name][0] for name in names]


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """Each has a budget of its own."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("hook", some(list(HOOKS)))
def test_a_flood_of_initials(frugal: Loaded, hook: str) -> None:
    """A million Initials of new flows each."""
    plane = Plane(frugal, hook)
    route = Route(443)
    row = Row("flood", route, (route.udp(datagram()),))
    count = len(examples(FLOOD))
    before = packets(plane, "INFO_QUIC_OPENED", "LOSS_QUIC_BUDGET", "INFO_INSPECTED")
    with Feeder(hook, frugal.prog_fd(HOOKS[hook][0]), row, row.frames, 1) as feeder:
        began = monotonic()
        feeder.tested(count)
        took = monotonic() - began
    after = packets(plane, "INFO_QUIC_OPENED", "LOSS_QUIC_BUDGET", "INFO_INSPECTED")
    opened, skipped, inspected = (b - a for a, b in zip(before, after, strict=True))
    assert inspected == count
    # A flow may come a second time while its name still stands.
    assert inspected - opened <= opened + skipped <= inspected
    assert opened <= 1.1 * (RATE * took + BURST)
    assert opened >= BURST
    talk = plane.new_talk()
    other = hellos.records(hellos.simple_hello(NAME.encode()))
    plane.send(*talk.handshake(), *talk.segments(other))
    found = plane.flow(talk)
    assert found is not None
    assert found.name == NAME


@pytest.mark.usefixtures("one_cpu")
@pytest.mark.parametrize("hook", some(list(HOOKS)))
def test_a_flood_of_initials_that_nobody_can_open(frugal: Loaded, hook: str) -> None:
    """Of random ids and bytes: each is tried or skipped, and counted; named flows stay so."""
    plane = Plane(frugal, hook)
    plane.clear()
    named = {}
    for number in range(100):
        talk, name = plane.new_talk(), f"host{number}.example.org"
        hello = hellos.records(hellos.simple_hello(name.encode()))
        plane.send(*talk.handshake(), *talk.segments(hello))
        named[talk] = name
    route, count = Route(443), len(examples(FLOOD))
    row = Row("flood", route, tuple(route.udp(quic.unopenable(seed)) for seed in range(64)))
    counters = ("INFO_QUIC_OPENED", "LOSS_QUIC_SEALED", "LOSS_QUIC_BUDGET", "INFO_INSPECTED")
    before = packets(plane, *counters)
    with Feeder(hook, frugal.prog_fd(HOOKS[hook][0]), row, row.frames, 1) as feeder:
        began = monotonic()
        feeder.tested(count)
        took = monotonic() - began
    after = packets(plane, *counters)
    opened, sealed, skipped, inspected = (b - a for a, b in zip(before, after, strict=True))
    assert (opened, inspected) == (0, count)
    assert sealed + skipped == count
    assert BURST <= sealed <= 1.1 * (RATE * took + BURST)
    for talk, name in named.items():
        found = plane.flow(talk)
        assert found is not None
        assert found.name == name


@pytest.mark.parametrize("hook", some(list(HOOKS)))
def test_who_was_skipped_is_named_by_the_next_initial(frugal: Loaded, hook: str) -> None:
    plane = Plane(frugal, hook)
    frame = datagram()
    talks = [plane.new_talk() for _ in range(20 * BURST)]
    plane.send(*(talk.udp(frame) for talk in talks))
    unnamed = {flow.ends for flow in plane.flows() if flow.name is None}
    skipped = next(
        talk
        for talk in talks
        if tuple(sorted((end.mapped, end.port) for end in (talk.client, talk.server))) in unnamed
    )
    # As often as it takes, and no longer than a second's budget: packets skipped are not spent.
    end = monotonic() + 10
    while monotonic() < end:
        plane.send(skipped.udp(frame))
        found = plane.flow(skipped, UDP)
        assert found is not None
        if found.name:
            break
    assert found.name == NAME
