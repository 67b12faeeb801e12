# SPDX-License-Identifier: Apache-2.0
"""A data plane in the kernel that is attached nowhere, as a test sees it: frames in, flows out."""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.packets import Conversation, Endpoint
from xdpprobe import syscall
from xdpprobe.libbpf import check, library, possible_cpus
from xdpprobe.loader import Loaded

XDP_PASS, TC_NEXT = 2, 0xFFFFFFFF
HOOKS = {"xdp": ("xdp_entry", XDP_PASS), "tc": ("tc_ingress", TC_NEXT)}
FLOWS = 16384
LONGEST = 1 << 16  # bytes of a frame
# An assembler with few slots, for tests that fill it or empty it.
HELLOS = 256
FEW_HELLOS = {"hello_mask": HELLOS - 1}

Array = npt.NDArray[Any]


def zero(fd: int, per_cpu: bool = False) -> None:
    """Makes all elements of an array map zero."""
    info = syscall.map_info(fd)
    size = -(-info.value_size // 8) * 8 * possible_cpus() if per_cpu else info.value_size
    values = np.zeros((info.max_entries, size), np.uint8)
    keys, count = np.arange(info.max_entries, dtype="<u4"), ctypes.c_uint32(info.max_entries)
    where = [ctypes.c_void_p(array.ctypes.data) for array in (keys, values)]
    update = library().bpf_map_update_batch
    check(update(fd, *where, ctypes.byref(count), None), "cannot zero a map")


@dataclass(frozen=True)
class Flow:
    """A flow as the tables have it, but with the endpoint that compares lower always first.

    packets and bytes: what the first endpoint sent, what the second one sent.
    """

    vlan: int
    l4: int
    ends: tuple[tuple[bytes, int], tuple[bytes, int]]
    packets: tuple[int, int]
    bytes: tuple[int, int]
    protocol: int
    app: int
    app_method: int
    name: str | None


class Plane:
    """One hook of a loaded data plane."""

    def __init__(self, loaded: Loaded, hook: str) -> None:
        program, self.verdict = HOOKS[hook]
        self.hook = hook
        self.loaded = loaded
        self.use(program)
        self._hot = loaded.array("flow_hot", writable=True)
        self._cold = loaded.array("flow_cold", writable=True)
        self._names = loaded.array("names", writable=True)
        self._tables = loaded.tables()
        # What one hook's tests leave in tables that are not cleared says nothing of another's.
        self._next_client = list(HOOKS).index(hook) << 23

    def use(self, program: str) -> None:
        """Send frames through another program of the hook."""
        self._program = self.loaded.prog_fd(program)
        self._run = syscall.test_runner(self._program, LONGEST)

    def shortest(self, frame: bytes) -> int:
        """The shortest frame of this type that BPF_PROG_TEST_RUN takes."""
        if self.hook == "xdp":
            return 14
        return 54 if frame[12:14] == b"\x86\xdd" else 34

    def clear(self) -> None:
        """Forget all flows."""
        self._hot.view(np.uint8)[:] = 0
        # Most entries of these are larger than what is to be seen of them, and free.
        self._cold[self._cold["tag"] != 0] = 0
        self._names[self._names["hash"] != 0] = 0

    def room(self, table: str) -> int:
        """How many entries a table has."""
        return int(syscall.map_info(self.loaded.map_fd(table)).max_entries)

    def forget_hellos(self) -> None:
        """Give all unfinished hellos up, which would else be held for a time-out."""
        zero(self.loaded.map_fd("hello_slots"))

    def unfinished(self) -> bool:
        """Whether a flow that is still there has sent a part of a hello."""
        flags = self.loaded.abi.enums["flow_flag"]
        waiting = sum(flags[f"FLOW_{word}"] for word in ("KEPT", "PENDING_0", "PENDING_1"))
        return bool((self._hot["flags"] & waiting).any())

    def new_talk(self, port: int = 443, **fields: Any) -> Conversation:
        """A conversation that no test has had before."""
        number = self._next_client
        self._next_client += 1
        client = Endpoint(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 40000)
        return Conversation(client, Endpoint("198.51.100.20", port), **fields)

    def send(self, *frames: bytes, context: bytes | None = None) -> None:
        """Run the program on each; whatever it is, the packet must pass."""
        for frame in frames:
            if context is None:
                assert self._run(frame) == self.verdict
            else:
                returned, _, _ = self.loaded.test_run(self._program, frame, ctx=context)
                assert returned == self.verdict

    def flow(self, talk: Conversation, l4: int = 6) -> Flow | None:
        """The flow of a conversation."""
        low, high = sorted((end.mapped, end.port) for end in (talk.client, talk.server))
        client = np.frombuffer(talk.client.mapped, np.uint8)
        live = np.flatnonzero(self._hot["tag"])
        near = live[(self._cold["address"][live] == client).all(axis=2).any(axis=1)]
        found = [flow for flow in self._flows(near) if (flow.l4, *flow.ends) == (l4, low, high)]
        assert len(found) <= 1
        return found[0] if found else None

    def entry(self, talk: Conversation) -> int:
        """The number of a conversation's entry in the flow table."""
        client = np.frombuffer(talk.client.mapped, np.uint8)
        live = np.flatnonzero(self._hot["tag"])
        (index,) = live[(self._cold["address"][live] == client).all(axis=2).any(axis=1)]
        return int(index)

    def tls(self, talk: Conversation) -> tuple[int, set[str]]:
        """The version of a conversation's TLS, and what is flagged of it."""
        cold = self._cold[self.entry(talk)]
        bits = self.loaded.abi.enums["tls_flag"]
        flags = int(cold["tls_flags"])
        return int(cold["tls_version"]), {name for name, bit in bits.items() if flags & bit}

    def evidence(self, talk: Conversation) -> str:
        """What names a conversation's protocol: method, as a word."""
        number = int(self._hot[self.entry(talk)]["protocol_method"])
        (word,) = [n for n, value in self.loaded.abi.enums["method"].items() if value == number]
        return word.removeprefix("METHOD_").lower().replace("_", "-")

    def final(self, talk: Conversation) -> bool:
        """Nothing more of a conversation will be inspected."""
        flags = int(self._hot[self.entry(talk)]["flags"])
        return bool(flags & self.loaded.abi.enums["flow_flag"]["FLOW_FINAL"])

    def flows(self, among: Array | None = None) -> list[Flow]:
        """All flows, or those of the table's entries that `among` marks."""
        live = self._hot["tag"] != 0
        return self._flows(np.flatnonzero(live if among is None else live & among))

    def _flows(self, indices: Array) -> list[Flow]:
        return [self._flow(int(index)) for index in indices]

    def _flow(self, index: int) -> Flow:
        hot, cold = self._hot[index], self._cold[index]
        assert hot["tag"] == cold["tag"]
        ends = [
            (cold["address"][i].tobytes(), int.from_bytes(cold["port"][i].tobytes(), "big"))
            for i in (0, 1)
        ]
        low, high = (0, 1) if ends[0] <= ends[1] else (1, 0)
        return Flow(
            int(cold["vlan"]),
            int(cold["l4"]),
            (ends[low], ends[high]),
            (int(hot["packets"][low]), int(hot["packets"][high])),
            (int(hot["bytes"][low]), int(hot["bytes"][high])),
            int(hot["protocol"]),
            int(hot["app"]),
            int(hot["app_method"]),
            self._name(int(cold["name"])),
        )

    def _name(self, key: int) -> str | None:
        if not key:
            return None
        found = np.flatnonzero(self._names["hash"] == np.uint64(key))
        assert len(found) == 1
        entry = self._names[found[0]]
        text: bytes = entry["text"].tobytes()
        return text[: int(entry["length"])].decode("ascii")

    def counters(self, prefix: str = "") -> dict[str, tuple[int, int]]:
        """(packets, bytes) of every counter whose name begins so, all CPUs together."""
        counters = self._tables.counters()
        return {name: value for name, value in counters.items() if name.startswith(prefix)}

    def counted(self, before: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """What the counters of `before` have gained since."""
        now = self._tables.counters()
        gains = {name: (now[name][0] - p, now[name][1] - b) for name, (p, b) in before.items()}
        return {name: gain for name, gain in gains.items() if gain != (0, 0)}
