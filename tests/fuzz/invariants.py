# SPDX-License-Identifier: Apache-2.0
"""Part one: millions of mutated packets, and what must hold whatever is sent (see Arena.check)."""

import itertools
import random
import time

import numpy as np

from tests.fuzz.arena import SHORTEST, Arena, Settings
from tests.fuzz.batch import Batch
from tests.fuzz.canary import Canaries
from tests.fuzz.cases import Case, packets_of, reduced
from tests.fuzz.mutate import Mutator, seedbed
from tests.fuzz.report import Tally
from tests.fuzz.seeds import Group, canary_groups, without_link

PART = "invariants"
PACKETS = 4096  # a batch
TAME_AND_NOT = 256  # flows of canaries a batch
ROOM, WIDE = 2048, 9216  # bytes of a packet at most; now and then
ROUND_SECONDS = 15  # then an instance with other settings

# What an instance may be set to; each round draws of every row.
CHOICES: dict[str, list[int]] = {
    "flows": [16384, 16384, 1024],
    "tunnels": [0, 1, 1],
    "privacy": [0, 0, 1, 2],
    "fragments_apart": [0, 1],
    "hello_timeout": [1, 500],
    "idle_new": [7500, 1],
    "inspect_budget": [8, 8, 2],
    "slot": [0, 0, 7],
}


def setting_of(source: random.Random) -> tuple[Settings, bool]:
    """An instance's settings, its hash key among them, and whether it takes no link headers."""
    chosen = {name: source.choice(values) for name, values in CHOICES.items()}
    keys = {f"seed_{i}": source.getrandbits(64) for i in (0, 1)}
    return {**chosen, **keys}, source.random() < 0.15


class Attack:
    """Draws one round's batches."""

    def __init__(self, arena: Arena, groups: list[Group], raw: bool, source: random.Random) -> None:
        self._source = source
        self._arena = arena
        canaries = canary_groups()
        if raw:
            groups, canaries = without_link(groups), without_link(canaries)
        self._groups = groups
        self._canaries = [one for group in canaries for one in group]
        self._narrow = self._drawers(ROOM)

    def _drawers(self, room: int) -> tuple[Mutator, Canaries]:
        arena, source = self._arena, self._source
        numbers = np.random.default_rng(source.getrandbits(64))
        bed = seedbed(self._groups, room, numbers)
        return (
            Mutator(bed, numbers, SHORTEST[arena.hook], arena.linear),
            Canaries(
                self._canaries,
                random.Random(source.getrandbits(64)),
                room=room,
                trimming=arena.hook == "xdp",
                linear=arena.linear,
            ),
        )

    def draw(self, packets: int = PACKETS) -> Batch:
        """Mutated packets, canaries' packets among them."""
        wide = self._arena.hook == "xdp" and self._source.random() < 0.03
        mutator, canaries = self._drawers(WIDE) if wide else self._narrow
        mutated = mutator.draw(packets // 8 if wide else packets)
        return woven(mutated, canaries.draw(TAME_AND_NOT * packets // PACKETS))


def woven(first: Batch, second: Batch) -> Batch:
    """One batch of two: each keeps its order, and the second stands in between in short runs."""
    both = Batch(
        *(
            np.concatenate([getattr(first, name), getattr(second, name)])
            for name in ("data", "length", "linear", "trim")
        )
    )
    run = 3  # packets of the second one at a time
    place = np.arange(len(second)) // run * run * (len(first) / max(len(second), 1))
    return both.take(np.argsort(np.concatenate([np.arange(len(first)), place]), kind="stable"))


def finding(arena: Arena, batch: Batch, problems: list[str]) -> Case:
    """A case with the fewest packets that show it, or all of them where it does not come again."""
    fewest = reduced(batch, lambda fewer: bool(arena.check(fewer)))
    again = arena.check(fewest)
    return Case(
        PART,
        arena.hook,
        dict(arena.settings),
        packets_of(fewest),
        "nothing wrong",
        again or problems,
    )


def fuzz(tally: Tally, groups: list[Group], seed: int, seconds: float) -> None:
    """Goes on for so long, XDP and tc by turns; findings go to the tally."""
    end = time.monotonic() + seconds
    for number in itertools.count():
        if time.monotonic() >= end or tally.full:
            return
        # A round's packets depend on the seed and its number alone, not on how fast others were.
        source = random.Random(f"{seed} {number}")
        hook = ("xdp", "tc")[number % 2]
        settings, raw = setting_of(source)
        raw = raw and hook == "xdp"
        with Arena(hook, {**settings, "raw_ip": int(raw)}) as arena:
            attack = Attack(arena, groups, raw, source)
            stop = min(end, time.monotonic() + ROUND_SECONDS)
            while time.monotonic() < stop and not tally.full:
                strike(arena, attack.draw(), tally)


def strike(arena: Arena, batch: Batch, tally: Tally) -> None:
    """Sends one batch, and keeps what is found."""
    problems = arena.check(batch)
    tally.done += len(batch)
    if problems:
        tally.found(finding(arena, batch, problems))


def replay(arena: Arena, case: Case) -> list[str]:
    """What is wrong when a case is sent again."""
    return arena.check(case.batch())
