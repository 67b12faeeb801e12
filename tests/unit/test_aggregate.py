# SPDX-License-Identifier: Apache-2.0
"""Totals against sums over rows."""

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.unit import view_samples as samples
from xdpprobe import aggregate, flows
from xdpprobe.snapshot import Snapshot


def rows_of(snapshot: Snapshot) -> list[flows.Flow]:
    return flows.decode(snapshot, flows.live(snapshot))


def apps(snapshot: Snapshot) -> list[aggregate.AppTotal]:
    return aggregate.app_rows(snapshot, aggregate.label_totals(snapshot))


def test_totals_by_label_are_sums_over_rows() -> None:
    snapshot = samples.crowd(4096, 1500)
    expected: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    for flow in rows_of(snapshot):
        parts = (1, *flow.packets, *flow.bytes)
        expected[flow.label] = [a + b for a, b in zip(expected[flow.label], parts, strict=True)]
    found = {row.app: [row.flows, *row.packets, *row.bytes] for row in apps(snapshot)}
    assert found == dict(expected)


def test_retired_flows_add_up_with_live_ones() -> None:
    snapshot = samples.small()
    snapshot.retired[512] = ((5, 6), (7, 8), 3)
    (youtube,) = [row for row in apps(snapshot) if row.app == "youtube"]
    assert youtube.to_json() == {
        "app": "youtube",
        "category": "video",
        "kind": "application",
        "flows": 4,
        "live": 1,
        "packets": [17, 46],
        "bytes": [4107, 51208],
    }


def test_chosen_rows_leave_retired_ones_out() -> None:
    snapshot = samples.small()
    snapshot.retired[513] = ((5, 6), (7, 8), 3)
    totals = aggregate.label_totals(snapshot, np.array([3]))
    assert [row.app for row in aggregate.app_rows(snapshot, totals)] == ["youtube"]


def test_rows_come_by_bytes_and_unknown_labels_keep_their_number() -> None:
    snapshot = samples.small()
    snapshot.hot["app"][3] = 4000
    assert [row.app for row in apps(snapshot)] == ["doubleclick", "label-4000", "dns", "unknown"]


def test_a_damaged_label_does_not_crash() -> None:
    snapshot = samples.small()
    snapshot.hot["app"][3] = 65535
    assert sum(row.flows for row in apps(snapshot)) == 5


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 2**64 - 1)), min_size=0, max_size=40
    ).filter(lambda rows: sum(value for _, value in rows) < 2**64)
)
def test_sums_are_exact(rows: list[tuple[int, int]]) -> None:
    group = np.array([g for g, _ in rows], dtype=np.intp)
    values = np.array([v for _, v in rows], dtype=np.uint64)
    expected = [sum(v for g, v in rows if g == k) for k in range(5)]
    assert aggregate.exact_sum(group, values, 5).tolist() == expected


def test_sums_are_exact_over_pieces() -> None:
    values = np.full(200_000, 2**40 + 1, dtype=np.uint64)
    group = np.arange(200_000) % 2
    assert aggregate.exact_sum(group, values, 2).tolist() == [100_000 * (2**40 + 1)] * 2


def test_nothing_in_the_table() -> None:
    assert apps(samples.empty()) == []
