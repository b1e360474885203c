"""When styles are read: enough for the first frame, and all of them right behind it."""

import inspect
from pathlib import Path

from tests.recorded import recorded_run
from tests.tui.panes import settled, until
from tui import styles
from tui.app import MiniGPTApp
from tui.screens.dialogs import KeysScreen
from tui.widgets.charts import ChartsPane


def looks_of(app: MiniGPTApp) -> list[object]:
    """Where the parts of the screen are, and their colours."""
    return [
        (part.region, part.styles.background, part.styles.color, part.styles.border) for part in app.screen.query("*")
    ]


class LateApp(MiniGPTApp):
    """Begins with the first screen's styles alone."""

    CSS_PATH = styles.FIRST


def test_the_first_ones_are_few() -> None:
    assert set(styles.FIRST) < set(styles.ALL)
    assert len(styles.FIRST) <= 5


async def test_nothing_on_the_home_screen_is_without_its_styles() -> None:
    """A widget whose styles came later would be drawn twice, the first time as Textual has it."""
    app = LateApp()
    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        shown = {type(widget) for widget in [app.screen, *app.screen.query("*")]}
        beside = {Path(inspect.getfile(one)).with_suffix(".tcss") for kind in shown for one in kind.__mro__[:-1]}
        assert {path for path in beside if path in styles.ALL} <= set(styles.FIRST)


async def test_nothing_on_an_opened_dashboard_is_without_its_styles(tmp_path: Path) -> None:
    """A run that the command line names is drawn before the styles of other screens are read."""
    app = LateApp()
    async with app.run_test(size=(120, 36)) as pilot:
        await styles.load(app, styles.DASHBOARD)
        app.open_run(recorded_run(tmp_path))
        await until(pilot, lambda: app.screen.query(ChartsPane))
        shown = {type(widget) for widget in [app.screen, *app.screen.query("*")]}
        beside = {Path(inspect.getfile(one)).with_suffix(".tcss") for kind in shown for one in kind.__mro__[:-1]}
        assert {path for path in beside if path in styles.ALL} <= {*styles.FIRST, *styles.DASHBOARD}


async def test_the_others_come_behind_the_first_frame() -> None:
    """A screen that somebody opens at once must not stay without its styles."""
    app = LateApp()
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, KeysScreen))
        await styles.load(app, styles.ALL)
        assert all(app.stylesheet.has_source(str(path)) for path in styles.ALL)
        await settled(pilot)
        late = looks_of(app)

    at_once = MiniGPTApp()
    at_once.stylesheet.read_all(styles.ALL)
    async with at_once.run_test(size=(120, 36)) as pilot:
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(at_once.screen, KeysScreen))
        await settled(pilot)
        assert late == looks_of(at_once)


async def test_prepared_styles_have_the_colours_of_the_theme() -> None:
    app = MiniGPTApp()
    styles.prepare(app)
    assert app.stylesheet._variables["background"].lower() == app.current_theme.background
    assert app.stylesheet._parse_cache.maxsize > 2 * len(styles.ALL) + 100
