"""How the process ends while something is still being computed."""

import subprocess
import sys

import pytest

COMPUTING = """
import threading, torch
from tui.main import leave

begun = threading.Event()

def compute():
    numbers = torch.randn(1000, 1000)
    begun.set()
    while True:
        numbers = torch.tanh(numbers @ numbers)

for _ in range(2):
    threading.Thread(target=compute, daemon=True).start()
begun.wait()
print("the last words")
"""

ANSWERING = """
import threading, time
from tui.main import leave

class Answering(threading.Thread):
    def __init__(self):
        super().__init__(daemon=True)
        self.cancel = (cancelled := threading.Event()).set
        self.is_cancelled = cancelled.wait

    def run(self):
        self.is_cancelled()
        time.sleep(0.1)
        print("kept")

Answering().start()
leave(0)
"""


@pytest.mark.parametrize("code", [0, 130])
def test_an_answer_under_way_is_no_crash(code: int) -> None:
    """Python took the ground from under a thread within torch: the process aborted, after the run had been saved."""
    command = [sys.executable, "-c", f"{COMPUTING}leave({code})"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "the last words\n", "")


def test_what_is_kept_with_the_run_is_waited_for() -> None:
    """The answer that was stopped by quitting is in the transcript."""
    done = subprocess.run([sys.executable, "-c", ANSWERING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "kept\n")
