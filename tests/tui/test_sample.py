"""The sample pane: leafing, following the chart's cursor, and two samples side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Static

from minigpt.journal import Row
from tests.recorded import recorded_run
from tests.tui.panes import PaneApp, settled
from tui.widgets.panes import RunPanes
from tui.widgets.sample import SamplePane

TEXTS = {
    250: "MARL:\nThe tome is the wot, and ther the wall\nOf hand the sill",
    500: "MARLOW:\nThe tide is out, and yet the boats the wall\nOf hand has drawn",
    750: "MARLOW:\nThe tide is out, and yet the boats are in;\nWhat hand has drawn the water from the wall?",
    1000: "MARLOW:\nThe tide is out, and yet the boats are in;\nNo hand has drawn the water to the wall.",
}


def samples_of(texts: dict[int, str]) -> list[Row]:
    return [{"step": step, "attempt": 1, "prompt": "\n", "text": text} for step, text in texts.items()]


class SampleApp(PaneApp):
    """The pane with these samples."""

    def __init__(self, samples: Sequence[Row]) -> None:
        super().__init__(SamplePane)
        self.samples = samples

    def on_mount(self) -> None:
        self.sample_pane.show(self.samples)

    @property
    def sample_pane(self) -> SamplePane:
        assert isinstance(self.pane, SamplePane)
        return self.pane

    @property
    def title_shown(self) -> str:
        return str(self.pane.border_title)

    def text(self, name: str = "sample-text") -> str:
        return str(self.pane.query_one(f"#{name}", Static).content)

    def underlined(self, name: str = "sample-text") -> list[str]:
        content: Any = self.pane.query_one(f"#{name}", Static).content
        return [content.plain[span.start : span.end] for span in content.spans if "underline" in str(span.style)]


SIZES = [(80, 24), (120, 36)]


@pytest.mark.parametrize("size", [*SIZES, (48, 20), (38, 20)], ids=str)
@pytest.mark.parametrize("keys", [[], ["enter"]], ids=["one", "two"])
def test_looks(snap_compare: Any, size: tuple[int, int], keys: list[str]) -> None:
    assert snap_compare(SampleApp(samples_of(TEXTS)), terminal_size=size, press=keys, run_before=settled)


async def test_leafing_by_keys_stops_at_both_ends() -> None:
    app = SampleApp(samples_of(TEXTS))
    async with app.run_test() as pilot:
        assert "step 1,000 · 4 of 4" in app.title_shown
        await pilot.press("left", "left")
        assert "step 500 · 2 of 4" in app.title_shown and app.text() == TEXTS[500]
        await pilot.press("home", "left")
        assert "step 250 · 1 of 4" in app.title_shown
        await pilot.press("right")
        assert "step 500 · 2 of 4" in app.title_shown
        await pilot.press("end", "right")
        assert "step 1,000 · 4 of 4" in app.title_shown


@pytest.mark.parametrize("width", [20, 30, 40, 54, 80])
async def test_the_title_fits_into_the_frame(width: int) -> None:
    """Beside the charts it was cut two cells before its end."""
    app = SampleApp(samples_of(TEXTS))
    async with app.run_test(size=(width, 20)) as pilot:
        for cursor in (None, 700):
            app.pane.at_step(cursor)
            await pilot.pause()
            frame = app.screen._compositor.render_strips()[0].text
            assert app.title_shown in frame and "…" not in frame
            assert "step" in app.title_shown


async def test_a_reader_who_has_leafed_back_stays_where_they_are() -> None:
    """Guards against being torn away by a new sample, and against no longer following the newest one."""
    app = SampleApp(samples_of(TEXTS))
    async with app.run_test() as pilot:
        await pilot.press("left", "left")
        app.sample_pane.show([*app.samples, *samples_of({1250: "new"})])
        assert "step 500 · 2 of 5" in app.title_shown and app.text() == TEXTS[500]
        # Of a run with thousands the oldest are left out.
        app.sample_pane.show([*app.samples[1:], *samples_of({1250: "new"})])
        assert "step 500 · 1 of 4" in app.title_shown and app.text() == TEXTS[500]
        await pilot.press("end")
        app.sample_pane.show([*app.samples, *samples_of({1250: "new", 1500: "newer"})])
        assert "step 1,500 · 6 of 6" in app.title_shown and app.text() == "newer"


async def test_a_sample_that_a_recovery_took_along_gives_way_to_what_stands_there() -> None:
    """The steps after the checkpoint are done again: the one that was read may be gone."""
    app = SampleApp(samples_of(TEXTS))
    async with app.run_test() as pilot:
        await pilot.press("left")
        app.sample_pane.show([*app.samples[:2], *samples_of({750: "again", 1000: "too"})])
        assert "step 750 · 3 of 4" in app.title_shown and app.text() == "again"
        app.sample_pane.show(app.samples[:1])
        assert "step 250" in app.title_shown and app.text() == TEXTS[250]


async def test_several_samples_of_one_step_are_told_apart() -> None:
    """Guards the place of a reader beside a sample that was asked for at the step of a regular one."""
    samples = samples_of(TEXTS) + samples_of({1000: "asked for"})
    app = SampleApp(samples)
    async with app.run_test() as pilot:
        await pilot.press("left")
        assert "4 of 5" in app.title_shown
        app.sample_pane.show([*samples, *samples_of({1250: "new"})])
        assert "4 of 6" in app.title_shown and app.text() == TEXTS[1000]
        app.sample_pane.at_step(1000)
        assert app.text() == "asked for"


@pytest.mark.parametrize(
    ("step", "shown"), [(1250, 1000), (1000, 1000), (999, 750), (250, 250), (10**12, 1000)], ids=str
)
async def test_the_cursor_shows_what_was_written_then(step: int, shown: int) -> None:
    """The newest sample at or before the cursor, its own step named and the cursor's too."""
    app = SampleApp(samples_of(TEXTS))
    async with app.run_test():
        app.sample_pane.at_step(step)
        assert app.text() == TEXTS[shown]
        assert f"step {shown:,} · at the cursor, step {step:,}" in app.title_shown
        # It stays there while the run goes on, unless a sample comes that stands at the cursor.
        app.sample_pane.show([*app.samples, *samples_of({1240: "newest"})])
        assert app.text() == ("newest" if step >= 1240 else TEXTS[shown])
        app.sample_pane.at_step(None)
        assert app.text() == "newest" and "at the cursor" not in app.title_shown
        app.sample_pane.show([*app.samples, *samples_of({1240: "newest", 2000: "newer"})])
        assert app.text() == "newer"


