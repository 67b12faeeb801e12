# SPDX-License-Identifier: Apache-2.0
"""Tables that are full: what gives way to what, and that each loss is counted."""

from collections.abc import Iterator

import numpy as np
import pytest

from tests import hellos, messages
from tests.bpf.instances import lent
from tests.bpf.plane import HOOKS, Plane
from tests.effort import some
from tests.packets import SYN, UDP, Conversation, Endpoint, ethernet, ipv4, udp
from xdpprobe.clock import Clock

ENTRIES = 1024
QUERIES = 5 * ENTRIES  # for names: a set of the table meets 20 on average
LASTING = {"fragment_timeout": 1 << 20}  # jiffies: a slow machine must not make them old


@pytest.fixture(params=some(list(HOOKS)))
def small(request: pytest.FixtureRequest) -> Iterator[Plane]:
    only = [HOOKS[request.param][0]]
    sizes = {"fragments": ENTRIES}
    with lent(LASTING, flows=ENTRIES, names=ENTRIES, sizes=sizes, programs=only) as loaded:
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
    before = small.counters("LOSS_NAME")
    for name in lasting:
        named(small, name)
    for number in range(QUERIES):
        query(small, f"{number}.nowhere.example")
    kept = names(small)
    assert sum(name in kept for name in lasting) >= 0.95 * len(lasting)
    assert len(kept) == ENTRIES
    # Whatever is not in the table any more was counted when it went, and flows say no other name.
    gone = len(lasting) + QUERIES - ENTRIES
    assert small.counted(before) == {"LOSS_NAME_EVICTED": (gone, 0)}


@pytest.mark.parametrize("first", [b"", None])
def test_names_of_queries_give_way_answered_or_not(small: Plane, first: bytes | None) -> None:
    """A resolver answers whatever it is asked: a name is as cheap to have answered as to ask for.

    So names of datagrams give way to each other, and those of connections stay all the same; also
    where a question about the root, which is no name, has been answered before.
    """
    lasting = [f"site{number}.example" for number in range(ENTRIES // 8)]
    for name in lasting:
        named(small, name)
    asked = [f"{number}.nowhere.example" for number in range(QUERIES)]
    for name in asked:
        talk = small.new_talk(port=53)
        for question in (first, name.encode()):
            if question is not None:
                small.send(talk.udp(messages.dns_query(question)))
                small.send(talk.udp(messages.dns_answer(question, bytes(4)), from_client=False))
    hot, abi = small.loaded.array("flow_hot"), small.loaded.abi
    established = abi.enums["flow_state"]["FLOW_ESTABLISHED"]
    assert (hot["state"][hot["tag"] != 0] == established).all()
    kept = names(small)
    assert sum(name in kept for name in lasting) >= 0.95 * len(lasting)
    early, late = set(asked[: ENTRIES // 8]), set(asked[-ENTRIES // 8 :])
    assert not early & kept
    assert len(late & kept) >= 0.9 * len(late)


def silent(plane: Plane, chosen: np.ndarray, seconds: float) -> None:
    """Put the last packets of these flows that far back."""
    loaded = plane.loaded
    clock = Clock(loaded.prog_fd("clock_read"), loaded.map_fd("clock"))
    now = clock.reading(loaded.hz).jiffies
    loaded.array("flow_hot", writable=True)["seen"][chosen] = (
        now - int(seconds * loaded.hz)
    ) % 2**32


def test_a_table_of_established_flows_gives_up_the_silent_ones(small: Plane) -> None:
    """As many answered connections as there are entries, half of them silent; then as many new."""
    first = [small.new_talk() for _ in range(ENTRIES)]
    for talk in first:
        small.send(*talk.handshake())
    hot = small.loaded.array("flow_hot")
    established = small.loaded.abi.enums["flow_state"]["FLOW_ESTABLISHED"]
    assert (hot["state"][hot["tag"] != 0] == established).all()
    quiet = np.flatnonzero(hot["tag"])[::2]
    active = set(hot["tag"][hot["tag"] != 0].tolist()) - set(hot["tag"][quiet].tolist())
    silent(small, quiet, 60)
    before = small.counters("LOSS_EVICTED")
    for _ in range(ENTRIES // 4):
        small.send(small.new_talk().tcp(b"", flags=SYN))
    gains = small.counted(before)
    assert gains["LOSS_EVICTED_ESTABLISHED"][0] > 0
    # A set whose silent flows are gone gives up another; few are asked for so many.
    assert len(active - set(hot["tag"].tolist())) <= 0.01 * ENTRIES
    retired = small.loaded.tables().retired(small.loaded.array("retired"))
    assert int(retired["packets"].sum() + hot["packets"].sum()) == 3 * ENTRIES + ENTRIES // 4
    evicted = sum(small.counters()[name][0] for name in before)
    assert evicted == int(retired["flows"].sum())


def fragments(number: int) -> tuple[bytes, bytes]:
    """A datagram in two, of a flow of its own."""
    source = Endpoint(f"10.1.{number >> 8}.{number & 255}", 4000)
    destination = Endpoint("198.51.100.9", 4500)
    whole = udp(bytes(1000), source, destination)
    first = ipv4(whole[:504], source, destination, UDP, more=True, identification=number)
    later = ipv4(whole[504:], source, destination, UDP, offset=504, identification=number)
    return ethernet(first), ethernet(later)


def test_fragments_of_more_datagrams_than_are_remembered(small: Plane) -> None:
    """A later fragment is in its datagram's flow or in a counter."""
    room = small.room("fragments")
    datagrams = [fragments(number) for number in range(3 * room)]
    before = small.counters("REASON_")
    for first, _ in datagrams:
        small.send(first)
    for _, later in reversed(datagrams):
        small.send(later)
    gains = small.counted(before)
    without_ports = gains.pop("REASON_FRAGMENT")
    assert gains == {}
    assert 2 * room <= without_ports[0] < len(datagrams)
    assert without_ports[1] == without_ports[0] * len(datagrams[0][1])
    hot = small.loaded.array("flow_hot")
    retired = small.loaded.tables().retired(small.loaded.array("retired"))
    counted = int(retired["packets"].sum() + hot["packets"].sum()) + without_ports[0]
    assert counted == 2 * len(datagrams)
