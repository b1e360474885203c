"""The chat pane: asking, streaming, stopping, settings, history. A small model answers, or a made-up one."""

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.containers import VerticalScroll
from textual.events import Key, Paste
from textual.pilot import Pilot
from textual.widgets import Static

from minigpt.config import Config
from minigpt.journal import read_journal
from minigpt.prompt import typed_prompt
from minigpt.rundir import RunDirectory
from minigpt.sampling import Sampling
from minigpt.tokenizer import ByteTokenizer
from tests.recorded import recorded_run
from tests.training import train
from tui.answering import Answer, Transcript
from tui.app import MiniGPTApp
from tui.models import Described, Models
from tui.theme import DARK
from tui.widgets.chat import ChatPane, PromptInput, exchange_text, to_line
from tui.widgets.sampling import SamplingInput, SamplingRow


class PaneApp(App[None]):
    """The pane alone, under the app's styles."""

    CSS_PATH = MiniGPTApp.CSS_PATH
    CSS = "ChatPane { height: 1fr; }"

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.run_directory = run

    def compose(self) -> ComposeResult:
        yield ChatPane(self.run_directory)

    def on_mount(self) -> None:
        self.pane.focus()

    @property
    def pane(self) -> ChatPane:
        return self.query_one(ChatPane)

    @property
    def prompt(self) -> PromptInput:
        return self.query_one(PromptInput)

    @property
    def answers(self) -> list[str]:
        return [str(widget.content) for widget in self.query(".answer").results(Static)]

    @property
    def problem(self) -> str:
        problem = self.query_one("#chat-problem", Static)
        return str(problem.content) if problem.display else ""


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Wait for a thread's doing to reach the screen."""
    for _ in range(1200):
        if condition():
            return
        await pilot.pause(0.02)
    raise AssertionError("it did not happen within 24 s")


async def ask(pilot: Pilot[None], prompt: str) -> None:
    app = pilot.app
    assert isinstance(app, PaneApp)
    app.prompt.value = prompt
    await pilot.press("enter")


@pytest.fixture
def recorded(tmp_path: Path) -> RunDirectory:
    return recorded_run(tmp_path)