async def test_a_cursor_before_the_first_sample_says_so() -> None:
    app = SampleApp(samples_of(TEXTS))
    async with app.run_test() as pilot:
        app.sample_pane.at_step(249)
        assert app.text() == "No sample at or before step 249."
        app.sample_pane.at_step(13)
        assert app.text() == "No sample at or before step 13."
        await pilot.press("enter", "right")
        assert app.text() == TEXTS[250] and "at the cursor" not in app.title_shown


async def test_two_side_by_side_with_what_differs_marked() -> None:
    """Guards both names, the marks (underlined: no colour is needed) and that leafing moves the other one."""
    app = SampleApp(samples_of(TEXTS))
    async with app.run_test(size=(100, 24)) as pilot:
        await pilot.press("enter")
        await pilot.pause()
        left, right = app.pane.query_one("#sample-pinned-side"), app.pane.query_one("#sample-side")
        assert left.region.y == right.region.y and left.region.right < right.region.x
        assert app.text("sample-pinned-head") == "step 1,000 · kept" and app.text("sample-head") == "step 750"
        assert "step 1,000 beside 750 · 3 of 4" in app.title_shown
        assert app.underlined("sample-pinned") == ["No", "to", "."] and app.underlined() == ["What", "from", "?"]
        await pilot.press("left")
        assert app.text("sample-pinned-head") == "step 1,000 · kept" and app.text("sample-head") == "step 500"
        app.sample_pane.at_step(300)
        assert app.text("sample-head") == "step 250" and "beside 250 · at the cursor, step 300" in app.title_shown
        app.sample_pane.at_step(1000)
        assert app.text("sample-head") == "step 1,000 · the same words" and app.underlined() == []
        await pilot.press("enter")
        await pilot.pause()
        assert not left.display and app.text() == TEXTS[1000]


async def test_leafing_passes_over_the_kept_sample() -> None:
    """It stood beside itself: "step 1,500 beside 1,500 · the same words"."""
    app = SampleApp(samples_of(TEXTS))
    async with app.run_test(size=(100, 24)) as pilot:

        async def heads(*keys: str) -> list[str]:
            shown = []
            for key in keys:
                await pilot.press(key)
                shown.append(app.text("sample-head"))
            return shown

        assert await heads("left", "enter") == ["", "step 500"], "step 750 is kept"
        assert await heads("right", "left", "left", "home") == ["step 1,000", "step 500", "step 250", "step 250"]
        await pilot.press("enter", "home", "enter")
        assert await heads("left", "home", "right") == ["step 500", "step 500", "step 750"], "the first is kept"
        await pilot.press("enter", "end", "enter")
        assert await heads("right", "left", "end") == ["step 750", "step 500", "step 750"], "the last is kept"
        app.sample_pane.at_step(None)
        assert app.text("sample-head") == "step 750"
        app.sample_pane.show([*app.samples, *samples_of({1250: "new"})])
        assert app.text("sample-head") == "step 1,250", "the newest is followed"


