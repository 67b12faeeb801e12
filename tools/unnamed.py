# SPDX-License-Identifier: Apache-2.0
"""What the flows without a name in captures have in common, as drafts of signatures.

    sudo .venv/bin/python tools/unnamed.py CAPTURE... [--hints] [--groups 10] > draft.toml

The captures run through the probe's own program. The first payloads of flows that it gives no name
are grouped: same transport, port and direction, and like bytes; then, over all ports, what is
left. The largest group comes first, each with its bytes and a `[[signature]]` to be edited. What is
common to a few flows of one capture may be chance: docs/signatures.md says how to go on.
"""

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from xdpprobe import flows
from xdpprobe.errors import ProbeError
from xdpprobe.explain.observe import Observer
from xdpprobe.explain.words import ascii_text
from xdpprobe.replay import replay
from xdpprobe.signature_table import LENGTH_MAX, PLUS_LIMIT

WIDTH = 32  # bytes that are compared, and that cost nothing in the tables
# Whether two payloads are alike: the part of so many first bytes that they share, times a weight.
# What follows a short constant head may be encrypted, so the head counts by itself.
WINDOWS = ((16, 1.0), (4, 0.6))
ALIKE = 0.3  # of two payloads of a group, at least: two of the first four bytes will do
ALIKE_ANYWHERE = 0.4  # the same where the ports differ
SAMPLES = 4  # payloads of a group that are shown
GROUP_LIMIT = 64  # groups of a port and direction; more are not looked for
SIZES = (4, 2)  # of length fields
Order = Literal["big", "little"]
ORDERS: tuple[Order, ...] = ("big", "little")
FIELD_PLACES = 16
CLASS_LIMIT = 4  # bytes that a set may have
MIN_FOR_SETS = 6  # flows below which a few different bytes mean nothing
OWN_IDS = 7168


@dataclass(frozen=True)
class Sample:
    """The first payload of a direction of a flow that has no name. port: the responder's."""

    l4: str
    port: int
    responder: bool
    head: bytes
    length: int


@dataclass(frozen=True)
class Group:
    """Samples that are alike. port: None where they have several."""

    l4: str
    port: int | None
    responder: bool
    samples: list[Sample]


@dataclass(frozen=True)
class Field:
    """A number in all of a group's payloads that is the payload's length minus `plus`."""

    at: int
    size: int
    order: Order
    plus: int

    def toml(self) -> str:
        """As a signature has it."""
        order = "" if self.order == "big" else ', order = "little"'
        plus = f", plus = {self.plus}" if self.plus else ""
        return f"field = {{ at = {self.at}, size = {self.size}{order}{plus} }}"


def groups(samples: Iterable[Sample]) -> list[Group]:
    """Groups of samples that are alike, the largest first."""
    by_port: dict[tuple[str, int, bool], list[Sample]] = defaultdict(list)
    for sample in samples:
        by_port[sample.l4, sample.port, sample.responder].append(sample)
    found: list[Group] = []
    single: dict[tuple[str, bool], list[Sample]] = defaultdict(list)
    for (l4, port, responder), members in by_port.items():
        for cluster in clusters(members, ALIKE):
            if len(cluster) > 1:
                found.append(Group(l4, port, responder, cluster))
            else:
                single[l4, responder] += cluster
    for (l4, responder), members in single.items():
        for cluster in clusters(members, ALIKE_ANYWHERE):
            ports = {sample.port for sample in cluster}
            common = cluster[0].port if len(ports) == 1 else None
            found.append(Group(l4, common, responder, cluster))
    return sorted(found, key=lambda group: -len(group.samples))


def clusters(samples: Sequence[Sample], alike: float) -> list[list[Sample]]:
    """Each sample goes to the first group whose first member it is like."""
    found: list[list[Sample]] = []
    for sample in samples:
        for cluster in found:
            if likeness(cluster[0].head, sample.head) >= alike:
                cluster.append(sample)
                break
        else:
            if len(found) < GROUP_LIMIT:
                found.append([sample])
    return found


