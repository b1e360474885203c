"""The launch screen: settings typed, checked and explained, what the training takes, and how it begins."""

import shlex
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from textual import events
from textual.pilot import Pilot
from textual.screen import Screen

from minigpt.config import Config
from minigpt.configfile import keys, load_config
from minigpt.device import Device
from minigpt.options import parse_overrides
from tests.training import write_corpus
from tests.tui.panes import settled, until
from tui import styles
from tui.app import MiniGPTApp
from tui.launch.outlook import Outlooks, duration_of, in_short, in_words
from tui.launch.step_meter import Measured, StepMeter, question_of
from tui.screens.choose import ChooseScreen, OptionRows
from tui.screens.files import FilesScreen
from tui.screens.home import HomeScreen
from tui.screens.launch import LaunchScreen
from tui.widgets.setting_form import SettingForm

GIB = 1 << 30


class SteadyMeter:
    """Says at once that a step takes 72 ms."""

    asked: ClassVar[list[str]] = []

    def __init__(self, report: Callable[[str, Measured | str], object]) -> None:
        self._report = report

    def ask(self, question: str) -> None:
        SteadyMeter.asked.append(question)
        self._report(question, Measured(0.072))

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that is the same everywhere: a CPU with 16 GiB, no corpus downloaded, a step of 72 ms."""
    SteadyMeter.asked = []
    monkeypatch.setattr("tui.screens.launch.StepMeter", SteadyMeter)
    monkeypatch.setattr("tui.screens.launch.METER_DELAY", 0.01)
    monkeypatch.setattr("tui.screens.launch.CHECK_DELAY", 0.01)
    monkeypatch.setattr("tui.launch.outlook.choose_device", lambda config: Device("cpu", "x86_64", "float32"))
    monkeypatch.setattr("tui.launch.outlook._capacity", lambda device: 16 * GIB)
    monkeypatch.setattr("minigpt.known_files.cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(HomeScreen, "_count_parameters", lambda _: None)
    monkeypatch.delenv("MINIGPT_DATA_DIR", raising=False)


class Launching(MiniGPTApp):
    """Opens the screen at once and notes how it was left."""

    CSS_PATH = styles.ALL

    def __init__(self, preset: str | None = "quickstart") -> None:
        super().__init__()
        self.preset = preset
        self.answers: list[object] = []
        self.copied = ""

    def get_default_screen(self) -> Screen[None]:
        return Screen()

    def on_mount(self) -> None:
        self.push_screen(LaunchScreen(self.preset), self.answers.append)

    def copy_to_clipboard(self, text: str) -> None:
        self.copied = text


def launch(app: MiniGPTApp) -> LaunchScreen:
    screen = next(screen for screen in app.screen_stack if isinstance(screen, LaunchScreen))
    return screen


def said(app: MiniGPTApp, part: str) -> str:
    """What a part of the screen says: help, outlook, command or title."""
    content = launch(app)._said.get(f"launch-{part}", "")
    if isinstance(content, list):
        return "\n".join(f"{name}: {words}" for name, words in content)
    return str(content)


def row(app: MiniGPTApp, key: str) -> list[str]:
    rows = launch(app).query_one(SettingForm).listing.rows
    return next([cell.text for cell in row.cells] for row in rows if row.key == key)


async def ready(pilot: Pilot[Any]) -> None:
    """Wait until the form is filled, and all that is worked out is there."""
    await until(pilot, lambda: "steps of 72 ms" in said(pilot.app, "outlook"))  # type: ignore[arg-type]


async def find(pilot: Pilot[Any], name: str) -> None:
    """Put the cursor on the one setting that has that in its name."""
    await pilot.press("escape") if launch(pilot.app).query_one(SettingForm).listing.search else None  # type: ignore[arg-type]
    await pilot.press(*name)
    await until(pilot, lambda: launch(pilot.app).query_one(SettingForm).listing.chosen.count(name))  # type: ignore[arg-type]


async def test_start_returns_preset_and_overrides() -> None:
    """The whole way by keyboard: search, type, choose, start; as the command line would have it."""
    app = Launching()
    async with app.run_test() as pilot:
        await ready(pilot)
        await find(pilot, "max_steps")
        await pilot.press("enter", *["backspace"] * 4, *"500", "enter")
        await find(pilot, "activation")
        await pilot.press("right", "right")
        await until(pilot, lambda: "--train.max-steps 500" in said(app, "command") and "relu" in said(app, "command"))
        assert "500 steps of 72 ms" in said(app, "outlook")
        await pilot.press("f5")
        await until(pilot, lambda: app.answers)
        assert app.answers == [("quickstart", {"model.activation": "relu", "train.max_steps": "500"})]


async def test_a_bad_value_is_said_at_once_and_nothing_starts() -> None:
    """The problem stands beside its field while it is typed; F5 leads to it from anywhere; mended, it starts."""
    app = Launching()
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        await find(pilot, "min_lr")
        await pilot.press(*"5.x")
        await until(pilot, lambda: row(app, "train.min_lr")[3] == "must be a number")
        assert row(app, "train.min_lr")[:3] == ["✗", "min_lr", "5.x"]
        assert "✗ must be a number" in said(app, "help") and "✗ train.min_lr" in said(app, "outlook")
        await pilot.press("backspace", "backspace", "enter")
        await until(pilot, lambda: "must not exceed learning_rate" in row(app, "train.min_lr")[3])
        await pilot.press("escape", "home", "f5")
        form = app.screen.query_one(SettingForm)
        await until(pilot, lambda: form.listing.chosen == "train.min_lr")
        assert not app.answers
        await pilot.press("delete")
        await until(pilot, lambda: row(app, "train.min_lr") == ["", "min_lr", "0.0002", ""])
        await pilot.press("ctrl+s")
        await until(pilot, lambda: app.answers)
        assert app.answers == [("quickstart", {})]


async def test_every_field_has_a_row_and_its_help() -> None:
    """Generated from the configuration: a new setting appears by itself, with its docstring as help."""
    app = Launching()
    async with app.run_test() as pilot:
        await ready(pilot)
        form = app.screen.query_one(SettingForm)
        assert {row.key for row in form.listing.rows if row.key} == {"preset"} | {key for key, _ in keys()}
        for key, described in keys():
            form.go_to(key)
            launch(app)._show_help()
            assert key in said(app, "help") and " ".join((described.description or "").split()) in said(app, "help")


async def test_escape_takes_back_what_was_typed() -> None:
    """In the editor it leaves the setting as it was; a search it ends; only then it leaves, and asks."""
    app = Launching()
    async with app.run_test() as pilot:
        await ready(pilot)
        await find(pilot, "warmup")
        await pilot.press(*"77", "escape")
        form = app.screen.query_one(SettingForm)
        assert form.touched == {} and row(app, "train.warmup_steps")[2] == "100"
        await pilot.press(*"50", "down", "up", *"6", "escape")
        assert form.touched == {"train.warmup_steps": "50"}
        await pilot.press("escape")
        assert not form.listing.search and app.screen is launch(app)
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not launch(app))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is launch(app))
        await pilot.press("escape", "l")
        await until(pilot, lambda: app.answers == [None])


async def test_what_differs_is_marked_and_reset() -> None:
    """By a dot and the preset's value beside it; Delete and Ctrl+R take it back."""
    app = Launching()
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        await find(pilot, "n_embd")
        await pilot.press(*"256", "enter")
        await until(pilot, lambda: row(app, "model.n_embd") == ["•", "n_embd", "256", "preset: 128"])
        await ready(pilot)
        assert "3,199,488" in said(app, "outlook"), "parameters"
        await pilot.press("ctrl+r")
        await until(pilot, lambda: row(app, "model.n_embd") == ["", "n_embd", "128", ""])
        assert said(app, "command").endswith("minigpt-tui quickstart")


