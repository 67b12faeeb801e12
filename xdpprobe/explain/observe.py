# SPDX-License-Identifier: Apache-2.0
"""Looks on while a capture is replayed: which payload packet brought a flow which verdict.

The flow table only keeps what came out in the end. But a test run is over before the next one
begins, and the program leaves its work in the per-CPU map `scratch`: the payload as it was copied,
its number and direction, the row of the match tables that was found. So whatever changes a flow's
verdict, or spends of its budget, is read from there. Then the same tables are asked in Python: what
they say has to be what the kernel did.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from xdpprobe import syscall
from xdpprobe.catalogue import Catalogue
from xdpprobe.libbpf import possible_cpus
from xdpprobe.loader import Loaded
from xdpprobe.patterns.compiler import Compiled, compile_signatures
from xdpprobe.patterns.lookup import Payload, fitting
from xdpprobe.signature_table import DEPTH

FLOW_LIMIT = 50_000  # flows of which that much is kept
LOOK_LIMIT = 8  # changes of a flow's verdict that are kept: the last ones
COMPLAINT_LIMIT = 4  # of a flow

_UNTOUCHED = 0xFFFFFFFF  # in scratch.match.row: patterns were not asked since
_UDP, _TCP = 17, 6


class Verdict(NamedTuple):
    """What the table says of a flow, in the fields of struct flow_hot."""

    app: int = 0
    protocol: int = 0
    app_method: int = 0
    protocol_method: int = 0
    app_confidence: int = 0
    protocol_confidence: int = 0

    def of(self, kind: str) -> tuple[int, int, int]:
        """(label, method, confidence) of "app" or "protocol"."""
        if kind == "app":
            return self.app, self.app_method, self.app_confidence
        return self.protocol, self.protocol_method, self.protocol_confidence


NOTHING = Verdict()


class Told(NamedTuple):
    """What a packet's texts said, by fields of struct text_value; confidence 0: nothing."""

    app: int = 0
    protocol: int = 0
    confidence: int = 0

    def gave(self, kind: str, label: int, confidence: int) -> bool:
        """Whether a flow's "app" or "protocol" is of that."""
        said = self.app if kind == "app" else self.protocol
        return bool(said) and (said, self.confidence) == (label, confidence)


@dataclass(frozen=True, slots=True)
class Look:
    """A packet that changed a flow's verdict.

    payload: None where it was named without a look at one. row: of the match tables, where a
    pattern fitted. told: by the packet's texts. realm: the STUN realm, if that was one of them.
    """

    payload: Payload | None
    after: Verdict
    before: Verdict
    row: int | None
    told: Told
    realm: str


class _Left(NamedTuple):
    """What the program left of a packet. row: + 1, 0: none fits, None: patterns were not asked."""

    payload: Payload | None = None
    row: int | None = None
    told: Told = Told()
    realm: str = ""


@dataclass(slots=True)
class Seen:
    """What is kept of a flow. firsts: the first payload of the initiator, of the responder."""

    tag: int
    spent: tuple[int, int] = (0, 0)
    verdict: Verdict = NOTHING
    stage: int = 0
    firsts: dict[bool, Payload] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


