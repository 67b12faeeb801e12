# SPDX-License-Identifier: Apache-2.0
"""The program before the program under test (bpf/bench.bpf.c): frames in, ns a packet out.

And the one that sends the same frames through an interface.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from xdpprobe import syscall
from xdpprobe.bench.frames import Route
from xdpprobe.bench.rows import Row
from xdpprobe.elf import read_object
from xdpprobe.errors import ProbeError
from xdpprobe.libbpf import Object

OBJECT = Path(__file__).parents[1] / "data" / "bench.bpf.o"
HOOKS = {"xdp": "xdp_entry", "tc": "tc_ingress"}
_PASSED = {"xdp": 2, "tc": 0xFFFFFFFF}  # XDP_PASS; TCX_NEXT, which is TC_ACT_UNSPEC


def _load(
    programs: set[str], constants: Mapping[str, int], sizes: Mapping[str, int] | None = None
) -> Object:
    """Loads some of the object's programs. sizes: map -> entries, where not as in the object."""
    source = read_object(OBJECT)
    loaded = Object(OBJECT)
    try:
        loaded.choose_programs(programs)
        for name, value in constants.items():
            offset, size = source.constants[name]
            loaded.set_constant(offset, value.to_bytes(size, "little"))
        for name, entries in (sizes or {}).items():
            loaded.resize(name, entries)
        loaded.load()
    except BaseException:
        loaded.close()
        raise
    return loaded


class Feeder:
    """A row's frames, before the program under test and before an empty one.

    frames, flows, per_flow: as in `Row`. by_chance: any of the flows each time, and not the next
    one. A context manager. Raises DataError for a missing or
    broken object, PrivilegeError, KernelError.
    """

    def __init__(
        self,
        hook: str,
        program: int,
        row: Row,
        frames: tuple[bytes, ...],
        per_flow: int,
        by_chance: bool = False,
    ) -> None:
        self._hook, self._frames = hook, frames
        constants = {
            "flows": row.flows,
            "by_chance": int(by_chance),
            "per_flow": per_flow,
            "frame_count": len(frames),
            "frame_length": len(frames[0]),
            "address_at": row.route.address_at,
            "port_at": row.route.port_at,
        }
        self._object = _load({f"{hook}_{kind}" for kind in ("tested", "base", "empty")}, constants)
        try:
            self._fill(program)
        except BaseException:
            self._object.close()
            raise

    def _fill(self, program: int) -> None:
        following = self._object.map_fd(f"{self._hook}_next")
        for index, fd in enumerate((program, self._object.program_fd(f"{self._hook}_empty"))):
            syscall.update(following, index, fd.to_bytes(4, "little"), "cannot chain a program")
        frames = self._object.map_fd("frames")
        room = syscall.map_info(frames).value_size
        for index, frame in enumerate(self._frames):
            syscall.update(frames, index, frame.ljust(room, b"\0"), "cannot store a frame")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._object.close()

    def tested(self, packets: int) -> int:
        """Feeds so many packets to the program under test; ns a packet, the feeding included."""
        return self._run("tested", packets)

    def base(self, packets: int) -> int:
        """Feeds so many packets to the empty program; ns a packet."""
        return self._run("base", packets)

    def _run(self, kind: str, packets: int) -> int:
        program = self._object.program_fd(f"{self._hook}_{kind}")
        returned, ns, _ = syscall.test_run(program, self._frames[0], packets)
        if returned != _PASSED[self._hook]:
            raise ProbeError(
                f"a benchmark's packet was not passed on (the program returned {returned})",
                "the package is damaged: install it again",
            )
        return ns


@contextmanager
def sender(route: Route, frame: bytes, flows: int, ifindex: int) -> Iterator[Callable[[int], None]]:
    """A function that sends so many frames through an interface, of `flows` flows in turn.

    They leave from the CPU and in the network namespace of whoever calls it. Raises as `Feeder`.
    """
    constants = {
        "flows": flows,
        "frame_length": len(frame),
        "address_at": route.address_at,
        "port_at": route.port_at,
        "target": ifindex,
    }
    loaded = _load({"xdp_send"}, constants)
    try:
        program = loaded.program_fd("xdp_send")
        yield lambda count: syscall.send(program, frame, count)
    finally:
        loaded.close()


@contextmanager
def bare_table(route: Route, entries: int) -> Iterator[int]:
    """A program to measure that only counts packets, each in one of `entries` cache lines.

    entries: a power of two. Raises as `Feeder`.
    """
    constants = {
        "line_mask": entries - 1,
        "address_at": route.address_at,
        "port_at": route.port_at,
    }
    loaded = _load({"xdp_line"}, constants, {"lines": entries})
    try:
        yield loaded.program_fd("xdp_line")
    finally:
        loaded.close()
