"""The charts of one run or of several over each other: one widget, whose charts share their x axis and cursor."""

from collections.abc import Sequence
from dataclasses import replace

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from tui.charts.curves import picture_of
from tui.charts.foot import Entries, run_lines, state_line
from tui.charts.grid import LABEL, ROLES, Grid
from tui.charts.plot import draw_framed, frame_of
from tui.charts.plot_area import PlotArea
from tui.charts.quantities import LOSS, PERPLEXITY, Quantity, quantities
from tui.charts.tiling import Tile, room_for, small_tiles, tiles
from tui.charts.traces import AXES, STEP, Traces
from tui.charts.view import ChartView, Extent
from tui.run.following import Following
from tui.settings import DEFAULTS

_ZOOM = 0.5  # what is left of the axis after a key; the wheel takes smaller steps
_WHEEL = 0.75
_PAN = 0.25
_FAR = 10  # columns
_LEAST_HEIGHT_FOR_FOOT = 8


class ChartsPane(Widget, can_focus=True):
    """Draws as many charts as there is room for; zoom, x axis, smoothing and cursor are those of all of them."""

    BINDING_GROUP_TITLE = "Charts"
    COMPONENT_CLASSES = {f"charts--{role}" for role in ROLES}
    BINDINGS = [
        Binding("left", "move(-1)", "cursor to the left", show=False),
        Binding("right", "move(1)", "cursor to the right", show=False),
        Binding("ctrl+left", "move(-10)", "cursor far to the left", show=False),
        Binding("ctrl+right", "move(10)", "cursor far to the right", show=False),
        Binding("escape", "take_back", "take the cursor away, or all metrics", show=False),
        Binding(
            "plus,equals_sign", "zoom(1)", "zoom in", tooltip="zoom in about the cursor, or the newest", show=False
        ),
        Binding("minus", "zoom(-1)", "zoom out", show=False),
        Binding("shift+left,less_than_sign", "pan(-1)", "pan to the left", show=False),
        Binding("shift+right,greater_than_sign", "pan(1)", "pan to the right", show=False),
        Binding("0,home", "show_whole", "the whole run", show=False),
        Binding("f,end", "follow", "follow the newest, or stay", show=False),
        Binding("up", "choose(-1)", "the chart before", show=False),
        Binding("down", "choose(1)", "the next chart", show=False),
        Binding("V", "show_all", "all metrics at a glance, or back", key_display="V", show=False),
        Binding("enter", "enlarge", "all metrics: this one large", show=False),
        Binding("pageup", "page(-1)", "all metrics: the page before", show=False),
        Binding("pagedown", "page(1)", "all metrics: the next page", show=False),
        Binding("n", "next_metric(1)", "another metric in this chart", show=False),
        Binding("N", "next_metric(-1)", "the metric before", show=False),
        Binding("v", "choose_metric", "choose the metric of this chart", show=False),
        Binding("l", "toggle_log", "this chart: linear or logarithmic", show=False),
        Binding("a", "next_axis", "x axis: steps, tokens, epochs, time", show=False),
        Binding("w", "smooth(1)", "smooth more", show=False),
        Binding("W", "smooth(-1)", "smooth less", show=False),
    ]

    class CursorMoved(Message):
        """The cursor stands at another step; None: it was taken away."""

        def __init__(self, step: int | None) -> None:
            super().__init__()
            self.step = step

    def __init__(self, *, id: str | None = None, ascii: bool = False) -> None:
        super().__init__(id=id)
        self._ascii = ascii
        self._runs: list[Traces] = []
        self._view = ChartView()
        self._slots = [LOSS, PERPLEXITY]
        """The charts, of which those from `_first` on are shown as far as there is room."""
        self._first = 0
        self._current = 0
        self._set_aside: tuple[list[str], int] | None = None
        """The chosen charts and the current one of them, while all metrics are shown."""
        self._tiles: list[tuple[Tile, PlotArea | None]] = []
        self._grid = Grid.empty(0, 0)
        self._role_styles: list[Style] = []
        self._dragged: tuple[int, float] | None = None
        """The column and the place on the x axis at which the mouse took hold."""
        self._drag_moved = False

    def on_mount(self) -> None:
        settings = getattr(self.app, "settings", DEFAULTS)
        self._ascii = self._ascii or settings.ascii
        self._view = replace(self._view, smoothing=settings.smoothing)

    # ── what is shown ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def view(self) -> ChartView:
        """Which part is shown, and how."""
        return self._view

    @property
    def metric_names(self) -> list[str]:
        """The charts that the runs allow, those of all runs together."""
        return list(self._quantities())

    @property
    def shown(self) -> list[str]:
        """The charts in view, from the top left."""
        return self._slots[self._first : self._first + len(self._tiles)]

    @property
    def cursor_step(self) -> int | None:
        """The step that the cursor stands at in the first run; None without a cursor."""
        if self._view.cursor is None or not self._runs:
            return None
        return round(self._runs[0].step_at(self._view.axis, self._view.cursor))

    def show(self, runs: Sequence[Following]) -> None:
        """Draw what these runs hold now. Whoever calls it decides how often that is worth its cost."""
        known = {id(run.following): run for run in self._runs}
        self._runs = [known.get(id(following)) or Traces(following) for following in runs]
        self._draw()

    def _quantities(self) -> dict[str, Quantity]:
        return quantities(name for run in self._runs for name in run.following.metrics.names())

    def _quantity(self, name: str, known: dict[str, Quantity]) -> Quantity:
        """One chart; one without lines where the runs have nothing for it yet."""
        return known.get(name) or quantities(["train_loss", "val_loss", name])[name]

    def _extent(self, shown: Sequence[Quantity]) -> Extent:
        newest = end = 0.0
        most = 1
        names = {series.metric for quantity in shown for series in quantity.series}
        if self._set_aside is not None:
            names.add("train_loss")  # or the pages would have axes of their own
        for run in self._runs:
            step = max((run.newest_step(name) for name in names), default=0)
            newest = max(newest, run.place_of(self._view.axis, step))
            end = max(end, float(run.following.max_steps) if self._view.axis == STEP else 0.0)
            most = max([most, *(run.size(name) for name in names)])
        return Extent(newest, end, newest / most)

    # ── drawing ───────────────────────────────────────────────────────────────────────────────────────────────

    def _draw(self) -> None:
        before = self._grid
        self._grid = self._drawn()
        if before.codes.shape != self._grid.codes.shape:
            self.refresh()
        elif spans := self._grid.changed_spans(before):
            self.refresh(*(Region(column, row, width, 1) for row, column, width in spans))

    def _drawn(self) -> Grid:
        width, height = self.size
        grid = Grid.empty(width, height)
        if not self._runs or not width or not height:
            return grid
        for run in self._runs:
            run.refresh()
        if not all(run.has_axis(self._view.axis) for run in self._runs):
            self._view = replace(self._view.show_whole(), axis=STEP, cursor=None)
        known = self._quantities()
        self._take_in(known)
        current = self._quantity(self._slots[self._current], known)
        names, has_foot = list[Entries](), height >= _LEAST_HEIGHT_FOR_FOOT
        if has_foot:
            names = run_lines(self._runs, current, self._view, size=(width, height))
        places = self._places(width, height - has_foot - len(names))
        charts = [self._quantity(name, known) for name in self._slots[self._first : self._first + len(places)]]
        places = places[: len(charts)]
        extent = self._extent(charts)
        lines = list[Entries]()
        if has_foot:
            page = self._page(len(charts))
            used = sum(len(text) + 2 for text, _ in page)
            state = state_line(self._runs, charts, self._view, extent, width=width - used, columns=places[0].width)
            lines = [page + state, *names]
        self._tiles, frames = [], []
        for number, (tile, quantity) in enumerate(zip(places, charts, strict=True)):
            is_current = self.has_focus and self._first + number == self._current
            picture = picture_of(self._runs, quantity, self._view, extent, is_current=is_current)
            frames.append(frame_of(picture, tile.height))
        # One for all, so that the same step stands under itself.
        gutter = max(frame.gutter for frame in frames)
        for tile, frame in zip(places, frames, strict=True):
            drawn, area = draw_framed(frame, tile.width, tile.height, gutter=gutter, ascii=self._ascii)
            grid.place(drawn, tile.row, tile.column)
            self._tiles.append((tile, area))
        for number, entries in enumerate(lines):
            column = 1
            for text, role in entries:
                grid.write(height - len(lines) + number, column, text, role)
                column += len(text) + 2
        if self._ascii and lines:
            Grid(grid.codes[-len(lines) :], grid.roles[-len(lines) :]).to_ascii()
        return grid

    def _take_in(self, known: dict[str, Quantity]) -> None:
        """Let the charts be those that are to be shown: with room for more than were chosen, the next ones too."""
        if self._set_aside is None:
            rows, columns = room_for(*self.size)
            free = [name for name in known if name not in self._slots]
            self._slots += free[: max(0, rows * columns - len(self._slots))]
        else:
            name = self._slots[self._current]
            self._slots = list(known) or [LOSS]
            self._current = self._slots.index(name) if name in self._slots else 0

    def _places(self, width: int, height: int) -> list[Tile]:
        """Where the charts from `_first` on stand, among which the current one is."""
        number = len(self._slots)
        if self._set_aside is not None:
            places = small_tiles(width, height, number)
            self._first = self._current // len(places) * len(places)
            return places
        places = tiles(width, height, number)
        self._first = max(0, min(self._first, self._current, number - len(places)))
        self._first = max(self._first, self._current - len(places) + 1)
        return places

    def _page(self, number: int) -> Entries:
        """Which of all metrics are in view."""
        if self._set_aside is None:
            return []
        return [(f"metrics {self._first + 1}–{self._first + number} of {len(self._slots)}", LABEL)]

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        if not self._role_styles:
            self._role_styles = [self.get_component_rich_style(f"charts--{role}") for role in ROLES]
        if self._grid.codes.shape != (height, width):
            # The first frame after a layout comes before the event that tells of it.
            self._grid = self._drawn()
        if y >= height:
            return Strip.blank(width, self._role_styles[0])
        text, roles = self._grid.text(y), self._grid.roles[y].tolist()
        segments, begin = [], 0
        for column in range(1, width + 1):
            if column == width or roles[column] != roles[begin]:
                segments.append(Segment(text[begin:column].replace("\0", ""), self._role_styles[roles[begin]]))
                begin = column
        return Strip(segments, width)

    def notify_style_update(self) -> None:
        self._role_styles = []
        super().notify_style_update()

    def on_resize(self) -> None:
        self._draw()

    def on_focus(self) -> None:
        self._draw()

    def on_blur(self) -> None:
        self._draw()

    # ── what keys do ──────────────────────────────────────────────────────────────────────────────────────────

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "take_back":
            return self._view.cursor is not None or self._set_aside is not None  # else the key is the screen's
        if action in {"next_metric", "choose_metric"}:
            return self._set_aside is None
        return action not in {"page", "enlarge"} or self._set_aside is not None

    def _change(self, view: ChartView) -> None:
        """Draw with another view at once, and say so if that moved the cursor."""
        step = self.cursor_step
        self._view = view
        self._draw()
        if self.cursor_step != step:
            self.post_message(self.CursorMoved(self.cursor_step))
            self.refresh_bindings()

    def _extent_now(self) -> Extent:
        known = self._quantities()
        return self._extent([self._quantity(name, known) for name in self.shown])

    def action_zoom(self, direction: int) -> None:
        """Show less of the axis (1) or more (-1)."""
        if self._runs:
            extent, cursor = self._extent_now(), self._view.cursor
            low, high = self._view.bounds(extent)
            about = cursor if cursor is not None and low <= cursor <= high else None
            self._change(self._view.zoom(_ZOOM**direction, extent, about))

    def action_pan(self, direction: int) -> None:
        """Move along the axis."""
        if self._runs:
            self._change(self._view.pan(direction * _PAN, self._extent_now()))

    def action_show_whole(self) -> None:
        """Show the whole run."""
        self._change(self._view.show_whole())

    def action_follow(self) -> None:
        """Keep the newest in view, or what is in view now."""
        if self._runs:
            view = self._view
            self._change(view.stay(self._extent_now()) if view.follows else replace(view, start=None))

    def action_move(self, columns: int) -> None:
        """Move the cursor by columns of the chart, and at least to the next value that was logged."""
        if not self._runs or not self._tiles:
            return
        extent = self._extent_now()
        low, high = self._view.bounds(extent)
        area = self._tiles[self._current - self._first][1]
        cell = (high - low) / max(1, area.width if area else 1)
        place = self._view.cursor
        if place is None:
            place, columns = min(high, extent.newest), 0
        moved = self._logged_near(place, columns * cell)
        if moved is None:
            return
        view = replace(self._view, cursor=moved)
        if not low <= moved <= high:
            # Back into view, in the middle of it.
            view = view.pan((moved - (low + high) / 2) / (high - low), extent)
        self._change(view)

    def _logged_near(self, place: float, by: float) -> float | None:
        """The place of a logged value of the current chart: the nearest, or one at least `by` away."""
        quantity = self._quantity(self._slots[self._current], self._quantities())
        for run in self._runs:
            for series in quantity.series:
                if run.size(series.metric):
                    return run.logged_near(series.metric, self._view.axis, place, by)
        return None

    def action_take_back(self) -> None:
        """Take the cursor away, or else go back from all metrics."""
        if self._view.cursor is not None:
            self._change(replace(self._view, cursor=None))
        elif self._set_aside is not None:
            self.action_show_all()

    def action_show_all(self) -> None:
        """Show all metrics that the files have as small charts, or the chosen charts again."""
        if self._set_aside is None:
            self._set_aside = self._slots, self._current
        else:
            (self._slots, self._current), self._set_aside = self._set_aside, None
        self._draw()
        self.refresh_bindings()

    def action_enlarge(self) -> None:
        """Go back from all metrics, with this one in the current chart."""
        name = self._slots[self._current]
        self.action_show_all()
        self._show_in_current(name)

    def action_page(self, by: int) -> None:
        """Show the page of all metrics after (1) or before (-1)."""
        self.action_choose(by * len(self._tiles))

    def action_choose(self, by: int) -> None:
        """Let the keys mean another chart."""
        self._current = max(0, min(len(self._slots) - 1, self._current + by))
        self._draw()

    def action_next_metric(self, by: int) -> None:
        """Show the next metric (1), or the one before (-1), that no other chart shows."""
        taken = set(self.shown) - {self._slots[self._current]}
        names = [name for name in self.metric_names if name not in taken]
        if names:
            now = self._slots[self._current]
            place = names.index(now) + by if now in names else 0
            self._show_in_current(names[place % len(names)])

    def _show_in_current(self, name: str) -> None:
        # A chart out of view, or beside, that shows it already takes what stood here.
        if name in self._slots:
            self._slots[self._slots.index(name)] = self._slots[self._current]
        self._slots[self._current] = name
        self._draw()

    def action_choose_metric(self) -> None:
        """Ask which metric the current chart is to show."""
        from tui.screens.choose import ChooseScreen, Option

        known = list(self._quantities().values())

        def answered(number: str | None) -> None:
            if number is not None:
                self._show_in_current(known[int(number)].name)

        options, chosen = [], ""
        for number, quantity in enumerate(known):
            metrics = [series.metric for series in quantity.series]
            values = sum(run.size(metric) for run in self._runs for metric in metrics)
            note = "one value" if values == 1 else f"{values:,} values"
            options.append(Option(str(number), quantity.title, note, ", ".join(metrics)))
            chosen = str(number) if quantity.name == self._slots[self._current] else chosen
        if options:
            self.app.push_screen(ChooseScreen("what is this chart to show? type to find it", options, chosen), answered)

    def action_toggle_log(self) -> None:
        """Draw the current chart with the other scale."""
        self._change(self._view.toggle_log(self._slots[self._current]))

    def action_next_axis(self) -> None:
        """Let the x axis count something else: what is in view stays so."""
        axes = [axis for axis in AXES if all(run.has_axis(axis) for run in self._runs)]
        if not self._runs or len(axes) < 2:
            return
        before, run = self._view, self._runs[0]
        axis = axes[(axes.index(before.axis) + 1) % len(axes)] if before.axis in axes else STEP

        def along(place: float) -> float:
            return run.place_of(axis, run.step_at(before.axis, place))

        view = replace(before, axis=axis, cursor=None if before.cursor is None else along(before.cursor))
        if before.span is not None:
            low, high = map(along, before.bounds(self._extent_now()))
            view = replace(view, span=max(high - low, 1e-9), start=None if before.follows else low)
        self._change(view)

    def action_smooth(self, by: int) -> None:
        """Smooth more (1) or less (-1)."""
        self._change(self._view.smooth(by))

    # ── the mouse ─────────────────────────────────────────────────────────────────────────────────────────────

    def _place_under(self, event: events.MouseEvent, *, choose: bool = False) -> float | None:
        for number, (tile, area) in enumerate(self._tiles):
            if area is not None and tile.holds(event.x, event.y):
                if choose:
                    self._current = self._first + number
                return area.place(event.x - tile.column)
        return None

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._wheel(event, _WHEEL)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._wheel(event, 1 / _WHEEL)

    def _wheel(self, event: events.MouseEvent, factor: float) -> None:
        place = self._place_under(event)
        if place is not None:
            event.stop()
            self._change(self._view.zoom(factor, self._extent_now(), place))

    def on_mouse_down(self, event: events.MouseDown) -> None:
        place = self._place_under(event, choose=True)
        self._drag_moved = False
        if place is not None:
            self._dragged = event.x, place
            self.capture_mouse()
            self._draw()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        if self._dragged is None or not self._tiles:
            return
        tile, area = self._tiles[min(self._current - self._first, len(self._tiles) - 1)]
        column, held = self._dragged
        self._drag_moved |= event.x != column
        if area is not None and self._drag_moved:
            low, high = area.bounds
            place = area.place(event.x - tile.column)
            self._change(self._view.pan((held - place) / (high - low), self._extent_now()))

    def on_mouse_up(self, event: events.MouseUp) -> None:
        self.release_mouse()
        dragged, self._dragged = self._dragged, None
        if dragged is not None and not self._drag_moved:
            nearest = self._logged_near(dragged[1], 0.0)
            if nearest is not None:
                self._change(replace(self._view, cursor=nearest))
