# SPDX-License-Identifier: Apache-2.0
"""How cost grows with the signatures by pattern.

The same packets go, by turns, to a data plane that has signatures and to one that has none; neither
is attached anywhere.
"""

import hashlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bench_growth import Progress, check, compared

from xdpprobe import catalogue
from xdpprobe.bench.feeder import HOOKS, Feeder
from xdpprobe.bench.frames import Route
from xdpprobe.bench.ledger import Ledger
from xdpprobe.bench.measure import Effort, one_cpu, twice
from xdpprobe.bench.rows import Row
from xdpprobe.catalogue import Catalogue
from xdpprobe.lab.orderly import orderly
from xdpprobe.loader import load_object
from xdpprobe.patterns import cache
from xdpprobe.patterns.compiler import Compiled, compile_signatures
from xdpprobe.patterns.lookup import Payload, fitting
from xdpprobe.patterns.regex import ANY
from xdpprobe.patterns.rows import Row as Pattern
from xdpprobe.signature_table import DEPTH
from xdpprobe.tables import Tables

COUNTS = (10, 100, 1000)
MATCH_NS, COMPILE_S, LOAD_S = 700, 10, 0.5  # the goals

_ENTRIES = 262144  # of the flow table
_MADE = "measured"
_UDP_INITIATOR = 2  # number of the class of packets
_PORT, _CLIENT_PORT = 40444, 1024
_PARSED = {53, 5353, 5355}  # ports whose datagrams are read as DNS, before patterns
_WIDE = 32  # bytes of a payload that cost nearly nothing


@dataclass(frozen=True)
class _Plane:
    """A loaded data plane that is attached nowhere."""

    tables: Tables
    ledger: Ledger
    program: int

    @classmethod
    @contextmanager
    def loaded(cls, known: Catalogue) -> Iterator["_Plane"]:
        with load_object(flows=_ENTRIES, programs=[HOOKS["xdp"]], l4=known.l4) as made:
            made.tables().load(known)
            yield cls(made.tables(), Ledger(made.tables()), made.prog_fd(HOOKS["xdp"]))


@contextmanager
def _two_planes() -> Iterator[tuple[_Plane, _Plane]]:
    """One to load signatures into, and one that never has any."""
    known = chosen(catalogue.load(), "nothing", ())
    with _Plane.loaded(known) as one, _Plane.loaded(known) as other:
        yield one, other


def chosen(whole: Catalogue, what: str, signatures: Sequence[Any]) -> Catalogue:
    """A catalogue with these signatures alone, no names, no prefixes. what: tells it from others
    of the same files."""
    digest = hashlib.sha256(whole.digest + what.encode()).digest()
    return replace(whole, rules=[], prefixes={}, signatures=tuple(signatures), digest=digest)


def signatures(counts: Sequence[int], effort: Effort, progress: Progress) -> dict[str, Any]:
    """For so many made-up signatures, and for the shipped ones: ns of a payload, times, memory."""
    found = []
    with orderly(_two_planes()) as (plane, bare):
        for count in (*counts, None):
            progress(f"{count or 'shipped'} signatures")
            start = time.monotonic()
            known = _shipped() if count is None else _made(count)
            head = {"made": count is not None, "read_s": time.monotonic() - start}
            take = partial(_signatures, known, plane, bare, effort)
            found.append(head | twice(take, progress))
    return {"rows": found, "checks": list(_signature_checks(found))}


def _shipped() -> Catalogue:
    whole = catalogue.load()
    return chosen(whole, "shipped", whole.signatures)


def _made(count: int) -> Catalogue:
    """Made-up signatures, without the shipped ones."""
    with tempfile.TemporaryDirectory() as made:
        write_signatures(Path(made), count)
        whole = catalogue.load([Path(made)])
    return chosen(whole, _MADE, [one for one in whole.signatures if one.protocol == _MADE])


def write_signatures(directory: Path, count: int) -> None:
    """A file of made-up signatures: constants among bytes that may be any, as protocols have them;
    of each tenth the rest is an automaton's. The last one is the weakest, and as wide as can be."""
    chance, lines = Random(1), [f'[[protocol]]\nid = 448\nname = "{_MADE}"\n']
    lines.append('title = "Measured"\ncategory = "network"\n')
    for number in range(count):
        last = number == count - 1
        width = _WIDE if last else chance.randint(4, _WIDE)
        constant = {0, width - 1, *chance.sample(range(width), min(width, 6))}
        octets = (
            f"\\x{chance.randrange(256):02x}" if at in constant else "." for at in range(width)
        )
        rest = "[a-z]*:" if number % 10 == 5 and not last else ""
        lines.append(
            f'\n[[signature]]\nprotocol = "{_MADE}"\nl4 = "udp"\n'
            f"match = '{''.join(octets)}{rest}'\nconfidence = {60 if last else 85}\n"
        )
    (directory / f"{_MADE}.toml").write_text("".join(lines))


