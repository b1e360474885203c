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

for name in ("chat", "evaluate"):
    threading.Thread(target=compute, name=name, daemon=True).start()
begun.wait()
print("the last words")
"""


@pytest.mark.parametrize("code", [0, 130])
def test_an_answer_under_way_is_no_crash(code: int) -> None:
    """Python took the ground from under a thread within torch: the process aborted, after the run had been saved."""
    command = [sys.executable, "-c", f"{COMPUTING}leave({code})"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "the last words\n", "")


def test_what_is_kept_with_the_run_is_waited_for() -> None:
    """The answer that was stopped by quitting is in the transcript."""
    slow = "import threading, time\nfrom tui.main import leave\n"
    slow += "threading.Thread(target=lambda: (time.sleep(0.2), print('kept')), name='chat', daemon=True).start()\n"
    done = subprocess.run([sys.executable, "-c", f"{slow}leave(0)"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "kept\n")
