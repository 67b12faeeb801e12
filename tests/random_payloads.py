# SPDX-License-Identifier: Apache-2.0
"""Packets that mean nothing, by the million, held against the compiled tables.

A class of packets is looked at column by column, for all packets of a batch at once; what is left
after the columns is asked about one by one, as `signatures test` does. Random as odds.py has it:
bytes, 1 to 1,400 of them, and both ports.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from xdpprobe.patterns.compiler import Array, Compiled
from xdpprobe.patterns.lookup import Payload, fitting
from xdpprobe.patterns.odds import LONGEST
from xdpprobe.signature_table import DEPTH, LENGTH_MAX

BATCH = 1 << 16
CLASSES = 4


def wanted_rows(compiled: Compiled, kind: int, final: bool) -> npt.NDArray[np.uint64]:
    """Words with a bit for each row of a class that matches bytes; with `final` those that decide
    a flow."""
    words = compiled.classes[kind]["packet"].shape[1]
    bits = np.zeros(words * 64, bool)
    for number, row in enumerate(compiled.rows[kind]):
        bits[number] = row.signature.final if final else not row.signature.by_port
    return np.packbits(bits, bitorder="little").view(np.uint64)


def matched(
    compiled: Compiled, kind: int, count: int, final: bool, dice: np.random.Generator
) -> Iterator[tuple[Payload, int]]:
    """Of so many random packets of a class those that a wanted row fits, and the first such row."""
    table = compiled.classes[kind]
    wanted = wanted_rows(compiled, kind, final)
    held = np.unpackbits(wanted.view(np.uint8), bitorder="little").astype(bool)
    for begin in range(0, count, BATCH):
        size = min(BATCH, count - begin)
        heads = dice.integers(0, 256, (size, int(table["width"])), np.uint8)
        lengths = dice.integers(1, LONGEST + 1, size)
        ports = dice.integers(0, 1 << 16, (size, 2))
        for at in _left(table, wanted, heads, lengths, ports):
            rest = dice.bytes(DEPTH - heads.shape[1])
            payload = Payload(
                head=(heads[at].tobytes() + rest)[: lengths[at]],
                length=int(lengths[at]),
                udp=kind >= 2,
                responder=bool(kind & 1),
                ports=(int(ports[at][0]), int(ports[at][1])),
            )
            fits = next((row for row in fitting(compiled, payload) if held[row]), None)
            if fits is not None:
                yield payload, fits


def _left(
    table: Array,
    wanted: npt.NDArray[np.uint64],
    heads: npt.NDArray[np.uint8],
    lengths: npt.NDArray[np.int64],
    ports: npt.NDArray[np.int64],
) -> list[int]:
    """The packets of a batch that the columns leave a wanted row."""
    near, far = (table["port"][table["port_class"][ports[:, end]]] for end in (0, 1))
    alive = table["length"][table["length_class"][np.minimum(lengths, LENGTH_MAX)]] & (near | far)
    alive &= table["packet"][0] & table["stage"][0] & wanted
    left = np.arange(len(lengths))
    for at in range(heads.shape[1]):
        columns = table["byte"][at][heads[left, at]]
        columns[lengths[left] <= at] = np.iinfo(np.uint64).max
        alive &= columns
        some = alive.any(axis=1)
        left, alive = left[some], alive[some]
    found: list[int] = left.tolist()
    return found
