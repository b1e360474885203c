"""What a chat costs the training beside it, and whether the training is as fast again once it has ended.

    python benchmarks/chat.py                   three rounds of 30 s each before, during and after: about six minutes
    python benchmarks/chat.py --rounds 1 --seconds 10

The installed program trains the quickstart preset in a pseudo-terminal of 120x40. During the chat one answer of 2,000
tokens is asked for after the other. Training tokens per second come from the steps in metrics.jsonl, those of the chat
from its transcript. Beside the training the model answers on the CPU.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.over_ssh import Screen, program

TOKENS_PER_STEP = 12 * 96  # quickstart's batch_size and block_size
LENGTH = 2_000
WARM_UP = 20  # seconds: the first steps are slower
PHASES = ("before", "during", "after")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        variables = {
            "MINIGPT_RUNS_DIR": folder,
            "MINIGPT_SETTINGS": f"{folder}/settings.toml",
            "XDG_STATE_HOME": f"{folder}/state",
        }
        command = [program(), "quickstart", "--train.max-steps", "1000000", "--run.name", "chat"]
        run = Path(folder, "chat")
        with Screen(command, variables) as screen:
            screen.wait_for(lambda: bool(rows_of(run / "metrics.jsonl")))
            time.sleep(WARM_UP)
            print(f"{'':10}" + "".join(f"{name:>14}" for name in (*PHASES, "the chat")) + "   tokens/s")
            found = [one_round(screen, run, options.seconds) for _ in range(options.rounds)]
        print_row("median", [median(each) for each in zip(*found, strict=True)])


def one_round(screen: Screen, run: Path, seconds: float) -> list[float]:
    """Tokens per second of the training before, during and after a chat, and of the chat."""
    before = throughput(run, seconds)
    answered = len(answers_of(run))
    screen.press("3")
    time.sleep(1)
    screen.press("\t\t\t\t")  # to the length
    time.sleep(0.5)
    screen.press(f"{LENGTH}\r")
    time.sleep(0.5)
    began, first = time.monotonic(), steps_of(run)
    screen.press("MARA:\r")
    asked = answered + 1
    while time.monotonic() - began < seconds:
        time.sleep(0.2)
        if len(answers_of(run)) == asked:
            screen.press("\x0e")  # again, with the next seed
            asked += 1
    took = time.monotonic() - began
    during = (steps_of(run) - first) * TOKENS_PER_STEP / took
    screen.press("\x1b")  # ends the answer
    screen.wait_for(lambda: len(answers_of(run)) == asked)
    time.sleep(0.5)
    screen.press("\x1b")  # leaves the field
    spoken = sum(row["tokens"] for row in answers_of(run)[answered:]) / took
    row = [before, during, throughput(run, seconds), spoken]
    print_row("", row)
    return row


def throughput(run: Path, seconds: float) -> float:
    """Tokens per second that are trained on from here on."""
    began, first = time.monotonic(), steps_of(run)
    time.sleep(seconds)
    return (steps_of(run) - first) * TOKENS_PER_STEP / (time.monotonic() - began)


def steps_of(run: Path) -> int:
    return int(rows_of(run / "metrics.jsonl")[-1]["step"])


def answers_of(run: Path) -> list[dict[str, float]]:
    return [row for path in sorted(run.glob("chat/*.jsonl")) for row in rows_of(path)]


def rows_of(path: Path) -> list[dict[str, float]]:
    """The complete rows of a journal."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def print_row(name: str, figures: list[float]) -> None:
    print(f"{name:10}" + "".join(f"{figure:14,.0f}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
