# SPDX-License-Identifier: Apache-2.0
"""How cost grows with the work: with the flows in the table, and with the name rules.

And the goal for large tables, as a check. Everything is measured by test runs of a probe that is
attached in a network namespace of its own, where no traffic comes.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from measure_readers import attached, command, reading, timed

from xdpprobe import catalogue, status, syscall
from xdpprobe.bench import messages
from xdpprobe.bench.feeder import Feeder, bare_table
from xdpprobe.bench.frames import ACK, SYN, Route
from xdpprobe.bench.ledger import Ledger
from xdpprobe.bench.measure import Effort, measure, one_cpu, twice
from xdpprobe.bench.report import Figure, figures
from xdpprobe.bench.rows import NAMES, Row
from xdpprobe.errors import ProbeError
from xdpprobe.lab.orderly import orderly
from xdpprobe.memory import trie_bytes
from xdpprobe.probe import Probe
from xdpprobe.rules import compile_rules
from xdpprobe.tables import Tables
from xdpprobe.views.report import console
from xdpprobe.views.top_model import Model
from xdpprobe.views.top_screen import State, plain

Progress = Callable[[str], None]
# Flows in the table -> its entries, so that all of them find room.
SIZES = {1000: 262144, 10_000: 262144, 100_000: 262144, 1_000_000: 2097152, 4_000_000: 8388608}
RULES = (10, 100, 1000, 10_000, 100_000)
HELLOS = 64  # names that hellos ask for, of all rules: as many as bpf/bench.bpf.c keeps
NEW = 10_000  # new flows a round
_READINGS, _REFRESHES = 5, 5
_WEB, _OTHER = Route(443), Route(40444)
_LABEL = 7168  # the first number that is the user's
_FILE_NAMES = 20_000  # of a signature file, which may have 1 MB

# The goal for a table of a million entries that is three quarters full.
GOAL_ENTRIES, GOAL_FLOWS = 1048576, 786432
GOAL_MEMORY, GOAL_NS, GOAL_EVICTIONS = 300e6, 250, 0.001
_GOAL_TURNS = 10  # packets that each flow gets first


def nanoseconds(found: Sequence[Figure]) -> dict[str, int]:
    """The first figure's ns, as they stand in the data."""
    wanted = ("net_ns", "min_ns", "max_ns", "ns", "empty_ns", "packets")
    return {name: value for name, value in asdict(found[0]).items() if name in wanted}


def compared(
    row: Row,
    packets: int,
    rounds: int,
    tested: Callable[[], int],
    base: Callable[[], int],
) -> dict[str, int]:
    """ns of a packet more in `tested` than in `base`; each feeds so many and gives ns of one."""
    base()
    tested()
    taken = [(base(), tested()) for _ in range(rounds)]
    without, with_ = zip(*taken, strict=True)
    return nanoseconds(figures(row, with_, without, packets))


@contextmanager
def table(entries: int) -> Iterator[tuple[Path, Probe, int]]:
    """A probe with a table of its own: (its bpffs, a reader of it, its XDP program)."""
    with (
        attached(entries) as place,
        Probe.open(place.bpffs) as probe,
        _opened(place.program) as program,
    ):
        yield place.bpffs, probe, program


@contextmanager
def _opened(pin: Path) -> Iterator[int]:
    program = syscall.open_pin(pin)
    try:
        yield program
    finally:
        os.close(program)


# --- flows


def flows(sizes: Sequence[int], effort: Effort, progress: Progress) -> list[dict[str, Any]]:
    """For each number of flows in the table: ns a packet, memory, and what readers take."""
    return [
        twice(partial(_flows, count, SIZES[count], effort, progress), progress) for count in sizes
    ]


def _flows(count: int, entries: int, effort: Effort, progress: Progress) -> dict[str, Any]:
    with orderly(table(entries)) as (bpffs, probe, program):
        progress(f"{count} flows: established")
        ledger = Ledger(probe.tables())
        with one_cpu():
            established = measure("xdp", program, _named(count), ledger, effort)
        progress(f"{count} flows: readers")
        readers = _readers(bpffs, probe)
        progress(f"{count} flows: new ones beside them")
        with one_cpu():
            beside = _beside(program, ledger, effort)
        return {
            "flows": count,
            "capacity": entries,
            "memory": status.report(bpffs)["memory"],
            "established": nanoseconds(established),
            "new": nanoseconds(beside),
            **readers,
        }


def _named(count: int) -> Row:
    """So many flows, each begun by a hello."""
    data = _WEB.tcp(Random(1).randbytes(1400), sequence=1 + messages.CLASSIC_HELLO, flags=ACK)
    return Row(
        "flows in the table",
        _WEB,
        (data,),
        flows=count,
        opening=tuple(_WEB.tcp(messages.classic_hello(name)) for name in NAMES),
        protocol="PROTOCOL_TLS",
        method="METHOD_SNI",
    )


