# SPDX-License-Identifier: Apache-2.0
"""What reading a full flow table costs, and the speed of `replay`.

    sudo .venv/bin/python tools/measure_readers.py > readers.json      (about four minutes)

A probe is attached in a network namespace of its own; its table is filled by test runs of its own
program, with flows over IPv4 and IPv6, half of them with one of 5,000 server names. Then
`snapshot()` and the sums by application are timed here, `top` runs in a terminal of 100 x 30, quiet
and with packets coming from another CPU, and every reporting command runs three times.

Standard output gets JSON, standard error a table. CPU is user and system time. The machine's other
work is in the figures: they are medians, and want a quiet machine.
"""

import argparse
import fcntl
import json
import multiprocessing
import os
import pty
import random
import resource
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xdpprobe import catalogue, syscall
from xdpprobe.aggregate import app_rows, label_totals
from xdpprobe.attach import attach
from xdpprobe.capture import Capture
from xdpprobe.detach import detach
from xdpprobe.lab.namespaces import Network
from xdpprobe.lab.orderly import orderly
from xdpprobe.linktypes import to_ethernet
from xdpprobe.probe import Probe

NAMES = 5000
LIVE_RATE = 20_000  # packets a second while `top` is watched
SETTLE = 4.0  # seconds of `top` before it is measured
READINGS = 41
RUNS = 3
CAPTURE_PACKETS = 300_000
COLUMNS, LINES = 100, 30
MACS = bytes.fromhex("020000000002020000000001")
COMMANDS = (
    ("apps",),
    ("apps", "--json"),
    ("hosts",),
    ("hosts", "--json"),
    ("hosts", "--by", "client", "--json"),
    ("flows",),
    ("flows", "--json"),
    ("flows", "--filter", "cat:video bytes>100"),
    ("top", "--once", "--interval", "0.1"),
    ("status",),
    ("dump", "--json"),
)


class Flows:
    """Frames of numbered flows: odd numbers ask for a server name, every fourth is IPv6."""

    def __init__(self) -> None:
        rules = [rule.name for rule in catalogue.load().rules]
        self._hosts = [f"h{n}.{rules[n % len(rules)]}".encode() for n in range(NAMES)]

    def frame(self, number: int) -> bytes:
        """What the client of this flow sends; checksums are left out, since nobody checks them."""
        named = number & 1
        host = self._hosts[number // 2 % NAMES]
        payload = b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host if named else bytes(23)
        ports = (20000 + number % 40009, 80 if named else 4500)
        if named:
            payload = struct.pack(">HHIIBBHHH", *ports, number, 1, 0x50, 0x18, 999, 0, 0) + payload
        else:
            payload = struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload
        l4, client = (6 if named else 17), number % 50021
        if number & 2 and number & 4:
            head = struct.pack(">IHBB", 6 << 28, len(payload), l4, 64)
            ends = bytes.fromhex("20010db8") + struct.pack(">QI", 1, client)
            ends += bytes.fromhex("20010db8") + struct.pack(">QI", 2, number % 1009)
            return MACS + b"\x86\xdd" + head + ends + payload
        head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, l4, 0)
        head += struct.pack(">II", 0x0A000000 + client, 0xC6336400 + number % 251)
        return MACS + b"\x08\x00" + head + payload


class Place(NamedTuple):
    """Where a probe is attached: its bpffs, the pin of its XDP program, how long attach took."""

    bpffs: Path
    program: Path
    attach_s: float


@contextmanager
def attached(flows: int, signatures: Sequence[Path] | None = None) -> Iterator[Place]:
    """A probe on one end of a cable."""
    with Network() as network:
        here, there = network.add("probe"), network.add("peer")
        network.cable(here, "eth0", there, "eth0")
        bpffs = network.mount_bpffs()
        options = {"flows": flows, "idle_new": 86400, "idle_established": 86400}
        start = time.monotonic()
        attach(
            ["eth0"],
            bpffs=bpffs,
            hook="xdp",
            netns_name=here.name,
            options=options,
            signatures=signatures,
        )
        took = time.monotonic() - start
        try:
            yield Place(bpffs, next(bpffs.glob("xdpprobe/*/slots/0/*/xdp_entry")), took)
        finally:
            detach([], everything=True, bpffs=bpffs)


