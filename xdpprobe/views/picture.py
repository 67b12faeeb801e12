# SPDX-License-Identifier: Apache-2.0
"""The picture of `top` on the screen. A Static would lay out and draw all of it every second."""

from rich.console import RenderableType
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget


class Picture(Widget):
    """Shows a rich renderable, and draws only those lines again that have changed."""

    def __init__(self) -> None:
        super().__init__(id="picture")
        self._lines: list[Strip] = []

    def show(self, picture: RenderableType, width: int, height: int) -> None:
        """Replaces the picture by one of this size, which may be the widget's size to be."""
        console = self.app.console
        rendered = console.render_lines(picture, console.options.update(width=width))
        lines = [Strip(line, width) for line in rendered[:height]]
        before, self._lines = self._lines, lines
        # A line that the picture no longer has must go, too.
        before += [Strip([])] * (len(lines) - len(before))
        after = lines + [Strip([])] * (len(before) - len(lines))
        changed = [y for y, line in enumerate(after) if line != before[y]]
        if changed:
            self.refresh(*(Region(0, y, width, 1) for y in changed))

    def render_line(self, y: int) -> Strip:
        """A line of it, as Textual asks for one."""
        return self._lines[y] if y < len(self._lines) else Strip.blank(self.size.width)
