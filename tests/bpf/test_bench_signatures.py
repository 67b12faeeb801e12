# SPDX-License-Identifier: Apache-2.0
"""The benchmark's signatures do in the kernel what its figures are called."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from xdpprobe.bench.measure import Effort
from xdpprobe.errors import ProbeError

TOOLS = Path(__file__).resolve().parents[2] / "tools"
# Enough for the tables to tell, too little for the figures to.
EFFORT = Effort(0, 3, 1000, 2000)


@pytest.fixture
def signatures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import bench_signatures

    return bench_signatures


def test_each_set_is_measured_over_none(signatures: ModuleType) -> None:
    told = list[str]()
    found: dict[str, Any] = signatures.signatures([10], EFFORT, told.append)
    assert told == ["10 signatures", "shipped signatures"]  # and none once more
    made, shipped = found["rows"]
    assert (made["made"], made["signatures"], made["rows"]) == (True, 10, 10)
    assert not shipped["made"]
    assert shipped["signatures"] > 500
    for row in (made, shipped):
        assert row["last"]["packets"] == 3 * 2000
        assert row["last"]["net_ns"] == row["last"]["ns"] - row["last"]["empty_ns"]
        # Four classes of packets and the automata, as bpf/abi.h has them.
        assert row["memory"] == 4 * 1215496 + 4096 * 256 * 2
        assert all(row[name] > 0 for name in ("compile_s", "cached_s", "load_s"))
    checks = {check["what"]: check for check in found["checks"]}
    assert checks["load, s"]["value"] == max(row["load_s"] for row in (made, shipped))


def test_a_payload_that_no_signature_takes_is_void(
    signatures: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    packets = signatures.packets

    def wrong(compiled: Any) -> dict[str, Any]:
        found = packets(compiled)
        found["last"] = signatures.replace(found["last"], frames=found["nearly"].frames)
        return {"last": found["last"]}

    monkeypatch.setattr(signatures, "packets", wrong)
    told = list[str]()
    with pytest.raises(ProbeError, match="'payload that fits the last' is void: INFO_MATCHED: 0"):
        signatures.signatures([10], EFFORT, told.append)
    assert [line.partition(",")[0] for line in told] == ["10 signatures", "once more"]
