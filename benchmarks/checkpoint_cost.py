"""What checkpoints cost the training: a preset at its default settings, with them and without, interleaved.

    python benchmarks/checkpoint_cost.py --preset quickstart --steps 1000 --rounds 3

Each run is a process of its own. `without` leaves out all that saving does; evaluations and samples are the same.
With other work on the machine the clock tells little; what the training's thread was held up, and the CPU time of the
thread that writes, are then an upper bound of what checkpoints can cost.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="quickstart")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.preset, options.steps, with_checkpoints=options.child == "with")))
        return
    results: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
    for number in range(options.rounds):
        for mode in ("with", "without") if number % 2 == 0 else ("without", "with"):
            command = [sys.executable, __file__, "--preset", options.preset, "--steps", str(options.steps)]
            done = subprocess.run([*command, "--child", mode], capture_output=True, text=True, check=True)
            results[mode].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{mode:8}", *(f"{name} {value:.3f}" for name, value in results[mode][-1].items()), flush=True)
    for name in ("seconds", "cpu_seconds"):
        with_them, without = (median(result[name] for result in results[mode]) for mode in ("with", "without"))
        print(f"{name}: with {with_them:.2f}, without {without:.2f}: {100 * (with_them / without - 1):+.2f}%")
    held = median(result["held_up"] / result["seconds"] for result in results["with"])
    writer = median(result["writer_cpu"] / result["seconds"] for result in results["with"])
    print(
        f"the training's thread spent {100 * held:.3f}% of the time on saving, the writing thread {100 * writer:.3f}%"
    )


def measure(preset: str, steps: int, *, with_checkpoints: bool) -> dict[str, float]:
    from minigpt.configfile import load_config
    from minigpt.saving import Saver
    from minigpt.session import TrainingSession

    held_up = [0.0, 0]
    save = Saver.save

    def timed(self: Saver, *arguments: object, **options: object) -> None:
        began = time.perf_counter()
        if with_checkpoints:
            save(self, *arguments, **options)  # type: ignore[arg-type]
        held_up[0] += time.perf_counter() - began
        held_up[1] += 1

    write = Saver._write

    def counted(self: Saver, *arguments: object) -> None:
        began = time.thread_time()
        write(self, *arguments)  # type: ignore[arg-type]
        writer_cpu[0] += time.thread_time() - began

    writer_cpu = [0.0]
    Saver._write = counted  # type: ignore[method-assign]
    Saver.save = timed  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        overrides = {"run.dir": str(Path(folder) / "run"), "train.max_steps": str(steps)}
        session = TrainingSession(config=load_config(preset, overrides), preset=preset)
        began, cpu_began = time.perf_counter(), time.process_time()
        session.start()
        session.join()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu_began
        if session.error is not None:
            raise session.error
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "held_up": held_up[0],
        "writer_cpu": writer_cpu[0],
        "checkpoints": held_up[1],
    }


if __name__ == "__main__":
    main()
