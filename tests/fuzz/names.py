# SPDX-License-Identifier: Apache-2.0
"""Part three: flows of several packets; the name must be the one that the reference finds."""

import itertools
import random
import time
from collections.abc import Sequence

from tests.fuzz.arena import Arena, Seen
from tests.fuzz.batch import batch_of
from tests.fuzz.cases import Case
from tests.fuzz.oracle import FlowOracle
from tests.fuzz.report import Tally
from tests.fuzz.talks import Talks
from tests.reference.packet import parse_frame

PART = "names"
FLOWS = 64  # at a time: so few that unfinished hellos do not push each other out
SETTINGS = {"flows": 16384}
ROUND_SECONDS = 30


def judge(arena: Arena, frames: Sequence[bytes]) -> tuple[list[str], str | None]:
    """Sends one flow's frames alone; (what is wrong, the name expected)."""
    arena.clear()
    arena.forget_hellos()
    problems = arena.pass_on(batch_of(list(frames)))
    return problems + wrong(frames, arena.names()), expected(frames).expected.name


def expected(frames: Sequence[bytes]) -> FlowOracle:
    """What the reference makes of a flow."""
    oracle = FlowOracle()
    for frame in frames:
        oracle.feed(frame)
    return oracle


def wrong(frames: Sequence[bytes], seen: dict[object, Seen]) -> list[str]:
    """What is wrong with a flow's name, given those of all flows."""
    packet = parse_frame(frames[0])
    assert not isinstance(packet, str)
    if packet.key not in seen:
        return ["the flow is not there"]
    oracle = expected(frames)
    name, protocol, by_pattern = seen[packet.key]
    if name is None and by_pattern and expected(frames[:1]).refused:
        return []  # its first packet fits a signature, and begins nothing that has a name
    if not oracle.holds(name):
        return [f"named {name!r}, not {oracle.expected}"]
    wanted = oracle.expected.protocol
    if name is not None and wanted is not None and protocol != wanted:
        return [f"of protocol {protocol}, not {oracle.expected}"]
    return []


def smaller(arena: Arena, frames: list[bytes]) -> list[bytes]:
    """Without the frames that it fails without."""
    at = 0
    while at < len(frames) and len(frames) > 1:
        fewer = frames[:at] + frames[at + 1 :]
        if judge(arena, fewer)[0]:
            frames = fewer
        else:
            at += 1
    return frames


def volley(arena: Arena, flows: Sequence[list[bytes]], tally: Tally) -> None:
    """Sends flows one after the other, and looks at all of them then."""
    arena.clear()
    arena.forget_hellos()
    problems = arena.pass_on(batch_of([frame for frames in flows for frame in frames]))
    seen = arena.names()
    for frames in flows:
        if not problems and not wrong(frames, seen):
            continue
        if not judge(arena, frames)[0]:
            continue  # the others pushed it out: a limit, and counted
        fewest = smaller(arena, frames)
        found, name = judge(arena, fewest)
        sent = [(frame.hex(), 0, 0) for frame in fewest]
        tally.found(Case(PART, arena.hook, dict(arena.settings), sent, name, found))
    tally.done += len(flows)


def fuzz(tally: Tally, seed: int, seconds: float) -> None:
    """Goes on for so long, XDP and tc by turns; findings go to the tally."""
    end = time.monotonic() + seconds
    for number in itertools.count():
        if time.monotonic() >= end or tally.full:
            return
        talks = Talks(random.Random(f"{seed} {number}"))
        with Arena(("xdp", "tc")[number % 2], SETTINGS) as arena:
            stop = min(end, time.monotonic() + ROUND_SECONDS)
            while time.monotonic() < stop and not tally.full:
                volley(arena, [talks.draw() for _ in range(FLOWS)], tally)


def replay(arena: Arena, case: Case) -> list[str]:
    """What is wrong when a case is sent again."""
    frames = [bytes.fromhex(data) for data, _, _ in case.packets]
    problems, name = judge(arena, frames)
    if name != case.expected:
        problems.append(f"the reference says {name!r}, the case {case.expected!r}")
    return problems