def fill(bpffs: Path, program: Path, wanted: int) -> int:
    """Sends new flows until `wanted` entries are used; how many it took."""
    flows, sent = Flows(), 0
    with Probe.open(bpffs) as probe:
        hot = probe.tables().array("flow_hot")
        fd = syscall.open_pin(program)
        run = syscall.test_runner(fd, 2048)
        while np.count_nonzero(hot["tag"]) < wanted and sent < 4 * wanted:
            for number in range(sent, min(sent + 5000, max(wanted, sent + 1000))):
                run(flows.frame(number))
                sent += 1
        os.close(fd)
    return sent


def feed(program: Path, flows: int, cpu: int) -> None:
    """Packets of flows chosen by chance, LIVE_RATE a second, until it is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.sched_setaffinity(0, {cpu})
    run, made, chance = (
        syscall.test_runner(syscall.open_pin(program), 2048),
        Flows(),
        random.Random(1),
    )
    frames = [made.frame(chance.randrange(flows)) for _ in range(200_000)]
    due, at = time.monotonic(), 0
    while True:
        for frame in frames[at : at + LIVE_RATE // 100]:
            run(frame)
        at = (at + LIVE_RATE // 100) % len(frames)
        due += 0.01
        time.sleep(max(due - time.monotonic(), 0))


@contextmanager
def traffic(program: Path, flows: int, cpus: Sequence[int]) -> Iterator[None]:
    """`feed` in a process of its own, on the last CPU."""
    child = multiprocessing.get_context("fork").Process(
        target=feed, args=(program, flows, cpus[-1])
    )
    child.start()
    try:
        yield
    finally:
        child.terminate()
        child.join()


def cpu_seconds(pid: int) -> float:
    """CPU time of a process: the clock id is the kernel's, CPUCLOCK_SCHED of include/linux."""
    return time.clock_gettime(~pid << 3 | 2)


def memory_mb(pid: int) -> dict[str, float]:
    """Resident and proportional set size, MB of 10^6 bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return {name.lower(): sizes[name] * 1024 / 1e6 for name in ("Rss", "Pss")}


def watch(bpffs: Path, seconds: float, cpu: int) -> dict[str, float]:
    """`top` in a terminal: percent of a core, bytes drawn a second, memory."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.sched_setaffinity(0, {cpu})
        os.environ["TERM"] = "xterm-256color"
        os.execv(sys.executable, command(bpffs, "top"))
    try:
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        _drain(terminal, SETTLE)
        start, used = time.monotonic(), cpu_seconds(pid)
        drawn = _drain(terminal, seconds)
        spent, passed = cpu_seconds(pid) - used, time.monotonic() - start
        found = {"percent": 100 * spent / passed, "bytes_drawn": drawn / passed, **memory_mb(pid)}
        os.write(terminal, b"q")
        _drain(terminal, 5.0)
        return found
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def _drain(terminal: int, seconds: float) -> int:
    """Reads what is drawn, for so long or to the end; how many bytes."""
    end, count = time.monotonic() + seconds, 0
    while (left := end - time.monotonic()) > 0:
        if select.select([terminal], [], [], left)[0]:
            try:
                count += len(os.read(terminal, 1 << 16))
            except OSError:  # the other side has gone
                break
    return count


def command(bpffs: Path, *arguments: str) -> list[str]:
    """A command line of this interpreter's xdpprobe."""
    return [sys.executable, "-m", "xdpprobe", "--bpffs", str(bpffs), *arguments]


def timed(argv: Sequence[str], times: int = RUNS) -> dict[str, float]:
    """Runs a command so many times: medians of wall and CPU seconds."""
    runs = []
    for _ in range(times):
        start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        runs.append((time.monotonic() - start, cpu))
    walls, cpus = zip(*runs, strict=True)
    return {"wall_s": statistics.median(walls), "cpu_s": statistics.median(cpus)}


def reading(bpffs: Path, times: int = READINGS) -> dict[str, float]:
    """Milliseconds of CPU to take a snapshot, and to sum it by application."""
    taken, summed = [], []
    with Probe.open(bpffs) as probe:
        for _ in range(times):
            start = time.process_time_ns()
            snapshot = probe.snapshot()
            middle = time.process_time_ns()
            rows = app_rows(snapshot, label_totals(snapshot))
            taken.append((middle - start) / 1e6)
            summed.append((time.process_time_ns() - middle) / 1e6)
            used, apps = np.count_nonzero(snapshot.hot["tag"]), len(rows)
            del snapshot
    both = [a + b for a, b in zip(taken, summed, strict=True)]
    median = statistics.median
    figures = {"snapshot": median(taken), "totals": median(summed), "both": median(both)}
    return {**figures, "flows": int(used), "apps": apps}