def likeness(one: bytes, other: bytes) -> float:
    """How much of their first bytes is the same at the same place, see WINDOWS."""
    best = 0.0
    for width, weight in WINDOWS:
        shared = sum(a == b for a, b in zip(one[:width], other[:width], strict=False))
        best = max(best, weight * shared / max(min(width, max(len(one), len(other))), 1))
    return best


def fields(samples: Sequence[Sample]) -> list[Field]:
    """Length fields that are possible, from the front; none where all are of one length."""
    shortest = min(len(sample.head) for sample in samples)
    if len({sample.length for sample in samples}) < 2:
        return []
    found: list[Field] = []
    places = range(min(FIELD_PLACES, shortest))
    for at, size, order in product(places, SIZES, ORDERS):
        if at + size > shortest or any(_within(at, size, field) for field in found):
            continue
        differences = {
            sample.length - int.from_bytes(sample.head[at : at + size], order) for sample in samples
        }
        if len(differences) == 1 and abs(plus := differences.pop()) <= PLUS_LIMIT:
            found.append(Field(at, size, order, plus))
    return found


def _within(at: int, size: int, field: Field) -> bool:
    return field.at <= at and at + size <= field.at + field.size


def regex(samples: Sequence[Sample], field: Field | None) -> str:
    """What the first bytes have in common, in the dialect of signatures; "" where nothing is."""
    shortest = min(len(sample.head) for sample in samples)
    whole = len({sample.length for sample in samples}) == 1
    parts = []
    for at in range(min(WIDTH, shortest)):
        inside = field is not None and field.at <= at < field.at + field.size
        parts.append("." if inside else _byte([sample.head[at] for sample in samples]))
    while parts and parts[-1] == ".":
        parts.pop()
    if not parts:
        return ""
    if whole and samples[0].length < LENGTH_MAX and len(samples) > 1:
        parts += ["."] * (samples[0].length - len(parts))
        if len(parts) <= 256:
            return _shortened(parts) + "$"
        parts = parts[: min(WIDTH, shortest)]
        while parts[-1] == ".":
            parts.pop()
    return _shortened(parts)


def _byte(values: list[int]) -> str:
    """A place of the regex: the byte, a set of few, a half of it, or any."""
    counts = Counter(values)
    distinct = sorted(counts)
    if len(distinct) == 1:
        return _literal(distinct[0])
    # What came once may as well have been any other byte.
    if len(distinct) <= CLASS_LIMIT and min(counts.values()) >= MIN_FOR_SETS // 2:
        return "[" + "".join(f"\\x{value:02x}" for value in distinct) + "]"
    if len(values) >= MIN_FOR_SETS:
        for mask in (0xF0, 0x0F):
            if len({value & mask for value in distinct}) == 1:
                return f"\\m{{{mask:02x}:{distinct[0] & mask:02x}}}"
    return "."


def _literal(value: int) -> str:
    character = chr(value)
    if character.isascii() and (character.isalnum() or character in " _/:=<>,;@!%&~"):
        return character
    return f"\\x{value:02x}"


def _shortened(parts: list[str]) -> str:
    """The regex, with repeated places counted."""
    text, at = "", 0
    while at < len(parts):
        count = 1
        while parts[at : at + 1] == parts[at + count : at + count + 1]:
            count += 1
        short = f"{parts[at]}{{{count}}}"
        text += short if len(short) < count * len(parts[at]) else parts[at] * count
        at += count
    return text


