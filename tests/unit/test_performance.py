# SPDX-License-Identifier: Apache-2.0
"""docs/performance.md says what the data say: differences, shares, and what was missed."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from xdpprobe import catalogue

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def ns(net: int, flows: int | None = None, name: str = "", per: str = "packet") -> dict[str, Any]:
    return {
        "name": name,
        "per": per,
        "flows": flows,
        "capacity": 1024,
        "ns": net + 30,
        "empty_ns": 30,
        "net_ns": net,
        "min_ns": net - 5,
        "max_ns": net + 7,
        "ratio": 2.5,
    }


def spread(median: float) -> dict[str, float]:
    return {"median": median, "min": median * 0.9, "max": median * 1.1}


def frames(variant: str, cpus: int, rate: float) -> dict[str, Any]:
    return {"variant": variant, "cpus": cpus, "frames_a_second": spread(rate)}


def stream(variant: str, rate: float, missed: float | None = None) -> dict[str, Any]:
    return {"variant": variant, "bits_a_second": spread(rate), "reader_missed": missed}


ORDER = {
    "used": 740,
    "home": 0.62,
    "first_set": 0.22,
    "second_set": 0.16,
    "established": ns(249),
    "evictions": 0.0012,
    "evicted_established": 2,
}
DATA: dict[str, Any] = {
    "schema": 1,
    "version": "1.2.3",
    "date": "2026-01-02",
    "quick": False,
    "machine": {
        "cpu": "Some CPU",
        "cpus": 2,
        "virtual": True,
        "memory": 16_000_000_000,
        "machine": "x86_64",
        "kernel": "6.18",
        "clang": "14.0",
        "iperf3": "3.12",
        "tcpdump": "4.99",
    },
    "seconds": {},
    "rows": {
        "xdp": {
            "rules": 6000,
            "rows": [
                ns(24, None, "ARP"),
                ns(1234, 0, "TLS hello in 2 segments"),
                ns(2468, 0, "TLS hello in 2 segments", "connection"),
                ns(45, 1000, "established flow"),
            ],
        },
        "tc": {"rules": 6000, "rows": [ns(33, 1000, "established flow")]},
    },
    "goal": {
        "capacity": 1000,
        "flows": 750,
        "bare": ns(185),
        "orders": {"in turn": ORDER, "by chance": ORDER},
        "checks": [
            {"what": "kernel memory, bytes", "value": 200e6, "limit": 300e6, "met": True},
            {"what": "packets that evict", "value": 0.0012, "limit": 0.001, "met": False},
        ],
    },
    "flows": [
        {
            "flows": 1_000_000,
            "capacity": 2097152,
            "memory": 368_219_520,
            "used": 1_000_000,
            "established": ns(259),
            "new": ns(985),
            "snapshot_ms": 13.71,
            "totals_ms": 76.7,
            "top_ms": 111.68,
            "commands": {"flows": 1.632},
        }
    ],
    "rules": [
        {
            "rules": 100_000,
            "hello": ns(787),
            "read_s": 5.79,
            "compile_s": 1.2,
            "load_s": 2.386,
            "attach_s": 4.5,
            "memory": 25_599_872,
        }
    ],
    "signatures": {
        "rows": [
            {
                "made": made,
                "signatures": 1000,
                "rows": 990,
                "none": ns(25),
                "nearly": ns(452),
                "last": ns(587),
                "compile_s": 0.128,
                "cached_s": 0.015,
                "load_s": 0.088,
                "memory": 6_959_136,
            }
            for made in (True, False)
        ],
        "checks": [{"what": "load, s", "value": 0.088, "limit": 0.5, "met": True}],
    },
    "peers": {
        "rows": [
            {
                "kind": "prefixes",
                "peers": 1_000_000,
                "none": ns(32),
                "one": ns(1526),
                "import_s": 9.816,
                "memory": 161_554_368,
            }
        ],
        "checks": [{"what": "ns of a new flow more", "value": 1526, "limit": 1200, "met": False}],
    },
    "frames": {
        "frame_bytes": 64,
        "flows": 50_000,
        "evictions": 3,
        "reader_missed": [0.034],
        "rows": [
            frames("nothing attached", 1, 2e6),
            frames("an empty XDP program", 1, 1.6e6),
            frames("probe, XDP", 1, 1.25e6),
            frames("probe, tc", 1, 1e6),
            frames("nothing attached", 2, 3e6),
            frames("an empty XDP program", 2, 3e6),
            frames("probe, XDP", 2, 2e6),
            frames("probe, tc", 2, 1e6),
        ],
    },
    "tcp": {
        "seconds": 3,
        "rows": [
            stream("nothing attached", 20e9),
            stream("probe, tc", 19e9),
            stream("tcpdump", 15e9, 0.25),
        ],
    },
    "readers": {
        "flows": 262144,
        "rate": 20000,
        "top_idle": {"percent": 1.81, "rss": 139.2, "pss": 124},
        "top_live": {"percent": 2.72, "rss": 140, "pss": 125},
    },
}


NO_SECTION = {"schema", "version", "date", "quick", "machine", "seconds"}


@pytest.fixture
def performance(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import performance

    return performance


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import bench_growth

    return bench_growth


def rows_of(text: str, title: str) -> dict[str, list[str]]:
    """First cell -> the others, of all tables of a section."""
    section = text.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return {cells[0]: cells[1:] for cells in lines}


def test_packets_of_both_hooks_stand_side_by_side(performance: ModuleType) -> None:
    rows = rows_of(performance.document(DATA), "A packet")
    assert rows["ARP"] == ["none", "1,024", "24 (19 to 31)", "2.5", "-", "-"]
    assert rows["established flow"][2:] == ["45 (40 to 52)", "2.5", "33 (28 to 40)", "2.5"]
    assert rows["TLS hello in 2 segments"][:3] == ["new", "1,024", "1,234 (1,229 to 1,241)"]
    assert rows["TLS hello in 2 segments: the whole connection"][2].startswith("2,468 ")


def test_a_goal_that_is_missed_is_said_to_be(performance: ModuleType) -> None:
    text = performance.document(DATA)
    rows = rows_of(text, "A million entries, three quarters full")
    assert rows["kernel memory, bytes"] == ["200,000,000", "300,000,000", "met"]
    assert rows["packets that evict"] == ["0.120 %", "0.100 %", "**missed**"]
    words = " ".join(text.split())
    assert "pushed out in the measured packets: 4." in words  # of both orders
    assert "takes 185 (180 to 192) ns" in words
    assert "62 % of the flows at home" in words


def test_growth_has_its_units(performance: ModuleType) -> None:
    text = performance.document(DATA)
    assert rows_of(text, "More flows")["1,000,000"] == ["13.7", "76.7", "111.7", "1.63"]
    assert "| 1,000,000 | 2,097,152 | 259 (254 to 266) | 985 (980 to 992) | 368.2 |" in text
    assert rows_of(text, "More name rules")["100,000"] == [
        *("787 (782 to 794)", "5.790", "1.200", "2.386", "4.500", "25.600"),
    ]


def test_what_a_frame_costs_more_is_a_difference_of_times(performance: ModuleType) -> None:
    text = performance.document(DATA)
    rows = rows_of(text, "Packets a second")
    # 1/1.25 us - 1/2 us; 1/1.25 us - 1/1.6 us; 2 / 1.25.
    rates = ["1.25 (1.12 to 1.38)", "2.00 (1.80 to 2.20)"]
    assert rows["probe, XDP"] == [*rates, "+300", "+175", "1.60"]
    assert rows["nothing attached"][2:] == ["-", "-125", "1.50"]
    assert "tcpdump missed 3.4 % of the frames" in text


def test_throughput_is_compared_with_nothing_attached(performance: ModuleType) -> None:
    rows = rows_of(performance.document(DATA), "TCP throughput")
    assert rows["probe, tc"] == ["19.00 (17.10 to 20.90)", "95 %", "-"]
    assert rows["tcpdump"] == ["15.00 (13.50 to 16.50)", "75 %", "25.0 %"]


def test_what_is_known_has_its_cost_and_its_goals(performance: ModuleType) -> None:
    text = performance.document(DATA)
    rows = rows_of(text, "More signatures")
    ns = ["25 (20 to 32)", "452 (447 to 459)", "587 (582 to 594)"]
    assert rows["1,000"] == ["990", *ns, "0.128", "0.015", "0.088"]
    assert rows["1,000, shipped"] == rows["1,000"]
    assert rows["load, s"] == ["0.09", "0.50", "met"]
    assert "they take 7.0 MB" in " ".join(text.split())
    rows = rows_of(text, "More peers")
    peers = ["prefixes", "32 (27 to 39)", "1,526 (1,521 to 1,533)", "9.82", "161.6"]
    assert rows["1,000,000"] == peers
    assert rows["ns of a new flow more"] == ["1,526", "1,200", "**missed**"]


@pytest.mark.parametrize("part", sorted(DATA.keys() - NO_SECTION))
def test_what_was_not_measured_is_left_out(performance: ModuleType, part: str) -> None:
    whole = performance.document(DATA)
    less = performance.document({name: DATA[name] for name in DATA if name != part})
    assert whole.count("\n## ") - less.count("\n## ") == 1


def test_a_quick_run_says_so(performance: ModuleType) -> None:
    assert "figures of no worth.**" in performance.document(DATA | {"quick": True})
    assert "figures of no worth.**" not in performance.document(DATA)


def test_the_load_of_the_machine_is_shown(performance: ModuleType) -> None:
    loaded = DATA["machine"] | {"load": {"start": 0.04, "end": 1.36}}
    text = " ".join(performance.document(DATA | {"machine": loaded}).split())
    assert "tcpdump 4.99. Load average: 0.0 at the start, 1.4 at the end." in text
    assert "Load average:" not in performance.document(DATA)


def test_readme_gets_the_same_figures(performance: ModuleType) -> None:
    text = "a\n<!-- by tools/performance.py -->\nold\n<!-- end -->\nb\n"
    made = performance.readme(text, DATA)
    assert made.startswith("a\n<!-- by tools/performance.py -->\n")
    assert made.endswith("<!-- end -->\nb\n")
    assert "old" not in made
    assert "| established flow, 1,000 flows | 45 | 33 |" in made
    assert "| established flow, 1 flow | - | - |" in made
    assert "nothing attached: 20.0; probe, tc: 19.0; tcpdump: 15.0" in made
    assert performance.readme(made, DATA) == made
    with pytest.raises(ValueError, match="substring"):
        performance.readme("no marks", DATA)


def test_documents_are_written_beside_the_data(performance: ModuleType, tmp_path: Path) -> None:
    readme = TOOLS.parent / "README.md"
    before = readme.read_bytes()
    performance.write(DATA, tmp_path / "performance.json")
    assert (tmp_path / "performance.md").read_text() == performance.document(DATA)
    assert readme.read_bytes() == before


def test_parts_that_are_not_measured_anew_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    import bench

    here = bench.bench_data.begin(False, {}, ())
    known = json.loads(json.dumps(DATA | {"machine": here["machine"], "version": here["version"]}))
    kept = bench.take([], bench.THOROUGH, known)
    assert {name: kept[name] for name in bench.PARTS} == {name: DATA[name] for name in bench.PARTS}
    assert not kept["quick"]
    assert bench.take([], bench.THOROUGH, known | {"quick": True})["quick"]
    assert kept["machine"]["cpus"] > 0


def test_made_up_rules_are_what_signature_files_may_hold(
    growth: ModuleType, tmp_path: Path
) -> None:
    names = growth.made_names(25_000)
    assert len(set(names)) == 25_000
    assert names == growth.made_names(25_000)
    growth.write_rules(tmp_path, names)
    rules = catalogue.load([tmp_path]).rules
    assert {rule.name for rule in rules if rule.app >= 7168} == set(names)


def test_hellos_ask_for_names_from_all_over_the_rules(growth: ModuleType) -> None:
    few, many = growth._hello(["a.de", "b.de"]), growth._hello(growth.made_names(1000))
    assert (len(few.frames), len(many.frames)) == (2, 64)
    assert len({len(frame) for frame in many.frames}) == 1
