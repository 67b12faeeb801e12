# SPDX-License-Identifier: Apache-2.0
"""What moved between two snapshots, and under which label."""

from dataclasses import replace

import numpy as np
import pytest

from tests.unit import view_samples as samples
from xdpprobe.flows import initiator, labels
from xdpprobe.rates import History, Meter, Rates
from xdpprobe.snapshot import Snapshot


def copy(snapshot: Snapshot, seconds: float = 2.0) -> Snapshot:
    """The same tables `seconds` later, to be changed."""
    moved = samples.later(snapshot, seconds, share=0.0)
    return replace(moved, cold=snapshot.cold.copy(), retired=snapshot.retired.copy())


def between(before: Snapshot, after: Snapshot) -> Rates:
    meter = Meter()
    meter.update(before)
    return meter.update(after)


def test_the_first_reading_has_no_rates() -> None:
    rates = Meter().update(samples.small())
    assert rates.seconds == 0
    assert not len(rates.moved)
    assert not rates.by_label().any()


def test_differences_count_for_the_label_of_now_and_from_the_initiator() -> None:
    before = samples.empty()
    samples.put(before, 5, "203.0.113.9", 99, "10.0.0.2", 80, packets=(10, 1), octets=(1000, 50))
    after = copy(before)
    samples.put(after, 5, "203.0.113.9", 99, "10.0.0.2", 80, packets=(14, 3), octets=(1800, 70))
    after.hot["app"][5] = 512
    label = between(before, after).by_label()
    assert label[:, 512].tolist() == [2.0, 1.0, 400.0, 10.0]
    assert label.sum() == 413.0


def test_a_flow_born_since_counts_whole() -> None:
    before = samples.empty()
    after = copy(before)
    samples.put(after, 5, packets=(2, 4), octets=(200, 400), app=512)
    assert between(before, after).by_label()[:, 512].tolist() == [1.0, 2.0, 100.0, 200.0]


def test_another_flow_in_the_same_slot_counts_whole() -> None:
    before = samples.empty()
    samples.put(before, 5, packets=(50, 50), octets=(5000, 5000), tag=1)
    samples.put(before, 6, packets=(1, 1), octets=(10, 10))
    after = copy(before)
    samples.put(after, 5, packets=(60, 60), octets=(6000, 6000), tag=2)
    rates = between(before, after)
    assert rates.moved.tolist() == [5]
    assert rates.entries[:, 5].tolist() == [30.0, 30.0, 3000.0, 3000.0]


def test_a_flow_that_came_back_counts_from_zero() -> None:
    before = samples.empty()
    samples.put(before, 5, packets=(50, 50), octets=(5000, 5000))
    after = copy(before)
    samples.put(after, 5, packets=(2, 60), octets=(20, 6000))
    after.retired[0] = ((50, 50), (5000, 5000), 1)
    rates = between(before, after)
    assert rates.entries[2:, 5].tolist() == [10.0, 3000.0]
    assert not rates.gone.any()


def test_flows_that_came_and_went_between_readings_show() -> None:
    before = samples.small()
    before.retired[3] = ((1, 1), (100, 100), 1)
    after = copy(before)
    after.retired[3] = ((5, 1), (500, 100), 3)
    rates = between(before, after)
    assert rates.by_label()[:, 3].tolist() == [2.0, 0.0, 200.0, 0.0]
    everything = np.arange(len(after.hot))
    assert not rates.by_label(everything).any()


def test_what_a_flow_had_before_it_left_is_no_rate() -> None:
    before = samples.empty()
    samples.put(before, 5, packets=(10, 20), octets=(1000, 2000), app=512)
    after = copy(before)
    after.hot[5] = np.zeros(1, after.hot.dtype)[0]
    after.retired[512] = ((12, 20), (1200, 2000), 1)
    assert between(before, after).by_label()[:, 512].tolist() == [1.0, 0.0, 100.0, 0.0]


def test_a_flow_named_just_before_it_left_keeps_the_sum_right() -> None:
    before = samples.empty()
    samples.put(before, 5, packets=(10, 0), octets=(1000, 0))  # unknown
    after = copy(before, 1.0)
    after.hot[5] = np.zeros(1, after.hot.dtype)[0]
    after.retired[512] = ((12, 0), (1200, 0), 1)
    label = between(before, after).by_label()
    assert (label >= 0).all()
    assert label.sum(axis=1).tolist() == [2.0, 0.0, 200.0, 0.0]


def test_bytes_that_lag_behind_packets_are_no_huge_rate() -> None:
    before = samples.empty()
    samples.put(before, 5, packets=(10, 10), octets=(1000, 1000))
    after = copy(before)
    samples.put(after, 5, packets=(11, 10), octets=(990, 1000))
    assert between(before, after).entries[:, 5].tolist() == [0.5, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("flows", [0, 300, 40_000])
def test_the_sum_over_labels_is_the_growth_of_the_totals(flows: int) -> None:
    """Entries that move, leave and are born, in tables below and above one piece."""
    size = 65536
    before = samples.crowd(size, flows, seed=3)
    after = samples.later(before, 1.0, share=0.7)
    after = replace(after, retired=before.retired.copy(), cold=before.cold.copy())
    rng = np.random.default_rng(7)
    rows = np.flatnonzero(after.hot["tag"])
    leaving = rows[rng.random(len(rows)) < 0.2]
    ends, numbers = initiator(after, leaving).tolist(), labels(after, leaving).tolist()
    for row, end, label in zip(leaving.tolist(), ends, numbers, strict=True):
        for field in ("packets", "bytes"):
            after.retired[field][label] += after.hot[field][row][[end, 1 - end]]
    after.hot[leaving] = np.zeros(1, after.hot.dtype)[0]
    for slot in np.flatnonzero(after.hot["tag"] == 0)[:50].tolist():
        samples.put(after, slot, octets=(70, 30), packets=(1, 1), tag=10**15 + slot)

    def total(s: Snapshot, field: str) -> int:
        return int(s.hot[field].sum() + s.retired[field].sum())

    label = between(before, after).by_label()
    assert label[:2].sum() == pytest.approx(total(after, "packets") - total(before, "packets"))
    assert label[2:].sum() == pytest.approx(total(after, "bytes") - total(before, "bytes"))


def test_a_table_of_another_size_starts_afresh() -> None:
    meter = Meter()
    meter.update(samples.empty(64))
    assert meter.update(samples.empty(128)).seconds == 0


def test_history_keeps_the_last_rates_of_each_label() -> None:
    history = History(3)
    for value in range(5):
        history.add(np.array([0.0, value]))
    assert history.of(1, 10) == [2.0, 3.0, 4.0]
    assert history.of(1, 2) == [3.0, 4.0]
    history.clear()
    assert history.of(1, 2) == []
