"""A conversation in a terminal, with a model of seconds: what is asked, what is answered and what is kept of it."""

import re
from pathlib import Path

from minigpt.journal import Row, read_journal
from minigpt.rundir import RunDirectory
from tests.end_to_end.terminal import ESCAPE, Program
from tests.training import tiny_config, train, write_corpus

# Ctrl with J, N, G, T, O and E
NEW_LINE, AGAIN, GO_ON, SEVERAL, CHECKPOINTS, EVALUATE = "\n", "\x0e", "\x07", "\x14", "\x0f", "\x05"


def answers_of(run: RunDirectory) -> list[Row]:
    return [row for path in sorted(run.chat_dir.glob("*.jsonl")) for row in read_journal(path)]


def ask_for(program: Program, length: int) -> None:
    """Set how many tokens an answer has: the fourth field behind the prompt, in which Enter leads back."""
    program.press("\t\t\t\t")
    program.press(f"{length}\r")
    program.wait_until(lambda: re.search(rf"length {length} ", program.text))


def spoken(program: Program, pattern: str) -> bool:
    """Whether a line of that pattern names who has answered."""
    return re.search(rf"(?m) step 40 · val \d\.\d+ · {pattern} · [\d.]+k? tok/s", program.text) is not None


def words_of(row: Row) -> list[str]:
    """What of an answer can be looked for on the screen, however its lines are broken."""
    return [word for word in row["text"].split() if 4 <= len(word) <= 20]


def long_lines(program: Program) -> set[str]:
    """The lines of the conversation that are in view, those with enough in them to be told from others."""
    return {text for line in program.lines[5:17] if len(text := line[:70].strip()) >= 10}


def test_a_conversation_and_its_transcript(tmp_path: Path) -> None:
    """Asked, asked again, gone on with, stopped, asked of two checkpoints: the run keeps each answer; and a text's result."""
    run = train(tiny_config(write_corpus(tmp_path / "corpus.txt"), tmp_path / "ended", device={"threads": 1}))
    with Program(run.path, columns=80, rows=24) as program:
        program.wait_until("✓ finished")
        program.press("c")
        program.wait_until("⏎ ask")
        program.wait_until("newest, step 40")
        ask_for(program, 40)
        program.press(f"salt{NEW_LINE}tide")
        program.wait_until(lambda: (found := program.find("› salt")) and "   tide" in program.lines[found[0] + 1])
        assert not answers_of(run), "the line was broken, not sent"
        program.press("\r")
        program.wait_until(lambda: len(answers_of(run)) == 1)
        first = answers_of(run)[0]
        assert (first["prompt"], first["step"], first["seed"], first["tokens"]) == ("salt\ntide", 40, 1, 40)
        program.wait_until(lambda: spoken(program, "seed 1"))
        program.wait_until(lambda: all(word in program.text for word in words_of(first)))

        program.press(AGAIN)
        program.wait_until(lambda: len(answers_of(run)) == 2)
        again = answers_of(run)[1]
        assert (again["prompt"], again["seed"]) == (first["prompt"], 2)
        assert again["text"] != first["text"]
        program.wait_until(lambda: spoken(program, "seed 2"))

        program.press(GO_ON)
        program.wait_until(lambda: len(answers_of(run)) == 3)
        longer = answers_of(run)[2]
        assert longer["continued_from"] == len(again["text"])
        assert longer["text"].startswith(again["text"]) and longer["tokens"] == 40
        program.wait_until(lambda: spoken(program, "seeds 2, 3"))

        program.press(f"tide{NEW_LINE}bell{EVALUATE}")
        program.wait_until("step 40 · evaluated")
        program.wait_until("8 tokens")
        assert len(list(run.evaluations_dir.glob("step-*.json"))) == 1 and len(answers_of(run)) == 3

        # It is seen while it is written, and Escape ends it without leaving the chat.
        ask_for(program, 9999)
        before = long_lines(program)
        program.press("bell\r")
        program.wait_until(lambda: len(told := long_lines(program)) >= 2 and before.isdisjoint(told))
        assert len(answers_of(run)) == 3, "it is being written"
        program.press(ESCAPE)
        program.wait_until(lambda: len(answers_of(run)) == 4)
        stopped = answers_of(run)[3]
        assert stopped["stopped"] and 0 < stopped["tokens"] < 9999 and stopped["prompt"] == "bell"
        program.wait_until("(stopped)")
        assert "⏎ ask" in program.text
        assert len(list(run.chat_dir.iterdir())) == 1

        # Two checkpoints side by side, of the three that are proposed.
        ask_for(program, 40)
        program.press(SEVERAL)
        program.wait_until("3 of 6 checkpoints")
        program.press(CHECKPOINTS)
        program.wait_until(lambda: re.search(r"\[x\] +0 ", program.text))
        program.press(" ")
        program.wait_until("2 of 6 checkpoints")
        program.press("\r")
        program.wait_until(lambda: len(answers_of(run)) == 6)
        two = sorted(answers_of(run), key=lambda row: row["time"])[4:]
        assert [row["step"] for row in two] == [20, 40]
        assert {(row["prompt"], row["seed"]) for row in two} == {("bell", 3)}
        program.wait_until(lambda: all(word in program.text for row in two for word in words_of(row)))
        titles = [program.find(f"─ step {step}") for step in (20, 40)]
        assert titles[0] is not None and titles[1] is not None
        assert titles[0][0] == titles[1][0] and titles[0][1] < titles[1][1], "side by side"

        program.press(ESCAPE)
        program.wait_until(lambda: "ask several" not in program.text and "(stopped)" in program.text)
        program.press(ESCAPE)
        program.wait_until("q quit")
        program.press("q")
        assert program.wait() == 0
        program.assert_restored()
