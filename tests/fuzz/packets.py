# SPDX-License-Identifier: Apache-2.0
"""Part two: mutated packets; each must be in the flow, or under the reason, of the reference."""

import random
import time
from collections import Counter
from collections.abc import Callable

import numpy as np

from tests.fuzz.arena import RETIRED, SHORTEST, Arena
from tests.fuzz.batch import Batch
from tests.fuzz.cases import Case, packets_of, reduced
from tests.fuzz.mutate import Mutator, seedbed
from tests.fuzz.report import Tally
from tests.fuzz.seeds import Group
from tests.reference.packet import FlowPacket, Fragments, parse_frame
from tests.reference.tunnel import parse_inside

PART = "packets"
PACKETS = 512  # a batch
ROOM = 2048
ROUND_SECONDS = 20
MODES: list[dict[str, int]] = [
    {"flows": 16384, "fragments_apart": 1},
    {"flows": 16384, "fragments_apart": 1, "tunnels": 1},
    {"flows": 16384, "fragments_apart": 0},
]

Account = Counter[tuple[object, str]]


def oracle(arena: Arena) -> Callable[[bytes], FlowPacket | str]:
    """The reference for an arena's settings."""
    if arena.settings.get("tunnels"):
        parse = parse_inside
    elif not arena.settings.get("fragments_apart"):
        return Fragments().parse
    else:
        parse = parse_frame

    def apart(frame: bytes) -> FlowPacket | str:
        packet = parse(frame)
        later = not isinstance(packet, str) and packet.fragment and packet.fragment[1]
        return "fragment" if later else packet

    return apart


def account_of(arena: Arena, batch: Batch) -> Account:
    """(flow and sender, or reason; packets or bytes) -> how many, as the reference has it."""
    parse = oracle(arena)
    account: Account = Counter()
    for row in range(len(batch)):
        frame = batch.packet(row)
        packet = parse(frame)
        key: object = f"REASON_{packet.upper()}" if isinstance(packet, str) else _sender(packet)
        account[key, "packets"] += 1
        account[key, "bytes"] += len(frame)
    return account


def _sender(packet: FlowPacket) -> object:
    return packet.key, (packet.src, packet.sport)


def differences(arena: Arena, batch: Batch) -> list[str]:
    """Sends a batch to an empty table; what the reference sees otherwise."""
    arena.forget_fragments()
    seen, problems = arena.account(batch)
    wanted = account_of(arena, batch)
    # A SYN behind a FIN or RST begins a new flow between the same ends; what the one before it
    # sent is then in the sum of those that are gone.
    for what in ("packets", "bytes"):
        gone = seen.pop((RETIRED, what))
        missing = wanted - seen
        short = {key: count for key, count in missing.items() if key[1] == what}
        if gone and gone == sum(short.values()):
            seen.update(short)
        elif gone:
            problems.append(f"{gone} {what} retired, {sum(short.values())} missing")
    return problems + [
        f"{key}: {seen[key]}, not {wanted[key]}"
        for key in sorted(seen | wanted, key=repr)
        if seen[key] != wanted[key]
    ]


def fuzz(tally: Tally, groups: list[Group], seed: int, seconds: float) -> None:
    """Goes on for so long; findings go to the tally."""
    source = random.Random(seed)
    end = time.monotonic() + seconds
    while True:
        for settings in MODES:
            for hook in ("xdp", "tc"):
                with Arena(hook, settings) as arena:
                    _round(arena, tally, groups, source.getrandbits(64), end)
                if time.monotonic() >= end or tally.full:
                    return


def _round(arena: Arena, tally: Tally, groups: list[Group], seed: int, end: float) -> None:
    numbers = np.random.default_rng(seed)
    # In one piece: headers that a driver leaves in fragments are none of the reference's business.
    mutator = Mutator(seedbed(groups, ROOM, numbers), numbers, SHORTEST[arena.hook], False)
    stop = min(end, time.monotonic() + ROUND_SECONDS)
    while time.monotonic() < stop and not tally.full:
        batch = mutator.draw(PACKETS)
        if differences(arena, batch):
            fewest = reduced(batch, lambda fewer: bool(differences(arena, fewer)))
            found = differences(arena, fewest)
            case = Case(
                PART, arena.hook, dict(arena.settings), packets_of(fewest), "the reference's", found
            )
            tally.found(case)
        tally.done += len(batch)


def replay(arena: Arena, case: Case) -> list[str]:
    """What is wrong when a case is sent again."""
    return differences(arena, case.batch())
