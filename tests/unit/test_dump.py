# SPDX-License-Identifier: Apache-2.0
"""What `dump` makes of flows that a filter has chosen."""

import json

import numpy as np
import pytest

from tests.unit import view_samples as samples
from xdpprobe import dump, flows


def test_records_of_chosen_flows() -> None:
    snapshot = samples.small()
    found = dump.matching(snapshot, np.array([3, 9, 33]))
    assert {name: count for name, (count, _) in found.items()} == {
        "flow_hot": 3,
        "flow_cold": 3,
        "names": 2,
    }
    hot, cold, names = (found[name][1] for name in ("flow_hot", "flow_cold", "names"))
    assert list(hot) == list(cold) == ["3", "9", "33"]
    assert hot["33"]["bytes"] == snapshot.hot["bytes"][33].tolist()
    assert bytes.fromhex(cold["9"]["address"])[:4] == b"\x20\x01\x0d\xb8"
    assert names["0"]["text"] == "r3.googlevideo.com"
    assert names["5"]["text"] == r"evil\x1b[31m\xff.example"
    json.dumps(found)


def test_many_are_counted_and_the_first_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dump, "LISTED", 2)
    snapshot = samples.small()
    count, shown = dump.matching(snapshot, flows.live(snapshot))["flow_hot"]
    assert (count, list(shown)) == (5, ["3", "9"])


def test_the_limit_is_documented() -> None:
    from xdpprobe.commands import dump as command

    assert f"first {dump.LISTED} of them" in command._DESCRIPTION