async def test_keys_that_come_in_one_burst() -> None:
    """A slow connection bundles them: what is typed behind an Enter goes into the editor that it opens."""
    app = Launching()
    async with app.run_test() as pilot:
        await ready(pilot)
        form = app.screen.query_one(SettingForm)
        for key in [*"n_head", "enter", "backspace", *"8", "down", "end", "backspace", *"7", "enter"]:
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        await until(pilot, lambda: form.touched == {"model.n_head": "7"} and form.listing.search == "n_hea")


async def test_a_text_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the corpus's row to the file picker and back: path, tokens, and the vocabulary that is counted from it."""
    folder = tmp_path / "my texts"
    folder.mkdir()
    text = write_corpus(folder / "letters.txt")
    monkeypatch.chdir(folder)
    app = Launching()
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press(*"own", "enter")
        await until(pilot, lambda: isinstance(app.screen, FilesScreen) and app.screen._preview is not None)
        await pilot.press("enter")
        await until(pilot, lambda: str(text) in said(app, "command"))
        characters = len(text.read_text())
        await until(pilot, lambda: row(app, "data.corpus")[3] == f"{characters:,} tokens")
        assert f"{len(set(text.read_text()))} tokens in the vocabulary" in said(app, "outlook")
        await pilot.press("f5")
        await until(pilot, lambda: app.answers)
        assert app.answers == [("quickstart", {"data.corpus": str(text)})]


