# SPDX-License-Identifier: Apache-2.0
"""A hello assembler full of hellos that nobody finishes: what real ones lose, and for how long."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

from tests import hellos
from tests.bpf.instances import lent
from tests.bpf.plane import FEW_HELLOS, FLOWS, HELLOS, HOOKS, Plane
from tests.effort import some
from tests.packets import Conversation
from xdpprobe import syscall

FATES = ("LOSS_HELLO_FULL", "LOSS_HELLO_AGED", "LOSS_HELLO_BUSY")
# Jiffies. Far longer than a test takes, so that no slot gets old but by Slots.age.
TIMEOUT = 1 << 20
PATIENCE = TIMEOUT // 8  # HELLO_PATIENCE: what an answered hello gets at least
REAL = 200


@pytest.fixture(params=some(list(HOOKS)))
def fresh(request: pytest.FixtureRequest) -> Iterator[Plane]:
    only = [HOOKS[request.param][0]]
    constants, sizes = {"hello_timeout": TIMEOUT, **FEW_HELLOS}, {"hello_slots": HELLOS}
    with lent(constants, flows=FLOWS, sizes=sizes, programs=only) as loaded:
        yield Plane(loaded, request.param)


@cache
def message(name: str) -> bytes:
    return hellos.records(hellos.browser_hello(name.encode(), seed=3))


def segments(talk: Conversation, name: str) -> list[bytes]:
    """A browser's hello, in two."""
    found = talk.segments(message(name), 1400)
    assert len(found) == 2
    return found


class Slots:
    """The slots of the assembler, read and written as the map has them."""

    def __init__(self, plane: Plane) -> None:
        self._fd = plane.loaded.map_fd("hello_slots")
        self._dtype = plane.loaded.abi.element_dtype("hello_slots")
        self.count = plane.room("hello_slots")

    def _all(self) -> np.ndarray:
        data = syscall.lookup_all(self._fd, self.count, self._dtype.itemsize)
        return np.frombuffer(bytearray(data), self._dtype)

    def used(self) -> int:
        """How many hold an unfinished hello."""
        return int((self._all()["owner"] != 0).sum())

    def age(self, jiffies: int) -> None:
        """Make all that are held look as if they were begun so much earlier."""
        slots = self._all()
        slots["born"] = (slots["born"].astype(np.int64) - jiffies) % 2**32
        entries = [(n.to_bytes(4, "little"), slot.tobytes()) for n, slot in enumerate(slots)]
        syscall.update_many(self._fd, entries, "cannot write the slots")


def fill(plane: Plane, connections: int) -> None:
    """Connections that were answered, and send the first half of a hello."""
    for _ in range(connections):
        talk = plane.new_talk()
        plane.send(*talk.handshake(), segments(talk, "half.example")[0])


def real_hellos(plane: Plane) -> int:
    """Whole hellos; how many of their flows got their name."""
    talks = [plane.new_talk() for _ in range(REAL)]
    for number, talk in enumerate(talks):
        plane.send(*talk.handshake(), *segments(talk, f"site{number}.example"))
    flows = [plane.flow(talk) for talk in talks]
    names = [flow.name for flow in flows if flow is not None]
    assert len(names) == REAL
    assert all(name in (None, f"site{number}.example") for number, name in enumerate(names))
    return sum(name is not None for name in names)


def test_each_half_hello_stands_in_a_slot_or_in_a_counter(fresh: Plane) -> None:
    slots = Slots(fresh)
    before = fresh.counters("LOSS_")
    fill(fresh, 4 * slots.count)
    gains = fresh.counted(before)
    assert gains["LOSS_HELLO_FULL"][0] > 0
    assert slots.used() + sum(gains.pop(fate, (0, 0))[0] for fate in FATES) == 4 * slots.count
    assert gains == {}


def test_real_hellos_are_named_again_once_the_halves_are_old(fresh: Plane) -> None:
    slots = Slots(fresh)
    fill(fresh, 2 * slots.count)
    before = fresh.counters("LOSS_HELLO_FULL")
    nameless = REAL - real_hellos(fresh)
    # Each segment that finds no slot counts.
    full = fresh.counted(before).get("LOSS_HELLO_FULL", (0, 0))[0]
    assert nameless <= full <= 2 * nameless
    slots.age(PATIENCE + 1)
    before = fresh.counters("LOSS_HELLO_FULL")
    assert real_hellos(fresh) == REAL
    assert fresh.counted(before) == {}
