# SPDX-License-Identifier: Apache-2.0
"""Every row of the benchmark does what it says, and one that does not gives no figure."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests import inside
from tests.effort import examples
from tests.unit.test_bench import ids
from xdpprobe import catalogue as catalogues
from xdpprobe.bench.feeder import HOOKS
from xdpprobe.bench.frames import Route
from xdpprobe.bench.ledger import Ledger, Tally
from xdpprobe.bench.measure import UNLIMITED, Effort, measure, run
from xdpprobe.bench.rows import Row, all_rows
from xdpprobe.errors import ProbeError, UsageError
from xdpprobe.loader import Loaded, load_object

# Enough for the tables to tell, too little for the figures to.
EFFORT = Effort(0, 3, 1000, 4000)
ROWS = [row for row in all_rows() if row.flows <= 1000]


@pytest.fixture(scope="module", params=list(HOOKS)[: len(examples(len(HOOKS)))])
def hook(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def instance(hook: str, tunnels: bool) -> Iterator[Loaded]:
    known = catalogues.load()
    programs, constants = [HOOKS[hook]], {"tunnels": int(tunnels), **UNLIMITED}
    with load_object(constants, flows=16384, programs=programs, l4=known.l4, hz=250) as made:
        made.tables().load(known)
        yield made


@pytest.fixture(scope="module")
def loaded(hook: str) -> Iterator[Loaded]:
    with instance(hook, False) as made:
        yield made


@pytest.fixture(scope="module")
def ledger(loaded: Loaded) -> Ledger:
    return Ledger(loaded.tables())


def take(hook: str, loaded: Loaded, ledger: Ledger, row: Row) -> list[Any]:
    return measure(hook, loaded.prog_fd(HOOKS[hook]), row, ledger, EFFORT)


def row_named(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


@pytest.mark.parametrize("row", [row for row in ROWS if not row.tunnels], ids=ids)
def test_a_row_does_what_it_says(hook: str, loaded: Loaded, ledger: Ledger, row: Row) -> None:
    figures = take(hook, loaded, ledger, row)
    assert len(figures) == (2 if row.per_flow > 1 else 1)
    for figure in figures:
        assert figure.net_ns == figure.ns - figure.empty_ns > 0
        assert figure.min_ns <= figure.net_ns <= figure.max_ns
        assert figure.packets >= 3 * 1000


@pytest.mark.parametrize("row", [row for row in ROWS if row.tunnels], ids=ids)
def test_a_row_of_a_tunnel_does_what_it_says(hook: str, row: Row) -> None:
    with instance(hook, True) as inside:
        assert take(hook, inside, Ledger(inside.tables()), row)[0].net_ns > 0
    with instance(hook, False) as outside, pytest.raises(ProbeError, match="flows in the table"):
        take(hook, outside, Ledger(outside.tables()), row)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("TLS hello, 517 B", {"gains": {}}, "INFO_NAMED"),
    ("TLS hello, 517 B", {"method": "METHOD_DNS"}, "their method"),
    ("TLS hello, 517 B", {"protocol": "PROTOCOL_HTTP"}, "their protocol"),
    ("TLS hello, 517 B", {"flows": 10}, "INFO_INSPECTED"),
    ("TLS hello in 2 segments", {"per_flow": 1}, "INFO_HELLO_JOINED"),
    ("DNS query", {"frames": row_named("unmatched UDP payload").frames}, "INFO_NAMED"),
    ("new flow (SYN)", {"gains": {"LOSS_EVICTED_NEW": 1}}, "LOSS_EVICTED_NEW"),
    ("new flow (SYN), full table", {"gains": {}}, "LOSS_EVICTED_NEW"),
    ("new flow (SYN)", {"frames": (bytes(60),)}, "packets counted in flows"),
    ("established flow, IPv6", {"frames": row_named("established flow").frames}, "address family"),
    ("data of a named flow", {"opening": ()}, "their application"),
    # So many flows that a few might find no entry of their own: the others have to.
    ("established flow", {"flows": 7000, "gains": {"INFO_NAMED": 1}}, "INFO_NAMED"),
    ("established flow", {"flows": 7000, "method": "METHOD_SNI"}, "their method"),
    ("established flow, QinQ", {"route": Route(40444, vlan=8, inner_vlan=7)}, "their VLAN"),
    ("headers alone: TCP over IPv4", {"gains": {"REASON_TRUNCATED": 1}}, "REASON_MALFORMED"),
    ("headers alone: TCP over IPv4", {"tracked": True}, "packets counted in flows"),
    ("new flow (SYN)", {"tracked": False}, "flows born"),
    ("unmatched TCP payload, after SYN", {"opening": ()}, "INFO_HELLO_PIECES"),
    ("SSH banner, after the SYN", {"protocol": "PROTOCOL_HTTP"}, "their protocol"),
    ("8th unmatched payload: given up", {"per_opening": 6}, "LOSS_BUDGET"),
    ("DNS answer, 2 addresses noted", {"opening": ()}, "INFO_UNASKED"),
    ("STUN request, by its pattern", {"protocol": "ntp"}, "their protocol"),
    ("new flow (SYN) that DNS names", {"forgotten": False}, "flows born"),
    ("new flow (SYN) that DNS names", {"method": ""}, "their method"),
    ("STUN request, by its pattern", {"protocol": "nothing-has-this"}, "their protocol"),
]


@pytest.mark.parametrize(("name", "change", "said"), WRONG)
def test_a_row_that_does_something_else_is_void(
    hook: str, loaded: Loaded, ledger: Ledger, name: str, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ProbeError, match=r"'.*' is void: ") as caught:
        take(hook, loaded, ledger, replace(row_named(name), **change))
    assert name in str(caught.value)
    assert said in str(caught.value)


def test_command_prints_what_the_table_has_room_for() -> None:
    done = inside.run(["bench", "--quick", "--flows", "16384", "--json"])
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["schema"], found["hook"], found["capacity"]) == (2, "xdp", 16384)
    assert found["left_out"] == [
        "established flow, 100000 flows",
        "established flow, 1000000 flows",
    ]
    assert {row["name"] for row in found["rows"]} == {row.name for row in all_rows()}


def test_a_table_too_small_to_measure_with_is_refused() -> None:
    with pytest.raises(UsageError, match="16384"):
        run(flows=8192)


def test_a_void_row_is_measured_once_more_where_that_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    verify, tries, told = Ledger.verify, [0], list[str]()

    def stray(self: Ledger, row: Row, before: Tally, packets: int) -> None:
        """With one packet too many in every odd try."""
        tries[0] += 1
        verify(self, row, before, packets - tries[0] % 2)

    monkeypatch.setattr(Ledger, "verify", stray)
    rows = [row_named("established flow"), row_named("new flow (SYN)")]
    found = run("xdp", 16384, EFFORT, told.append, rows, again=True)
    assert [figure.name for figure in found.figures] == [row.name for row in rows]
    assert tries == [4]
    assert [line.split(" is void")[0] for line in told if line.endswith("\n")] == [
        f"once more, as the measurement of '{row.name}'" for row in rows
    ]
    with pytest.raises(ProbeError, match="is void: "):
        run("xdp", 16384, EFFORT, rows=rows)


def test_the_process_may_run_where_it_ran_before() -> None:
    before = os.sched_getaffinity(0)
    seen: list[set[int]] = []

    def interrupted(_: str) -> None:
        seen.append(os.sched_getaffinity(0))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(flows=16384, progress=interrupted)
    assert len(seen[0]) == 1
    assert os.sched_getaffinity(0) == before
