# SPDX-License-Identifier: Apache-2.0
"""Tables that are full: what gives way to what, and that each loss is counted."""

from collections.abc import Iterator

import pytest

from tests import hellos, messages
from tests.bpf.plane import HOOKS, Plane
from tests.packets import Conversation
from xdpprobe.loader import load_object

ENTRIES = 1024


@pytest.fixture(params=list(HOOKS))
def small(request: pytest.FixtureRequest) -> Iterator[Plane]:
    with load_object(flows=ENTRIES, names=ENTRIES) as loaded:
        yield Plane(loaded, request.param)


def named(plane: Plane, name: str, talk: Conversation | None = None) -> Conversation:
    """A connection to a server of that name, which has answered."""
    talk = talk or plane.new_talk()
    plane.send(*talk.handshake())
    plane.send(*talk.segments(hellos.records(hellos.simple_hello(name.encode()))))
    return talk


def query(plane: Plane, name: str) -> None:
    """Nobody answers it."""
    plane.send(plane.new_talk(port=53).udp(messages.dns_query(name.encode())))


def names(plane: Plane) -> set[str]:
    """All that the name table holds."""
    table = plane.loaded.array("names")
    kept = table[table["hash"] > 1]
    return {entry["text"].tobytes()[: int(entry["length"])].decode() for entry in kept}


def test_queries_for_names_without_end_push_out_each_other(small: Plane) -> None:
    """A set of four may lose one name of a conversation, where all four of its names are such."""
    lasting = [f"site{number}.example" for number in range(ENTRIES // 8)]
    for name in lasting:
        named(small, name)
    before = small.counters("LOSS_NAME")
    for number in range(8 * ENTRIES):
        query(small, f"{number}.nowhere.example")
    kept = names(small)
    assert sum(name in kept for name in lasting) >= 0.98 * len(lasting)
    assert len(kept) == ENTRIES
    # Whatever is not in the table any more was counted when it went, and flows say no other name.
    gone = len(lasting) + 8 * ENTRIES - ENTRIES
    assert small.counted(before) == {"LOSS_NAME_EVICTED": (gone, 0)}
