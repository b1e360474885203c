"""Same seed, same configuration: same run, whatever happens around it."""

import threading
import time
from pathlib import Path

import pytest

from minigpt.checkpoint import load_for_generation
from minigpt.errors import UserError
from minigpt.generate import generate
from minigpt.rundir import RunDirectory
from minigpt.sampling import Sampling
from minigpt.session import TrainingSession
from tests.training import assert_same_run, tiny_config, train, write_corpus

# Large enough that matrix products are shared by two threads, small enough for seconds.
MODEL = {"n_layer": 2, "n_head": 4, "n_embd": 64, "block_size": 64, "dropout": 0.2}
TRAIN = {"batch_size": 8, "max_steps": 100, "eval_interval": 50, "checkpoint_interval": 25, "keep_checkpoints": 100}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus.txt", 6000)


def test_a_run_beside_a_chat_is_the_run_alone(tmp_path: Path, corpus: Path) -> None:
    """Guards the global random generator and the threads of torch: loading a model or sampling must touch neither."""
    changes = {"model": MODEL, "train": TRAIN, "device": {"threads": 2}}
    alone = train(tiny_config(corpus, tmp_path / "alone", **changes))
    session = TrainingSession(config=tiny_config(corpus, tmp_path / "beside", **changes), preset="test")
    answers: dict[int, str] = {}

    def chat() -> None:
        while session.is_alive():
            run = session.run_directory
            try:
                checkpoint = run.checkpoint("last") if run else None
                if checkpoint is None or run is None:
                    time.sleep(0.01)
                    continue
                model, tokenizer = load_for_generation(run, checkpoint)
                answers[checkpoint.step] = "".join(generate(model, tokenizer, "salt", Sampling(max_new_tokens=30)))
                time.sleep(0.05)
            except UserError:
                time.sleep(0.01)  # no checkpoint yet

    session.start()
    talking = threading.Thread(target=chat)
    talking.start()
    session.join()
    talking.join()
    assert session.error is None
    assert len(answers) >= 2, "the chat hardly ran: this test would show nothing"
    assert_same_run(alone, RunDirectory(tmp_path / "beside"))


def test_only_the_one_place_sets_threads() -> None:
    """torch.set_num_threads called by anybody else during a run changes the order of sums."""
    root = Path(__file__).parents[2]
    found = [
        path.relative_to(root).as_posix()
        for folder in ("minigpt", "tui")
        for path in (root / folder).rglob("*.py")
        if "set_num_threads(" in path.read_text() or "manual_seed_all(" in path.read_text()
    ]
    assert found == ["minigpt/device.py"]


def test_another_seed_is_another_run(tmp_path: Path, corpus: Path) -> None:
    """So that equality above means something."""
    one = train(tiny_config(corpus, tmp_path / "one"))
    other = train(tiny_config(corpus, tmp_path / "other", train={"seed": 5}))
    with pytest.raises(AssertionError):
        assert_same_run(one, other)