async def test_a_text_that_is_not_there_or_too_short(tmp_path: Path) -> None:
    """It was refused only after the start. A pattern can be typed, and leads to the same message."""
    (tmp_path / "short.txt").write_text("too short")
    app = Launching()
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        form = app.screen.query_one(SettingForm)
        form.set("data.corpus", str(tmp_path / "none.txt"))
        await until(pilot, lambda: "no such text file" in row(app, "data.corpus")[3])
        await pilot.press("f5")
        await until(pilot, lambda: form.listing.chosen == "data.corpus")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press(*"pattern", "enter")
        await until(pilot, lambda: form.editor.has_focus)
        form.editor.value = str(tmp_path / "*.txt")
        await until(pilot, lambda: "too short" in row(app, "data.corpus")[3])
        assert not app.answers


async def test_a_typed_path_takes_the_place_of_the_text_there(tmp_path: Path) -> None:
    """It was put behind the old value, in a field of 20 cells, and of what was typed its middle was left out."""
    path = tmp_path / "a folder with texts" / "nope.txt"
    app = Launching()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        form = app.screen.query_one(SettingForm)
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press(*"pattern", "enter")
        await until(pilot, lambda: form.editor.has_focus)
        assert form.editor.region.right >= form.listing.region.right - 1  # a scroll bar
        for character in str(path):
            app.post_message(events.Key(character, character))
        await until(pilot, lambda: form.touched == {"data.corpus": str(path)})
        await pilot.press("enter")
        form.set("data.corpus", "x" * 500 + "/nope.txt")
        await settled(pilot)
        (line,) = [strip.text for strip in app.screen._compositor.render_strips() if "…xx" in strip.text]
        assert "corpus" in line and "xx/nope.txt" in line


@pytest.mark.parametrize("typed", ["/tmp/nu/Ow", "~/te", "texts/*", "nowhere.txt"])
@pytest.mark.parametrize("pasted", [False, True])
async def test_a_path_typed_into_the_list_of_texts(typed: str, pasted: bool) -> None:
    """The list was empty but for "nothing has that in it", and the path had to be typed again elsewhere.

    Pasted it was passed over.
    """
    app = Launching()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        form = app.screen.query_one(SettingForm)
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        if pasted:
            app.post_message(events.Paste(f"'{typed}'\n"))  # as a terminal puts in what is dropped on it
            await until(pilot, lambda: app.screen.query_one(OptionRows).search)
        else:
            await pilot.press(*typed)
        (offered,) = app.screen.query_one(OptionRows).rows
        assert [cell.text for cell in offered.cells] == ["a path or pattern …", "", typed]
        await pilot.press("enter")
        await until(pilot, lambda: form.editor.has_focus)
        assert form.editor.value == typed and form.touched == {"data.corpus": typed}
        await pilot.press("escape")
        await until(pilot, lambda: not form.touched)


async def test_a_search_is_ended_as_the_key_line_says() -> None:
    """Nothing said how a search is taken back; Ctrl+U does it as in a shell."""
    app = Launching()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        listing = app.screen.query_one(SettingForm).listing
        keys = app.screen.query_one("#key-line")
        assert "esc back" in str(keys.content)
        for key in ("ctrl+u", "escape"):
            await pilot.press(*"seed")
            await until(pilot, lambda: "esc end search" in str(keys.content))
            await pilot.press(key)
            await until(pilot, lambda: "end search" not in str(keys.content))
            assert listing.search == "" and not app.answers