def table(flows: int, used: int, seconds: float, commands: bool) -> dict[str, Any]:
    """All figures of a table of `flows` entries with `used` of them taken."""
    cpus = sorted(os.sched_getaffinity(0))
    with orderly(attached(flows)) as (bpffs, program, _):
        sent = fill(bpffs, program, used)
        found: dict[str, Any] = {"read_ms": reading(bpffs)}
        found["top_idle"] = watch(bpffs, seconds, cpus[0])
        with traffic(program, sent, cpus):
            found["top_live"] = watch(bpffs, seconds, cpus[0])
        if commands:
            found["commands"] = {
                " ".join(words): timed(command(bpffs, *words)) for words in COMMANDS
            }
    return found


def write_capture(path: Path, sources: Sequence[Path], packets: int) -> int:
    """A pcap file of so many packets; how many bytes.

    Of the flows above; or the sources' own packets, again and again with other IPv4 addresses.
    """
    if sources:
        frames = []
        for source in sources:
            with Capture(source) as capture:
                frames += [made.data for packet in capture if (made := to_ethernet(packet))]
    else:
        flows = Flows()
        frames = [flows.frame(number // 8) for number in range(packets)]
    with path.open("wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for number in range(packets):
            frame, turn = frames[number % len(frames)], number // len(frames)
            if turn and frame[12:14] == b"\x08\x00" and len(frame) >= 34:
                # Both ends get the same number: both directions stay one flow.
                shift = bytes([turn & 255])
                frame = frame[:27] + shift + frame[28:31] + shift + frame[32:]
            head = struct.pack(
                "<IIII", number // 20000, number % 20000 * 50, len(frame), len(frame)
            )
            out.write(head + frame)
    return path.stat().st_size


def replaying(sources: Sequence[Path]) -> dict[str, Any]:
    """Packets a second of `replay`, from its start to its end, and the time it takes to start."""
    with tempfile.TemporaryDirectory() as directory:
        big, small = Path(directory) / "big.pcap", Path(directory) / "small.pcap"
        size = write_capture(big, sources, CAPTURE_PACKETS)
        write_capture(small, (), 1)
        replay = [sys.executable, "-m", "xdpprobe", "replay", "--json"]
        start, whole = timed([*replay, str(small)]), timed([*replay, str(big)])
    return {
        "packets": CAPTURE_PACKETS,
        "bytes": size,
        "start_s": start["wall_s"],
        "wall_s": whole["wall_s"],
        "packets_a_second": CAPTURE_PACKETS / whole["wall_s"],
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The figures as a table."""
    for size, part in found["tables"].items():
        read = part["read_ms"]
        yield f"{size} flows ({read['flows']} used, {read['apps']} applications)"
        yield f"  snapshot {read['snapshot']:.1f} ms, totals {read['totals']:.1f} ms of CPU"
        for name in ("top_idle", "top_live"):
            top = part[name]
            yield (
                f"  {name:<9} {top['percent']:5.1f} % of a core, {top['bytes_drawn']:6.0f} B/s,"
                f" RSS {top['rss']:.0f} MB, PSS {top['pss']:.0f} MB"
            )
        for name, run in part.get("commands", {}).items():
            yield f"  {name:<40} {run['wall_s']:6.2f} s wall {run['cpu_s']:6.2f} s CPU"
    if "replay" in found:
        run = found["replay"]
        yield (
            f"replay of {run['packets']} packets: {run['packets_a_second']:.0f} a second,"
            f" start {run['start_s']:.2f} s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the readers of a full flow table.")
    parser.add_argument("captures", nargs="*", type=Path, help="to replay (default: made-up flows)")
    parser.add_argument("--seconds", type=float, default=20, help="to watch each `top`")
    parser.add_argument("--only", choices=("full", "small", "replay"), help="a part")
    args = parser.parse_args()
    found: dict[str, Any] = {"tables": {}}
    if args.only in (None, "full"):
        found["tables"]["full"] = table(262144, 262144, args.seconds, True)
    if args.only in (None, "small"):
        found["tables"]["10000"] = table(262144, 10000, args.seconds, False)
    if args.only in (None, "replay"):
        found["replay"] = replaying(args.captures)
    print("\n".join(lines(found)), file=sys.stderr)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