def _beside(program: int, ledger: Ledger, effort: Effort) -> list[Figure]:
    """New flows (SYN) in a table that holds others already, and keeps them.

    Raises ProbeError unless each of them was born and nearly none had to push another out.
    """
    row = Row("new flow (SYN)", _OTHER, (_OTHER.tcp(sequence=0, flags=SYN),))
    tested, empty = [], []
    with Feeder("xdp", program, row, row.frames, 1) as feeder:
        feeder.tested(NEW)
        feeder.base(NEW)
        before = ledger.read()
        for _ in range(min(effort.rounds, 5)):
            tested.append(feeder.tested(NEW))
            empty.append(feeder.base(NEW))
        after = ledger.read()
    born, wanted = after.born - before.born, NEW * len(tested)
    evicted = evictions(after.counters) - evictions(before.counters)
    if born != wanted or evicted > 0.001 * wanted:
        raise ProbeError(f"of {wanted} new flows {born} were born, and {evicted} evicted others")
    return figures(row, tested, empty, NEW)


def evictions(counters: Any) -> int:
    """Live flows that were pushed out."""
    return sum(counters[f"LOSS_EVICTED_{kind}"] for kind in ("NEW", "ESTABLISHED"))


def _readers(bpffs: Path, probe: Probe) -> dict[str, Any]:
    """Milliseconds of a reading and of a refresh of `top`, seconds of commands."""
    read = reading(bpffs, _READINGS)
    return {
        "used": read["flows"],
        "snapshot_ms": read["snapshot"],
        "totals_ms": read["totals"],
        "top_ms": _refresh(probe),
        "commands": {
            " ".join(words): timed(command(bpffs, *words))["wall_s"]
            for words in (("apps", "--json"), ("flows",), ("dump", "--json"))
        },
    }


def _refresh(probe: Probe) -> float:
    """Milliseconds of CPU that `top` takes to read the tables and to make a screen of them."""
    model, out, spent = Model(), console(), []
    for _ in range(_REFRESHES):
        start = time.process_time_ns()
        model.update(probe.snapshot)
        frame = model.frame("apps", "rate", False, (0, 20), 5)
        with out.capture():
            out.print(plain(frame, State(), 100))
        spent.append((time.process_time_ns() - start) / 1e6)
    return statistics.median(spent[1:])  # the first one has no rates


# --- name rules


def rules(counts: Sequence[int], effort: Effort, progress: Progress) -> list[dict[str, Any]]:
    """For each number of name rules: ns of a hello, time and memory of the table."""
    names = made_names(max(counts))
    found = []
    for count in counts:
        progress(f"{count} name rules")
        found.append(twice(partial(_rules, names[:count], effort), progress))
    return found


def made_names(count: int) -> list[str]:
    """So many domains: the same ones every time, and none twice."""
    chance, found = Random(count), dict[str, None]()
    ends = ("com", "com", "com", "net", "org", "de", "io", "co.uk", "com.br")
    letters = "abcdefghijklmnopqrstuvwxyz"
    while len(found) < count:
        label = "".join(chance.choices(letters, k=chance.randint(5, 14)))
        found[f"{label}.{chance.choice(ends)}"] = None
    return list(found)


def write_rules(directory: Path, names: Sequence[str]) -> None:
    """Signature files of made-up applications with these domains."""
    for number, begin in enumerate(range(0, len(names), _FILE_NAMES)):
        domains = "".join(f'    "{name}",\n' for name in names[begin : begin + _FILE_NAMES])
        (directory / f"measured-{number}.toml").write_text(
            f'[[app]]\nid = {_LABEL + number}\nname = "measured-{number}"\n'
            f'title = "Measured"\ncategory = "web"\ndomains = [\n{domains}]\n'
        )


@contextmanager
def _with_rules(names: Sequence[str]) -> Iterator[tuple[Path, tuple[float, Probe, int]]]:
    """Signature files with these names, and a probe that was attached with them."""
    with tempfile.TemporaryDirectory() as made:
        directory = Path(made)
        write_rules(directory, names)
        with (
            attached(262144, [directory]) as place,
            Probe.open(place.bpffs) as probe,
            _opened(place.program) as program,
        ):
            yield directory, (place.attach_s, probe, program)


def _rules(names: list[str], effort: Effort) -> dict[str, Any]:
    with orderly(_with_rules(names)) as (directory, (attach_s, probe, program)):
        start = time.monotonic()
        whole = catalogue.load([directory])
        read = time.monotonic()
        known = replace(whole, rules=[rule for rule in whole.rules if rule.app >= _LABEL])
        tables = probe.tables()
        compiled = time.monotonic()
        key, rule = tables.abi.dtype("name_key"), tables.abi.dtype("name_rule")
        compile_rules(known.rules, key, rule)
        begin = time.monotonic()
        stored = tables.load(known)
        end = time.monotonic()
        with one_cpu():
            ledger = Ledger(tables)
            hello = measure("xdp", program, _hello(names), ledger, effort)
    return {
        "rules": len(names),
        "hello": nanoseconds(hello),
        "attach_s": attach_s,
        "read_s": read - start,
        "compile_s": begin - compiled,
        "load_s": end - begin,
        "memory": trie_bytes(stored, key.itemsize, rule.itemsize),
    }


