"""The program in a terminal, as somebody uses it: from the home screen to the end, and what must survive all that."""

import os
import re
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest

from minigpt.checkpoint import load_for_generation, read_training_state
from minigpt.journal import Row, read_journal
from minigpt.rundir import RunDirectory, RunState, list_runs
from tests.end_to_end.terminal import CTRL_C, ESCAPE, Program, environment, script
from tests.training import assert_same_run, tiny_config, train, write_corpus

# torch's threads wait for each other by spinning, which on cores that others use too takes many times as long.
PATIENT_THREADS = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"}


def steps_of(run: RunDirectory) -> list[int]:
    return [row["step"] for row in read_journal(run.metrics_file)]


def await_steps(program: Program, run: RunDirectory) -> None:
    """Wait until the training has gone on from here."""
    before = steps_of(run)
    program.wait_until(lambda: steps_of(run) > before)


def answers_of(run: RunDirectory) -> list[Row]:
    return [row for path in sorted(run.chat_dir.glob("*.jsonl")) for row in read_journal(path)]


def only_run() -> RunDirectory:
    (run,) = list_runs()
    return run


def loss_chart(program: Program) -> str:
    """What the loss chart shows between its title and the next one's, once they stand side by side."""
    corners = [program.find(title) for title in ("─ loss ─", "─ perplexity", "─ memory ─")]
    if None in corners:
        return ""
    (top, left), (bottom, _), (_, right) = (corner for corner in corners if corner)
    return "\n".join("".join(cell.data for cell in line) for line in program.cells(top + 1, left, bottom, right))


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A training that somebody has to stop: it saves at step 0 and then only when told to."""
    rarely = {"max_steps": 10**7, "eval_interval": 10**7, "checkpoint_interval": 10**7, "log_interval": 20}
    config = tiny_config(
        write_corpus(tmp_path / "corpus.txt"),
        tmp_path,
        train=rarely,
        sample={"interval": 10**7},
        device={"threads": 1},
    )
    path = tmp_path / "endless.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    return path


# ── a visit ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_quickstart_from_the_first_screen_to_the_shell() -> None:
    """The whole way in one go: start, watch the chart, talk, pause, go on, stop; and nothing is left behind.

    On one thread of the CPU, so that it isn't over before all that is done.
    """
    with Program(variables={"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}) as program:
        program.wait_until("quickstart")
        program.wait_until("? keys")
        program.press("\r")
        program.wait_until("● training")
        run = only_run()

        # The chart follows the metrics.
        program.wait_until(lambda: "┤" in loss_chart(program) and steps_of(run))
        before, step_before = loss_chart(program), steps_of(run)[-1]
        program.wait_until(lambda: steps_of(run)[-1] > step_before and loss_chart(program) != before)

        # The chat answers while the training goes on.
        program.press("c")
        program.wait_until("⏎ ask")
        step_asked = steps_of(run)[-1]
        program.press("ANNIS:\r")
        program.wait_until(lambda: re.search(r"step [\d,]+ · val \d[\d.]* · seed", program.text))
        program.wait_until(lambda: answers_of(run))
        words = [word for word in answers_of(run)[0]["text"].split() if 3 <= len(word) <= 20]
        program.wait_until(lambda: sum(word in program.text for word in words) > len(words) / 2)
        program.wait_until(lambda: steps_of(run)[-1] > step_asked)
        program.press(ESCAPE)
        program.wait_until("p pause")

        # While it pauses it takes commands, but no step.
        program.press("p")
        program.wait_until("‖ paused")
        paused_at = steps_of(run)
        program.press("s")
        program.wait_until("Saved a checkpoint at step")
        assert steps_of(run) == paused_at
        program.press("p")
        program.wait_until("● training")
        await_steps(program, run)

        program.press("q")
        program.wait_until("s stop and save")
        program.answer("s")
        assert program.wait() == 0
        program.assert_restored()
        assert f"stopped and saved: {run.path}" in program.after_the_screen
        assert f"minigpt train --resume {run.path}" in program.after_the_screen

    assert run.state() is RunState.STOPPED
    last = run.checkpoint("last")
    assert last.step == read_journal(run.events_file)[-1]["step"] >= steps_of(run)[-1]
    model, _ = load_for_generation(run, last)
    read_training_state(last, model)
    assert "Traceback" not in run.console_file.read_text()


def test_a_configuration_trains_to_its_end_on_the_screen(tiny_toml: Path) -> None:
    """Options of the command line overrule the file; with nothing going on, q doesn't ask."""
    with Program(tiny_toml, "--train.max-steps", "60") as program:
        program.wait_until("✓ finished")
        program.wait_until("step 60/60")
        program.wait_until("100%")
        program.press("q")
        assert program.wait() == 0
        program.assert_restored()
        run = only_run()
        assert str(run.path) in program.after_the_screen
    assert run.state() is RunState.FINISHED
    assert steps_of(run)[-1] == 60


