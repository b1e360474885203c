"""The configuration pane: every setting, what differs from the preset, what was changed since, and what it means."""

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt.configfile import load_config
from minigpt.files import write_atomically
from minigpt.journal import JournalWriter, Row, read_journal
from minigpt.rundir import RunDirectory
from tests.recorded import recorded_run
from tests.training import train
from tests.tui.panes import PaneApp, settled, until
from tui.run.settings_compared import known_settings, preset_of
from tui.widgets.configuration import ConfigurationPane
from tui.widgets.lines import Lines


def configured_run(tmp_path: Path) -> RunDirectory:
    """A run of quickstart, with another width and device, and resumed to train longer."""
    run = recorded_run(tmp_path)
    overrides = {"model.n_embd": "256", "train.max_steps": "5000", "device.type": "cpu", "sample.prompt": "ROMEO:\\n"}
    write_atomically(run.config_file, load_config("quickstart", overrides).to_toml())
    changed = {"train.max_steps": [2500, 5000]}
    append(run, {"event": "started", "step": 2000, "attempt": 3, "resumed_from": 2000, "changed": changed})
    return run


def append(run: RunDirectory, event: Row) -> None:
    journal = JournalWriter(run.events_file)
    journal.append(event)
    journal.close()


def texts(app: PaneApp) -> list[str]:
    return [line.text for line in app.pane.query_one(Lines).lines]


def row(app: PaneApp, key: str) -> str:
    (found,) = [text for text in texts(app) if text.split()[:1] == [key]]
    return " ".join(found.split())


def title(app: PaneApp) -> str:
    return str(app.pane.border_title).strip()


def explained(app: PaneApp) -> str:
    return str(app.pane.query_one("#setting-help", Static).content)


async def compared(pilot: Pilot[Any]) -> None:
    app = pilot.app
    assert isinstance(app, PaneApp)
    await until(pilot, lambda: "differ" in title(app))


@pytest.mark.parametrize(
    ("size", "keys"), [((80, 24), ["slash", *"max_steps"]), ((120, 36), [])], ids=["80x24", "120x36"]
)
def test_picture(snap_compare, tmp_path, size, keys):
    run = configured_run(tmp_path)

    async def search(pilot: Pilot[Any]) -> None:
        await compared(pilot)
        await pilot.press(*keys)
        await settled(pilot)

    assert snap_compare(PaneApp(lambda: ConfigurationPane(run)), terminal_size=size, run_before=search)


async def test_what_differs_is_marked_and_explained(tmp_path: Path) -> None:
    """Guards the marks: by a sign too, not for what `auto` came to, and with the preset named."""
    run = configured_run(tmp_path)
    app = PaneApp(lambda: ConfigurationPane(run))
    async with app.run_test(size=(100, 40)) as pilot:
        await compared(pilot)
        assert title(app) == "configuration · 3 differ from preset quickstart"
        assert row(app, "n_embd") == "n_embd ≠ 256 (preset 128)"
        assert row(app, "max_steps") == "max_steps ≠↻ 5000 (preset 2500, changed on resuming)"
        assert row(app, "type") == 'type "cpu" (from "auto")'
        assert row(app, "prompt").startswith('prompt ≠ "ROMEO:\\n"')
        assert row(app, "n_layer") == "n_layer 4" and row(app, "dropout_attn") == "dropout_attn not set"
        await pilot.press("slash", *"max_steps", "enter")
        await until(pilot, lambda: explained(app).startswith("train.max_steps  Optimizer steps in all"))
        assert "changed on resuming at step 2,000: 2500 → 5000" in explained(app)
        await pilot.press("up")
        await until(pilot, lambda: explained(app).startswith("train.gradient_accumulation_steps"))
        await pilot.press("escape", "home")
        await until(pilot, lambda: explained(app).startswith("run  Which run this is."))
        await pilot.press("f")
        assert [text.split()[0] for text in texts(app) if text] == [
            "[model]",
            "n_embd",
            "[train]",
            "max_steps",
            "[sample]",
            "prompt",
        ]


async def test_it_takes_in_what_changes_while_it_is_shown(tmp_path: Path) -> None:
    """Guards a pane that shows what the run no longer does, as after running out of memory."""
    run = configured_run(tmp_path)
    app = PaneApp(lambda: ConfigurationPane(run))
    async with app.run_test(size=(100, 40)) as pilot:
        await compared(pilot)
        text = run.config_file.read_text()
        write_atomically(
            run.config_file, text.replace("gradient_accumulation_steps = 1", "gradient_accumulation_steps = 2")
        )
        app.pane.look()
        assert row(app, "gradient_accumulation_steps") == "gradient_accumulation_steps ≠ 2 (preset 1)"


async def test_damaged_and_foreign_files_are_shown_as_far_as_they_go(tmp_path: Path) -> None:
    """Guards a crash on a run's own file that somebody has edited, and settings of a later version."""
    run = recorded_run(tmp_path)
    tables = '[train]\nmax_steps = 2024-01-01\nnew_one = [1, "\\u001b"]\n[later]\nx = true\n'
    for content, expected in (
        (tables.encode(), ["max_steps ≠ 2024-01-01 (preset 2500)", "new_one ? [1,"]),
        (b"not toml [", []),
        (b"x" * 2_000_000, []),
        (None, []),
    ):
        run.config_file.unlink(missing_ok=True)
        if content is not None:
            run.config_file.write_bytes(content)
        app = PaneApp(lambda: ConfigurationPane(run))
        async with app.run_test(size=(100, 40)) as pilot:
            await compared(pilot)
            for words in expected:
                assert row(app, words.split()[0]).startswith(words)
            assert bool(texts(app)) == bool(expected)
            assert not any("\x1b" in text for text in texts(app))


def test_the_preset_is_told_by_the_run_itself() -> None:
    """Guards the comparison with the wrong preset: what is recorded counts, then the name, then what it is about."""
    name = "2026-11-20-shakespeare-char-brave-otter"
    assert preset_of(name, {}, {"preset": "quickstart"}) == "quickstart"
    assert preset_of(name, {}, {"preset": "a-file-of-my-own"}) == ""
    assert preset_of(name, {}, {"preset": ["quickstart"]}) == ""
    assert preset_of(name, {}, {}) == "shakespeare-char"
    about = known_settings("quickstart").compared["run.about"]
    assert about and preset_of("mine", {"run.about": about}, {}) == "quickstart"
    assert preset_of("mine", {"run.about": ""}, {}) == ""


def test_a_training_records_what_it_was_made_from(tiny_config: Any) -> None:
    """Guards the name of the preset in the first event, which a resumption does not repeat."""
    run = train(tiny_config)
    started = [event for event in read_journal(run.events_file) if event["event"] == "started"]
    assert started[0]["preset"] and len(started) == 1


def test_every_setting_is_explained() -> None:
    """Guards a setting or section without its help."""
    known = known_settings("")
    assert known.preset == "" and len(known.compared) > 50
    assert all(known.help[key] for key in known.compared)
    assert all(known.help[key.split(".")[0]] for key in known.compared)
