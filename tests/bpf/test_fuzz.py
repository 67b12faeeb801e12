# SPDX-License-Identifier: Apache-2.0
"""A short run of `make fuzz`, always the same, and every finding of earlier ones again."""

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from tests import messages
from tests.effort import examples, some
from tests.fuzz import cases, invariants, names, packets
from tests.fuzz.arena import SHORTEST, Arena, Seen, Settings
from tests.fuzz.batch import Batch, batch_of
from tests.fuzz.mutate import Mutator, seedbed
from tests.fuzz.report import Tally
from tests.fuzz.seeds import CANARY, own_groups
from tests.fuzz.talks import Talks
from tests.packets import Conversation, Endpoint
from tests.reference.packet import parse_frame

Arenas = Callable[[str, Settings], Arena]
HOOKS = ("xdp", "tc")
REPLAY = {part.PART: part.replay for part in (invariants, packets, names)}
FOUND = {path.stem: cases.read(path) for path in sorted(cases.FOLDER.glob("*.json"))}
CASES = {name: case for name, case in FOUND.items() if case.part in REPLAY}
# What a run must have got to, or it has not tried what it is there for.
REACHED = {
    *("REASON_ARP", "REASON_NOT_IP", "REASON_TRUNCATED", "REASON_MALFORMED", "REASON_TAGS"),
    *("REASON_IPV6_CHAIN", "REASON_FRAGMENT", "LOSS_HELLO_MALFORMED", "LOSS_NAME_CHARS"),
    *("INFO_CLOSED", "INFO_INSPECTED", "INFO_HELLO_PIECES", "INFO_HELLO_JOINED", "INFO_NAMED"),
}


@pytest.fixture
def tally(tmp_path: Path) -> Tally:
    return Tally("short", "packets", tmp_path)


@pytest.fixture(scope="module")
def arenas() -> Iterator[Arenas]:
    """Arenas by hook and settings, each made once."""
    made: dict[str, Arena] = {}
    with ExitStack() as stack:

        def arena_of(hook: str, settings: Settings) -> Arena:
            key = repr((hook, sorted(settings.items())))
            if key not in made:
                made[key] = stack.enter_context(Arena(hook, settings))
            return made[key]

        yield arena_of


def findings(tally: Tally) -> list[str]:
    return [Path(path).read_text()[:4000] for path in tally.findings]


@pytest.fixture(scope="module", params=some(HOOKS))
def arena(request: pytest.FixtureRequest) -> Iterator[Arena]:
    settings = {"tunnels": 1, "hello_timeout": 1, "seed_0": 1, "seed_1": 2, "fragments_apart": 1}
    with Arena(request.param, settings) as made:
        yield made


def test_invariants_hold(arena: Arena, tally: Tally) -> None:
    attack = invariants.Attack(arena, own_groups(), False, random.Random(1))
    for _ in range(8):
        invariants.strike(arena, attack.draw(), tally)
    assert findings(tally) == []
    assert REACHED - arena.reached == set()


def test_a_seed_repeats_what_is_sent(arena: Arena) -> None:
    attacks = [invariants.Attack(arena, own_groups(), False, random.Random(7)) for _ in range(2)]
    for _ in range(2):
        first, second = (attack.draw(1024) for attack in attacks)
        assert cases.packets_of(first) == cases.packets_of(second)
    talks = [Talks(random.Random(7)) for _ in range(2)]
    assert [talks[0].draw() for _ in range(20)] == [talks[1].draw() for _ in range(20)]


def test_packets_go_where_the_reference_says(arena: Arena) -> None:
    numbers = np.random.default_rng(2)
    bed = seedbed(own_groups(), packets.ROOM, numbers)
    mutator = Mutator(bed, numbers, SHORTEST[arena.hook], False)
    for _ in examples(20):
        batch = mutator.draw(packets.PACKETS)
        assert packets.differences(arena, batch) == [], cases.packets_of(batch)


@pytest.mark.parametrize("hook", some(HOOKS))
def test_names_are_the_references(hook: str, tally: Tally) -> None:
    talks = Talks(random.Random(hook))
    with Arena(hook, names.SETTINGS) as arena:
        for _ in examples(10):
            names.volley(arena, [talks.draw() for _ in range(names.FLOWS)], tally)
    assert findings(tally) == []


@pytest.mark.parametrize("name", some(list(CASES)))
def test_an_earlier_finding(name: str, arenas: Arenas) -> None:
    case = CASES[name]
    assert REPLAY[case.part](arenas(case.hook, case.settings), case) == []


def question(client: str) -> bytes:
    talk = Conversation(Endpoint(client, 40000), Endpoint("198.51.100.20", 53))
    return talk.udp(messages.dns_query(CANARY.encode()))


def test_a_canary_that_flew_is_seen(arena: Arena) -> None:
    tame, wild = question("238.221.0.1"), question("10.0.0.1")
    assert arena.check(batch_of([tame])) == []
    (problem,) = arena.check(batch_of([tame, wild]))
    assert problem.startswith("1 flows have the canary's name")


@pytest.mark.parametrize("field", ["tag", "packets", "bytes", "protocol", "app", "away", "owner"])
def test_damaged_entries_are_seen(arena: Arena, field: str) -> None:
    batch = batch_of([question("238.221.0.2")])
    assert arena.check(batch) == []
    live = np.flatnonzero(arena.hot["tag"])
    # No label has such a number.
    arena.hot[field][live] += 77 if arena.hot[field].itemsize == 1 else 7777
    assert arena.entries(batch) != []


def test_a_case_is_written_and_read_and_as_small_as_can_be(tmp_path: Path, arena: Arena) -> None:
    frames = [question(f"10.0.1.{number}") for number in range(40)]
    batch = batch_of([*frames, question("10.0.0.3")])
    wanted = frames[17]

    def fails(fewer: Batch) -> bool:
        return any(fewer.packet(row) == wanted for row in range(len(fewer)))

    fewest = cases.reduced(batch, fails)
    assert [fewest.packet(row) for row in range(len(fewest))] == [wanted]
    case = cases.Case("names", arena.hook, {}, cases.packets_of(fewest), None, ["something"])
    assert cases.read(cases.save(case, tmp_path)) == case
    assert case.batch().packet(0) == wanted


def test_what_only_one_of_both_says_is_seen(arena: Arena) -> None:
    frames = [question("10.0.0.4")]
    batch = batch_of(frames * 3)
    assert packets.differences(arena, batch) == []
    fewer = packets.account_of(arena, batch.take(np.arange(2)))
    assert arena.account(batch)[0] != fewer
    packet = parse_frame(frames[0])
    assert not isinstance(packet, str)
    assert names.wrong(frames, {packet.key: Seen(CANARY, "DNS")}) == []
    assert names.wrong(frames, {packet.key: Seen(None, "DNS")}) != []
    assert names.wrong(frames, {packet.key: Seen(CANARY, "TLS")}) != []
    assert names.wrong(frames, {}) != []
