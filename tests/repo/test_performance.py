# SPDX-License-Identifier: Apache-2.0
"""docs/performance.md, its plots and the README's figures are what the committed data make."""

import json
import re
from types import ModuleType

import pytest

from tests.repo.tree import ROOT

DOCS = ROOT / "docs"
DATA = json.loads((DOCS / "performance.json").read_text())
PLOTS = re.findall(r"\]\((performance-[a-z]+\.svg)\)", (DOCS / "performance.md").read_text())


@pytest.fixture
def performance(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import performance

    return performance


def test_the_document_is_made_of_the_data(performance: ModuleType) -> None:
    text = (DOCS / "performance.md").read_text()
    assert text == performance.document(DATA), "run: .venv/bin/python tools/performance.py"


def test_the_readme_is_made_of_the_data(performance: ModuleType) -> None:
    text = (ROOT / "README.md").read_text()
    assert text == performance.readme(text, DATA), "run: .venv/bin/python tools/performance.py"


def test_the_readme_has_no_times_and_rates_but_those_of_the_data() -> None:
    before, rest = (ROOT / "README.md").read_text().split("<!-- by tools/performance.py -->")
    made, after = rest.split("<!-- end -->")
    figure = re.compile(r"\d (?:ns|ms|s)\b|, ns\b|Gb/s|resident")
    assert figure.search(made)
    assert figure.findall(before + after) == []


def test_all_parts_are_there_and_of_a_whole_run(performance: ModuleType) -> None:
    assert set(performance.SECTIONS) <= set(DATA)
    assert not DATA["quick"]


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_made_of_the_data(performance: ModuleType, name: str) -> None:
    from performance_text import digest  # beside the module of the fixture

    part = name.removeprefix("performance-").removesuffix(".svg")
    source = f"performance.json, {part}, {digest(DATA[part])}"
    assert source in (DOCS / name).read_text(), "run: sudo make bench"


def test_every_plot_is_shown() -> None:
    assert sorted(PLOTS) == sorted(path.name for path in DOCS.glob("performance-*.svg"))