class MadeUpModel:
    """Stands for the engine: writes these pieces, waiting before the last until it is released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, pieces: list[str]) -> None:
        self.pieces = pieces
        self.asked: list[tuple[str, object]] = []
        self.opened: list[str] = []
        self.released = threading.Event()
        monkeypatch.setattr(Models, "open", self._open)
        monkeypatch.setattr("minigpt.generate.generate", self._generate)

    def _open(self, run: RunDirectory, which: str) -> tuple[Described, None, ByteTokenizer]:
        self.opened.append(which)
        return Described.read(run, run.checkpoint(which)), None, ByteTokenizer()

    def _generate(
        self, _model: None, _tokenizer: ByteTokenizer, prompt: str, sampling: object, cancelled: Callable[[], bool]
    ) -> Iterator[str]:
        self.asked.append((prompt, sampling))
        yield from self.pieces[:-1]
        while not self.released.wait(0.01):
            if cancelled():
                return
        yield self.pieces[-1]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> MadeUpModel:
    return MadeUpModel(monkeypatch, ["\nThe tide ", "is out,\n", "and the boats are in."])


async def test_a_real_checkpoint_answers_and_names_itself(tiny_config: Config) -> None:
    """Guards the way from the prompt through the engine back to the screen and into chat/."""
    run = train(tiny_config)
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        assert "newest, step 40" in str(app.pane.border_title)
        await ask(pilot, "salt")
        await until(pilot, lambda: bool(app.answers) and len(app.answers[0].splitlines()) > 1)
        await until(pilot, lambda: app.pane._answer is None)
        loss = run.checkpoint("last").info()["val_loss"]
        assert app.answers[0].startswith(f"› salt  step 40 · val {loss:.4f}")

        app.pane.choose(oldest := str(run.checkpoints()[0].step))
        await ask(pilot, "salt")
        await until(pilot, lambda: len(app.answers) == 2 and app.pane._answer is None)
        assert app.answers[1].startswith(f"› salt  step {oldest}")
        assert app.answers[1].splitlines()[1:] != app.answers[0].splitlines()[1:]

    (transcript,) = run.chat_dir.glob("*.jsonl")
    row, other = read_journal(transcript)
    assert row["prompt"] == "salt" and row["step"] == 40 and row["seed"] == 1 and row["top_p"] == 1.0
    assert len(row["text"]) == 200
    assert other["step"] == int(oldest)


async def test_unknown_characters_are_named_and_replaced_or_dropped(tiny_config: Config) -> None:
    """Guards the choice: an accent, an emoji and a Chinese character; what was really asked is kept."""
    run = train(tiny_config)
    app = PaneApp(run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+r", "ctrl+d")  # nothing was refused yet
        for count, (key, asked) in enumerate((("ctrl+r", "salt e  "), ("ctrl+d", "salt "))):
            await ask(pilot, "salt é😀月")
            await until(pilot, lambda: bool(app.problem))
            for name in ("é (U+00E9", "😀 (U+1F600", "月 (U+6708"):
                assert name in app.answers[2 * count]
            assert "--unknown" not in app.answers[2 * count]
            assert app.problem == "Ctrl+R asks with these characters replaced, Ctrl+D without them."
            assert app.prompt.value == "salt é😀月", "a refused prompt can be mended"
            await pilot.press(key)
            await until(pilot, lambda count=count: len(app.answers) == 2 * count + 2 and app.pane._answer is None)  # type: ignore[misc]
            assert app.answers[2 * count + 1].startswith(f"› {asked}  step 40")
            assert not app.problem and not app.prompt.value

        await ask(pilot, "é")
        await until(pilot, lambda: bool(app.problem))
        await pilot.press("left", "ctrl+d")
        await until(pilot, lambda: "the prompt is empty" in app.answers[5])
        await ask(pilot, "saltz")
        await until(pilot, lambda: len(app.answers) == 7 and bool(app.problem))
        await pilot.press("x", "left", "ctrl+d")
        assert app.prompt.value == "saltz" and not app.problem, "once the prompt is changed, ctrl+d deletes again"

    (transcript,) = run.chat_dir.glob("*.jsonl")
    assert [row["prompt"] for row in read_journal(transcript)] == ["salt e  ", "salt "]


async def test_the_checkpoint_that_answers_is_chosen_and_named(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards that the pane's title, the answer and the file that is opened agree, and that one that is gone is told."""
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test(size=(80, 24)) as pilot:
        titles = []
        for which, step in (("last", "2,000"), ("best", "1,000"), ("500", "500")):
            app.pane.choose(which)
            titles.append(str(app.pane.border_title).strip())
            await ask(pilot, "MARLOW:")
            await until(pilot, lambda step=step: f"step {step} ·" in app.answers[-1] and app.pane._answer is None)  # type: ignore[misc]
        assert model.opened == ["last", "best", "500"]
        assert titles == [
            "chat · newest, step 2,000 (val 1.4614)",
            "chat · best, step 1,000 (val 1.2862)",
            "chat · step 500 (val 1.6131)",
        ]
        shutil.rmtree(recorded.checkpoints_dir / "step-00000500")
        app.pane.refresh_checkpoint()
        assert "step 500 is not kept any more" in str(app.pane.border_title)
        await ask(pilot, "MARLOW:")
        await until(pilot, lambda: "has no checkpoint 500; ask for last, best or one of" in app.answers[-1])


async def test_enter_leaves_a_setting_only_when_its_number_is_right(recorded: RunDirectory) -> None:
    """A wrong number led back to the prompt, where nothing could be asked before one had gone back to mend it."""
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        await pilot.press("tab", "x", "enter")
        assert isinstance(app.focused, SamplingInput) and "temperature" in app.problem
        await pilot.press("backspace", "1", "enter")
        assert app.focused is app.prompt and not app.problem


