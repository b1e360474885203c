"""The chat pane: asking, streaming, stopping, settings, history. A small model answers, or a made-up one."""

import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.containers import VerticalScroll
from textual.events import Key, Paste
from textual.pilot import Pilot
from textual.widget import Widget
from textual.widgets import Static

from minigpt.config import Config
from minigpt.inert import inert_pane
from minigpt.journal import Row, read_journal
from minigpt.rundir import RunDirectory
from minigpt.sampling import Sampling
from minigpt.tokenizer import ByteTokenizer
from tests.recorded import recorded_run
from tests.training import train
from tests.tui import panes
from tests.tui.panes import BareApp, settled, until
from tui.asking.answering import Answer
from tui.asking.models import Described, Models
from tui.asking.transcript import LONGEST_TEXT, Transcript
from tui.widgets.chat import ChatPane
from tui.widgets.exchange import earlier_text, exchange_text
from tui.widgets.notes import NotesField
from tui.widgets.panes import RunPanes
from tui.widgets.prompt import PromptField
from tui.widgets.sampling import SamplingInput, SamplingRow


class PaneApp(panes.PaneApp):
    """The chat alone."""

    def __init__(self, run: RunDirectory) -> None:
        super().__init__(lambda: ChatPane(run))

    @property
    def chat(self) -> ChatPane:
        return self.query_one(ChatPane)

    @property
    def prompt(self) -> PromptField:
        return self.query_one(PromptField)

    @property
    def answers(self) -> list[str]:
        return [str(widget.content) for widget in self.query(".answer").results(Static)]

    @property
    def problem(self) -> str:
        problem = self.query_one("#chat-problem", Static)
        return str(problem.content) if problem.display else ""


async def answered(pilot: Pilot[None], count: int = 1) -> None:
    """Wait until so many answers stand there, and none is being given."""
    app = pilot.app
    assert isinstance(app, PaneApp)
    await until(pilot, lambda: len(app.answers) == count and app.chat._answer is None)


async def ask(pilot: Pilot[None], prompt: str) -> None:
    app = pilot.app
    assert isinstance(app, PaneApp)
    app.prompt.put(prompt)
    await pilot.press("enter")


def write_checkpoint(run: RunDirectory, step: int) -> None:
    directory = run.checkpoints_dir / f"step-{step:08d}"
    directory.mkdir(parents=True)
    (directory / "checkpoint.json").write_text(json.dumps({"step": step, "val_loss": None}))


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
        monkeypatch.setattr(Answer, "tokens_per_second", 412.0)  # the same on each machine
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
        assert "newest, step 40" in str(app.chat.border_title)
        await ask(pilot, "salt")
        await until(pilot, lambda: bool(app.answers) and len(app.answers[0].splitlines()) > 1)
        await until(pilot, lambda: app.chat._answer is None)
        loss = run.checkpoint("last").info()["val_loss"]
        assert re.fullmatch(rf"step 40 · val {loss:.4f} · seed 1 · [\d.]+k? tok/s", app.answers[0].splitlines()[0])
        assert app.answers[0].splitlines()[1].startswith("› salt")

        app.chat.choose(oldest := str(run.checkpoints()[0].step))
        await ask(pilot, "salt")
        await until(pilot, lambda: len(app.answers) == 2 and app.chat._answer is None)
        assert app.answers[1].startswith(f"step {oldest} ·")
        assert app.answers[1].splitlines()[1:] != app.answers[0].splitlines()[1:]

    (transcript,) = run.chat_dir.glob("*.jsonl")
    row, other = read_journal(transcript)
    assert row["prompt"] == "salt" and row["step"] == 40 and row["seed"] == 1 and row["top_p"] == 1.0
    assert len(row["text"]) == 200 and row["tokens"] == 200 and row["seconds"] > 0
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
            assert app.prompt.text == "salt é😀月", "a refused prompt can be mended"
            await pilot.press(key)
            await until(pilot, lambda count=count: len(app.answers) == 2 * count + 2 and app.chat._answer is None)  # type: ignore[misc]
            heading, text = app.answers[2 * count + 1].split("\n", 1)
            assert heading.startswith("step 40 ·") and text.startswith(f"› {asked}")
            assert ("replaced" if key == "ctrl+r" else "left out") in heading
            assert not app.problem and not app.prompt.text

        await ask(pilot, "é")
        await until(pilot, lambda: bool(app.problem))
        await pilot.press("left", "ctrl+d")
        await until(pilot, lambda: "the prompt is empty" in app.answers[5])
        await ask(pilot, "saltz")
        await until(pilot, lambda: len(app.answers) == 7 and bool(app.problem))
        await pilot.press("x", "left", "ctrl+d")
        assert app.prompt.text == "saltz" and not app.problem, "once the prompt is changed, ctrl+d deletes again"

    (transcript,) = run.chat_dir.glob("*.jsonl")
    assert [row["prompt"] for row in read_journal(transcript)] == ["salt e  ", "salt "]