def _hello(names: Sequence[str]) -> Row:
    """New flows' hellos for names below up to HELLOS of the rules, from all over the table."""
    asked = names[:: max(len(names) // HELLOS, 1)][:HELLOS]
    return Row(
        "TLS hello",
        _WEB,
        tuple(_WEB.tcp(messages.classic_hello(f"www.{name}")) for name in asked),
        gains={"INFO_INSPECTED": 1.0, "INFO_NAMED": 1.0},
        protocol="PROTOCOL_TLS",
        method="METHOD_SNI",
    )


# --- the goal


def goal(effort: Effort, progress: Progress) -> dict[str, Any]:
    """A million entries, three quarters full: memory, ns, and how many packets push a flow out.

    In two orders: any flow each time, and flows in turn. The latter is the worst there is: of two
    flows that find one entry, neither ever finds it again. And what it takes, in turn, to count
    the same packets in as many bare cache lines.
    """
    payload = Random(1).randbytes(1400)
    row = Row("goal", _OTHER, (_OTHER.tcp(payload),), flows=GOAL_FLOWS)
    orders = {}
    with orderly(table(GOAL_ENTRIES)) as (bpffs, probe, program), one_cpu():
        for order in ("in turn", "by chance"):
            progress(f"{GOAL_FLOWS} flows in {GOAL_ENTRIES} entries, {order}")
            orders[order] = _goal(program, probe.tables(), row, order, effort)
        memory = status.report(bpffs)["memory"]
    progress(f"{GOAL_ENTRIES} bare lines")
    with bare_table(row.route, GOAL_ENTRIES) as program, one_cpu():
        bare = _turns(program, row, effort, 1, by_chance=False)
    checks = [check("kernel memory, bytes", memory, GOAL_MEMORY)]
    for order, found in orders.items():
        net = found["established"]["net_ns"]
        checks.append(check(f"ns of a packet, flows {order}", net, GOAL_NS))
    for order, found in orders.items():
        share = found["evictions"]
        checks.append(check(f"packets that evict, flows {order}", share, GOAL_EVICTIONS))
    return {
        "capacity": GOAL_ENTRIES,
        "flows": GOAL_FLOWS,
        "orders": orders,
        "bare": bare,
        "checks": checks,
    }


def _goal(program: int, tables: Tables, row: Row, order: str, effort: Effort) -> dict[str, Any]:
    _turns(program, row, replace(effort, rounds=0), _GOAL_TURNS, by_chance=False)
    before = _counters(tables)
    found = _turns(program, row, effort, 0, by_chance=order == "by chance")
    gains = {name: packets - before[name] for name, packets in _counters(tables).items()}
    return {
        **_places(tables),
        "established": found,
        "evictions": evictions(gains) / found["packets"],
        "evicted_established": gains["LOSS_EVICTED_ESTABLISHED"],
    }


def _places(tables: Tables) -> dict[str, Any]:
    """Entries in use, and which share of them is where: at home, elsewhere in the first set, in
    another one (bpf/flow.h)."""
    hot = tables.array("flow_hot")
    ways = tables.abi.maps["flow_hot"].value_size // hot.itemsize
    index = np.flatnonzero(hot["tag"])
    tags = hot["tag"][index]
    first = tags.astype(np.uint32) & np.uint32(GOAL_ENTRIES // ways - 1) == index // ways
    home = first & (tags >> np.uint64(61) == index % ways)
    shares = {"home": home, "first_set": first & ~home, "second_set": ~first}
    return {"used": len(index)} | {name: float(mask.mean()) for name, mask in shares.items()}


def _turns(program: int, row: Row, effort: Effort, warm: int, by_chance: bool) -> dict[str, int]:
    """ns of rounds in which there are as many packets as flows, after `warm` others in turn."""
    tested, empty = [], []
    with Feeder("xdp", program, row, row.frames, 1, by_chance) as feeder:
        if warm:
            feeder.tested(warm * row.flows)
        feeder.base(row.flows)
        for _ in range(effort.rounds):
            tested.append(feeder.tested(row.flows))
            empty.append(feeder.base(row.flows))
    return nanoseconds(figures(row, tested, empty, row.flows)) if tested else {}


def _counters(tables: Tables) -> dict[str, int]:
    return {name: packets for name, (packets, _) in tables.counters().items()}


def check(what: str, value: float, limit: float) -> dict[str, Any]:
    """Whether a goal is met."""
    return {"what": what, "value": value, "limit": limit, "met": value <= limit}
