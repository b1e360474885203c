"""`minigpt evaluate`: the numbers of the training itself, printed and kept, for a split, a file or a checkpoint."""

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from minigpt.cli import main
from minigpt.cli.evaluate import _Progress
from minigpt.journal import read_journal
from minigpt.rundir import RunDirectory
from tests.command_line import assert_refused
from tests.training import tiny_config, train, write_corpus


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    folder = tmp_path_factory.mktemp("evaluated")
    return train(tiny_config(write_corpus(folder / "corpus.txt"), folder / "run", device={"threads": 1}))


@pytest.fixture
def run(original: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A finished run of its own, with its corpus."""
    shutil.copytree(original.path, tmp_path / "run")
    return RunDirectory(tmp_path / "run")


def evaluated(run: RunDirectory, *options: str) -> dict[str, Any]:
    """What evaluation_metrics.json says after `minigpt evaluate`."""
    assert main(["evaluate", str(run.path), "--device", "cpu", *options]) == 0
    metrics: dict[str, Any] = json.loads((run.evaluations_dir / "evaluation_metrics.json").read_text())
    return metrics


@pytest.mark.parametrize("step", ["15", "30", "40"])
def test_the_validation_loss_is_that_of_the_training_to_the_last_bit(run: RunDirectory, step: str) -> None:
    """Guards windows, order of sums, precision and threads: two losses of one checkpoint would be one too many."""
    (row,) = (row for row in read_journal(run.metrics_file) if row["step"] == int(step))
    metrics = evaluated(run, "--checkpoint", step)
    assert metrics["nll"] == row["val_loss"]
    assert metrics["perplexity"] == row["val_perplexity"]
    assert metrics["accuracy"] == row["val_accuracy"]
    assert metrics["bits_per_character"] == row["val_bpc"]
    assert metrics["bits_per_byte"] == row["val_bpb"]


@pytest.mark.parametrize(
    "changes",
    [
        {"device": {"threads": 1, "precision": "bf16"}},
        {"device": {"threads": 1}, "train": {"ema_decay": 0.9}},
        {"device": {"threads": 1}, "data": {"tokenizer": "bpe", "bpe_vocab_size": 270}},
        {"device": {"threads": 1}, "model": {"positions": "rotary"}},
    ],
    ids=["bf16", "average", "bpe", "rotary"],
)
def test_it_is_so_with_other_settings_too(tmp_path: Path, changes: dict[str, dict[str, Any]]) -> None:
    """A moving average of the weights is what was evaluated, and what the checkpoint has."""
    base = tiny_config(write_corpus(tmp_path / "corpus.txt"), tmp_path / "other").model_dump()
    length = {"max_steps": 12, "eval_interval": 6, "checkpoint_interval": 6}
    merged = {section: {**base[section], **changes.get(section, {})} for section in base}
    merged["train"].update(length)
    run = train(type(tiny_config(tmp_path, tmp_path)).model_validate(merged))
    rows = read_journal(run.metrics_file)
    for step in (6, 12):
        (row,) = (row for row in rows if row["step"] == step)
        metrics = evaluated(run, "--checkpoint", str(step))
        assert (metrics["nll"], metrics["accuracy"]) == (row["val_loss"], row["val_accuracy"])


def test_what_is_written_says_what_it_is_of(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = evaluated(run, "--checkpoint", "40")
    out, err = capsys.readouterr()
    assert err == ""
    assert metrics["checkpoint"] == "step-00000040"
    assert (metrics["step"], metrics["split"], metrics["run"]) == (40, "val", "run")
    assert metrics["corpus"] == "corpus.txt"
    corpus = Path(run.config().data.corpus)
    assert metrics["corpus_sha256"] == hashlib.sha256(corpus.read_bytes()).hexdigest()
    assert metrics["tokens"] == metrics["characters"] == metrics["bytes"] == 299
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["nll"]))
    assert metrics["device"].startswith("cpu")
    assert metrics["seconds"] > 0
    assert json.loads((run.evaluations_dir / "step-00000040-val.json").read_text()) == metrics
    for part in (
        "step-00000040",
        "corpus.txt, val split",
        f"{metrics['nll']:.4f}",
        f"{metrics['accuracy']:.2%}",
        "299",
    ):
        assert part in out
    assert str(run.evaluations_dir / "evaluation_metrics.json") in out


def test_the_whole_training_split_is_evaluated(run: RunDirectory) -> None:
    metrics = evaluated(run, "--split", "train")
    assert (metrics["split"], metrics["tokens"]) == ("train", 2699)
    assert metrics["nll"] != evaluated(run)["nll"]
    assert {path.name.removeprefix("step-000000")[3:] for path in run.evaluations_dir.glob("step-*")} == {
        "train.json",
        "val.json",
    }


def test_the_best_checkpoint_is_the_default(run: RunDirectory) -> None:
    """What a run is worth, not where it happened to stop; without a best one, the last."""
    run.best_file.write_text('{"step": 15, "val_loss": 1.0}')
    assert evaluated(run)["step"] == 15
    assert evaluated(run, "--checkpoint", "last")["step"] == 40
    assert evaluated(run, "--checkpoint", str(run.checkpoints_dir / "step-00000010"))["step"] == 10
    run.best_file.unlink()
    assert evaluated(run)["step"] == 40


def test_a_checkpoints_path_is_enough(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--checkpoint", str(run.checkpoints_dir / "step-00000010"), "--device", "cpu"]) == 0
    assert "step-00000010" in capsys.readouterr().out


def test_a_file_is_evaluated_whatever_its_length(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shorter than one context, too: no training needs it."""
    text = tmp_path / "a poem.txt"
    text.write_text("salt tide")
    metrics = evaluated(run, "--split", str(text))
    assert (metrics["split"], metrics["corpus"], metrics["tokens"]) == ("file", str(text), 8)
    assert metrics["corpus_sha256"] == hashlib.sha256(b"salt tide").hexdigest()
    assert (run.evaluations_dir / f"step-{metrics['step']:08d}-file-a-poem.txt.json").is_file()
    # A file of a split's name is told by its path.
    (tmp_path / "val").write_text("salt tide")
    monkeypatch.chdir(tmp_path)
    assert evaluated(run, "--split", "./val")["tokens"] == 8


def test_the_metrics_go_where_they_are_asked_for_too(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "here.json"
    for options, written in (
        (["-o", str(target)], target),
        ([f"--output={tmp_path}"], tmp_path / "evaluation_metrics.json"),
    ):
        assert evaluated(run, *options) == json.loads(written.read_text())
    arguments = ["evaluate", str(run.path), "--device", "cpu", "-o", str(tmp_path / "none" / "here.json")]
    capsys.readouterr()
    assert main(arguments) == 2
    assert "cannot be written: No such file or directory" in capsys.readouterr().err


def test_a_run_that_cannot_be_written_to_is_evaluated_all_the_same(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    run.evaluations_dir.write_text("in the way")
    assert main(["evaluate", str(run.path), "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert "perplexity" in out
    assert "not kept in" in err


def test_numbers_that_json_has_not_are_null(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """`NaN` is not JSON, and other programs refuse the file."""
    from minigpt.evaluate import Evaluation

    monkeypatch.setattr("minigpt.evaluations.evaluate", lambda *_, **__: Evaluation(1e6, 0.0, 3, 0, 3))
    metrics = evaluated(run)
    assert metrics["perplexity"] is None
    assert metrics["bits_per_character"] is None


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_corpus_that_has_changed_is_refused(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its held-out tenth is then another text, part of which the model may have been trained on."""
    corpus = tmp_path / "copy.txt"
    corpus.write_text(Path(run.config().data.corpus).read_text() + "salt.\n")
    run.config_file.write_text(run.config_file.read_text().replace(run.config().data.corpus, str(corpus)))
    assert_refused(
        capsys, ["evaluate", str(run.path)], "copy.txt: has changed since run was trained on it", "--split FILE"
    )
    assert not run.evaluations_dir.exists()
    corpus.write_text("§" + corpus.read_text())
    # Said of a text with new characters too, before they are called unknown.
    assert_refused(capsys, ["evaluate", str(run.path)], "copy.txt: has changed since run was trained on it")
    corpus.unlink()
    assert_refused(capsys, ["evaluate", str(run.path), "--split", "train"], "the train split", "no such text file")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "too short: no token"),
        (b"s", "too short: one token"),
        ("salt§".encode(), "§ (U+00A7 SECTION SIGN)"),
        (b"caf\xe9", "is not UTF-8 text: byte 0xe9 at position 3"),
    ],
)
def test_a_file_that_will_not_do_is_refused(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, part: str
) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes(content)
    assert_refused(capsys, ["evaluate", str(run.path), "--split", str(text)], "text.txt: ", part)


def test_unknown_characters_of_a_file_are_replaced_or_dropped_on_request(run: RunDirectory, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("salt§ tide")
    assert evaluated(run, "--split", str(text), "--unknown", "drop")["tokens"] == 8
    assert evaluated(run, "--split", str(text), "--unknown", "replace")["tokens"] in {8, 9}


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--split", "vla"], "--split vla: neither val nor train, nor is there such a file"),
        (["--split", "/"], "is a directory, where a text file is needed"),
        (["--checkpoint", "7"], "has no checkpoint 7"),
        (["other"], "other: one run at a time; a text file is given by --split FILE"),
        (
            ["--splt", "val", "--device", "gpu"],
            "--splt: no such option; did you mean --split?\n  --device gpu: must be",
        ),
    ],
)
def test_options_that_will_not_do_are_refused(
    run: RunDirectory, capsys: pytest.CaptureFixture[str], options: list[str], part: str
) -> None:
    assert_refused(capsys, ["evaluate", str(run.path), *options], part)


def test_the_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--split TEXT", "--checkpoint TEXT", "-o, --output TEXT", "--unknown refuse|replace|drop"):
        assert option in out


def test_progress_is_shown_only_when_it_takes_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr("minigpt.cli.evaluate.time.monotonic", lambda: now[0])
    progress = _Progress()
    for tenth in range(260):
        now[0] = 100 + tenth / 10
        progress(f"evaluating: {tenth}")
    progress.clear()
    assert capsys.readouterr().err.splitlines() == ["evaluating: 10", "evaluating: 110", "evaluating: 210"]
