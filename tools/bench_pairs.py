# SPDX-License-Identifier: Apache-2.0
"""Veth pairs to send traffic through, each with something else attached, for `make bench`."""

import os
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from xdpprobe import netns, syscall
from xdpprobe.attach import attach
from xdpprobe.bench.feeder import OBJECT
from xdpprobe.detach import detach
from xdpprobe.errors import StateError
from xdpprobe.lab.namespaces import Namespace, Network
from xdpprobe.libbpf import Object

ADDRESSES = ("192.0.2.1", "192.0.2.2")  # of the sender and of the receiver
_FLOWS = 262144
_READER_DEADLINE = 20.0  # seconds in which tcpdump must end


@dataclass(frozen=True)
class Variant:
    """What is attached to the receiver's interface.

    probe: "xdp" (native) or "tc", both directions; "": none. empty: an XDP program that does
    nothing. reader: tcpdump, which reads all packets and keeps none.
    """

    name: str
    probe: str = ""
    empty: bool = False
    reader: bool = False


@dataclass
class Pair:
    """Two namespaces and the veth between them, `eth0` on either side."""

    variant: Variant
    network: Network
    sender: Namespace
    receiver: Namespace
    bpffs: Path
    readers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def received(self) -> int:
        """Packets that came to the receiver so far."""
        return self.receiver.counters("eth0")["rx"]["packets"]


@contextmanager
def pairs(variants: Sequence[Variant], queues: int) -> Iterator[list[Pair]]:
    """A pair for each variant, all removed again however the block is left."""
    with ExitStack() as stack:
        yield [stack.enter_context(pair(variant, queues)) for variant in variants]


@contextmanager
def pair(variant: Variant, queues: int) -> Iterator[Pair]:
    """One pair whose interfaces have so many queues: each CPU that sends fills one of its own."""
    with Network() as network, ExitStack() as stack:
        made = Pair(
            variant,
            network,
            sender=network.add("sender"),
            receiver=network.add("receiver"),
            bpffs=network.mount_bpffs(),
        )
        _cable(made, queues)
        if variant.empty:
            stack.enter_context(_empty_program(made.receiver))
        if variant.probe:
            stack.enter_context(_probe(made))
        if variant.reader:
            made.readers.append(_tcpdump(made))
        yield made


def _cable(made: Pair, queues: int) -> None:
    many = f"numtxqueues {queues} numrxqueues {queues}"
    here, there = ADDRESSES
    made.sender.ip(
        f"link add eth0 {many} type veth peer name eth0 {many} netns {made.receiver.name}\n"
        f"link set eth0 addrgenmode none\nlink set eth0 up\naddress add {here}/24 dev eth0\n"
    )
    made.receiver.ip(
        f"link set eth0 addrgenmode none\nlink set eth0 up\naddress add {there}/24 dev eth0\n"
    )
    made.receiver.wait_for_carrier("eth0")
    # Without it, and without an XDP program, a veth takes no frames that are sent from XDP.
    made.receiver.run("ethtool", "-K", "eth0", "gro", "on")


@contextmanager
def inside(namespace: Namespace) -> Iterator[int]:
    """This thread in the namespace, and the number of `eth0` there."""
    with netns.entered(netns.named(namespace.name)):
        yield socket.if_nametoindex("eth0")


@contextmanager
def _empty_program(where: Namespace) -> Iterator[None]:
    with Object(OBJECT) as loaded:
        loaded.choose_programs({"xdp_empty"})
        loaded.load()
        program, what = loaded.program_fd("xdp_empty"), "cannot attach the empty program"
        with inside(where) as index:
            link = syscall.create_link(program, index, syscall.XDP, syscall.XDP_NATIVE_MODE, what)
        try:
            yield
        finally:
            os.close(link)


@contextmanager
def _probe(made: Pair) -> Iterator[None]:
    hook = made.variant.probe
    attach(
        ["eth0"],
        bpffs=made.bpffs,
        hook=hook,
        mode="native" if hook == "xdp" else None,
        netns_name=made.receiver.name,
        options={"flows": _FLOWS},
    )
    try:
        yield
    finally:
        detach([], everything=True, bpffs=made.bpffs)


def _tcpdump(made: Pair) -> subprocess.Popen[bytes]:
    """Reads every packet; returns when it listens."""
    argv = ("tcpdump", "-i", "eth0", "-n", "-w", "-")
    child = made.network.start(made.receiver, *argv)  # what it writes goes to /dev/null
    said = made.network.path / "stderr-0"
    for _ in range(500):
        if b"listening on" in said.read_bytes():
            return child
        try:
            child.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
        break
    raise StateError(f"tcpdump does not start: {made.network.last_words(child)}")


def reader_losses(made: Pair) -> tuple[int, int]:
    """Ends the reader; packets that the kernel had for it, and those it was too slow for.

    Raises StateError when it does not end, or does not say so.
    """
    child = made.readers.pop()
    child.send_signal(2)  # SIGINT: it says what it saw
    try:
        child.wait(_READER_DEADLINE)
    except subprocess.TimeoutExpired:
        raise StateError("tcpdump does not end") from None
    return losses_said((made.network.path / "stderr-0").read_text(errors="replace"))


def losses_said(text: str) -> tuple[int, int]:
    """(received, dropped) of tcpdump's last words. Raises StateError where one is missing."""
    found = [
        re.search(rf"^(\d+) packets? {what}$", text, re.MULTILINE)
        for what in ("received by filter", "dropped by kernel")
    ]
    if found[0] is None or found[1] is None:
        raise StateError(f"tcpdump does not say what it missed: {text.strip()[-200:]!r}")
    return int(found[0][1]), int(found[1][1])
