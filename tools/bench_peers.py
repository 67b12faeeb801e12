# SPDX-License-Identifier: Apache-2.0
"""How cost grows with the pushed peers.

New flows go to a probe, by turns with its peers in force and without; it is attached in a network
namespace of its own, where no traffic comes.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from bench_growth import NEW, Progress, check, compared, evictions, table
from measure_readers import command, timed

from xdpprobe import status
from xdpprobe.bench.feeder import Feeder
from xdpprobe.bench.frames import SYN, Route
from xdpprobe.bench.ledger import Ledger
from xdpprobe.bench.measure import Effort, one_cpu, twice
from xdpprobe.bench.rows import Row
from xdpprobe.errors import ProbeError
from xdpprobe.lab.orderly import orderly
from xdpprobe.tables import Tables

COUNTS = (1000, 100_000, 1_000_000)
KINDS = ("addresses", "prefixes")
_PUBLISHED = 0.02  # of the addresses below 10.0.0.0, at most

# The goals: peers -> ns more of a new flow.
GOALS = {
    "addresses": {1000: 60, 1_000_000: 400},
    "prefixes": {1000: 60, 1_000_000: 1200},
}

_ENTRIES = 262144  # of the flow table
_PORT = 40444
_PREFIX_BITS = 28
_APP = "netflix"


@dataclass(frozen=True)
class _ToServers(Route):
    """Frames where the server's address is written over, in place of the client's. before: from so
    many bytes before its last four on.

    What is written begins with 10. With `before` 0 servers are in 10.0.0.0/8, where the peers
    are. With 1 that byte is the client's last one, and servers are below 10.0.0.0, where none is.
    """

    before: int = 0

    @property
    def address_at(self) -> int:
        return super().address_at + 4 - self.before


def write_peers(path: Path, kind: str, count: int) -> None:
    """A list of peers from 10.0.0.0 on, in no order."""
    step, end = (1, "") if kind == "addresses" else (1 << 32 - _PREFIX_BITS, f"/{_PREFIX_BITS}")
    numbers = list(range(count))
    Random(count).shuffle(numbers)
    first = int(IPv4Address("10.0.0.0"))
    path.write_text("".join(f"{IPv4Address(first + n * step)}{end}\n" for n in numbers))


def syn(kind: str, count: int, known: bool) -> Row:
    """New flows to any of the peers that write_peers() made; or to any of others."""
    route = _ToServers(_PORT, before=0 if known else 1)
    plain, frames = route.tcp(sequence=0, flags=SYN), []
    for number in range(64):  # clients that no peer is; as many as bpf/bench.bpf.c keeps frames
        client = IPv4Address(f"198.18.{number}.1").packed
        frames.append(plain[:26] + client + plain[30:])
    addresses = count * (1 if kind == "addresses" else 1 << 32 - _PREFIX_BITS)
    return Row(
        "new flow to a peer" if known else "new flow to no peer",
        route,
        tuple(frames),
        flows=(addresses if known else 10 << 16) << 8,  # each with so many ports of the client's
        method={"addresses": "METHOD_PEER", "prefixes": "METHOD_PREFIX"}[kind] if known else "",
    )


def peers(counts: Sequence[int], effort: Effort, progress: Progress) -> dict[str, Any]:
    """For so many pushed peers of each kind: ns more of a new flow, seconds, memory."""
    found = []
    with orderly(table(_ENTRIES)) as (bpffs, probe, program):
        for kind in KINDS:
            for count in counts:
                progress(f"{count} peers, {kind}")
                take = partial(_peers, kind, count, bpffs, probe.tables(), program, effort)
                found.append(twice(take, progress))
    return {"rows": found, "checks": list(_peer_checks(found))}


def _peers(
    kind: str, count: int, bpffs: Path, tables: Tables, program: int, effort: Effort
) -> dict[str, Any]:
    timed(command(bpffs, "peers", "flush"), 1)
    without = status.report(bpffs)["memory"]
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "peers"
        write_peers(path, kind, count)
        took = timed(command(bpffs, "peers", "import", "--label", _APP, str(path)), 1)
    report = status.report(bpffs)
    if report["peers"]["pushed"] != count:
        raise ProbeError(f"{report['peers']['pushed']} peers are in force, not {count}")
    with one_cpu():
        return {
            "kind": kind,
            "peers": count,
            "none": _new_flow(syn(kind, count, False), tables, program, effort),
            "one": _new_flow(syn(kind, count, True), tables, program, effort),
            "import_s": took["wall_s"],
            "memory": report["memory"] - without,
        }


def _new_flow(row: Row, tables: Tables, program: int, effort: Effort) -> dict[str, int]:
    """ns more than where the data plane is told that there are no peers.

    Raises ProbeError unless flows were born, and named by peers or not, as the row says.
    """
    ledger, control = Ledger(tables), tables.array("control", writable=True)
    pushed = np.uint32(tables.abi.enums["peers"]["PEERS_PUSHED"])
    with Feeder("xdp", program, row, row.frames, 1, by_chance=True) as feeder:

        def fed(ask: bool) -> int:
            ledger.clear()
            control["peers"][0] = control["peers"][0] & ~pushed | (pushed if ask else 0)
            return feeder.tested(NEW)

        before = ledger.read()
        try:
            found = compared(row, NEW, effort.rounds, partial(fed, True), partial(fed, False))
        finally:
            control["peers"][0] |= pushed
        after = ledger.read()
    born, wanted = after.born - before.born, 2 * (effort.rounds + 1) * NEW
    evicted = evictions(after.counters) - evictions(before.counters)
    if born < 0.999 * wanted or evicted > 0.001 * wanted:
        raise ProbeError(f"of {wanted} new flows {born} were born, and {evicted} evicted others")
    hot, method = tables.array("flow_hot"), row.method or "METHOD_NONE"
    methods = hot["app_method"][hot["tag"] != 0]
    # A few of the servers that are no peers are in networks that signatures know.
    strays = 0 if row.method else _PUBLISHED
    if not len(methods) or (methods != tables.abi.enums["method"][method]).mean() > strays:
        raise ProbeError(f"'{row.name}': not all were named by {method}")
    return found


def _peer_checks(rows: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for row in rows:
        if (limit := GOALS[row["kind"]].get(row["peers"])) is not None:
            what = f"ns of a new flow more, {row['peers']:,} {row['kind']}"
            yield check(what, max(row[name]["net_ns"] for name in ("none", "one")), limit)