async def test_the_checkpoint_that_answers_is_chosen_and_named(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards that the pane's title, the answer and the file that is opened agree, and that one that is gone is told."""
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test(size=(80, 24)) as pilot:
        titles = []
        for which, step in (("last", "2,000"), ("best", "1,000"), ("500", "500")):
            app.chat.choose(which)
            titles.append(str(app.chat.border_title).strip())
            await ask(pilot, "MARLOW:")
            await until(pilot, lambda step=step: f"step {step} ·" in app.answers[-1] and app.chat._answer is None)  # type: ignore[misc]
        assert model.opened == ["last", "best", "500"]
        assert titles == [
            "chat · newest, step 2,000 (val 1.4614)",
            "chat · best, step 1,000 (val 1.2862)",
            "chat · step 500 (val 1.6131)",
        ]
        shutil.rmtree(recorded.checkpoints_dir / "step-00000500")
        app.chat.refresh_checkpoint()
        assert "step 500 is not kept any more" in str(app.chat.border_title)
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
        assert "still answering" in app.problem and app.prompt.text == "another"
        await pilot.press("escape")
        await until(pilot, lambda: "(stopped)" in app.answers[0])
        await answered(pilot)
        assert not app.problem, "nothing answers any more that Esc could stop"
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
        assert "no checkpoint yet" in str(app.chat.border_title)
        await ask(pilot, "MARLOW:")
        assert "No checkpoint yet" in app.problem
        assert app.prompt.text == "MARLOW:"
        app.chat.refresh_checkpoint()
        assert app.problem
        write_checkpoint(run, 250)
        app.chat.refresh_checkpoint()
        assert "newest, step 250" in str(app.chat.border_title)
        assert not app.problem and app.prompt.text == "MARLOW:", "the message stayed after the first checkpoint"


@pytest.mark.parametrize("width", [30, 36, 40, 44, 46, 48, 52])
async def test_a_narrow_title_says_best_where_a_wide_one_does(recorded: RunDirectory, width: int) -> None:
    """Where there was no room for all, "best" was left out first, while the pane beside it said so of the same one."""
    recorded.best_file.write_text(json.dumps({"step": 2000, "val_loss": 1.4614}))
    app = PaneApp(recorded)
    async with app.run_test(size=(width, 24)) as pilot:
        await pilot.pause()
        title = str(app.chat.border_title)
        assert title in app.screen._compositor.render_strips()[0].text, "cut"
        assert ("(best" in title) == (width >= 36) and ("val" in title) == (width >= 48)


async def test_a_new_checkpoint_is_named_and_answers(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards against answers of a checkpoint that is not the newest any more."""
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        assert str(app.chat.border_title).strip() == "chat · newest, step 2,000 (val 1.4614)"
        write_checkpoint(recorded, 2250)
        app.chat.refresh_checkpoint()
        assert str(app.chat.border_title).strip() == "chat · newest, step 2,250"
        await ask(pilot, "MARLOW:")
        await until(pilot, lambda: "boats" in "".join(app.answers))
        assert app.answers[0].startswith("step 2,250 · seed 1 · 412 tok/s\n› MARLOW:\n▏The tide")


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
        app.chat.focus()
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
        for number, prompt in enumerate(("one", "two\nlines"), 1):
            await ask(pilot, prompt)
            await until(pilot, lambda count=number: len(app.answers) == count and app.chat._answer is None)  # type: ignore[misc]
        await pilot.press(*"thr", "up", "up")
        assert app.prompt.text == "two\nlines", "within a prompt the keys go from line to line"
        await pilot.press("up", "up")
        assert app.prompt.text == "one"
        await pilot.press("down")
        assert app.prompt.text == "two\nlines"
        await pilot.press("down", "down")
        assert app.prompt.text == "thr"
    assert [prompt for prompt, _ in model.asked] == ["one", "two\nlines"]
    again = PaneApp(recorded)
    async with again.run_test() as pilot:
        await pilot.press("up")
        assert again.prompt.text == "two\nlines"


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


async def test_the_end_stays_in_view_when_there_is_less_room(
    recorded: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second line of the prompt, or a lower window, took the last lines of the answer out of view for good."""
    model = MadeUpModel(monkeypatch, ["line\n" * 60, "the end"])
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test(size=(80, 24)) as pilot:
        transcript = app.query_one("#transcript", VerticalScroll)
        await ask(pilot, "a")
        await until(pilot, lambda: app.answers and "the end" in app.answers[0])
        await until(pilot, lambda: transcript.scroll_y == transcript.max_scroll_y > 0)
        before = transcript.max_scroll_y
        await pilot.press("ctrl+j", "ctrl+j")
        await until(pilot, lambda: transcript.scroll_y == transcript.max_scroll_y > before)
        await pilot.resize_terminal(80, 20)
        await until(pilot, lambda: transcript.scroll_y == transcript.max_scroll_y > before + 2)


async def test_a_read_only_run_still_chats(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards against a transcript that cannot be written taking the answer along."""
    recorded.chat_dir.rmdir()
    recorded.chat_dir.write_text("not a directory")
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        await ask(pilot, "MARLOW:")
        await until(pilot, lambda: bool(app.answers) and "boats" in app.answers[0])


async def test_pasted_lines_stay(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Terminals send a carriage return for each line; and what is asked is what stands there."""
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        app.prompt.post_message(Paste("ROMEO:\r\nIs the\tday so\\nyoung?\r"))
        await pilot.pause()
        assert app.prompt.text == "ROMEO:\nIs the\tday so\\nyoung?"
        assert app.prompt.size.height == 2
        await pilot.press("ctrl+j", "shift+enter", "x", "enter")
        await answered(pilot)
        assert model.asked[0][0] == "ROMEO:\nIs the\tday so\\nyoung?\n\nx"
        assert app.prompt.size.height == 1
        app.prompt.post_message(Paste("a\x1b]0;t\x07b"))
        await pilot.pause()
        assert app.prompt.text == "a␛]0;t␇b"


async def test_of_a_million_characters_the_end_is_pasted(recorded: RunDirectory) -> None:
    """The model goes on from the end; and a field with all of it would not take another key for minutes."""
    app = PaneApp(recorded)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("a")
        app.prompt.post_message(Paste("word " * 200_000 + "the end"))
        await pilot.pause()
        assert len(app.prompt.text) == LONGEST_TEXT and app.prompt.text.endswith("word the end")
        assert app.prompt.size.height == 5
        await pilot.press("b")
        assert app.prompt.text.endswith("the endb")
        assert "only the end" in str([toast.message for toast in app._notifications])


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
        assert app.prompt.text == value


async def test_what_is_typed_behind_enter_is_the_next_prompt(recorded: RunDirectory, model: MadeUpModel) -> None:
    """It was taken for part of the prompt that Enter had sent, and erased with it."""
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        burst(app, "one\rtwo")
        await until(pilot, lambda: [prompt for prompt, _ in model.asked] == ["one"])
        await pilot.pause(0.05)
        assert app.prompt.text == "two"


async def test_a_burst_that_leads_from_field_to_field(recorded: RunDirectory) -> None:
    """Five backspaces and a number gave half of the number; what followed Tab or Enter stayed in the old field."""
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        burst(app, "\t\x7f\x7f\x7f\x7f\x7f1.25\rabc\t\t7")
        await pilot.pause(0.1)
        assert app.query_one(SamplingRow).sampling() == Sampling(temperature=1.25, top_k=7)
        assert app.prompt.text == "abc"


async def test_a_message_outlasts_the_letters_before_it(recorded: RunDirectory, model: MadeUpModel) -> None:
    """In a burst the letters' own events come after the message, which they took away."""
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        await ask(pilot, "one")
        burst(app, "two\r")
        await pilot.pause(0.1)
        assert "still answering" in app.problem and app.prompt.text == "two"
        await pilot.press("x")
        assert not app.problem
    model.released.set()


def test_an_engine_that_fails_is_a_message(recorded: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a thread that dies without a word."""

    def broken(*_: object) -> None:
        raise RuntimeError("no such operator\nwith details")

    monkeypatch.setattr(Models, "open", broken)
    answer = Answer(recorded, "a", Sampling(), Models(), Transcript(recorded))
    answer.run()
    assert "✗ RuntimeError: no such operator⏎with details" in exchange_text(answer).plain


def test_too_little_memory_is_one_clear_message(recorded: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system lets a process take memory that there is not, and then kills it: the training along with the chat."""
    path = recorded.checkpoint("last").path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    answer = Answer(recorded, "a", Sampling(), Models(), Transcript(recorded))
    answer.run()
    assert "to open the model of step 2,000 takes 2,048.0 GiB of memory" in answer.error

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Models, "open", full)
    answer = Answer(recorded, "a", Sampling(), Models(), Transcript(recorded))
    answer.run()
    assert "not enough free memory" in answer.error


def test_a_step_that_is_written_again_is_opened_again(tiny_config: Config) -> None:
    """A run that went back writes the same step once more: the answer came from the weights of the abandoned one."""
    run = train(tiny_config)
    models = Models()
    before = models.open(run, "last")[1]
    assert models.open(run, "last")[1] is before, "kept open for the next question"
    path = run.checkpoint("last").path / "model.safetensors"
    other = path.with_name("other")
    shutil.copy(run.checkpoints()[0].path / "model.safetensors", other)
    other.replace(path)
    after = models.open(run, "last")[1]
    assert not before.wte.weight.equal(after.wte.weight)


async def test_the_same_again_takes_the_next_seed(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards what is told apart: alike in all it would be the same text; with other settings the seed stays."""
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        await pilot.press("ctrl+n", "ctrl+g", "ctrl+y")
        assert not app.answers and "no answer yet to copy" in app.problem
        await ask(pilot, "MARLOW:")
        await answered(pilot)
        await pilot.press("ctrl+n")
        await answered(pilot, 2)
        app.query(SamplingInput).first().value = "1.5"
        await pilot.press("ctrl+n")
        await answered(pilot, 3)
        app.chat.choose("best")
        await pilot.press("ctrl+n")
        await answered(pilot, 4)
        headings = [answer.split(" tok/s")[0] for answer in app.answers]
    assert [(prompt, sampling.seed, sampling.temperature) for prompt, sampling in model.asked] == [  # type: ignore[attr-defined]
        ("MARLOW:", 1, 0.8),
        ("MARLOW:", 2, 0.8),
        ("MARLOW:", 2, 1.5),
        ("MARLOW:", 2, 1.5),
    ]
    assert headings == [
        "step 2,000 · val 1.4614 · seed 1 · 412",
        "step 2,000 · val 1.4614 · seed 2 · 412",
        "step 2,000 · val 1.4614 · seed 2 · 412",
        "step 1,000 · val 1.2862 · seed 2 · 412",
    ]


async def test_going_on_makes_one_text(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards what the model is given (prompt and answer), and that who wrote which part is told."""
    model.released.set()
    app = PaneApp(recorded)
    first = "\nThe tide is out,\nand the boats are in."
    async with app.run_test() as pilot:
        await ask(pilot, "MARLOW:")
        await answered(pilot)
        await pilot.press("ctrl+g")
        await until(pilot, lambda: len(model.asked) == 2 and app.chat._answer is None)
        assert model.asked[1][0] == "MARLOW:" + first
        app.chat.choose("best")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: len(model.asked) == 3 and app.chat._answer is None)
        (text,) = app.answers
        assert text == (
            "step 2,000 · val 1.4614 · seeds 1, 2, then step 1,000 · val 1.2862 · seed 3 · 412 tok/s\n"
            f"› MARLOW:\n▏{first[1:]}{first}{first}"
        )
        await pilot.press("ctrl+y")
        assert app.clipboard == first * 3
        await ask(pilot, "other")
        await answered(pilot, 2)
    later = Transcript(recorded)
    later._path = later._path.with_name("later.jsonl")
    assert later.earlier_prompts() == ["MARLOW:", "other"]
    assert [row["text"] for row in later.earlier_answers(9)] == [first * 3, first], "a continued text once"


async def test_a_text_that_could_not_go_on_still_can(recorded: RunDirectory, model: MadeUpModel) -> None:
    """A checkpoint that is gone must not take the text along, nor may the next answer be written into another one."""
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        await ask(pilot, "MARLOW:")
        await answered(pilot)
        app.chat.choose("500")
        shutil.rmtree(recorded.checkpoints_dir / "step-00000500")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: "✗" in app.answers[0])
        assert "boats are in." in app.answers[0] and "has no checkpoint 500" in app.answers[0]
        assert not app.prompt.text, "there is nothing to mend in the prompt"
        await ask(pilot, "x")
        await until(pilot, lambda: len(app.answers) == 2 and app.chat._answer is None)
        app.chat.choose("last")
        await pilot.press("ctrl+g")
        await until(pilot, lambda: len(app.answers) == 3 and app.chat._answer is None)
        assert app.answers[2].count("boats") == 2 and "✗" in app.answers[1]


async def test_rare_settings_reach_the_engine(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards min-p, repetition penalty and stop text."""
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        await pilot.press(*["tab"] * 6, "up", "tab", "up", "up", "tab", *"out\\n", "enter")
        assert app.focused is app.prompt
        await ask(pilot, "a")
        await answered(pilot)
    assert model.asked[0][1] == Sampling(min_p=0.05, repetition_penalty=1.1, stop="out\n")


@pytest.mark.parametrize("height", [12, 24])
async def test_nothing_moves_when_the_settings_get_the_keys(recorded: RunDirectory, height: int) -> None:
    """The line of the rare settings came with the focus, and pushed the conversation and the prompt up."""
    app = PaneApp(recorded)
    async with app.run_test(size=(60, height)) as pilot:
        await settled(pilot)
        before = app.prompt.region
        names = []
        for _ in range(8):
            await pilot.press("tab")
            await pilot.pause()
            assert app.prompt.region == before
            assert app.focused is not None and app.focused.region.height == 1, "it can be seen"
            names.append(app.focused.name)
        assert names[-3:] == ["min_p", "repetition_penalty", "stop"]
        field = app.query(SamplingInput).first()
        app.screen.set_focus(field)
        active = app.screen.active_bindings["up"].binding
        assert active.show and (active.key_display, active.description) == ("↑↓", "change the value")


async def test_settings_come_back_from_asking_several(recorded: RunDirectory) -> None:
    """What was found there to be good was lost on leaving; a wrong number does not come back."""
    app = PaneApp(recorded)
    async with app.run_test(size=(120, 36)) as pilot:
        for seed, stop in (("7", "out\n"), ("x", "")):
            await pilot.press("ctrl+t")
            await until(pilot, lambda: app.screen.query(SamplingRow))
            row = app.screen.query_one(SamplingRow)
            await pilot.pause()
            row.set(Sampling(temperature=0.3, seed=7, min_p=0.2, stop=stop))
            next(field for field in row.query(SamplingInput) if field.name == "seed").value = seed
            await pilot.press("escape")
            await until(pilot, lambda: app.screen.query(ChatPane))
            expected = Sampling(temperature=0.3, seed=7, min_p=0.2, stop="out\n")
            assert app.query_one(SamplingRow).sampling() == expected


@pytest.mark.parametrize("tmux", ["", "/tmp/t,1,0"])
async def test_what_tmux_needs_for_copying_is_said_once(
    recorded: RunDirectory, model: MadeUpModel, monkeypatch: pytest.MonkeyPatch, tmux: str
) -> None:
    monkeypatch.setattr("tui.terminal.clipboard._told", set())
    monkeypatch.setenv("TMUX", tmux)
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test() as pilot:
        await ask(pilot, "a")
        await answered(pilot)
        await pilot.press("ctrl+y", "ctrl+y")
        said = [toast.message for toast in app._notifications]
        assert len(said) == 2 and all("is copied" in words for words in said)
        assert sum("set -g set-clipboard on" in words for words in said) == bool(tmux)


@pytest.mark.parametrize(
    ("prompt", "text", "shown"),
    [("To be", " or not", "› To be▏ or not"), ("MARLOW:", "\nThe", "› MARLOW:\n▏The"), ("\n", "\nThe", "› ⏎\n▏The")],
)
def test_a_sign_stands_where_the_model_begins(recorded: RunDirectory, prompt: str, text: str, shown: str) -> None:
    """Prompt and answer differed by their colour alone."""
    answer = Answer(recorded, prompt, Sampling(), Models(), Transcript(recorded))
    assert "▏" not in str(exchange_text(answer))
    answer._pieces = [text]
    assert str(exchange_text(answer)).endswith(shown)
    assert str(exchange_text(answer, ascii=True)).endswith(shown.replace("▏", "|"))


async def test_earlier_conversations_can_be_read_again(recorded: RunDirectory, model: MadeUpModel) -> None:
    """Guards the way back to what was said weeks ago: with step and time, inert, and without this conversation."""
    rows: list[Row] = [{"prompt": f"{n}", "text": "x" * 9000, "step": n, "time": 0.0} for n in range(50)]
    rows += [{"prompt": "[b]old\x1b", "text": "and\x9bold", "step": 250, "val_loss": 1.5, "seed": 7, "time": 1e12}]
    (recorded.chat_dir / "1.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model.released.set()
    app = PaneApp(recorded)
    async with app.run_test(size=(80, 24)) as pilot:
        await ask(pilot, "now")
        await answered(pilot)
        await pilot.press("ctrl+l")
        await until(pilot, lambda: bool(app.query("#earlier")))
        text = str(app.query_one("#earlier", Static).content)
        assert text.count("step ") == 20 and len(text) < 50_000
        assert "step 250 · val 1.5000 · seed 7\n› [b]old␛▏and\ufffdold" in text
        assert "now" not in text
        await pilot.press("ctrl+l")
        assert not app.query("#earlier")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["time", "step", "val_loss", "seed", "prompt", "text"]), json_values)))
def test_any_row_is_shown_or_skipped(rows: list[Row]) -> None:
    """A run from elsewhere may have anything in its transcripts."""
    shown = earlier_text(rows).plain
    assert shown == inert_pane(shown)


@pytest.mark.parametrize(
    ("key", "typed_in", "presses"), [("c", PromptField, [2, 2, 2]), ("6", NotesField, [2, 2, 3])], ids=["chat", "notes"]
)
async def test_few_escapes_lead_out(
    recorded: RunDirectory, key: str, typed_in: type[Widget], presses: list[int]
) -> None:
    """It took one for the field, one for the place it had and one for the charts, before one led out of the run."""
    app = BareApp()
    async with app.run_test(size=(80, 24)) as pilot:
        for size, maximised, expected in zip(
            ((80, 24), (80, 24), (120, 36)), (False, True, True), presses, strict=True
        ):
            await pilot.resize_terminal(*size)
            app.open_run(recorded)
            await until(pilot, lambda: app.screen.query(RunPanes) and app.focused)
            panes_shown = app.screen.query_one(RunPanes)
            await pilot.press(key)
            await until(pilot, lambda: isinstance(app.focused, typed_in))
            if maximised:
                await panes_shown.toggle_maximised()
            await pilot.press("escape")
            await pilot.pause()
            assert not panes_shown.maximised and panes_shown.is_in_view("charts") == (expected == 2)
            for _ in range(expected - 1):
                assert app.screen.query(RunPanes)
                await pilot.press("escape")
                await pilot.pause()
            assert not app.screen.query(RunPanes)


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (50, 9), (50, 6)], ids=lambda size: "x".join(map(str, size)))
def test_looks(
    snap_compare: Callable[..., bool], recorded: RunDirectory, model: MadeUpModel, size: tuple[int, int]
) -> None:
    """Guards the layout of answers, and of a prompt without text, as a tab and in the least room."""
    model.released.set()

    async def chat(pilot: Pilot[None]) -> None:
        await ask(pilot, "MARLOW:")
        await answered(pilot)
        await pilot.press("ctrl+g")
        await pilot.pause()
        await answered(pilot)
        await ask(pilot, "")
        await answered(pilot, 2)
        await settled(pilot)

    assert snap_compare(PaneApp(recorded), terminal_size=size, run_before=chat)


@pytest.mark.parametrize("size", [(120, 36), (80, 24), (50, 9)], ids=lambda size: "x".join(map(str, size)))
def test_looks_with_several_lines(
    snap_compare: Callable[..., bool], recorded: RunDirectory, model: MadeUpModel, size: tuple[int, int]
) -> None:
    """Guards the field that grows, the settings below it while one of them has the focus, and a message."""
    model.released.set()

    async def chat(pilot: Pilot[None]) -> None:
        await ask(pilot, "MARLOW:\nThe tide")
        await answered(pilot)
        await pilot.press(*"ISOLDE:", "ctrl+j", *"No hand, [good] sir.", *["ctrl+j"] * 4, *"But", "tab", "x")
        await settled(pilot)

    assert snap_compare(PaneApp(recorded), terminal_size=size, run_before=chat)
