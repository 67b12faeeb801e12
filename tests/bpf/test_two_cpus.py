# SPDX-License-Identifier: Apache-2.0
"""Two CPUs in the flow table at once: no packet is lost from a counter, no flow stands twice."""

import os
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.bpf.instances import lent
from tests.effort import SHARE
from tests.flow_sets import expected_away
from tests.packets import Conversation, Endpoint
from xdpprobe import syscall
from xdpprobe.loader import Loaded

NEW_FLOWS = 20_000
REPEATS = 300_007  # a prime, so that no rounding hides
# Of the longest test here. A minute before a release: XDPPROBE_LONG=60 (CONTRIBUTING.md).
LONG = float(os.environ.get("XDPPROBE_LONG", max(0.3, 3 * SHARE)))


@pytest.fixture
def loaded() -> Iterator[Loaded]:
    if os.geteuid() != 0:
        pytest.skip("loading a BPF program needs root")
    with lent(flows=131072, programs=["xdp_entry"]) as instance:
        yield instance


def on_two_cpus(work: Callable[[], None], other: Callable[[], None] | None = None) -> None:
    """Run `work` on two CPUs, or it and `other`, from the same moment; an error is raised."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    start, errors = threading.Barrier(2), []

    def run(cpu: int, work: Callable[[], None]) -> None:
        try:
            os.sched_setaffinity(0, {cpu})  # of this thread alone
            start.wait()
            work()
        except BaseException as error:
            errors.append(error)

    works = zip(cpus, (work, other or work), strict=True)
    threads = [threading.Thread(target=run, args=pair) for pair in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def datagram(number: int) -> bytes:
    client = Endpoint(f"10.0.{number >> 8 & 255}.{number & 255}", 1024 + (number >> 16))
    return Conversation(client, Endpoint("198.51.100.9", 4500)).udp(b"x" * 23)


def test_one_flow_is_counted_exactly(loaded: Loaded) -> None:
    frame, program = datagram(7), loaded.prog_fd("xdp_entry")
    on_two_cpus(lambda: [syscall.test_run(program, frame, repeat=REPEATS), None][1])
    hot = loaded.array("flow_hot")
    hot = hot[hot["tag"] != 0]
    assert len(hot) == 1
    assert int(hot["packets"].sum()) == 2 * REPEATS
    assert int(hot["bytes"].sum()) == 2 * REPEATS * len(frame)


def test_one_flow_for_long_is_counted_exactly(loaded: Loaded) -> None:
    """Both CPUs send for both ends, so that all counters are shared."""
    client, server = Endpoint("10.0.0.7", 1024), Endpoint("198.51.100.9", 4500)
    talk = Conversation(client, server)
    frames = (talk.udp(b"x" * 23), talk.udp(b"x" * 101, from_client=False))
    program = loaded.prog_fd("xdp_entry")
    sent = []  # packets an end, of each CPU

    def send() -> None:
        batches = 0
        end = time.monotonic() + LONG
        while time.monotonic() < end:
            for frame in frames:
                syscall.test_run(program, frame, repeat=REPEATS)
            batches += 1
        sent.append(batches * REPEATS)

    on_two_cpus(send)
    hot = loaded.array("flow_hot")
    hot = hot[hot["tag"] != 0]
    assert len(hot) == 1
    assert len(sent) == 2
    assert min(sent) >= REPEATS
    assert hot["packets"].tolist() == [[sum(sent)] * 2]
    assert sorted(hot["bytes"][0].tolist()) == [sum(sent) * len(frame) for frame in frames]


def test_the_same_new_flows_at_once_make_one_entry_each(loaded: Loaded) -> None:
    frames = [datagram(number) for number in range(NEW_FLOWS)]
    program = loaded.prog_fd("xdp_entry")

    def send_all() -> None:
        run = syscall.test_runner(program, 2048)
        for frame in frames:
            run(frame)

    on_two_cpus(send_all)
    hot = loaded.array("flow_hot")
    hot = hot[hot["tag"] != 0]
    assert len(hot) == len(np.unique(hot["tag"])) == NEW_FLOWS
    assert hot["packets"].sum(axis=1).tolist() == [2] * NEW_FLOWS
    assert int(hot["bytes"].sum()) == 2 * sum(map(len, frames))


def test_what_is_pushed_out_stays_in_the_sum() -> None:
    """Four times as many flows as entries: live and retired together are all packets."""
    with lent(flows=1024, programs=["xdp_entry"]) as instance:
        program = instance.prog_fd("xdp_entry")
        frames = [datagram(number) for number in range(4096)]

        def send_all() -> None:
            run = syscall.test_runner(program, 2048)
            for frame in frames:
                run(frame)

        on_two_cpus(send_all)
        hot = instance.array("flow_hot")
        retired = instance.tables().retired(instance.array("retired"))
        counters = instance.tables().counters()
        assert int(hot["packets"].sum() + retired["packets"].sum()) == 2 * len(frames)
        assert int(hot["bytes"].sum() + retired["bytes"].sum()) == 2 * sum(map(len, frames))
        evicted = counters["LOSS_EVICTED_NEW"][0] + counters["LOSS_EVICTED_ESTABLISHED"][0]
        assert evicted == int(retired["flows"].sum()) > 0
        assert hot["away"].tolist() == expected_away(hot["tag"], instance.abi).tolist()
