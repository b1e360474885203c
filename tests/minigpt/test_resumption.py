"""Going on with a run under changed settings: longer, or otherwise, but never as another run."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.cli import main
from minigpt.config import Config
from minigpt.configfile import keys
from minigpt.errors import UserError
from minigpt.journal import Row, journal_rows, read_journal
from minigpt.resumption import changed_config, resumed_config
from minigpt.rundir import RunDirectory, RunState
from minigpt.session import TrainingSession
from tests.training import assert_same_run, finish, tiny_config, train, write_corpus


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run of 20 steps, 42.2 to the epoch, that has finished. Not to be written to."""
    return train(shape(tmp_path_factory.mktemp("original"), max_steps=20))


def shape(directory: Path, **train_section: Any) -> Config:
    corpus = write_corpus(directory / "corpus.txt")
    return tiny_config(corpus, directory / "run", train=train_section, device={"threads": 1})


@pytest.fixture
def run(original: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A copy to go on with."""
    return RunDirectory(shutil.copytree(original.path, tmp_path / "copy"))


def started(run: RunDirectory) -> Row:
    return [row for row in journal_rows(run.events_file) if row["event"] == "started"][-1]


def changes(run: RunDirectory, **settings: str) -> dict[str, tuple[Any, Any]]:
    return changed_config(run, run.config(), {key.replace("__", "."): text for key, text in settings.items()})[1]


# ── going on ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_finished_run_is_made_longer(run: RunDirectory) -> None:
    """And `started` says what was changed, the run's configuration keeps it, and every step is there once."""
    finish(TrainingSession(resume=run, changes={"train.max_steps": "32", "train.log_interval": "2"}))
    assert started(run)["changed"] == {"train.log_interval": [4, 2], "train.max_steps": [20, 32]}
    assert (run.config().train.max_steps, run.config().train.log_interval) == (32, 2)
    steps = [row["step"] for row in read_journal(run.metrics_file)]
    assert steps == [0, 4, 8, 12, 15, 16, 20, *range(22, 33, 2)]
    assert run.state() is RunState.FINISHED and run.checkpoint().step == 32
    finish(TrainingSession(resume=run, changes={"train.max_steps": "34"}))
    assert started(run)["changed"] == {"train.max_steps": [32, 34]}


def test_nothing_changed_is_the_same_run(run: RunDirectory, tmp_path: Path) -> None:
    """Settings that are given as they are change nothing, bit for bit, and are not called a change."""
    before = run.config_file.read_bytes()
    for kept in run.checkpoints()[2:]:
        shutil.rmtree(kept.path)
    other = RunDirectory(shutil.copytree(run.path, tmp_path / "other"))
    finish(TrainingSession(resume=run, changes={"train.max_steps": "20", "model.n_layer": "1", "train.seed": "1337"}))
    finish(TrainingSession(resume=other))
    assert "changed" not in started(run) and run.config_file.read_bytes() == before
    assert_same_run(run, other)


def test_a_resumption_that_is_refused_changes_nothing(run: RunDirectory) -> None:
    """Its settings were written down before it was found out that there is no checkpoint to go on from."""
    for kept in run.checkpoints():
        (kept.path / "training.safetensors").write_bytes(b"rubbish")
    before = run.config_file.read_bytes()
    with pytest.raises(UserError, match="is damaged"):
        finish(TrainingSession(resume=run, changes={"train.max_steps": "99", "train.learning_rate": "0.5"}))
    assert run.config_file.read_bytes() == before


def test_from_the_command_line(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--resume", str(run.path)]) == 2
    assert "make it longer: --train.max-steps 40" in capsys.readouterr().err
    assert main(["train", "--resume", str(run.path), "--train.max-steps", "24"]) == 0
    assert "train.max_steps" in capsys.readouterr().out
    assert main(["train", f"--resume={run.path}", "--train.max-stepss=30", "--model.n-layer=2"]) == 2
    error = capsys.readouterr().err
    assert "2 problems" in error and "did you mean train.max_steps?" in error
    assert "--model.n-layer 2: the weights trained so far belong to another model" in error
    assert run.config().train.max_steps == 24


def test_a_device_that_is_left_to_the_rules_is_written_down_as_it_came_out(run: RunDirectory) -> None:
    """Later resumptions must not choose otherwise; the same holds for a device that was changed by name."""
    finish(TrainingSession(resume=run, changes={"train.max_steps": "22", "device.precision": "auto"}))
    assert run.config().device.precision == "float32"


# ── length ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_steps_and_epochs_replace_each_other(run: RunDirectory) -> None:
    """A run of 2 epochs is one of 85 steps, and both are written down: the one left as it was would end it as before."""
    assert changes(run, train__max_epochs="2") == {"train.max_epochs": (0.0, 2.0), "train.max_steps": (20, 85)}
    text = run.config_file.read_text()
    run.config_file.write_text(
        text.replace("max_steps = 20", "max_steps = 85").replace("max_epochs = 0", "max_epochs = 2")
    )
    assert changes(run, train__max_steps="500") == {"train.max_epochs": (2.0, 0.0), "train.max_steps": (85, 500)}
    assert changes(run, train__max_epochs="3") == {"train.max_epochs": (2.0, 3.0), "train.max_steps": (85, 127)}
    both = changes(run, train__max_epochs="3", train__max_steps="100")
    assert both == {"train.max_epochs": (2.0, 3.0), "train.max_steps": (85, 100)}
    assert changes(run, train__max_epochs="0") == {"train.max_epochs": (2.0, 0.0)}
    assert changes(run, train__max_steps="0") == {}  # the epochs are then what ends it, as they are


def test_epochs_are_counted_anew_where_the_run_does_not_tell(run: RunDirectory) -> None:
    run.events_file.write_text("")
    config, changed = changed_config(run, run.config(), {"train.max_epochs": "0.6"})
    assert config.train.max_steps == 0 and changed["train.max_epochs"] == (0.0, 0.6)
    finish(TrainingSession(resume=run, changes={"train.max_epochs": "0.6"}))
    assert run.config().train.max_steps == 26 == run.checkpoint().step


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("train.max_steps", "19", "has come to step 20 already"),
        ("train.max_steps", "3", "has come to step 20 already"),
        ("train.max_epochs", "0.4", r"has come to epoch 0\.4741 already"),
        ("train.max_minutes", "0.000001", "minutes already"),
    ],
)
def test_a_length_that_has_been_reached_is_none(run: RunDirectory, key: str, value: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        changed_config(run, run.config(), {key: value})


# ── what a run must keep ──────────────────────────────────────────────────────────────────────────────────────────

_OTHER = {
    "train.batch_size": "8",
    "train.optimizer": "sgd",
    "train.seed": "1",
    "train.ema_decay": "0.9",
    "model.n_layer": "2",
    "model.dropout": "0.5",
    "model.bias_head": "true",
    "data.tokenizer": "byte",
    "data.corpus": "the-play",
    "run.name": "other",
    "run.dir": "other",
}


def test_all_that_would_make_it_another_run_is_refused_at_once(run: RunDirectory) -> None:
    with pytest.raises(UserError) as refused:
        changed_config(run, run.config(), {**_OTHER, "train.max_steps": "1", "train.beta3": "0", "train.beta1": "2"})
    message = str(refused.value)
    assert f"{len(_OTHER) + 3} problems" in message
    for key in [*_OTHER, "train.max_steps", "train.beta3", "train.beta1"]:
        assert f"\n  --{key.replace('_', '-')} " in message
    assert message.count("start a new run for that") == len(_OTHER)
    assert "Traceback" not in message


def test_no_momentum_out_of_nothing(tmp_path: Path) -> None:
    """The checkpoint was taken for a damaged one, and put aside."""
    run = train(shape(tmp_path, max_steps=4, optimizer="sgd", momentum=0.0))
    with pytest.raises(UserError, match="momentum is gathered from the beginning"):
        resumed_config(run, {"train.momentum": "0.9", "train.max_steps": "8"})
    assert changes(run, train__beta1="0.5") == {"train.beta1": (0.9, 0.5)}


_KEYS = [key for key, _ in keys()]
_VALUES = st.one_of(
    st.sampled_from(["0", "1", "20", "40", "-1", "0.5", "1e9", "true", "cpu", "", "null", "[]", "x", "\n", "\udcff"]),
    st.text(max_size=8),
)


@given(st.dictionaries(st.one_of(st.sampled_from(_KEYS), st.text(max_size=12)), _VALUES, max_size=4))
def test_anything_typed_is_a_valid_configuration_or_one_message(
    original: RunDirectory, overrides: dict[str, str]
) -> None:
    """And never another run: what a run must keep is kept."""
    config = original.config()
    try:
        new, changed = changed_config(original, config, overrides)
    except UserError as error:
        assert "\x1b" not in str(error)
        return
    assert new.model == config.model and new.data == config.data
    assert (new.train.batch_size, new.train.seed) == (config.train.batch_size, config.train.seed)
    assert Config.model_validate(new.model_dump()) == new
    assert set(changed) <= {*overrides, "train.max_steps", "train.max_epochs"}