async def test_an_answer_streams_and_escape_stops_it(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards against an answer that is shown only when it is complete, and against one that cannot be stopped."""
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        await ask(pilot, "MARLOW:")
        await until(pilot, lambda: "is out" in app.answers[0])
        await ask(pilot, "another")
        assert "still answering" in app.problem and app.prompt.value == "another"
        await pilot.press("escape")
        await until(pilot, lambda: "(stopped)" in app.answers[0])
        assert "boats" not in app.answers[0]
        assert app.focused is app.prompt
        await pilot.press("escape")
        assert app.focused is None


async def test_the_text_cannot_steer_the_terminal_or_the_markup(
    recorded: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against escape codes and markup that a model wrote."""
    model = MadeUpModel(monkeypatch, ["[bold]x[/] \x1b[2J", "\u202eevil[/nothing]"])
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        await ask(pilot, "[red]a[/]")
        await until(pilot, lambda: bool(app.answers) and "evil" in app.answers[0])
        assert "[bold]x[/] ␛[2J" in app.answers[0]
        assert "\u202e" not in app.answers[0]
        assert "› [red]a[/]" in app.answers[0]


async def test_without_a_checkpoint_the_prompt_is_kept(tmp_path: Path) -> None:
    """Guards against a prompt lost because it was typed too early."""
    run = recorded_run(tmp_path, steps=100, ended="")
    app = PaneApp(run)
    async with app.run_test() as pilot:
        assert "no checkpoint yet" in str(app.pane.border_title)
        await ask(pilot, "MARLOW:")
        assert "No checkpoint yet" in app.problem
        assert app.prompt.value == "MARLOW:"


async def test_a_new_checkpoint_is_named_and_answers(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards against answers of a checkpoint that is not the newest any more."""
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        assert str(app.pane.border_title).strip() == "chat · newest, step 2,000 (val 1.4614)"
        newer = recorded.checkpoints_dir / "step-00002250"
        newer.mkdir()
        (newer / "checkpoint.json").write_text(json.dumps({"step": 2250, "val_loss": None}))
        app.pane.refresh_checkpoint()
        assert str(app.pane.border_title).strip() == "chat · newest, step 2,250"
        await ask(pilot, "MARLOW:")
        await until(pilot, lambda: "boats" in "".join(app.answers))
        assert app.answers[0].startswith("› MARLOW:  step 2,250\nThe tide")


async def test_settings_are_changed_by_keys_and_checked(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards the path from the small inputs to the engine, and against a wrong number that reaches it."""
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        await pilot.press("tab", "up", "up", "tab", "down", "tab", "up", "down", "down")
        assert app.query_one(SamplingRow).sampling() == Sampling(temperature=1.0, top_k=35, top_p=0.9)
        await pilot.press("tab", "0")
        assert app.problem == "length 0: must be a whole number from 1 to 9999"
        await ask(pilot, "MARLOW:")
        await pilot.press("enter")
        assert not model.asked
        field = next(field for field in app.query(SamplingInput) if field.name == "max_new_tokens")
        field.value = "30"
        app.pane.focus()
        await pilot.press("enter")
        await until(pilot, lambda: bool(model.asked))
        prompt, sampling = model.asked[0]
        assert prompt == "MARLOW:"
        assert (sampling.temperature, sampling.top_k, sampling.max_new_tokens, sampling.seed) == (1.0, 35, 30, 1)  # type: ignore[attr-defined]


async def test_history_comes_back_with_the_arrow_keys_and_after_a_restart(
    recorded: RunDirectory, model: MadeUpModel
) -> None:
    """Guards the history, the unfinished line below it, and that it lasts as long as the run."""
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        for number, prompt in enumerate(("one", "two\\n"), 1):
            await ask(pilot, prompt)
            await until(pilot, lambda count=number: len(app.answers) == count and app.pane._answer is None)  # type: ignore[misc]
        await pilot.press(*"thr", "up", "up", "up")
        assert app.prompt.value == "one"
        await pilot.press("down")
        assert app.prompt.value == "two\\n"
        await pilot.press("down", "down")
        assert app.prompt.value == "thr"
    assert [prompt for prompt, _ in model.asked] == ["one", "two\n"]
    again = PaneApp(recorded)
    async with again.run_test() as pilot:
        await pilot.press("up")
        assert again.prompt.value == "two\\n"


async def test_it_follows_the_answer_only_from_the_bottom(
    recorded: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards against a view torn away from a reader who has scrolled back."""
    model = MadeUpModel(monkeypatch, ["line\n" * 60, "the end"])
    app = PaneApp(recorded)
    async with app.run_test(size=(80, 24)) as pilot:
        transcript = app.query_one("#transcript", VerticalScroll)
        await ask(pilot, "a")
        await until(pilot, lambda: transcript.max_scroll_y > 0 and transcript.scroll_y == transcript.max_scroll_y)
        await pilot.press("pageup")
        await pilot.pause()
        place = transcript.scroll_y
        assert place < transcript.max_scroll_y
        model.released.set()
        await until(pilot, lambda: "the end" in app.answers[0])
        await pilot.pause()
        assert transcript.scroll_y == place


async def test_a_read_only_run_still_chats(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards against a transcript that cannot be written taking the answer along."""
    recorded.chat_dir.rmdir()
    recorded.chat_dir.write_text("not a directory")
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        await ask(pilot, "MARLOW:")
        await until(pilot, lambda: bool(app.answers) and "boats" in app.answers[0])


async def test_pasted_lines_stay(recorded: RunDirectory) -> None:
    """Guards against Textual's Input, which keeps the first line of a paste only."""
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        app.prompt.post_message(Paste("ROMEO:\r\nIs the day so\\young?\r"))
        await pilot.pause()
        assert app.prompt.value == "ROMEO:\\nIs the day so\\\\young?"
        app.prompt.value = ""
        app.prompt.post_message(Paste("a\x1b]0;t\x07b"))
        await pilot.pause()
        assert app.prompt.value == "a␛]0;t␇b"


async def test_a_transcript_cannot_steer_the_terminal(recorded: RunDirectory) -> None:
    """Guards against a run from elsewhere: an escape code in its history went to the terminal with the prompt."""
    rows = [{"prompt": "safe\n"}, {"prompt": "\x1b]0;t\x07"}, {"prompt": "\u202e"}]
    (recorded.chat_dir / "1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert Transcript(recorded).earlier_prompts() == ["safe\n"]


def test_of_a_long_transcript_only_the_end_is_read(recorded: RunDirectory) -> None:
    """Guards the opening of the dashboard, which waits for the history."""
    with (recorded.chat_dir / "1.jsonl").open("w") as file:
        for number in range(2000):
            file.write(json.dumps({"prompt": str(number), "text": "x" * 1000}) + "\n")
    prompts = Transcript(recorded).earlier_prompts()
    assert len(prompts) == 100 and prompts[-1] == "1999"


def burst(app: PaneApp, keys: str) -> None:
    """Keys that arrive in one piece, as a slow connection bundles them: nobody waits for one before the next."""
    names = {"\x7f": "backspace", "\r": "enter", "\t": "tab", "<": "left", "^": "home"}
    for key in keys:
        name = names.get(key)
        app.post_message(Key(name or key, None if name else key))


@pytest.mark.parametrize(
    ("keys", "value"), [("xx\x7fyy", "xyy"), ("abc<<X", "aXbc"), ("b^a", "ab"), ("a\x7f\x7f\x7fb", "b")]
)
async def test_keys_in_one_burst_keep_their_order(recorded: RunDirectory, keys: str, value: str) -> None:
    """Textual inserted the letters at once and carried out the other keys only afterwards."""
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        burst(app, keys)
        await pilot.pause(0.05)
        assert app.prompt.value == value


async def test_what_is_typed_behind_enter_is_the_next_prompt(recorded: RunDirectory, model: MadeUpModel) -> None:
    """It was taken for part of the prompt that Enter had sent, and erased with it."""
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        burst(app, "one\rtwo")
        await until(pilot, lambda: [prompt for prompt, _ in model.asked] == ["one"])
        await pilot.pause(0.05)
        assert app.prompt.value == "two"


async def test_a_burst_that_leads_from_field_to_field(recorded: RunDirectory) -> None:
    """Five backspaces and a number gave half of the number; what followed Tab or Enter stayed in the old field."""
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        burst(app, "\t\x7f\x7f\x7f\x7f\x7f1.25\rabc\t\t7")
        await pilot.pause(0.1)
        assert app.query_one(SamplingRow).sampling() == Sampling(temperature=1.25, top_k=7)
        assert app.prompt.value == "abc"


async def test_a_message_outlasts_the_letters_before_it(recorded: RunDirectory, model: MadeUpModel) -> None:
    """In a burst the letters' own events come after the message, which they took away."""
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        await ask(pilot, "one")
        burst(app, "two\r")
        await pilot.pause(0.1)
        assert "still answering" in app.problem and app.prompt.value == "two"
        await pilot.press("x")
        assert not app.problem
    model.released.set()


@pytest.mark.parametrize("text", ["", "a", "a\nb", "a\\nb", "\\", "\\\\n\n"])
def test_a_line_gives_back_the_text(text: str) -> None:
    """Guards against a prompt that changes when it comes back from the history."""
    assert typed_prompt(to_line(text)) == text


def test_an_engine_that_fails_is_a_message(recorded: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a thread that dies without a word."""

    def broken(*_: object) -> None:
        raise RuntimeError("out of memory\nwith details")

    monkeypatch.setattr(Models, "open", broken)
    answer = Answer(recorded, "a", Sampling(), Models(), Transcript(recorded))
    answer.run()
    assert "✗ RuntimeError: out of memory⏎with details" in exchange_text(answer).plain


@pytest.mark.parametrize("size", [(80, 20), (50, 9), (50, 6)], ids=lambda size: "x".join(map(str, size)))
def test_looks(
    snap_compare: Callable[..., bool], recorded: RunDirectory, model: MadeUpModel, size: tuple[int, int]
) -> None:
    """Guards the layout as a tab, as a pane at 120x36 and in the least room."""
    model.released.set()

    async def chat(pilot: Pilot[None]) -> None:
        app = pilot.app
        assert isinstance(app, PaneApp)
        await ask(pilot, "MARLOW:\\n")
        await until(pilot, lambda: bool(app.answers) and "boats" in app.answers[0])
        await ask(pilot, "")
        await until(pilot, lambda: len(app.answers) == 2 and app.pane._answer is None)
        await asyncio.sleep(0.1)
        await pilot.pause()

    assert snap_compare(PaneApp(recorded), terminal_size=size, run_before=chat)
