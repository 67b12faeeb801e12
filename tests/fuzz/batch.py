# SPDX-License-Identifier: Apache-2.0
"""Many packets in one array, and the quickest way to test-run a program on each of them.

A request of BPF_PROG_TEST_RUN a packet costs 2 to 3 us when all requests are written beforehand, by
NumPy, and Python only passes their addresses on.
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xdpprobe import syscall
from xdpprobe.libbpf import library

Array = npt.NDArray[Any]
REQUEST = np.dtype(syscall._TestRun)
CONTEXTS = {"xdp": 24, "tc": 192}  # bytes of struct xdp_md and __sk_buff
DATA_END = {"xdp": 4, "tc": 80}  # where data_end stands in them
WHOLE = 0  # of Batch.linear
AS_IT_IS = 0  # of Batch.trim


@dataclass
class Batch:
    """Packets, in the order in which they are sent.

    data: a row a packet. length: bytes of the row that are sent. linear: how many of them the
    program reads directly, the rest lies in fragments (0: all). trim: how many are taken off its
    end before the program begins, and are then behind the packet (XDP only). tame: a packet of
    a flow that may have the canary's name.
    """

    data: Array
    length: Array
    linear: Array
    trim: Array

    def __len__(self) -> int:
        return len(self.length)

    def take(self, rows: Array) -> "Batch":
        """These packets only."""
        return Batch(self.data[rows], self.length[rows], self.linear[rows], self.trim[rows])

    @property
    def octets(self) -> int:
        """Bytes that the program is given, all packets together."""
        return int(self.length.sum() - self.trim.sum())

    def packet(self, row: int) -> bytes:
        """One packet's bytes, those that will be behind it included."""
        found: bytes = self.data[row, : self.length[row]].tobytes()
        return found


def batch_of(packets: list[bytes], room: int = 0) -> Batch:
    """Packets as they are."""
    count = len(packets)
    room = max([room, *map(len, packets)])
    data = np.zeros((count, room), np.uint8)
    for row, packet in enumerate(packets):
        data[row, : len(packet)] = np.frombuffer(packet, np.uint8)
    length = np.array([len(packet) for packet in packets], np.int64)
    return Batch(data, length, np.zeros(count, np.int64), np.zeros(count, np.int64))


@dataclass
class Answer:
    """What came of a batch, a packet an element. code: 0 or a negative errno. verdict: of the
    program. length, data: the packet as it left."""

    code: Array
    verdict: Array
    length: Array
    data: Array


class Runner:
    """Runs batches. programs: bytes to trim -> descriptor of the program that does it; 0: the
    program under test itself."""

    def __init__(self, hook: str, programs: Mapping[int, int]) -> None:
        self._hook = hook
        self._programs = programs
        self._out = np.zeros((0, 0), np.uint8)

    def run(self, batch: Batch) -> Answer:
        """Sends every packet once."""
        count, width = batch.data.shape
        data = np.ascontiguousarray(batch.data)
        if self._out.shape[0] < count or self._out.shape[1] != width:
            self._out = np.zeros((count, width), np.uint8)
        out = self._out[:count]
        contexts = self._contexts(batch)
        requests = np.zeros(count, REQUEST)
        rows = np.arange(count, dtype=np.uint64)
        requests["sz"] = REQUEST.itemsize
        requests["data_in"] = data.ctypes.data + rows * width
        requests["data_out"] = out.ctypes.data + rows * width
        requests["data_size_in"] = batch.length
        requests["data_size_out"] = width
        requests["repeat"] = 1
        with_context = batch.linear != WHOLE
        size = contexts.shape[1]
        requests["ctx_in"] = np.where(with_context, contexts.ctypes.data + rows * size, 0)
        requests["ctx_size_in"] = np.where(with_context, size, 0)
        code = self._send(requests, batch.trim)
        return Answer(code, requests["retval"], requests["data_size_out"], out)

    def _contexts(self, batch: Batch) -> Array:
        contexts = np.zeros((len(batch), CONTEXTS[self._hook]), np.uint8)
        at = DATA_END[self._hook]
        contexts[:, at : at + 4] = batch.linear.astype("<u4").view(np.uint8).reshape(-1, 4)
        return contexts

    def _send(self, requests: Array, trim: Array) -> Array:
        call = library().bpf_prog_test_run_opts
        pointer = ctypes.c_void_p
        first, size = requests.ctypes.data, REQUEST.itemsize
        programs = [self._programs[amount] for amount in trim.tolist()]
        codes = [call(program, pointer(first + row * size)) for row, program in enumerate(programs)]
        return np.array(codes, np.int64)
