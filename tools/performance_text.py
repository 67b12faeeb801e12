# SPDX-License-Identifier: Apache-2.0
"""How figures of `make bench` are written, and where they stand."""

import hashlib
import json
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "docs" / "performance.json"
README = DATA.parents[1] / "README.md"
Data = dict[str, Any]
GONE = "-"
NONE, EMPTY = "nothing attached", "an empty XDP program"  # variants that others are compared with


def digest(part: Any) -> str:
    """What a plot carries to tell of which data it was made."""
    return hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:16]


def prose(text: str, **values: object) -> str:
    """A paragraph with these values in it."""
    filled = " ".join(text.format(**values).split())
    return textwrap.fill(filled, 99, break_long_words=False, break_on_hyphens=False) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def goals(checks: Iterable[Data]) -> str:
    """A table that says of each goal whether it is met."""
    rows = [
        (
            check["what"],
            *(_value(check["what"], check[name]) for name in ("value", "limit")),
            "met" if check["met"] else "**missed**",
        )
        for check in checks
    ]
    return table(("what", "is", "shall be at most", ""), rows)


def _value(what: str, value: float) -> str:
    if what.endswith(", s"):
        return f"{value:.2f}"
    return f"{100 * value:.3f} %" if value < 1 else f"{value:,.0f}"


def nanoseconds(figure: Data | None) -> str:
    """`45 (43 to 52)`."""
    if figure is None:
        return GONE
    return f"{figure['net_ns']:,} ({figure['min_ns']:,} to {figure['max_ns']:,})"


def rate(found: Data, unit: float) -> str:
    """`1.53 (1.41 to 1.60)`, in this unit."""
    median, low, high = (found[name] / unit for name in ("median", "min", "max"))
    return f"{median:.2f} ({low:.2f} to {high:.2f})"


def megabytes(size: float) -> str:
    """Of 10^6 bytes."""
    return f"{size / 1e6:,.1f}" if size < 1e9 else f"{size / 1e6:,.0f}"


def size(count: int) -> str:
    """A number of flows or rules."""
    return f"{count:,}"


def row_key(row: Data) -> tuple[Any, ...]:
    """What tells a row of packets from all others of its hook."""
    return row["name"], row["flows"], row["per"]
