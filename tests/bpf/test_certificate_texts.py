# SPDX-License-Identifier: Apache-2.0
"""What a certificate calls its holder, where it names no host: a text as others."""

import pytest

from tests import hellos
from tests.bpf.made import made_up
from tests.bpf.plane import Flow, Plane
from tests.certificates import (
    COMMON_NAME,
    ORGANISATION,
    ORGANISATIONAL_UNIT,
    certificate,
    flight,
    name,
)
from xdpprobe.catalogue import Catalogue

RELAY, DEVICE = 7200, 7201
SIGNATURES = """
[[app]]
id = 7200
name = "made-relay"
title = "Made"
category = "work"

[[app]]
id = 7201
name = "made-device"
title = "Made"
category = "work"

[[signature]]
app = "made-relay"
certificate = ["Made Relay"]

[[signature]]
app = "made-device"
certificate = ["Made devices"]
confidence = 60
"""


@pytest.fixture(scope="module")
def knowledge() -> Catalogue:
    return made_up(SIGNATURES)


def answered(plane: Plane, holder: bytes, asked: bytes | None = None, size: int = 1400) -> Flow:
    talk = plane.new_talk()
    plane.send(*talk.handshake(), *talk.segments(hellos.records(hellos.simple_hello(asked))))
    plane.send(*talk.segments(flight(holder), size, from_client=False))
    flow = plane.flow(talk)
    assert flow is not None
    return flow


SUBJECTS = {
    "common name": ([(ORGANISATION, b"X"), (COMMON_NAME, b"Made Relay")], RELAY),
    "its beginning": ([(COMMON_NAME, b"Made Relay 17")], RELAY),
    "unit": ([(ORGANISATIONAL_UNIT, b"Made devices"), (COMMON_NAME, b"M17")], DEVICE),
    "the more confident": (
        [(ORGANISATIONAL_UNIT, b"Made devices"), (COMMON_NAME, b"Made Relay")],
        RELAY,
    ),
    "the last counts": ([(COMMON_NAME, b"Made Relay"), (COMMON_NAME, b"M17")], 0),
    "cut": ([(COMMON_NAME, b"Made Rela"), (ORGANISATION, b"y")], 0),
    "another attribute": ([(ORGANISATION, b"Made Relay")], 0),
    "empty": ([(COMMON_NAME, b"")], 0),
    "none": ([], 0),
}


@pytest.mark.parametrize(("subject", "app"), SUBJECTS.values(), ids=list(SUBJECTS))
@pytest.mark.parametrize("size", [1400, 60])
def test_holders(plane: Plane, subject: list[tuple[bytes, bytes]], app: int, size: int) -> None:
    flow = answered(plane, certificate(None, subject=name(*subject)), size=size)
    assert (flow.app, flow.name) == (app, None)


def test_a_server_name_that_no_rule_knows_leaves_it(plane: Plane) -> None:
    holder = certificate(None, b"Made Relay")
    for asked in (b"192.0.2.7", b"relay.invalid"):
        flow = answered(plane, holder, asked)
        assert (flow.app, flow.name) == (RELAY, asked.decode())


def test_a_name_rule_counts_more(plane: Plane) -> None:
    youtube = next(n for n, one in plane.loaded.tables().labels().items() if one.name == "youtube")
    assert answered(plane, certificate(None, b"Made Relay"), b"www.youtube.com").app == youtube


def test_where_hosts_are_named_the_holder_does_not_count(plane: Plane) -> None:
    flow = answered(plane, certificate([b"www.made.invalid"], b"Made Relay"))
    assert (flow.app, flow.name) == (0, "www.made.invalid")
