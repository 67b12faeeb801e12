# SPDX-License-Identifier: Apache-2.0
"""End to end: packets a second and TCP throughput through a veth, with and without a probe on it.

What is compared stands side by side, a pair of namespaces each, and is measured by turns; so what
slows the machine down for a while slows all of it down.
"""

import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from random import Random
from typing import Any

from bench_pairs import ADDRESSES, Pair, Variant, inside, pairs, reader_losses

from xdpprobe.bench.feeder import sender
from xdpprobe.bench.frames import Route
from xdpprobe.bench.measure import twice
from xdpprobe.errors import StateError
from xdpprobe.lab.namespaces import Namespace
from xdpprobe.lab.orderly import orderly
from xdpprobe.probe import Probe

Progress = Callable[[str], None]
FRAME = 64  # bytes, as the program sees it
FLOWS = 50_000  # of each sender
PORT = 40444
DEADLINE = 60.0  # seconds for one measurement; it takes one
FRAME_VARIANTS = (
    Variant("nothing attached"),
    Variant("an empty XDP program", empty=True),
    Variant("probe, XDP", probe="xdp"),
    Variant("probe, tc", probe="tc"),
    Variant("tcpdump", reader=True),
)
TCP_VARIANTS = (
    Variant("nothing attached"),
    Variant("probe, tc", probe="tc"),
    Variant("an empty XDP program", empty=True),
    Variant("probe, XDP", probe="xdp"),
    Variant("tcpdump", reader=True),
    Variant("probe, tc, and tcpdump", probe="tc", reader=True),
)


@dataclass(frozen=True)
class Effort:
    """rounds: of each variant. frames: a sender and round. seconds: of TCP a round, whole ones,
    and one more to come up to speed."""

    rounds: int
    frames: int
    seconds: int


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


# --- packets a second


def frames(effort: Effort, progress: Progress) -> dict[str, Any]:
    """Frames a second by variant, on one CPU and on all (two at most)."""
    cpus = sorted(os.sched_getaffinity(0))[-2:]
    many: dict[tuple[str, int], list[float]] = {}
    with orderly(pairs(FRAME_VARIANTS, len(cpus))) as made:
        for pair in made:
            twice(
                partial(burst, pair, cpus, effort.frames), progress
            )  # flows get their entries, and are inspected
        for turn in range(effort.rounds):
            for count in range(1, len(cpus) + 1):
                for pair in made:
                    progress(f"{pair.variant.name}, {count} CPU, round {turn + 1}")
                    send = partial(burst, pair, cpus[-count:], effort.frames)
                    rate = twice(send, progress)
                    many.setdefault((pair.variant.name, count), []).append(rate)
        losses = [_losses(pair) for pair in made if pair.variant.probe]
        missed = [reader_losses(pair) for pair in made if pair.variant.reader]
    return {
        "frame_bytes": FRAME,
        "flows": FLOWS,
        "frames": effort.frames,
        "rounds": effort.rounds,
        "rows": [
            {"variant": name, "cpus": count, "frames_a_second": spread(rates)}
            for (name, count), rates in many.items()
        ],
        "evictions": sum(losses),
        "reader_missed": [dropped / max(seen, 1) for seen, dropped in missed],
    }


def burst(pair: Pair, cpus: Sequence[int], count: int) -> float:
    """Sends `count` frames from each CPU at once; frames a second of all.

    Raises StateError unless all of them arrived, and the probe, if there is one, counted them.
    """
    before, counted = pair.received(), _counted(pair)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(len(cpus))
    children, ends = [], []
    for number, cpu in enumerate(cpus):
        end, other = context.Pipe(duplex=False)
        child = context.Process(
            target=_send, args=(pair.sender, cpu, number, count, barrier, other)
        )
        child.start()
        other.close()
        children.append(child)
        ends.append(end)
    try:
        times = [_result(end) for end in ends]
    finally:
        for child in children:
            child.terminate()
            child.join()
    sent = count * len(cpus)
    for who, got in (("receiver", pair.received() - before), ("probe", _counted(pair) - counted)):
        if got != sent and (who == "receiver" or pair.variant.probe):
            raise StateError(f"{pair.variant.name}: the {who} saw {got} of {sent} frames")
    return sent / (max(end for _, end in times) - min(start for start, _ in times))