def test_a_prompt_that_the_vocabulary_lacks_is_named(tmp_path: Path) -> None:
    """It was a KeyError in the tokenizer; the chat must say which character, and answer the next question."""
    run = train(tiny_config(write_corpus(tmp_path / "corpus.txt"), tmp_path / "ended", device={"threads": 1}))
    with Program(run.path) as program:
        program.wait_until("✓ finished")
        program.press("c")
        program.wait_until("⏎ ask")
        program.press("saltΩ\r")
        program.wait_until(lambda: "✗" in program.text and program.text.count("Ω") >= 2)
        program.press("\x7f\r")  # the prompt is back in the line: without its last character it can be answered
        program.wait_until(lambda: answers_of(run))
        assert answers_of(run)[0]["prompt"] == "salt"
        assert "Ω" not in answers_of(run)[0]["text"]
        program.press(ESCAPE)
        program.wait_until("q quit")
        program.press("q")
        assert program.wait() == 0


def test_a_model_of_chinese_poems_talks(tmp_path: Path) -> None:
    """Characters of two cells, in a real terminal: what is typed, answered and pasted stands in its columns."""
    poems = Path(__file__).parents[1] / "data" / "chinese"
    sample = {"interval": 20, "prompt": "月"}
    run = train(tiny_config(poems, tmp_path / "poems", sample=sample, device={"threads": 1}))
    with Program(run.path, columns=80, rows=24) as program:
        program.wait_until("✓ finished")
        program.press("c")
        program.wait_until("⏎ ask")
        program.press("月落a空")
        program.wait_until("月落a空")
        row, _ = program.find("月落a空") or (0, 0)
        line = [cell.data for cell in program.cells(row, 1, row + 1, 12)[0]]
        assert line == ["›", " ", "月", "", "落", "", "a", "空", "", " ", " "]
        program.press("\x7f\x7f\r")
        program.wait_until(lambda: answers_of(run))
        assert answers_of(run)[0]["prompt"] == "月落"

        def at_the_beginning() -> bool:
            program.press("\x1b[5~")  # a page up: the answer is longer than the pane
            return "step 40 · val" in program.text and "› 月落" in program.text

        program.wait_until(at_the_beginning)
        program.press(ESCAPE)
        program.wait_until("q quit")

        program.press("e")
        program.wait_until("^e evaluate text")
        program.press("\x1b[200~月落空庭树影长，\r邻家捣药隔墙香。\x1b[201~")  # as a terminal pastes two lines
        program.wait_until("邻家捣药隔墙香。")
        program.press("\x05")
        program.wait_until("“月落空庭树影长， 邻家捣药隔墙香。”")
        program.wait_until("16 tokens")
        program.press(ESCAPE)
        program.wait_until("q quit")
        program.press("q")
        assert program.wait() == 0


def test_every_size_can_be_drawn(endless: Path) -> None:
    """Narrow and low terminals crashed layouts; and after them everything must come back."""
    with Program(endless) as program:
        program.wait_until("● training")
        run = only_run()
        program.wait_until(lambda: "┤" in loss_chart(program))
        for columns, rows in ((80, 24), (200, 60), (60, 15), (20, 5), (1, 1), (120, 36)):
            drawn = len(program.output)
            program.resize(columns, rows)
            program.wait_until(partial(lambda before: len(program.output) > before, drawn))
            await_steps(program, run)
            if columns >= 60:
                program.wait_until(lambda: run.name in program.lines[0] and "● training" in program.lines[0])
                program.wait_until("─ loss ─")
        program.wait_until(lambda: "┤" in loss_chart(program))
        program.wait_until("─ chat · newest, step 0")
        program.press("q")
        program.wait_until("s stop and save")
        program.answer("s")
        assert program.wait() == 0
    assert "Traceback" not in run.console_file.read_text()


# ── its ends ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sigterm_saves_and_gives_the_terminal_back(endless: Path) -> None:
    """As a shutdown or a scheduler sends it. Textual alone would die on it, in raw mode, with the run unsaved."""
    with Program(endless) as program:
        program.wait_until("● training")
        run = only_run()
        program.wait_until(lambda: steps_of(run)[-1:] > [20])
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 128 + signal.SIGTERM, "as without a screen"
        program.assert_restored()
        assert "again" not in program.after_the_screen
        assert f"stopped and saved: {run.path}" in program.after_the_screen
        assert "Traceback" not in program.after_the_screen
    assert run.state() is RunState.STOPPED
    assert run.checkpoint("last").step == read_journal(run.events_file)[-1]["step"]