def _signatures(known: Catalogue, plane: _Plane, bare: _Plane, effort: Effort) -> dict[str, Any]:
    abi = plane.tables.abi
    start = time.monotonic()
    compiled = compile_signatures(known.signatures, abi)
    compiled_at = time.monotonic()
    cache.tables_of(known.signatures, known.digest, abi)  # from here on it has them
    begin = time.monotonic()
    cache.tables_of(known.signatures, known.digest, abi)
    cached = time.monotonic()
    plane.tables.load(known)
    end = time.monotonic()
    with one_cpu():
        payloads = {
            name: _payload(row, plane, bare, effort) for name, row in packets(compiled).items()
        }
    return {
        "signatures": len(known.signatures),
        "rows": len(compiled.rows[_UDP_INITIATOR]),
        **payloads,
        "compile_s": compiled_at - start,
        "cached_s": cached - begin,
        "load_s": end - cached,
        "memory": _match_memory(plane.tables),
    }


def _match_memory(tables: Tables) -> int:
    """Of one set of tables, in the kernel: they are arrays, whatever is in them."""
    sizes = (tables.abi.maps[name].inner for name in ("match_tables", "match_automata"))
    return sum(inner.max_entries * inner.value_size for inner in sizes if inner is not None)


def packets(compiled: Compiled) -> dict[str, Row]:
    """First packets of UDP flows: random bytes that fit no row; the last row's but for one byte,
    which fit none either; and those that fit the last row alone."""
    number, payload, port = _last(compiled)
    row = compiled.rows[_UDP_INITIATOR][number]
    protocol = row.signature.protocol
    gains = {"INFO_INSPECTED": 1.0}
    route = Route(port)
    near = _spoilt(compiled, row, payload, port)
    noise = next(
        made for seed in range(99) if not _fits(compiled, made := Random(seed).randbytes(200), port)
    )
    return {
        "none": Row("payload that fits none", route, (route.udp(noise),), gains=gains),
        "nearly": Row("payload that nearly fits", route, (route.udp(near),), gains=gains),
        "last": Row(
            "payload that fits the last",
            route,
            (route.udp(payload),),
            gains=gains | {"INFO_MATCHED": 1.0},
            protocol=protocol,
        ),
    }


def _last(compiled: Compiled) -> tuple[int, bytes, int]:
    """Of the rows that look at most bytes the last one that decides something by its columns alone:
    number, a payload that fits no other row, and the server's port. Raises LookupError."""
    rows = compiled.rows[_UDP_INITIATOR]
    for number in sorted(range(len(rows)), key=lambda n: (len(rows[n].masks), n), reverse=True):
        row, signature = rows[number], rows[number].signature
        plain = row.dfa is None and not (signature.field or signature.after or signature.app)
        port = signature.port[0].low if signature.port else _PORT
        if not plain or signature.by_port or not signature.protocol or port in _PARSED:
            continue
        payload = _payload_of(row)
        if _fits(compiled, payload, port) == [number]:
            return number, payload, port
    raise LookupError("no signature is of the kind that is measured")


def _payload_of(row: Pattern) -> bytes:
    """A payload of the least bytes that a row's columns take."""
    octets = bytes((mask & -mask).bit_length() - 1 for mask in row.masks)
    return octets.ljust(max(len(octets), row.length.low), b"\0")


def _spoilt(compiled: Compiled, row: Pattern, payload: bytes, port: int) -> bytes:
    """The payload with another last byte of those that may not be any; it fits no row."""
    at = max(at for at, mask in enumerate(row.masks) if mask != ANY)
    for octet in range(256):
        made = payload[:at] + bytes([octet]) + payload[at + 1 :]
        if not row.masks[at] >> octet & 1 and not _fits(compiled, made, port):
            return made
    raise LookupError("whatever the last byte is, some signature fits")


def _fits(compiled: Compiled, payload: bytes, port: int) -> list[int]:
    ports = _CLIENT_PORT, port
    return fitting(compiled, Payload(payload[:DEPTH], len(payload), True, False, ports))


def _payload(row: Row, plane: _Plane, bare: _Plane, effort: Effort) -> dict[str, int]:
    """Of new flows' first packets, over those of a plane without signatures."""

    def fed(to: _Plane, feeder: Feeder) -> int:
        to.ledger.clear()
        return feeder.tested(effort.new)

    with (
        Feeder("xdp", plane.program, row, row.frames, 1) as ours,
        Feeder("xdp", bare.program, row, row.frames, 1) as others,
    ):
        before = plane.ledger.read()
        tested, base = partial(fed, plane, ours), partial(fed, bare, others)
        found = compared(row, effort.new, effort.rounds, tested, base)
        plane.ledger.verify(row, before, effort.new * (effort.rounds + 1))
    return found


def _signature_checks(rows: Sequence[Any]) -> Iterator[dict[str, Any]]:
    most = max(row[name]["net_ns"] for row in rows for name in ("none", "nearly", "last"))
    yield check("ns of a payload, most of all", most, MATCH_NS)
    yield check("compile, s", max(row["compile_s"] for row in rows), COMPILE_S)
    yield check("load, s", max(row["load_s"] for row in rows), LOAD_S)
