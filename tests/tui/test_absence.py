"""After an absence: what happened to a run since its dashboard was left, and when that is said."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from textual.widgets import Static

from minigpt.journal import JournalWriter
from minigpt.rundir import RunDirectory
from tests.recorded import BEGAN, losses_at, recorded_run
from tests.tui.panes import until
from tui.app import MiniGPTApp
from tui.run.absence import SHORTEST, Seen, last_seen, remember, seen_file, since_then
from tui.run.following import Following
from tui.screens.home import HomeScreen

HOUR = 3600.0


@pytest.fixture(autouse=True)
def no_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is about the presets' parameters."""
    monkeypatch.setattr(HomeScreen, "_count_parameters", lambda _: None)


def followed(run: RunDirectory) -> Following:
    following = Following(run)
    following.poll()
    return following


def append(run: RunDirectory, *events: dict[str, Any]) -> None:
    journal = JournalWriter(run.events_file)
    for event in events:
        journal.append({"time": BEGAN, "step": 1000, "attempt": 1, **event})
    journal.close()


def grow(run: RunDirectory, step: int, **row: Any) -> None:
    journal = JournalWriter(run.metrics_file)
    journal.append({"step": step, "attempt": 1, **row})
    journal.close()


def look_back(run: RunDirectory, now: float = BEGAN + 8 * HOUR) -> str:
    return since_then(last_seen(run), followed(run), now)


# ── what is said ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_night_in_one_sentence(tmp_path: Path) -> None:
    run = recorded_run(tmp_path, ended="", steps=1000)
    append(run, {"event": "notice", "kind": "spike"})  # seen before it was left
    remember(followed(run), BEGAN)
    append(
        run,
        {"event": "paused", "time": BEGAN + 60},
        {"event": "notice", "kind": "disk", "time": BEGAN + 90},
        {"event": "continued", "time": BEGAN + 60 + 12 * 60},
        {"event": "notice", "kind": "spike"},
        {"event": "notice", "kind": "stall"},
        {"event": "recovered", "resumed_from": 1000, "attempt": 2},
        {"event": "recovered", "resumed_from": 1000, "attempt": 3},
        {"event": "handing_over", "attempt": 3},
        {"event": "started", "resumed_from": 1200, "attempt": 4},
        {"event": "started", "resumed_from": 1200, "attempt": 5},
    )
    grow(run, 4250, val_loss=0.4921, attempt=5)
    append(run, {"event": "finished", "step": 5000, "attempt": 5})
    assert look_back(run) == (
        f"Since you looked 8 h ago: step 1,000 → 5,000, finished; val loss {losses_at(1000)[1]:.4f} → 0.4921 "
        "(best at 4,250); 1 trouble with the disk, 1 loss spike, 1 stall, 2 recoveries, 1 resumption, paused 12 min."
    )


def test_what_did_not_change_is_no_news(tmp_path: Path) -> None:
    run = recorded_run(tmp_path, ended="", steps=1000)
    assert look_back(run) == ""  # never looked at
    remember(followed(run), BEGAN)
    assert look_back(run) == ""
    grow(run, 1010)
    assert look_back(run, BEGAN + SHORTEST - 1) == ""
    loss = losses_at(1000)[1]
    with run.locked():
        assert (
            look_back(run, BEGAN + 120)
            == f"Since you looked 2 min ago: step 1,000 → 1,010; best val loss still {loss:.4f} at 1,000."
        )


def test_a_run_that_is_paused_still(tmp_path: Path) -> None:
    run = recorded_run(tmp_path, ended="", steps=1000)
    append(run, {"event": "paused", "time": BEGAN - HOUR})
    with run.locked():
        remember(followed(run), BEGAN)
        assert look_back(run) == ""
        append(run, {"event": "notice", "kind": "disk"})
        assert "paused; best val loss" in look_back(run) and look_back(run).endswith("paused 8 h.")