def test_ctrl_c_asks(endless: Path) -> None:
    """In raw mode it is a key, not a signal: pressed by habit it must not end a night's training."""
    with Program(endless, columns=80, rows=24) as program:
        program.wait_until("● training")
        run = only_run()
        program.wait_until(lambda: steps_of(run))
        for _ in range(2):
            program.press(CTRL_C)
            program.wait_until("s stop and save")
            program.press(ESCAPE)
            program.wait_until(lambda: "s stop and save" not in program.text)
            await_steps(program, run)
        program.press("c")
        program.wait_until("⏎ ask")
        program.press(CTRL_C)  # also from within the chat's line
        program.wait_until("s stop and save")
        program.answer("s")
        assert program.wait() == 0
        program.assert_restored()
    assert run.state() is RunState.STOPPED


# ── the same run ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def two_threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration with dropout, large enough that two threads share its matrix products."""
    folder = tmp_path_factory.mktemp("two_threads")
    config = tiny_config(
        write_corpus(folder / "corpus.txt", 6000),
        folder,
        model={"n_layer": 2, "n_head": 4, "n_embd": 64, "block_size": 64, "dropout": 0.2},
        train={"batch_size": 8, "max_steps": 140, "eval_interval": 70, "checkpoint_interval": 20},
        sample={"interval": 70},
        device={"threads": 2},
    )
    path = folder / "two_threads.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def undisturbed(two_threads: Path) -> RunDirectory:
    """That configuration trained by `minigpt train`, with nobody watching."""
    run = RunDirectory(two_threads.parent / "undisturbed")
    command = [script("minigpt"), "train", str(two_threads), "--run.dir", str(run.path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment(PATIENT_THREADS))
    return run


def test_under_the_dashboard_it_is_the_run_alone(two_threads: Path, undisturbed: RunDirectory, tmp_path: Path) -> None:
    """Bit for bit, with dropout and two threads, while somebody chats, evaluates, looks around and resizes."""
    run = RunDirectory(tmp_path / "watched")
    with Program(two_threads, "--run.dir", run.path, variables=PATIENT_THREADS) as program:

        def ask() -> None:
            answered = len(answers_of(run))
            program.press("salt tide\r")
            program.wait_until(lambda: len(answers_of(run)) > answered)

        # The first question meets a pause, so that the others have the whole run before them.
        program.wait_until("p pause")
        program.press("p")
        program.wait_until("‖ paused")
        program.press("c")
        program.wait_until("⏎ ask")
        ask()
        program.press(ESCAPE)
        program.wait_until("p go on")
        program.press("p")
        program.wait_until("● training")
        program.press("c")
        program.wait_until("⏎ ask")
        for columns, rows in ((80, 24), (200, 60), (120, 36)):
            program.resize(columns, rows)
            ask()
        program.press(ESCAPE)
        program.wait_until("q quit")
        program.press("e")
        program.wait_until("^s validation split")
        program.press("\x13")  # Ctrl+S
        program.wait_until("validation split of corpus.txt")
        program.press("\r")  # into the field
        program.wait_until("^e evaluate text")
        program.press("salt tide\x05")  # Ctrl+E
        program.wait_until("“salt tide”")
        program.wait_until("✓ finished")
        program.press(ESCAPE)
        program.wait_until("q quit")
        program.press("q")
        assert program.wait() == 0
    assert len(list(run.evaluations_dir.glob("step-*.json"))) == 2
    assert len({answer["step"] for answer in answers_of(run)}) >= 2, "hardly a chat: this test would show nothing"
    assert_same_run(undisturbed, run)


def test_killed_and_resumed_on_the_screen(two_threads: Path, undisturbed: RunDirectory, tmp_path: Path) -> None:
    """kill -9 leaves a run that says it crashed, and `r` makes of it the run that was never interrupted."""
    run = RunDirectory(tmp_path / "killed")
    with Program(two_threads, "--run.dir", run.path, variables=PATIENT_THREADS) as program:
        program.wait_until(lambda: steps_of(run)[-1:] > [50])
        os.kill(program.process.pid, signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL
    assert run.state() is RunState.CRASHED
    assert steps_of(run)[-1] < 140

    with Program(run.path, columns=80, rows=24, variables=PATIENT_THREADS) as program:
        program.wait_until("✗ crashed")
        program.wait_until("r resume")
        program.press("r")
        program.wait_until("● training")
        program.wait_until("✓ finished")
        program.press("q")
        assert program.wait() == 0
        assert str(run.path) in program.after_the_screen
    assert {row["attempt"] for row in read_journal(run.metrics_file)} == {1, 2}
    assert_same_run(undisturbed, run)