class Observer:
    """A `replay.Watcher`. `flows`: by element of the flow table; `compiled`: the tables asked.

    left_out: there were more flows than are watched.
    """

    def __init__(self) -> None:
        self.flows: dict[int, Seen] = {}
        self.left_out = False
        self.compiled: Compiled

    @contextmanager
    def watching(self, loaded: Loaded, known: Catalogue) -> Iterator[None]:
        """Begins anew, with a data plane that has seen nothing yet."""
        self.flows, self.left_out = {}, False
        self.compiled = compile_signatures(known.signatures, loaded.abi)
        self._methods = loaded.abi.enums["method"]
        self._hot, self._cold = loaded.array("flow_hot"), loaded.array("flow_cold")
        fields: Any = self._hot.dtype.fields
        # From the verdict to what was spent, in one piece: one comparison a packet.
        self._begin, self._size = fields["app"][1], self._hot.dtype.itemsize
        self._end = fields["spent"][1] + fields["spent"][0].itemsize
        self._bytes = self._hot.view(np.uint8).data
        self._last: dict[int, bytes] = {}
        with one_cpu() as cpu:
            self._scratch = _Scratch(loaded, cpu)
            yield

    def packet(self, index: int) -> None:
        """After each packet; index: the element of its flow."""
        base = index * self._size
        now = self._bytes[base + self._begin : base + self._end].tobytes()
        if self._last.get(index) == now:
            return
        if index not in self.flows and len(self.flows) >= FLOW_LIMIT:
            self.left_out = True
            return
        self._last[index] = now
        self._changed(index)

    def _changed(self, index: int) -> None:
        hot = self._hot[index]
        tag = int(hot["tag"])
        seen = self.flows.get(index)
        if seen is None or seen.tag != tag:
            seen = self.flows[index] = Seen(tag)
        spent = (int(hot["spent"][0]), int(hot["spent"][1]))
        verdict = Verdict(*(int(hot[name]) for name in Verdict._fields))
        if sum(spent) < sum(seen.spent):  # another connection between the same ends
            seen = self.flows[index] = Seen(tag)
        left = _Left()
        if spent != seen.spent:
            left = self._scratch.read(index, seen.stage)
        payload, row, told, realm = left
        if payload is not None:
            seen.firsts.setdefault(payload.responder, payload)
            if row is not None:
                self._compare(seen, payload, row, verdict, told)
        if verdict != seen.verdict:
            found = row - 1 if row else None
            look = Look(payload, verdict, seen.verdict, found, told, realm)
            seen.looks = [*seen.looks, look][-LOOK_LIMIT:]
        seen.spent, seen.verdict = spent, verdict
        seen.stage = int(self._cold[index]["stage"])

    def _compare(
        self, seen: Seen, payload: Payload, row: int, verdict: Verdict, told: Told
    ) -> None:
        """What the kernel did (row: number + 1, 0: none fits) with what the tables say."""
        found = fitting(self.compiled, payload)
        expected = found[0] + 1 if found else 0
        if row != expected:
            complaint = (
                f"{describe(payload)}: the kernel took {self._title(payload, row)},"
                f" the tables say {self._title(payload, expected)}"
            )
        elif row and not self._follows(payload, row, seen.verdict, verdict, told):
            complaint = (
                f"{describe(payload)}: {self._title(payload, row)} fits, which does not make"
                f" {tuple(verdict)} of {tuple(seen.verdict)}"
            )
        else:
            return
        if len(seen.complaints) < COMPLAINT_LIMIT:
            seen.complaints.append(complaint)

    def _title(self, payload: Payload, row: int) -> str:
        rows = self.compiled.rows[payload.kind]
        if not row:
            return "none"
        if row > len(rows):
            return f"row {row - 1}, which is none"
        signature = rows[row - 1].signature
        return f"{signature.title} ({signature.where()})"

    def _follows(
        self, payload: Payload, row: int, before: Verdict, after: Verdict, told: Told
    ) -> bool:
        """Whether a verdict is what a row makes of the one before.

        Something else in the packet may have said more: an address, the beginning of a hello.
        """
        signature = self.compiled.rows[payload.kind][row - 1].signature
        method = self._methods["METHOD_PORT" if signature.by_port else "METHOD_PATTERN"]
        given = {"app": signature.app_id, "protocol": signature.protocol_id}
        known = (
            not signature.final
            and before.protocol_method >= method
            and all(label in (0, before.of(kind)[0]) for kind, label in given.items())
        )
        for kind, label in given.items():
            old, new = before.of(kind), after.of(kind)
            meant = (label, method, signature.confidence)
            if known or not label or meant[1:] < old[1:]:
                meant = old
            if told.gave(kind, new[0], new[2]):
                continue
            if new != meant and new[1:] <= meant[1:]:
                return False
        return True


def describe(payload: Payload) -> str:
    """Which packet that is, for people."""
    side = "responder" if payload.responder else "initiator"
    return f"payload packet {payload.number} of the {side}, {payload.length} bytes"


class _Scratch:
    """The program's scratch memory on one CPU."""

    def __init__(self, loaded: Loaded, cpu: int) -> None:
        self._fd = loaded.map_fd("scratch")
        self._dtype = loaded.abi.element_dtype("scratch")
        self._size = self._dtype.itemsize * possible_cpus()
        self._cpu = cpu
        self._realm_kind = loaded.abi.enums["text_kind"]["TEXT_STUN_REALM"]
        self._stages = loaded.abi.dtype("match_class")["stage"].shape[0]
        self._reset(self._values())

    def read(self, index: int, stage: int) -> _Left:
        """What is left of the payload that was inspected last, if it is of that flow.

        stage: flow_cold.stage before the packet, which only counts for the tables that it was noted
        with.
        """
        values = self._values()
        record = values[self._cpu]
        work = record["work"]
        row = int(record["match"]["row"])
        told = Told(*(int(record["told"][name]) for name in Told._fields))
        if row != _UNTOUCHED or told.confidence:
            self._reset(values)
        l4 = int(work["l4"])
        if int(work["index"]) != index or l4 not in (_TCP, _UDP):
            return _Left()
        length, generation = int(work["length"]), int(work["generation"])
        payload = Payload(
            head=record["payload"]["b"][: min(length, DEPTH)].tobytes(),
            length=length,
            udp=l4 == _UDP,
            responder=bool(work["responder"]),
            ports=(int(work["source_port"]), int(work["destination_port"])),
            number=int(work["packet"]),
            stage=stage % self._stages if stage // self._stages == generation else 0,
        )
        realm = self._realm(record) if told.confidence else ""
        return _Left(payload, None if row == _UNTOUCHED else row, told, realm)

    def _realm(self, record: Any) -> str:
        """The realm, where it is what was asked about last: it is the last text of a message."""
        if int(record["text"]["kind"]) != self._realm_kind:
            return ""
        at, length = int(record["stun"]["realm"]), int(record["stun"]["realm_length"])
        data: bytes = record["payload"]["b"][at : at + length].tobytes()
        return data.decode("ascii", "replace")

    def _values(self) -> Any:
        data = syscall.lookup(self._fd, 0, self._size) or bytes(self._size)
        return np.frombuffer(bytearray(data), self._dtype)

    def _reset(self, values: Any) -> None:
        values["match"]["row"] = _UNTOUCHED
        values["told"] = 0
        syscall.update(self._fd, 0, values.tobytes(), "cannot write map scratch")


@contextmanager
def one_cpu() -> Iterator[int]:
    """Keeps the calling thread on one CPU, as what a program leaves there is the CPU's."""
    allowed = os.sched_getaffinity(0)
    cpu = min(allowed)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, allowed)
