# SPDX-License-Identifier: Apache-2.0
"""Peers pushed into a data plane without a probe, and what flows are called by them."""

import os
from dataclasses import replace

from tests.bpf.plane import Plane
from tests.packets import SYN, UDP, Conversation, Endpoint
from xdpprobe import catalogue, peer_text
from xdpprobe.loader import Loaded, load_tables
from xdpprobe.peer_file import Said
from xdpprobe.rules import NameRule

# Patterns take long to compile, and nothing here needs them.
PLAIN = replace(catalogue.load(), signatures=(), prefixes={}, rules=[NameRule("youtube.com", 512)])
APP, OTHER, THIRD = 7168, 7169, 7170
V4 = (Endpoint("192.0.2.10", 51000), Endpoint("198.51.100.20", 443))
V6 = (Endpoint("2001:db8:1::10", 51000), Endpoint("2001:db8:2::20", 443))


class MemoryShelf:
    """Keeps the maps as descriptors of this process."""

    def __init__(self) -> None:
        self._fds: dict[tuple[int, str], int] = {}

    def get(self, place: int, name: str) -> int | None:
        fd = self._fds.get((place, name))
        return None if fd is None else os.dup(fd)

    def put(self, place: int, name: str, fd: int) -> None:
        self._fds[place, name] = os.dup(fd)

    def clear(self, place: int) -> None:
        for key in [key for key in self._fds if key[0] == place]:
            os.close(self._fds.pop(key))

    def places(self) -> set[int]:
        return {place for place, _ in self._fds}


def said(label: int, *texts: str, lasts: int = 0) -> dict[bytes, Said]:
    return {peer: Said(label, lasts) for text in texts for peer in peer_text.parse(text)}


def publish(loaded: Loaded, **prefixes: int) -> None:
    load_tables(loaded, replace(PLAIN, prefixes=prefixes))


def born(plane: Plane, ends: tuple[Endpoint, Endpoint] = V4, l4: int = 6) -> tuple[int, str]:
    """The application of a new flow, and by which evidence."""
    plane.clear()
    talk = Conversation(*ends)
    plane.send(talk.udp(b"\xff") if l4 == UDP else talk.tcp(seq=0, flags=SYN))
    return named(plane, talk, l4)


def named(plane: Plane, talk: Conversation, l4: int = 6) -> tuple[int, str]:
    flow = plane.flow(talk, l4)
    assert flow is not None
    methods = {number: name for name, number in plane.loaded.abi.enums["method"].items()}
    return flow.app, methods[flow.app_method].removeprefix("METHOD_").lower()


NOTHING = (0, "none")
