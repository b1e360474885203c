"""One training of seconds that nobody disturbs, to compare with those that lose their terminal."""

import subprocess
from pathlib import Path

import pytest

from minigpt.rundir import RunDirectory
from tests.end_to_end.terminal import environment, script
from tests.training import tiny_config, write_corpus

STEPS = 1200


@pytest.fixture(scope="session")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that trains long enough for its terminal to be lost and another one to be found."""
    folder = tmp_path_factory.mktemp("steady")
    config = tiny_config(
        write_corpus(folder / "corpus.txt"),
        folder,
        train={"max_steps": STEPS, "log_interval": 20, "eval_interval": 500, "checkpoint_interval": 300},
        sample={"interval": 500},
        device={"threads": 1},
    )
    path = folder / "steady.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def without_a_screen(steady: Path) -> RunDirectory:
    """It, trained by `minigpt train` to its end."""
    run = RunDirectory(steady.parent / "without-a-screen")
    command = [script("minigpt"), "train", str(steady), "--run.dir", str(run.path)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
    return run
