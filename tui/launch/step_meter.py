"""How long a step of a configuration takes on this machine, measured by doing some in a process of its own.

A process, since building a model advances torch's global generator and sets its threads, which belong to the training
that this one may begin in the meantime; and since a measurement that nobody waits for any more can be ended with it.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from minigpt.journal import number_in, text_in

if TYPE_CHECKING:
    from minigpt.config import Config


@dataclass(frozen=True)
class Measured:
    """What a step takes."""

    seconds: float


Report = Callable[[str, Measured | str], object]
"""Is told, in a thread, which question is answered, and the answer or why there is none."""


def question_of(config: "Config", vocab_size: int) -> str:
    """All that the time of a step depends on: configurations with the same question need one measurement."""
    train = config.train.model_dump(include={"batch_size", "gradient_accumulation_steps", "optimizer", "ema_decay"})
    asked = {"model": config.model.model_dump(exclude_none=True), "train": train, "device": config.device.model_dump()}
    return json.dumps({"config": asked, "vocab_size": vocab_size})


class StepMeter:
    """Measures one configuration at a time; a new question ends what is being measured for the one before."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = ""
        self._lock = threading.Lock()

    def ask(self, question: str) -> None:
        """Measure, and report; does not wait for it."""
        with self._lock:
            if question == self._asked:
                return
            if self._asked:
                self._end()
            self._asked = question
        threading.Thread(target=self._measure, args=(question,), name="step meter", daemon=True).start()

    def close(self) -> None:
        """End whatever is being measured; nothing is reported any more."""
        with self._lock:
            self._asked = ""
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            threading.Thread(target=_forget, args=(process,), name="step meter's end", daemon=True).start()

    def _measure(self, question: str) -> None:
        answer: dict[str, Any] = {}
        try:
            process = self._running(question)
            if process is None:
                return
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(question.encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
        except (OSError, ValueError) as error:  # it was ended, or died
            answer = {"problem": f"its process has ended ({type(error).__name__})"}
        with self._lock:
            if question != self._asked:
                return
            self._asked = ""
            if "seconds" not in answer:
                self._end()
        seconds = number_in(answer, "seconds")
        self._report(question, Measured(seconds) if seconds else f"not measured: {text_in(answer, 'problem')}")

    def _running(self, question: str) -> "subprocess.Popen[bytes] | None":
        with self._lock:
            if question != self._asked:
                return None
            if self._process is None or self._process.poll() is not None:
                # -P: nothing is to be imported from wherever the user happens to be.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "tui.launch.step_meter"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            return self._process


def _forget(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(OSError), process:  # waits for its end, and closes the pipes
        pass


# ── in the other process ──────────────────────────────────────────────────────────────────────────────────────────


def answer(question: str) -> dict[str, Any]:
    """Measure what a line asks for. Never raises: what went wrong is the answer."""
    from minigpt.errors import UserError

    try:
        return {"seconds": _seconds(json.loads(question))}
    except UserError as error:
        return {"problem": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever it was, it belongs on the other process's screen
        return {"problem": f"{type(error).__name__}: {error}"}


def _seconds(asked: dict[str, Any]) -> float:
    from minigpt.config import Config
    from minigpt.device import choose_device
    from minigpt.errors import UserError
    from minigpt.estimate import estimate_memory
    from minigpt.step_time import measure_step

    config, vocab_size = Config.model_validate(asked["config"]), int(asked["vocab_size"])
    device = choose_device(config.device)
    needed = estimate_memory(config, vocab_size, device.type, device.precision).needed
    if needed > (free := _free(device.type)):
        raise UserError(f"it needs {needed / (1 << 30):,.1f} GiB of memory, and {free / (1 << 30):,.1f} are free")
    return measure_step(config, vocab_size, device).seconds


def _free(device_type: str) -> int:
    if device_type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    import psutil

    return int(psutil.virtual_memory().available)


def serve(questions: IO[str], answers: IO[str]) -> None:
    """Answer one line after the other, and end with the process that asks, also in the midst of a measurement."""
    asked: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in questions:
            asked.put(line)
        os._exit(0)

    threading.Thread(target=read, name="questions", daemon=True).start()
    while True:
        print(json.dumps(answer(asked.get())), file=answers, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        serve(sys.stdin, sys.stdout)
