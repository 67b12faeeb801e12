# SPDX-License-Identifier: Apache-2.0
"""A data plane that a test had before is as one that was just loaded."""

import os

import pytest

from tests import hellos, messages
from tests.bpf.instances import OF_PROGRAMS, next_key, wipe
from tests.bpf.plane import FLOWS, Plane
from xdpprobe import abi, catalogue, syscall
from xdpprobe.loader import Loaded, load_object, load_tables

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading a BPF program needs root")


def contents(loaded: Loaded) -> dict[str, bytes]:
    """What stands in each table; of tries and hashes, one key."""
    found = {}
    for name, table in loaded.abi.maps.items():
        fd = loaded.map_fd(name)
        info = syscall.map_info(fd)
        if name in OF_PROGRAMS or table.type == abi.PROG_ARRAY:
            continue
        if table.mappable:
            found[name] = loaded.array(name).tobytes()
        elif table.type == abi.ARRAY:
            found[name] = syscall.lookup_all(fd, info.max_entries, info.value_size)
        elif table.type == abi.PERCPU_ARRAY:
            found[name] = loaded.tables().per_cpu(name, 0).tobytes()
        elif table.type == abi.ARRAY_OF_MAPS:
            inner = [syscall.lookup(fd, index, 4) for index in range(info.max_entries)]
            found[name] = repr(inner).encode()
        else:
            found[name] = next_key(fd, table.key_size) or b""
    return found


def test_what_was_wiped_is_as_new() -> None:
    with load_object(flows=FLOWS, names=FLOWS) as loaded:
        new = contents(loaded)
        load_tables(loaded, catalogue.load())
        plane = Plane(loaded, "xdp")
        query = plane.new_talk(port=53)
        plane.send(query.udp(messages.dns_query(b"www.netflix.com")))
        answer = messages.dns_answer(b"www.netflix.com", bytes(4))
        plane.send(query.udp(answer, from_client=False))
        whole = hellos.records(hellos.browser_hello(b"www.example.com", seed=3))
        plane.send(plane.new_talk().segments(whole, 700)[0])
        used = contents(loaded)
        changed = {name for name in new if new[name] != used[name]}
        assert changed >= {"flow_hot", "names", "control", "hello_slots", "resolved", "name_rules"}
        wipe(loaded)
        assert contents(loaded) == new
