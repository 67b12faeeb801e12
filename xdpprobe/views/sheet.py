# SPDX-License-Identifier: Apache-2.0
"""Columns of one-line cells. What rich's Table does for it costs `top` half of its time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import add

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

Cell = str | Text
_BOLD, _NONE = Style(bold=True), Style()
# What a column that shares the rest has to get, or it says nothing.
_LEAST = 8


@dataclass(frozen=True)
class Column:
    """A column of a sheet. A width of 0 shares, by ratio, what the others leave."""

    title: str
    width: int = 0
    ratio: int = 1
    right: bool = False
    style: str = ""


class Sheet:
    """A rich renderable: bold titles, then each row on one line, one blank between columns.

    What is too long for its column ends in an ellipsis. Where there is no room for all columns, the
    last ones are left out. A cell that is a Text has one style, its own, above the column's.
    """

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
        self.columns = columns
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(options.max_width)
        get_style = console.get_style
        styles = [get_style(column.style) for column in self.columns]
        yield from self._line([c.title for c in self.columns], widths, [_BOLD] * len(styles))
        for row in self.rows:
            own = [get_style(cell.style) if isinstance(cell, Text) else _NONE for cell in row]
            texts = [cell.plain if isinstance(cell, Text) else cell for cell in row]
            yield from self._line(texts, widths, list(map(add, styles, own)))

    def _line(
        self, texts: Sequence[str], widths: Sequence[int], styles: Sequence[Style]
    ) -> Iterator[Segment]:
        for i, width in enumerate(widths):
            fitted = _fitted(texts[i], width, self.columns[i].right)
            yield Segment(f" {fitted}" if i else fitted, styles[i])
        yield Segment.line()

    def whole_width(self) -> int:
        """As wide as it takes for nothing to be cut in columns that share what others leave."""
        sharing = [i for i, column in enumerate(self.columns) if not column.width]
        ratios = sum(self.columns[i].ratio for i in sharing)
        fixed = sum(column.width for column in self.columns) + len(self.columns) - 1
        return fixed + max(
            (-(-self._longest(i) * ratios // self.columns[i].ratio) for i in sharing), default=0
        )

    def _longest(self, column: int) -> int:
        texts = [self.columns[column].title, *(str(row[column]) for row in self.rows)]
        return max(_LEAST, *map(cell_len, texts))

    def _widths(self, whole: int) -> list[int]:
        """Columns of each that fits; what is left over goes to those with a ratio."""
        kept = list(self.columns)
        while len(kept) > 1 and sum((c.width or _LEAST) + 1 for c in kept) - 1 > whole:
            kept.pop()
        fixed = sum(column.width for column in kept) + len(kept) - 1
        left, ratios = max(whole - fixed, 0), sum(c.ratio for c in kept if not c.width)
        widths = []
        for column in kept:
            if column.width:
                widths.append(column.width)
                continue
            widths.append(-(-left * column.ratio // ratios))
            left, ratios = left - widths[-1], ratios - column.ratio
        return widths


def _fitted(text: str, width: int, right: bool) -> str:
    length = len(text) if text.isascii() else cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…" if width else ""
    return " " * (width - length) + text if right else text + " " * (width - length)
