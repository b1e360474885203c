"""How well the presets learn: all the trainings whose losses docs/results.md states, in one go.

    python benchmarks/quality.py                        everything, on a GPU: about a quarter of an hour on an H200
    python benchmarks/quality.py --only microgpt --jobs 1
    python benchmarks/quality.py --steps 20 --seeds 1 --out /tmp/proof --train.batch-size 2 --device.type cpu

Each training is `minigpt train PRESET --train.seed N` in a process of its own, several at a time, since one alone
leaves a large GPU idle. Options of the form --section.key are handed on to all of them. Runs, logs, results.json and
results.md go into --out. Started again with the same options it goes on: what has finished is not trained again, what
was interrupted (Ctrl+C, SIGTERM) is resumed. The corpus and GPT-2's vocabulary are looked for where `minigpt train`
does: MINIGPT_DATA_DIR is one such place.

Losses are those of the run's own evaluations: one pass over the whole validation split, in nats per token.
"""

import argparse
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median, stdev
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from minigpt.journal import read_journal  # noqa: E402
from minigpt.metrics import Metrics  # noqa: E402
from minigpt.rundir import RunDirectory, RunState  # noqa: E402

FIRST_SEED = 1337
WHOLE_SPLIT = ("--train.train-eval-tokens", "2000000")  # of training text, for figures that are compared with others'

# What is trained, the longest first: preset, its options, whether over several seeds, and what its reference reached.
PLAN: dict[str, tuple[tuple[str, ...], bool, str]] = {
    "gpt-mini": (WHOLE_SPLIT, False, "claims 1.105, on which text is not said"),
    "shakespeare-char": ((), True, "at most 1.47; 1.4697 published, the best of noisy estimates"),
    "shakespeare-best": ((), True, "at most 1.455; 1.4603 the best published mean"),
    "microgpt": (WHOLE_SPLIT, False, "train 1.1111, validation 1.4815"),
    "laptop-8gb": (("--train.max-steps", "1000"), False, "a night's training, cut off after 1,000 steps"),
    "gpt2-tokens": (WHOLE_SPLIT, False, "on another corpus: 6.10, 6.54 after 10 epochs"),
}

# Of no interest here, and they take time: samples, and the copies of 130 MB that an interruption does not need.
QUIET = ("--sample.interval", "1000000", "--sample.max-new-tokens", "100", "--train.keep-checkpoints", "1")