def test_another_run_in_its_place_is_another_run(tmp_path: Path) -> None:
    """A run that was deleted and begun again under its name had gone backwards."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    remember(followed(run), BEGAN)
    run.events_file.unlink()
    append(run, {"event": "started"})
    assert look_back(run) == ""


# ── what is kept ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_so_many_runs_are_remembered_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.run.absence._MOST_RUNS", 3)
    for number in range(5):
        remember(followed(recorded_run(tmp_path / f"r{number}\udcff", ended="", steps=10)), BEGAN + number)
    assert len(json.loads(seen_file().read_text())["runs"]) == 3
    assert seen_file().stat().st_mode & 0o077 == 0 or seen_file().parent.stat().st_mode & 0o077 == 0


def test_no_place_to_write_is_no_trouble(tmp_path: Path, state_dir: Path) -> None:
    run = recorded_run(tmp_path, ended="", steps=10)
    state_dir.write_text("a file in its way")
    remember(followed(run), BEGAN)
    assert last_seen(run) is None
    assert look_back(run) == ""


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_FIELDS = st.dictionaries(st.sampled_from(["time", "step", "events", "best_step", "best_loss"]), _JSON)


@given(_JSON | _FIELDS.map(lambda row: {"runs": {"here": row}}), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anything_in_the_file_is_no_end_of_the_screen(tmp_path: Path, content: Any, torn: bool) -> None:
    run = RunDirectory(tmp_path / "here")
    seen_file().parent.mkdir(parents=True, exist_ok=True)
    seen_file().write_text(json.dumps(content).replace('"here"', json.dumps(str(run.path)))[: 20 if torn else None])
    seen = last_seen(run)
    following = Following(run)
    assert isinstance(since_then(seen, following, BEGAN), str)
    assert isinstance(since_then(Seen(0.0, 5, 0, seen.best if seen else None), following, BEGAN), str)


# ── on the screen ─────────────────────────────────────────────────────────────────────────────────────────────────


def notice(app: MiniGPTApp) -> str:
    return "".join(str(widget.content) for widget in app.screen.query("#notice").results(Static))


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_it_is_told_when_the_run_is_opened_again(tmp_path: Path, size: tuple[int, int]) -> None:
    """In the notice's own lines, so that it covers neither charts nor chat; Esc takes it away, the next one leads home."""
    run = recorded_run(tmp_path, ended="", steps=1000)
    app = MiniGPTApp()
    with run.locked():
        async with app.run_test(size=size) as pilot:
            app.open_run(run)
            await pilot.pause()
            await pilot.press("escape")
            assert isinstance(app.screen, HomeScreen)
            assert (seen := last_seen(run)) is not None and seen.step == 1000
            content = json.loads(seen_file().read_text())
            content["runs"][str(run.path)]["time"] -= 8 * HOUR
            seen_file().write_text(json.dumps(content))
            grow(run, 1200)
            app.open_run(run)
            await until(pilot, lambda: notice(app).startswith("Since you looked 8 h ago: step 1,000 → 1,200"))
            shown = app.screen.query_one("#notice").region
            assert not any(shown.overlaps(pane.region) for pane in app.screen.query("#body, #tabs, #progress"))
            await pilot.press("escape")
            assert notice(app) == ""
            await pilot.press("escape")
            assert isinstance(app.screen, HomeScreen)


async def test_it_goes_with_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.screens.dashboard.ABSENCE_SHOWN", 1.5)
    run = recorded_run(tmp_path, ended="", steps=1000)
    remember(followed(run), BEGAN)
    grow(run, 1200)
    app = MiniGPTApp()
    with run.locked():
        async with app.run_test() as pilot:
            app.open_run(run)
            await until(pilot, lambda: "Since you looked" in notice(app))
            await until(pilot, lambda: notice(app) == "")


async def test_leaving_the_program_counts_as_leaving_the_run(tmp_path: Path) -> None:
    """A hangup ends the screen, too, and it is then that somebody will want to know."""
    run = recorded_run(tmp_path)
    app = MiniGPTApp()
    async with app.run_test() as pilot:
        app.open_run(run)
        await pilot.pause()
        app.exit()
    assert (seen := last_seen(run)) is not None and seen.step == 2000
    assert [path.name for path in seen_file().parent.iterdir()] == ["seen.json"]
