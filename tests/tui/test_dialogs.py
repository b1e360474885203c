"""Questions: which keys answer them, and that they say so."""

import pytest
from textual import events

from tests.tui.panes import BareApp, until
from tui.screens.dialogs import CLOSE, Choice, ConfirmScreen

DELETE = (Choice("delete", "d", "delete"), Choice("keep", "escape", "keep it"))
GRACE = 0.5  # seconds; the tests of other things have none
QUIT = (Choice("stop", "s", "stop"), Choice("detach", "d", "detach"), Choice("stay", "escape", "stay"))


def screen_text(app: BareApp) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


def opened(app: BareApp) -> float:
    """When the question came up."""
    assert isinstance(app.screen, ConfirmScreen)
    return app.screen._deaf_until - GRACE


def pressed(name: str, at: float) -> events.Key:
    """A key of that moment, however long it takes until it is looked at."""
    key = events.Key(name, name if len(name) == 1 else None)
    key.time = at
    return key


async def test_a_question_is_answered_by_the_keys_it_names() -> None:
    """`y` and `n` did nothing, and nothing told what Enter does: it takes the marked answer, at first the harmless one."""
    answers: list[str | None] = []
    app = BareApp()
    async with app.run_test(size=(80, 24)) as pilot:
        for choices, keys, expected in [
            (DELETE, "y", "delete"),
            (DELETE, "d", "delete"),
            (DELETE, "n", "keep"),
            (DELETE, "escape", "keep"),
            (DELETE, "enter", "keep"),
            (DELETE, "left enter", "delete"),
            (QUIT, "n", "stay"),
            (QUIT, "y enter", "stay"),  # of three answers none is the yes
            ((CLOSE,), "enter", "close"),
            ((CLOSE,), "escape", "close"),
        ]:
            app.push_screen(ConfirmScreen("sure?", "It is lost.", choices), answers.append)
            await pilot.pause()
            await pilot.press(*keys.split())
            await until(pilot, lambda: not isinstance(app.screen, ConfirmScreen))
            assert answers.pop() == expected, f"{keys} of {[choice.answer for choice in choices]}"


async def test_what_was_typed_for_the_screen_below_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who ended a search with Esc and went on typing `l` or `y` had left the form, and all that was set was lost."""
    monkeypatch.setattr("tui.screens.dialogs.GRACE", GRACE)
    answers: list[str | None] = []
    app = BareApp()
    async with app.run_test(size=(80, 24)) as pilot:
        for early, expected in [("y enter", "keep"), ("d escape", "keep"), ("left enter", "keep"), ("d n", "keep")]:
            app.push_screen(ConfirmScreen("sure?", "It is lost.", DELETE), answers.append)
            await pilot.pause()
            typed, answer = early.split()
            app.post_message(pressed(typed, opened(app) + 0.1))
            await pilot.press(answer)
            await until(pilot, lambda: answers)
            assert answers.pop() == expected, early
        question = ConfirmScreen("sure?", "It is lost.", DELETE)
        app.push_screen(question, answers.append)
        await pilot.pause()
        since = opened(app)
        for seconds, stays in [(0.4, True), (0.6, True), (0.8, True), (1.2, False)]:  # one burst, and then a pause
            app.post_message(pressed("y", since + seconds))
            await pilot.pause(0.1)
            assert (app.screen is question) is stays, seconds
            assert not stays or "press it again" in screen_text(app), "a key without any effect says so"
        assert answers == ["delete"]


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (DELETE, ["d/y delete", "Esc/n keep it", "Enter takes the marked answer"]),
        (QUIT, ["s stop", "d detach", "Esc/n stay", "Enter takes the marked answer"]),
        ((CLOSE,), ["Esc close", "Enter closes too"]),
    ],
    ids=["two", "three", "message"],
)
async def test_a_question_names_its_keys(choices: tuple[Choice, ...], said: list[str]) -> None:
    app = BareApp()
    async with app.run_test(size=(80, 24)) as pilot:
        app.push_screen(ConfirmScreen("sure?", "It is lost.", choices))
        await until(pilot, lambda: all(words in screen_text(app) for words in said))
