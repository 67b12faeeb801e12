# SPDX-License-Identifier: Apache-2.0
"""Totals by name and address against sums over rows; the heaviest of many."""

import numpy as np
import pytest

from tests.unit import view_samples as samples
from xdpprobe import flows, grouping
from xdpprobe.snapshot import Snapshot


def expected_hosts(snapshot: Snapshot, by: str) -> dict[str, tuple[int, ...]]:
    sums: dict[str, tuple[int, ...]] = {}
    for flow in flows.decode(snapshot, flows.live(snapshot)):
        key = {"name": flow.host, "client": flow.src, "server": flow.dst}[by]
        if key is not None:
            old = sums.get(key, (0,) * 5)
            new = (1, *flow.packets, *flow.bytes)
            sums[key] = tuple(a + b for a, b in zip(old, new, strict=True))
    return sums


@pytest.mark.parametrize("by", ["name", "client", "server"])
def test_hosts_are_sums_over_rows(by: str) -> None:
    snapshot = samples.crowd(4096, 3000)
    rows = flows.live(snapshot)
    keys = {
        "name": lambda: grouping.name_keys(snapshot, rows),
        "client": lambda: grouping.address_keys(snapshot, rows),
        "server": lambda: grouping.address_keys(snapshot, rows, server=True),
    }[by]()
    found = grouping.host_rows(snapshot, keys)
    assert {h.host: (h.flows, *h.packets, *h.bytes) for h in found} == expected_hosts(snapshot, by)
    totals = [sum(h.bytes) for h in found]
    assert totals == sorted(totals, reverse=True)


def test_a_host_has_the_label_of_its_heaviest_flow() -> None:
    snapshot = samples.empty()
    samples.put(snapshot, 0, sport=1, app=512, octets=(10, 10))
    samples.put(snapshot, 1, sport=2, app=513, octets=(10, 11))
    (host,) = grouping.host_rows(snapshot, grouping.address_keys(snapshot, np.array([0, 1])))
    assert (host.host, host.app, host.category, host.flows) == ("10.0.0.2", "netflix", "video", 2)


def test_nothing_in_the_table() -> None:
    snapshot = samples.empty()
    assert grouping.host_rows(snapshot, grouping.name_keys(snapshot, flows.live(snapshot))) == []


def test_the_heaviest_groups_are_found_among_many() -> None:
    rng = np.random.default_rng(5)
    words = rng.integers(0, 2**63, (30_000, 2), dtype=np.uint64)
    words = words[rng.integers(0, 20_000, 100_000)]
    weight = rng.pareto(1.0, 100_000) + 1
    keys = grouping.Keys(
        np.arange(100_000), lambda rows: words[rows], lambda rows: [str(r) for r in rows]
    )
    some = grouping.groups(keys, weight, 12)
    full = grouping.groups(keys, weight)
    assert some.samples.tolist() == full.samples[:12].tolist()
    assert np.bincount(some.codes, weight[some.rows]) == pytest.approx(
        np.bincount(full.codes, weight[full.rows])[:12]
    )


def test_a_flood_of_equals_still_gives_as_many_as_asked_for() -> None:
    words = np.arange(50_000, dtype=np.uint64).reshape(-1, 1)
    keys = grouping.Keys(
        np.arange(50_000), lambda rows: words[rows], lambda rows: [str(r) for r in rows]
    )
    found = grouping.groups(keys, np.ones(50_000), 10)
    assert len(found.texts) == 10
    assert len(found.rows) == 10


def test_names_are_remembered_after_the_table_lost_them() -> None:
    snapshot = samples.small()
    memo: dict[int, str] = {}
    rows = flows.live(snapshot)
    first = grouping.host_rows(snapshot, grouping.name_keys(snapshot, rows, memo))
    snapshot.names["hash"][:] = 0
    assert grouping.host_rows(snapshot, grouping.name_keys(snapshot, rows, memo)) == first
    lost = grouping.host_rows(snapshot, grouping.name_keys(snapshot, rows))
    assert {h.host for h in lost} == {"(name lost)"}