async def test_presets_are_gone_through_and_chosen() -> None:
    """With the arrow keys, or from the list of them; what was set stays."""
    app = Launching(None)
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        app.screen.query_one(SettingForm).set("sample.seed", "9")
        await pilot.press("right")
        await until(pilot, lambda: "minigpt-tui gpt-mini --sample.seed 9" in said(app, "command"))
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ChooseScreen))
        await pilot.press(*"laptop", "enter")
        await until(pilot, lambda: "minigpt-tui laptop-8gb --sample.seed 9" in said(app, "command"))
        # Its text is not here, so its length in epochs is not known; the length in time is.
        await until(pilot, lambda: "known once tinyshakespeare is downloaded" in said(app, "outlook"))
        assert "1.1 MB to download" in row(app, "data.corpus")


async def test_the_command_line_is_copied() -> None:
    app = Launching()
    async with app.run_test() as pilot:
        await ready(pilot)
        form = app.screen.query_one(SettingForm)
        form.set("sample.prompt", "it's -h $HOME")
        await until(pilot, lambda: "--sample.prompt" in said(app, "command"))
        form.set("run.about", "a long story " * 30)
        await until(pilot, lambda: said(app, "command").endswith("… (^y)"))
        await pilot.press("ctrl+y")
        _, target, *options = shlex.split(app.copied)
        assert load_config(target, parse_overrides(options)).sample.prompt == "it's -h $HOME"
        assert any("copied" in toast.message for toast in app._notifications)


async def test_a_file_that_cannot_be_read_is_said_and_another_preset_opens(tmp_path: Path) -> None:
    """A TOML file of one's own may be the beginning; a broken one must not leave an empty screen."""
    path = tmp_path / "[bold]broken.toml"
    path.write_text("[train\n")
    app = Launching(str(path))
    async with app.run_test() as pilot:
        await ready(pilot)
        assert any("is not valid TOML" in toast.message for toast in app._notifications)
        assert said(app, "command").endswith("minigpt-tui quickstart")


