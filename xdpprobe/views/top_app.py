# SPDX-License-Identifier: Apache-2.0
"""The live view of `top`: keys, the clock, and the terminal (Textual handles the latter).

Everything that is shown comes from `top_model` and `top_screen`; here is only what happens when.
"""

import asyncio
import signal
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.timer import Timer
from textual.widgets import Input

from xdpprobe.errors import ProbeError, UsageError
from xdpprobe.filter import Filter
from xdpprobe.views.picture import Picture
from xdpprobe.views.top_model import VIEWS, Model, Source
from xdpprobe.views.top_screen import State, build, layout

INTERVALS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_TABS = ("apps", "hosts", "flows")


class TopApp(App[ProbeError | None]):
    """Runs until the user leaves (result None) or the probe is gone (result: the error)."""

    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    CSS = """
    Screen { background: ansi_default; }
    #picture { width: 100%; height: 1fr; }
    #filter { height: 1; border: none; padding: 0 1; display: none; dock: bottom; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c,ctrl+q", "quit", priority=False),
        Binding("1", "view('apps')"),
        Binding("2", "view('hosts')"),
        Binding("3", "view('flows')"),
        Binding("tab", "tab", priority=True),
        Binding("n", "names"),
        Binding("s", "sort"),
        Binding("S,r", "reverse"),
        Binding("slash", "filter"),
        Binding("b", "bits"),
        Binding("space", "pause"),
        Binding("plus,equals_sign", "interval(1)"),
        Binding("minus", "interval(-1)"),
        Binding("down,j", "scroll(1)"),
        Binding("up,k", "scroll(-1)"),
        Binding("pagedown", "scroll(10)"),
        Binding("pageup", "scroll(-10)"),
        Binding("home,g", "scroll(-1000000)"),
        Binding("question_mark,h", "help"),
        Binding("escape", "escape"),
    ]

    def __init__(self, source: Source, state: State, wanted: Filter | None) -> None:
        super().__init__(ansi_color=True)
        self._source = source
        self._state = state
        self._model = Model(wanted)
        self._timer: Timer | None = None
        self._drawable = False

    def compose(self) -> ComposeResult:
        """The picture and, below it, the filter's input line, hidden at first."""
        yield Picture()
        yield Input(id="filter", placeholder="app:youtube dir:out bytes>1M   (empty: all)")

    def on_mount(self) -> None:
        """Starts the clock. The first rates come early, since nobody likes to look at zeros."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self.exit)
        self._tick()
        self.set_timer(0.3, self._tick)
        self._start()

    def _start(self) -> None:
        if self._timer:
            self._timer.stop()
        self._timer = self.set_interval(self._state.interval, self._tick, pause=self._state.paused)

    def _tick(self) -> None:
        try:
            self._model.update(self._source)
        except UsageError as error:
            self._state.filter = ""
            self._complain(error)
        except ProbeError as error:
            self._drawable = False
            self.exit(error)
            return
        self._drawable = True
        self._draw()

    def _draw(self) -> None:
        if not self._drawable:
            return
        state, (width, height) = self._state, self.size
        if state.typing:
            height -= 1
        rows, panel = layout(state.view, height)
        frame = self._model.frame(state.view, state.sort, state.reverse, (state.first, rows), panel)
        if state.first and state.first >= frame.total:
            state.first = max(frame.total - rows, 0)
            window = (state.first, rows)
            frame = self._model.frame(state.view, state.sort, state.reverse, window, panel)
        self.query_one(Picture).show(build(frame, state, width, height), width, height)

    def on_resize(self, _: events.Resize) -> None:
        """Draws again for the new size."""
        self._draw()

    def action_view(self, view: str) -> None:
        """Another view, from its top; the sort key stays if the view has it."""
        state = self._state
        state.view, state.first, state.help = view, 0, False
        if state.sort not in VIEWS[view]:
            state.sort = VIEWS[view][0]
        self._draw()

    def action_tab(self) -> None:
        """The next view."""
        view = "hosts" if self._state.view == "names" else self._state.view
        self.action_view(_TABS[(_TABS.index(view) + 1) % len(_TABS)])

    def action_names(self) -> None:
        """Hosts by address or by server name."""
        self.action_view("hosts" if self._state.view == "names" else "names")

    def action_sort(self) -> None:
        """The next sort key."""
        keys = VIEWS[self._state.view]
        self._state.sort = keys[(keys.index(self._state.sort) + 1) % len(keys)]
        self._draw()

    def action_reverse(self) -> None:
        """The other way round."""
        self._state.reverse = not self._state.reverse
        self._draw()

    def action_bits(self) -> None:
        """Bits or bytes."""
        self._state.bits = not self._state.bits
        self._draw()

    def action_help(self) -> None:
        """Shows or hides the keys."""
        self._state.help = not self._state.help
        self._draw()

    def action_pause(self) -> None:
        """Holds the picture; scrolling, sorting and filtering still work on it."""
        self._state.paused = not self._state.paused
        if not self._state.paused:
            self._tick()
        self._start()
        self._draw()

    def action_interval(self, step: int) -> None:
        """A longer or shorter interval."""
        places = range(len(INTERVALS))
        near = min(places, key=lambda i: abs(INTERVALS[i] - self._state.interval))
        self._state.interval = INTERVALS[min(max(near + step, 0), len(INTERVALS) - 1)]
        self._start()
        self._draw()

    def action_scroll(self, lines: int) -> None:
        """Scrolls; drawing stops it at the end."""
        self._state.first = max(self._state.first + lines, 0)
        self._draw()

    def action_filter(self) -> None:
        """Opens the filter's line, with the filter in force to change it."""
        line = self.query_one("#filter", Input)
        line.value = self._state.filter
        line.display = self._state.typing = True
        line.focus()
        self._draw()

    def action_escape(self) -> None:
        """Closes what is open: the filter's line, help, a message."""
        self._state.help, self._state.message = False, ""
        self._close_filter()

    def _close_filter(self) -> None:
        self.query_one("#filter").display = self._state.typing = False
        self.set_focus(None)
        self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Applies the filter; or says what is wrong with it, and leaves it open to be mended."""
        text = event.value.strip()
        try:
            wanted = Filter(text) if text else None
            if wanted:
                wanted.check(self._model.snapshot)
            self._model.set_filter(wanted)
        except UsageError as error:
            self._complain(error)
            self._draw()
        else:
            self._state.filter, self._state.message, self._state.first = text, "", 0
            self._close_filter()

    def _complain(self, error: UsageError) -> None:
        """Shows in one line what is wrong with the filter."""
        self._state.message = f"{error.what}; {error.hint.splitlines()[0]}"
