# SPDX-License-Identifier: Apache-2.0
"""What a flood of QUIC Initials costs that nobody can open, and what it costs others.

    sudo .venv/bin/python -m tools.flood_initials [--hook tc] [--packets 1000000]

By BPF_PROG_TEST_RUN on one CPU, net of an empty program, each Initial with a random id, random
bytes and a flow of its own. First what trying one and skipping one cost; then the flood with the
budget as shipped, whose time is compared with that of skipping all and trying as many as the
budget allows; then packets of others, alone and by turns with the flood, on a table that is full
of it either way. Ends with 1 where the flood takes a tenth more than that.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from statistics import median

from tests import quic
from xdpprobe import catalogue as catalogues
from xdpprobe.bench import messages
from xdpprobe.bench.feeder import HOOKS, Feeder
from xdpprobe.bench.frames import Route
from xdpprobe.bench.measure import UNLIMITED, one_cpu
from xdpprobe.bench.rows import Row
from xdpprobe.loader import Loaded, load_object

FLOWS = 262144
FRAMES = 64  # Initials that differ
ROUNDS = 5
TRIED = 100_000
SHIPPED = {"quic_rate": 20000, "quic_burst": 2000}  # as in bpf/config.h
NOTHING = {"quic_rate": 0, "quic_burst": 0}
TOLERATED = 1.1
TURN, TURNS = 10_000, 30  # packets of each by turns
PARTS = 5
_QUIC, _NOISE = Route(443), Route(40444)
_WEB, _OTHER = Route(443, ipv6=True), Route(40444, ipv6=True)
FLOOD = Row("flood", _QUIC, tuple(_QUIC.udp(quic.unopenable(seed)) for seed in range(FRAMES)))
NOISE = Row("noise", _NOISE, (_NOISE.udp(Random(2).randbytes(1200)),))
# Of other addresses than the flood's.
OTHERS = (
    Row("established flow", _OTHER, (_OTHER.tcp(Random(1).randbytes(1400)),), flows=1000),
    Row("new TLS flow", _WEB, (_WEB.tcp(messages.classic_hello("www.example.org")),)),
)


@dataclass(frozen=True)
class Plane:
    """A data plane in the kernel with some budget."""

    hook: str
    loaded: Loaded

    def feeder(self, row: Row) -> Feeder:
        program = self.loaded.prog_fd(HOOKS[self.hook])
        return Feeder(self.hook, program, row, row.frames, row.per_flow)

    def count(self, counter: str) -> int:
        return self.loaded.tables().counters()[counter][0]


@contextmanager
def plane(hook: str, constants: Mapping[str, int]) -> Iterator[Plane]:
    """One whose table is full of a flood."""
    known = catalogues.load()
    with load_object(dict(constants), flows=FLOWS, programs=[HOOKS[hook]], l4=known.l4) as loaded:
        loaded.tables().load(known)
        made = Plane(hook, loaded)
        if constants is not UNLIMITED:
            with made.feeder(FLOOD) as feeder:
                feeder.tested(2 * FLOWS)
        yield made


def taken(run: Callable[[int], int], packets: int) -> int:
    """ns of this thread: what others take of the CPU meanwhile does not count."""
    began = time.thread_time_ns()
    run(packets)
    return time.thread_time_ns() - began


def cost(feeder: Feeder, packets: int) -> float:
    """ns a packet."""
    return (taken(feeder.tested, packets) - taken(feeder.base, packets)) / packets


def prices(hook: str) -> tuple[float, float]:
    """ns of an Initial of the flood where all are tried, and where none is."""
    found = []
    for constants in (UNLIMITED, NOTHING):
        with plane(hook, constants) as made, made.feeder(FLOOD) as feeder:
            found.append(median(cost(feeder, TRIED) for _ in range(ROUNDS)))
    return found[0], found[1]


def flood(hook: str, packets: int, trying: float) -> float:
    """Prints what the flood took; that as a share of what the budget allows.

    A part of it at a time, by turns with as many that are all skipped, on a data plane of its own.
    """
    spent = skipping = took = 0.0
    with (
        plane(hook, SHIPPED) as made,
        plane(hook, NOTHING) as strict,
        made.feeder(FLOOD) as feeder,
        strict.feeder(FLOOD) as skipped,
    ):
        before = made.count("LOSS_QUIC_SEALED"), made.count("LOSS_QUIC_BUDGET")
        for _ in range(PARTS):
            skipping += taken(skipped.tested, packets // PARTS) / 1e9
            began = time.monotonic()
            spent += taken(feeder.tested, packets // PARTS) / 1e9
            took += time.monotonic() - began
        tried = made.count("LOSS_QUIC_SEALED") - before[0]
        left = made.count("LOSS_QUIC_BUDGET") - before[1]
    # The bucket is full again at each part's beginning.
    allowed = PARTS * SHIPPED["quic_burst"] + SHIPPED["quic_rate"] * took
    budget = skipping + allowed * trying / 1e9
    print(f"flood: {packets} Initials in {took:.2f} s: {tried} tried, {left} skipped")
    print(
        f"       {spent:.3f} s of CPU; skipping all {skipping:.3f} s, with the budget {budget:.3f}"
    )
    return spent / budget


def others(hook: str) -> None:
    """Prints what packets of others cost: alone, by turns with the flood, and with one of datagrams
    that are not QUIC, which shows what any flood does to the caches."""
    with plane(hook, SHIPPED) as made, made.feeder(FLOOD) as feeder, made.feeder(NOISE) as noise:
        for row in OTHERS:
            columns: dict[str, list[float]] = {"alone": [], "Initials": [], "other datagrams": []}
            with made.feeder(row) as other:
                other.tested(2 * TURN)
                for _ in range(TURNS):
                    columns["alone"].append(cost(other, TURN))
                    feeder.tested(TURN)
                    columns["Initials"].append(cost(other, TURN))
                    noise.tested(TURN)
                    columns["other datagrams"].append(cost(other, TURN))
            text = ", ".join(f"{name} {median(ns):.0f}" for name, ns in columns.items())
            print(f"{row.name}, ns: {text}")


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hook", choices=sorted(HOOKS), default="xdp")
    parser.add_argument("--packets", type=int, default=1_000_000)
    args = parser.parse_args()
    with one_cpu():
        trying, skipping = prices(args.hook)
        print(f"an Initial: {trying:.0f} ns where it is tried, {skipping:.0f} ns where not")
        share = flood(args.hook, args.packets, trying - skipping)
        print(f"       that is {share:.1%} of it")
        others(args.hook)
    return share > TOLERATED


if __name__ == "__main__":
    sys.exit(main())