async def test_where_there_is_room_the_older_ones_stand_below() -> None:
    """A tall pane was empty below the sample; what the model wrote before tells how it came there."""
    app = SampleApp(samples_of(TEXTS))
    async with app.run_test(size=(100, 36)) as pilot:
        older = app.text("sample-older")
        assert [older.index(f"step {step}") for step in (750, 500, 250)] == sorted(
            older.index(f"step {step}") for step in (750, 500, 250)
        )
        assert TEXTS[500] in older and "step 1,000" not in older
        await pilot.press("left", "left")
        assert "step 750" not in app.text("sample-older") and TEXTS[250] in app.text("sample-older")
        await pilot.press("enter")
        assert app.text("sample-older") == ""
        await pilot.press("enter")
        await pilot.resize_terminal(100, 16)
        await settled(pilot)
        assert app.text("sample-older") == ""


async def test_side_by_side_wherever_the_dashboard_is_shown(tmp_path: Path) -> None:
    """Beside the charts, where most look at them, two samples stood one above the other."""
    app = PaneApp(lambda: RunPanes(recorded_run(tmp_path), read_only=False))
    async with app.run_test(size=(80, 24)) as pilot:
        await app.query_one(RunPanes).show("sample")
        pane = app.query_one(SamplePane)
        pane.show(samples_of({99_000: "the same", **TEXTS, 100_000: "the same"}))
        await pilot.press("enter", "home")
        left, right = pane.query_one("#sample-pinned-side"), pane.query_one("#sample-side")
        for size in ((80, 24), (110, 28), (120, 36), (200, 60)):
            await pilot.resize_terminal(*size)
            await settled(pilot)
            assert left.region.y == right.region.y and left.region.right < right.region.x
            shown = " ".join(
                " ".join(
                    strip.text[right.region.x : right.region.right] for strip in app.screen._compositor.render_strips()
                ).split()
            )
            assert "step 99,000 · the same words" in shown, "broken, not cut"


async def test_one_above_the_other_where_it_is_narrow() -> None:
    app = SampleApp(samples_of(TEXTS))
    async with app.run_test(size=(38, 24)) as pilot:
        await pilot.press("home", "enter")
        await pilot.pause()
        left, right = app.pane.query_one("#sample-pinned-side"), app.pane.query_one("#sample-side")
        assert left.region.x == right.region.x and left.region.bottom <= right.region.y
        assert app.text("sample-pinned-head") == "step 250 · kept" and app.text("sample-head") == "step 500"


async def test_a_look_without_news_costs_nothing() -> None:
    """Each look at a run with thousands of samples went through all of them."""

    class Counted(list[Row]):
        asked = 0

        def __getitem__(self, place: Any) -> Any:
            Counted.asked += 1
            return super().__getitem__(place)

        def __iter__(self) -> Any:
            raise AssertionError("goes through all of them")

        __contains__ = index = copy = None  # type: ignore[assignment]

    samples = Counted(samples_of({step: f"text {step}" for step in range(5000)}))
    app = SampleApp(samples)
    async with app.run_test() as pilot:
        await pilot.press("left")
        before = Counted.asked
        app.sample_pane.show(samples)
        assert Counted.asked == before
        samples.append(samples_of({5000: "new"})[0])
        app.sample_pane.show(samples)
        app.sample_pane.at_step(2500)
        assert "2,501 of" not in app.title_shown and app.text() == "text 2500"
        assert Counted.asked - before < 100


RUBBISH: list[Row] = [
    {"step": None, "text": "no step"},
    {"step": "ten", "text": "words", "prompt": 7},
    {"step": -5, "text": "[/] [bold]x[/bold] \x1b[31m \u202egnp"},
    {"text": "x" * 300_000},
    {"step": 2**70, "text": ""},
]


async def test_rubbish_is_shown_and_not_obeyed() -> None:
    """Samples are whatever lies in the file: steps that are none, markup, escape codes, novels."""
    app = SampleApp(RUBBISH)
    async with app.run_test() as pilot:
        for key in ["home", "enter", *["right"] * 5, "enter", *["left"] * 5]:
            await pilot.press(key)
            assert "\x1b" not in app.text() and "\u202e" not in app.text()
        app.sample_pane.at_step(3)
        app.sample_pane.show([])
        app.sample_pane.show(RUBBISH[:2])
        await pilot.pause()