def draft(number: int, group: Group, captures: str) -> Iterator[str]:
    """Lines on a group: what was seen, then a signature that fits all of it."""
    samples = group.samples
    lengths = sorted({sample.length for sample in samples})
    ports = Counter(sample.port for sample in samples)
    side = "responder" if group.responder else "initiator"
    where = f"port {group.port}" if group.port is not None else f"{len(ports)} ports"
    candidates = fields(samples)
    pattern = regex(samples, candidates[0] if candidates else None)
    what = f"{group.l4}, {where}; first payload of the {side}"
    yield f"# Group {number}: {len(samples)} flows, {what}"
    yield f"# lengths: {_listed(lengths)}"
    constant, varying = _places(samples, True), _places(samples, False)
    yield f"# constant bytes: {constant or 'none'}; varying: {varying or 'none'}"
    for field in candidates:
        yield f"# possible length field: {field.toml()}"
    for sample in samples[:SAMPLES]:
        head = sample.head[:WIDTH]
        more = " ..." if sample.length > len(head) else ""
        yield f"#   {head.hex(' ')}{more}  {ascii_text(head)}"
    if len(samples) < 2:
        yield "# nothing to compare it with"
        return
    if not pattern and not candidates:
        yield "# nothing in common: encrypted, or several protocols"
        return
    name = f"unnamed-{number}"
    yield "[[app]]"
    yield f"id = {OWN_IDS + number - 1}"
    yield f'name = "{name}"'
    yield f'title = "Unnamed {number}"'
    yield 'category = "network"'
    yield ""
    yield "[[signature]]"
    yield f'app = "{name}"'
    yield f'l4 = "{group.l4}"'
    yield f"match = '{pattern or '.'}'"
    if candidates:
        yield candidates[0].toml()
    if group.port is not None:
        yield f"port = {group.port}  # leave it out where the bytes say enough"
    yield f'from = "{side}"'
    yield "packet = 1"
    yield "confidence = 60  # from 90 on it is final"
    yield f'source = "observation: {len(samples)} flows of {captures}"'


def _listed(numbers: Sequence[int]) -> str:
    if len(numbers) <= 8:
        return ", ".join(map(str, numbers))
    return f"{numbers[0]} to {numbers[-1]}, {len(numbers)} different"


def _places(samples: Sequence[Sample], constant: bool) -> str:
    """The places where all have the same byte, or not, as ranges."""
    shortest = min(min(len(sample.head) for sample in samples), WIDTH)
    spans: list[list[int]] = []
    for place in range(shortest):
        if (len({sample.head[place] for sample in samples}) == 1) != constant:
            continue
        if spans and spans[-1][1] == place - 1:
            spans[-1][1] = place
        else:
            spans.append([place, place])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)


def unnamed(path: Path, signatures: list[Path], hints: bool) -> Iterator[Sample]:
    """The first payloads of a capture's flows without a name. Raises ProbeError.

    hints: flows that have it from a port alone are taken for such, too.
    """
    observer = Observer()
    done = replay(path, signatures=signatures, watcher=observer)
    if done.damage:
        print(f"{path}: {done.damage}", file=sys.stderr)
    order = np.array(done.order, dtype=np.intp)
    hot = done.snapshot.hot[order]
    weak = done.snapshot.enums["method"]["METHOD_PORT" if hints else "METHOD_NONE"]
    rows = order[(hot["protocol_method"] <= weak) & (hot["app_method"] <= weak)]
    for flow in flows.decode(done.snapshot, rows):
        seen = observer.flows.get(flow.index)
        for responder, payload in seen.firsts.items() if seen else ():
            yield Sample(flow.l4, flow.dport, responder, payload.head, payload.length)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("captures", nargs="+", type=Path, metavar="CAPTURE")
    parser.add_argument("--signatures", action="append", type=Path, default=[], metavar="DIR|FILE")
    parser.add_argument(
        "--hints", action="store_true", help="flows that a port alone names count as unnamed"
    )
    parser.add_argument("--groups", type=int, default=10, help="groups to show (default: 10)")
    args = parser.parse_args()
    samples: list[Sample] = []
    failed = False
    for path in args.captures:
        try:
            samples += unnamed(path, args.signatures, args.hints)
        except ProbeError as error:
            print(error, file=sys.stderr)
            failed = True
    names = ", ".join(path.name for path in args.captures[:3])
    names += f" and {len(args.captures) - 3} more" if args.captures[3:] else ""
    captures = re.sub(r'[^ -~]|["\'\\]', "_", names)[:100]
    found = groups(samples)
    for number, group in enumerate(found[: args.groups], 1):
        print("\n".join(draft(number, group, captures)) + "\n")
    left = found[args.groups :]
    total = sum(len(group.samples) for group in left)
    print(f"# {len(samples)} first payloads without a name, {len(found)} groups", end="")
    print(f"; {len(left)} with {total} payloads not shown: --groups" if left else "")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