@dataclass
class Job:
    """One training: what it is called, how it is started, and where its run lies."""

    preset: str
    seed: int
    options: list[str]
    out: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        return f"{self.preset}-seed{self.seed}"

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.out / self.name)

    @property
    def command(self) -> list[str]:
        return ["minigpt", "train", self.preset, "--train.seed", str(self.seed), *self.options]

    def is_finished(self) -> bool:
        return self.run.state() == RunState.FINISHED

    def start(self) -> None:
        """Begin, or go on from the last checkpoint."""
        resume = self.run.checkpoints() != []
        arguments = ["--resume", str(self.run.path)] if resume else [*self.command[2:], "--run.dir", str(self.run.path)]
        if not resume and self.run.path.exists():  # it was killed before its first checkpoint
            self.run.path.rename(self.run.path.with_name(f"{self.name}-broken-{time.time():.0f}"))
        with (self.out / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", "from minigpt.cli import entry_point; entry_point()", "train", *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "TERM": "dumb"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl+C is handed on once, by us
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/quality"), help="where all of it goes")
    parser.add_argument("--only", default=",".join(PLAN), help="presets, separated by commas")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of the presets that are compared by their mean")
    parser.add_argument("--jobs", type=int, default=4, help="trainings at a time")
    parser.add_argument("--steps", type=int, default=0, help="end each training after so many steps, for a trial")
    parser.add_argument("--compile", action="store_true", help="with torch.compile")
    arguments, options = parser.parse_known_args()
    unknown = [preset for preset in arguments.only.split(",") if preset not in PLAN]
    if unknown or any(option.startswith("--") and "." not in option for option in options):
        parser.error(f"{', '.join(unknown) or ' '.join(options)}: presets are {', '.join(PLAN)}; options --section.key")
    jobs = plan(arguments, options)
    interrupted = train(jobs, arguments.jobs)
    report(jobs, arguments.out)
    return 130 if interrupted else 0 if all(job.is_finished() for job in jobs) else 1


def plan(arguments: argparse.Namespace, options: list[str]) -> list[Job]:
    """All trainings that were asked for; none may lie there already that was started otherwise."""
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    threads = max(1, min(4, (os.cpu_count() or 1) // arguments.jobs))
    shared = [*QUIET, "--device.threads", str(threads)]
    shared += ["--device.compile", "true"] if arguments.compile else []
    jobs = []
    for preset, (own, several, _) in PLAN.items():
        if preset not in arguments.only.split(","):
            continue
        for seed in range(FIRST_SEED, FIRST_SEED + (arguments.seeds if several else 1)):
            steps = ["--train.max-steps", str(arguments.steps)] if arguments.steps else []
            jobs.append(Job(preset, seed, [*own, *shared, *steps, *options], out))
    for job in jobs:
        kept, command = out / f"{job.name}.command", shlex.join(job.command)
        if kept.exists() and kept.read_text(encoding="utf-8") != command:
            raise SystemExit(f"{kept}: was started with other options; give another --out, or remove {job.run.path}")
        kept.write_text(command, encoding="utf-8")
    return jobs


def train(jobs: list[Job], at_a_time: int) -> bool:
    """Run all that have not finished, so many at a time. Returns whether somebody ended it early."""
    waiting = [job for job in jobs if not job.is_finished()]
    running: list[Job] = []
    received: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        if not received:
            for job in running:
                if job.process is not None and job.process.poll() is None:
                    job.process.send_signal(signal.SIGINT)  # saves a checkpoint and ends
        received.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    print(f"{len(waiting)} of {len(jobs)} trainings to do, {at_a_time} at a time", flush=True)
    began = time.monotonic()
    while running or (waiting and not received):
        while waiting and len(running) < at_a_time and not received:
            running.append(job := waiting.pop(0))
            job.start()
        time.sleep(0.2)
        for job in [job for job in running if job.process is not None and job.process.poll() is not None]:
            running.remove(job)
            assert job.process is not None
            outcome = f"exit code {job.process.returncode}, see {job.name}.log"
            if found := result(job):
                losses = "{val_loss_best:.4f} at step {best_step}, {val_loss_last:.4f} at the end"
                outcome = f"validation {losses.format_map(found)}"
            print(f"{(time.monotonic() - began) / 60:6.1f} min  {job.name}: {outcome}", flush=True)
    return bool(received)


def result(job: Job) -> dict[str, Any] | None:
    """What came of one training, from its run directory; None if it has not finished."""
    if not job.is_finished():
        return None
    metrics = Metrics(job.run.metrics_file).read_all()
    (started, *_) = [row for row in read_journal(job.run.events_file) if row.get("event") == "started"]
    steps, losses = metrics.series("val_loss")
    _, train_losses = metrics.series("train_eval_loss")
    best = int(losses.argmin())
    speeds = metrics.series("tokens_per_second")[1].tolist()
    return {
        "preset": job.preset,
        "seed": job.seed,
        "command": shlex.join(job.command),
        "parameters": started["parameters"],
        "steps": int(steps[-1]),
        "best_step": int(steps[best]),
        "val_loss_first": float(losses[0]),
        "val_loss_best": float(losses[best]),
        "train_loss_best": float(train_losses[best]),
        "val_loss_last": float(losses[-1]),
        "train_loss_last": float(train_losses[-1]),
        "accuracy_best": float(metrics.series("val_accuracy")[1][best]),
        "minutes": (metrics.newest("elapsed") or 0.0) / 60,
        "tokens_per_second": median(speeds) if speeds else 0.0,
        "memory_bytes": metrics.newest("cuda_peak") or metrics.newest("memory_rss"),
        "device": f"{started['device_name']}, {started['precision']}{', compiled' if started['compiled'] else ''}",
        "torch": started["torch"],
    }


# ── what is written about it ──────────────────────────────────────────────────────────────────────────────────────


def report(jobs: list[Job], out: Path) -> None:
    """Write results.json and results.md, and print the latter."""
    results = [found for job in jobs if (found := result(job))]
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    text = markdown(results)
    missing = [job.name for job in jobs if not job.is_finished()]
    text += f"\nNot finished: {', '.join(missing)}.\n" if missing else ""
    (out / "results.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {out}/results.md and results.json")


def markdown(results: list[dict[str, Any]]) -> str:
    """The tables of docs/results.md: a row per preset, then one per seed."""
    machines = sorted({f"{found['device']}, torch {found['torch']}" for found in results})
    lines = [
        f"`{shlex.join(['python', 'benchmarks/quality.py', *sys.argv[1:]])}` on {'; '.join(machines)}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}. Losses in nats per token.",
        "",
        "| preset | parameters | steps | train, best step | validation, best step | validation, last | reference |",
        "|---|---|---|---|---|---|---|",
    ]
    for preset, (_, _, reference) in PLAN.items():
        if of_it := [found for found in results if found["preset"] == preset]:
            columns = [over_seeds(of_it, key) for key in ("train_loss_best", "val_loss_best", "val_loss_last")]
            first = of_it[0]
            lines.append(
                f"| {preset} | {first['parameters']:,} | {first['steps']:,} | {' | '.join(columns)} | {reference} |"
            )
    lines += [
        "",
        "Minutes and tokens/s with the other trainings beside it.",
        "",
        "| run | step 0 | best step | train | val | accuracy | last: train | val | minutes | tokens/s | memory |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {found['preset']}, seed {found['seed']} | {found['val_loss_first']:.4f} | {found['best_step']:,} "
        f"| {found['train_loss_best']:.4f} | {found['val_loss_best']:.4f} | {found['accuracy_best']:.2%} "
        f"| {found['train_loss_last']:.4f} | {found['val_loss_last']:.4f} | {found['minutes']:.1f} "
        f"| {found['tokens_per_second']:,.0f} | {found['memory_bytes'] / 2**30:.2f} GiB |"
        for found in results
    ]
    return "\n".join(lines) + "\n"


def over_seeds(results: list[dict[str, Any]], key: str) -> str:
    """The value, or mean, standard deviation and number of seeds."""
    values = [found[key] for found in results]
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"**{mean(values):.4f}** ± {stdev(values):.4f} ({len(values)} seeds)"


if __name__ == "__main__":
    sys.exit(main())
