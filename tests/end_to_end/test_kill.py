"""kill -9 at random moments, also in the middle of a checkpoint and of a row: `make soak` does the same 200 times."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_killed_again_and_again_it_is_the_undisturbed_run() -> None:
    """Another seed each time; the output of a failed test has it."""
    # numpy's and torch's own threads would begin with the import, and a process with threads must not fork.
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.killing", "--kills", "10"]
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 kills of" in done.stdout