def _result(end: Connection) -> tuple[float, float]:
    """When a sender began and ended."""
    if not end.poll(DEADLINE):
        raise StateError("a sender does not answer")
    try:
        found: tuple[float, float] = end.recv()
    except EOFError:
        raise StateError("a sender failed; what it said stands above") from None
    return found


def _send(
    where: Namespace, cpu: int, number: int, count: int, barrier: Any, answer: Connection
) -> None:
    """In a process of its own. number: which sender this is; each has flows of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.sched_setaffinity(0, {cpu})
    route = Route(PORT + number)
    frame = route.udp(Random(number).randbytes(route.payload_of(FRAME)))
    with inside(where) as index, sender(route, frame, FLOWS, index) as send:
        barrier.wait(DEADLINE)
        start = time.monotonic()
        send(count)
        answer.send((start, time.monotonic()))


def _counted(pair: Pair) -> int:
    """Packets that the probe counted on the way in."""
    if not pair.variant.probe:
        return 0
    with Probe.open(pair.bpffs) as probe:
        return probe.port(0)[0][0]


def _losses(pair: Pair) -> int:
    """Flows that were pushed out, and packets that found no entry."""
    with Probe.open(pair.bpffs) as probe:
        found = probe.counters()
    names = ("LOSS_EVICTED_NEW", "LOSS_EVICTED_ESTABLISHED", "REASON_TABLE_BUSY")
    return sum(found[name][0] for name in names)


# --- TCP


def tcp(effort: Effort, progress: Progress) -> dict[str, Any]:
    """Bits a second of one TCP stream by variant (iperf3)."""
    many: dict[str, list[float]] = {variant.name: [] for variant in TCP_VARIANTS}
    with orderly(pairs(TCP_VARIANTS, 1)) as made:
        for pair in made:
            _serve(pair)
        for turn in range(effort.rounds):
            for pair in made:
                progress(f"TCP, {pair.variant.name}, round {turn + 1}")
                stream = partial(_stream, pair, effort.seconds)
                many[pair.variant.name].append(twice(stream, progress))
        missed = {pair.variant.name: reader_losses(pair) for pair in made if pair.variant.reader}
    return {
        "seconds": effort.seconds,
        "rounds": effort.rounds,
        "rows": [
            {"variant": name, "bits_a_second": spread(rates), "reader_missed": _share(missed, name)}
            for name, rates in many.items()
        ],
    }


def _share(missed: dict[str, tuple[int, int]], name: str) -> float | None:
    """Which share of the packets the reader was too slow for; None without one."""
    if name not in missed:
        return None
    seen, dropped = missed[name]
    return dropped / max(seen, 1)


def _serve(pair: Pair) -> None:
    """iperf3's server; returns when it listens."""
    argv = ("iperf3", "-s", "--forceflush", "-B", ADDRESSES[1])
    child = pair.network.start(pair.receiver, *argv, stdout=subprocess.PIPE)
    assert child.stdout is not None
    for line in child.stdout:
        if b"listening" in line:
            return
    raise StateError(f"iperf3 does not start: {pair.network.last_words(child)}")


def _stream(pair: Pair, seconds: int) -> float:
    argv = ("iperf3", "-c", ADDRESSES[1], "-t", str(seconds), "-O", "1", "-J")
    try:
        said = json.loads(pair.sender.run(*argv, timeout=seconds + DEADLINE).stdout)
    except subprocess.TimeoutExpired:
        raise StateError("iperf3 does not come to an end") from None
    rate: float = said["end"]["sum_received"]["bits_per_second"]
    return rate