async def test_hostile_values_are_shown_inert(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[run]\nabout = "\\u001b[31mred [bold]"\n[sample]\nprompt = "\\u202e\\u001b]0;x"\n')
    app = Launching(str(path))
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        await find(pilot, "prompt")
        await pilot.press("enter", "end", "x")
        await pilot.pause()
        text = "".join(strip.text for strip in app.screen._compositor.render_strips())
        assert "\x1b" not in text and "\u202e" not in text


async def test_no_step_is_measured_beside_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would slow the training down, and be wrong itself."""
    monkeypatch.setattr(Launching, "training", True)
    app = Launching()
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "not measured while this window trains" in said(app, "outlook"))
        await pilot.pause(0.1)
        assert not SteadyMeter.asked


async def test_a_training_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU the start would be refused: said at the setting that helps."""
    monkeypatch.setattr("tui.launch.outlook._capacity", lambda device: GIB)
    app = Launching("shakespeare-char")
    async with app.run_test(size=(120, 36)) as pilot:
        await until(pilot, lambda: "would do" in said(app, "outlook"))
        key = "train.gradient_accumulation_steps"
        assert row(app, key)[0] == "✗"
        pieces = row(app, key)[3].split(": ")[1].split()[0]
        app.screen.query_one(SettingForm).set(key, pieces)
        await ready(pilot)
        app.screen.query_one(SettingForm).set("model.n_embd", "12000")
        await until(pilot, lambda: "take a smaller model" in said(app, "outlook"))


async def test_the_mouse_does_it_too() -> None:
    app = Launching()
    async with app.run_test(size=(120, 36)) as pilot:
        await ready(pilot)
        await pilot.click("#setting-list", offset=(40, 3))
        await pilot.click("#setting-list", offset=(40, 3))
        await until(pilot, lambda: app.screen.query_one(SettingForm).touched == {"data.tokenizer": "byte"})
        await pilot.click("#launch-start")
        await until(pilot, lambda: app.answers)
        assert app.answers == [("quickstart", {"data.tokenizer": "byte"})]


# ── what it takes ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_corpus_is_read_once(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte was read again for each digit that was typed."""
    from minigpt.split_sizes import split_sizes

    outlooks = Outlooks()
    for tokenizer in ("char", "byte", "bpe"):
        data = tiny_config.data.model_copy(update={"tokenizer": tokenizer, "bpe_vocab_size": 300})
        config = tiny_config.model_copy(update={"data": data})
        assert outlooks.look(config).sizes == split_sizes(config)[0], "the same as `minigpt estimate` says"
    monkeypatch.setattr("minigpt.corpus.Corpus.pieces", None)
    assert outlooks.look(tiny_config).parameters


def test_reading_ends_when_it_is_not_wanted(tmp_path: Path, tiny_config: Config) -> None:
    """What the progress raises comes through, and nothing is remembered of half a reading."""

    class EnoughError(Exception):
        pass

    def enough(words: str) -> None:
        raise EnoughError

    outlooks = Outlooks()
    with pytest.raises(EnoughError):
        outlooks.look(tiny_config, enough)
    assert outlooks.look(tiny_config).sizes is not None


def test_time_in_words(tiny_config: Config) -> None:
    """Whichever limit comes first, and what is not known is not claimed."""
    config = load_config("quickstart", {"train.max_steps": "100000", "train.max_minutes": "30"})
    outlook = Outlooks().look(config)
    took = duration_of(outlook, 0.072)
    assert took.steps == pytest.approx(25_000) and took.seconds == pytest.approx(1800)
    assert in_words(outlook, Measured(0.072))[-1][1].startswith("about 30 min: 25,000 steps of 72 ms")
    away = Outlooks().look(load_config("quickstart", {"data.corpus": "tinyshakespeare", "train.max_epochs": "2"}))
    assert away.missing == "tinyshakespeare" and away.parameters
    assert "once tinyshakespeare is downloaded" in in_short(away, Measured(0.072))[1]
    assert in_short(outlook, "measuring a step …")[1].endswith("measuring a step …")


def test_a_step_is_measured_in_another_process(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one: a question is answered, the next ends the one before, and closing ends the process."""
    answered: list[tuple[str, Measured | str]] = []
    done = threading.Event()

    def report(question: str, measured: Measured | str) -> None:
        answered.append((question, measured))
        done.set()

    meter = StepMeter(report)
    forgotten, wanted = question_of(tiny_config, 50), question_of(tiny_config, 60)
    meter.ask(forgotten)
    meter.ask(wanted)
    assert done.wait(120)
    assert [question for question, _ in answered] == [wanted]
    measured = answered[0][1]
    assert isinstance(measured, Measured) and 0 < measured.seconds < 10
    process = meter._process
    assert process is not None
    meter.close()
    process.wait(20)


def test_why_a_step_is_not_measured(tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies, for want of memory for example, is no measurement, and no hanging screen."""
    monkeypatch.setattr("sys.executable", "/bin/false")
    answered: list[Measured | str] = []
    done = threading.Event()
    meter = StepMeter(lambda _, measured: (answered.append(measured), done.set()))
    meter.ask(question_of(tiny_config, 50))
    assert done.wait(20)
    assert str(answered[0]).startswith("not measured: its process has ended")
    meter.close()


# ── looks ─────────────────────────────────────────────────────────────────────────────────────────────────────────

SIZES = pytest.mark.parametrize("size", [(80, 24), (120, 36)], ids=lambda size: "x".join(map(str, size)))


@SIZES
def test_looks(snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    """Guards the layout: nothing clipped at 80 columns, what differs marked, the estimate of a steady machine."""

    async def set_some(pilot: Pilot[Any]) -> None:
        await ready(pilot)
        await find(pilot, "n_embd")
        await pilot.press(*"192", "enter", "escape")
        await until(pilot, lambda: "192" in said(pilot.app, "command"))  # type: ignore[arg-type]
        await ready(pilot)
        await settled(pilot)

    assert snap_compare(Launching(), terminal_size=size, run_before=set_some)


@SIZES
def test_looks_with_a_problem(snap_compare: Callable[..., bool], size: tuple[int, int]) -> None:
    """Guards the message beside the value that is being typed, and in full in the help."""

    async def go_wrong(pilot: Pilot[Any]) -> None:
        await ready(pilot)
        for _ in range(8):
            await pilot.press("down")
        await pilot.press(*"130")
        await until(pilot, lambda: "must be a multiple" in said(pilot.app, "help"))  # type: ignore[arg-type]
        await settled(pilot)

    assert snap_compare(Launching(), terminal_size=size, run_before=go_wrong)


def test_looks_choosing_the_text(snap_compare: Callable[..., bool]) -> None:
    """Guards the list of corpora: what is here and what would be downloaded."""

    async def choose(pilot: Pilot[Any]) -> None:
        await ready(pilot)
        await pilot.press("down", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ChooseScreen))
        await settled(pilot)

    assert snap_compare(Launching(), terminal_size=(80, 24), run_before=choose)
