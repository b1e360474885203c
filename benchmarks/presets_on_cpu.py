"""Every preset, shortened, on whatever machine this is: trained, interrupted by Ctrl+C, resumed, sampled, evaluated.

    python benchmarks/presets_on_cpu.py [--steps 220] [--only NAME ...] [--runs-dir DIR]

The program itself does all of it, by its command line. The large models get fewer sequences a step and less text to be
evaluated on, and gpt2-124m a shorter context, or a step would take minutes on two cores. Prints a Markdown table for
docs/results.md; fails if a loss does not fall or a command does not end as it should.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

from minigpt.metrics import Metrics
from minigpt.presets import list_presets
from minigpt.rundir import RunDirectory

_SMALLER = {
    "gpt-mini": {"train.batch-size": "16"},
    "shakespeare-char": {"train.batch-size": "4", "data.val-fraction": "0.02"},
    "shakespeare-best": {"train.batch-size": "4", "data.val-fraction": "0.02"},
    "microgpt": {"train.batch-size": "4", "data.val-fraction": "0.02"},
    "laptop-8gb": {"train.batch-size": "4", "data.val-fraction": "0.02"},
    "gpt2-tokens": {"train.batch-size": "2", "data.val-fraction": "0.02"},
    "gpt2-124m": {
        "train.batch-size": "2",
        "train.gradient-accumulation-steps": "1",
        "model.block-size": "64",
        "data.val-fraction": "0.01",
    },
}


def main() -> None:
    """Run the presets one after the other and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=220)
    parser.add_argument("--only", nargs="*", default=[preset.name for preset in list_presets()])
    parser.add_argument("--runs-dir", type=Path, default=Path("runs/presets-on-cpu"))
    options = parser.parse_args()
    os.environ["MINIGPT_RUNS_DIR"] = str(options.runs_dir.absolute())
    print(f"{platform.machine()}, {os.cpu_count()} cores, {options.steps} steps\n")
    print(
        "| preset | changed | stopped at | train loss, first and last row | val loss at step 0 and at the end |", end=""
    )
    print(" bits per character | accuracy | tokens/s |\n|---|---|---|---|---|---|---|---|")
    for name in options.only:
        print(_row(name, options.steps), flush=True)


def _row(name: str, steps: int) -> str:
    run = RunDirectory(Path(os.environ["MINIGPT_RUNS_DIR"]) / name)
    changed = {
        "train.max-steps": str(steps),
        "train.eval-interval": str(steps // 2),
        "train.train-eval-tokens": "2048",
        "train.checkpoint-interval": str(steps),
        "sample.interval": str(steps),
        "sample.max-new-tokens": "100",
        "run.name": name,
        **_SMALLER.get(name, {}),
    }
    stopped_at = _train_and_interrupt(name, changed, run, steps // 2 + 5)
    _minigpt("train", "--resume", name)
    written = _minigpt("generate", name, "--prompt", "The ", "--max-new-tokens", "60", "--seed", "3")
    assert len(written) > 20, written
    _minigpt("evaluate", name)
    found = json.loads((run.path / "evaluations" / "evaluation_metrics.json").read_text())
    metrics = Metrics(run.metrics_file).read_all()
    train, val = metrics.series("train_loss")[1], metrics.series("val_loss")[1]
    assert metrics.last["step"] == steps and val[-1] < val[0] and train[-1] < train[0], (name, train, val)
    speed = sorted(metrics.series("tokens_per_second")[1])
    mine = ", ".join(f"{key.split('.')[1]} {value}" for key, value in _SMALLER.get(name, {}).items()) or "–"
    return (
        f"| `{name}` | {mine} | {stopped_at} | {train[0]:.3f} → {train[-1]:.3f} | {val[0]:.3f} → {val[-1]:.3f} | "
        f"{found['bits_per_character']:.3f} | {found['accuracy']:.1%} | {speed[len(speed) // 2]:,.0f} |"
    )


def _train_and_interrupt(name: str, changed: dict[str, str], run: RunDirectory, step: int) -> int:
    """Train until a row of at least that step is there, send SIGINT as Ctrl+C does, and return the step it saved."""
    options = [part for key, value in changed.items() for part in (f"--{key}", value)]
    with subprocess.Popen(
        [sys.executable, "-c", _ENTRY, "train", name, *options], stdout=subprocess.DEVNULL
    ) as process:
        metrics = Metrics(run.metrics_file)
        while process.poll() is None and metrics.last.get("step", 0) < step:
            time.sleep(0.2)
            metrics.poll()
        process.send_signal(signal.SIGINT)
        code = process.wait()
    assert code == 128 + signal.SIGINT, (name, code)
    return run.checkpoint("last").step


_ENTRY = "from minigpt.cli import entry_point; entry_point()"


def _minigpt(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", _ENTRY, *arguments], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    main()
