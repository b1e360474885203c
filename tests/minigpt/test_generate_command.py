"""`minigpt generate`: a text streamed, the same for the same seed; and everything wrong in one message."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from minigpt.cli import main
from minigpt.cli.generate import _printable
from minigpt.rundir import Checkpoint, RunDirectory
from tests.command_line import assert_refused
from tests.training import tiny_config, train, write_corpus


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished run, to generate from; not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    return train(tiny_config(write_corpus(folder / "corpus.txt"), folder / "run", device={"threads": 1}))


@pytest.fixture
def written(trained: RunDirectory, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What `minigpt generate` prints for the run, with these options."""

    def write(*options: str) -> str:
        capsys.readouterr()
        assert main(["generate", str(trained.path), "--max-new-tokens", "30", "--device", "cpu", *options]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return str(out)

    return write


# ── what works ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_model_continues_a_text_alike_for_the_same_seed(written: Callable[..., str]) -> None:
    text = written("--prompt", "salt")
    assert text.startswith("salt")
    assert text.endswith("\n")
    assert len(text) == len("salt") + 30 + 1
    assert text == written("--prompt=salt", "--seed", "1", "--checkpoint", "last")
    assert text == written("--prompt", "salt", "--checkpoint", "40", "--top-k=200", "--temperature", "0.8")
    assert text != written("--prompt", "salt", "--seed", "2")
    assert written("--prompt", "salt", "--checkpoint", "10") != text


def test_options_are_spelled_with_dashes_or_underscores(written: Callable[..., str]) -> None:
    """The references' spelling is theirs, ours is ours."""
    for dashes in (["--max-new-tokens", "12"], ["--top-k", "3"], ["--top-p=0.5"], ["--repetition-penalty", "2"]):
        underscores = [option.replace("-", "_").replace("__", "--") for option in dashes]
        assert underscores != dashes
        assert written(*dashes) == written(*underscores)


def test_each_setting_reaches_the_model(written: Callable[..., str]) -> None:
    """An option that is read and then forgotten would go unnoticed: the text is as good."""
    text = written()
    for options in (
        ["--temperature", "0"],
        ["--top-k", "1"],
        ["--top-p", "0.1"],
        ["--min-p", "1"],
        ["--repetition-penalty", "5"],
        ["--stop", text.strip()[2]],
        ["--seed", "9"],
        ["--checkpoint", "10"],
    ):
        assert written(*options) != text, options
    greedy = written("--temperature", "0")
    assert greedy == written("--top-k", "1") == written("--top-p", "0.0001") == written("--min-p", "1")


def test_a_checkpoint_is_named_by_its_path_too(
    trained: RunDirectory,
    written: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And then the run need not be named: the path is in it."""
    path = trained.checkpoints_dir / "step-00000010"
    expected = written("--checkpoint", "10")
    for given in (str(path), f"{path}/", str(path / "model.safetensors")):
        assert written("--checkpoint", given) == expected
        assert main(["generate", "--checkpoint", given, "--max-new-tokens", "30"]) == 0
        assert capsys.readouterr().out == expected


def test_a_copied_checkpoint_needs_its_run_named(
    trained: RunDirectory,
    written: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "kept"
    shutil.copytree(trained.checkpoints_dir / "step-00000010", copy)
    assert written("--checkpoint", str(copy)) == written("--checkpoint", "10")
    assert_refused(capsys, ["generate", "--checkpoint", str(copy)], "is not inside a run; minigpt generate RUN")


def test_an_empty_prompt_begins_with_a_random_token(written: Callable[..., str]) -> None:
    texts = {written("--prompt", "", "--seed", str(seed)) for seed in range(8)}
    assert len({text[0] for text in texts}) > 2
    assert all(len(text) == 1 + 30 + 1 and not text[0].isspace() for text in texts)
    assert written("--prompt", "", "--seed", "3") == written("--prompt=", "--seed=3")


@pytest.mark.parametrize("prompt", ["salt", ""])
def test_each_of_several_samples_can_be_had_alone(written: Callable[..., str], prompt: str) -> None:
    several = written("--prompt", prompt, "--num-samples", "3", "--seed", "5")
    alone = [written("--prompt", prompt, "--seed", str(seed)) for seed in (5, 6, 7)]
    heads = [f"=== sample {number} of 3, seed {seed} ===\n" for number, seed in ((1, 5), (2, 6), (3, 7))]
    assert several == "\n".join(head + text for head, text in zip(heads, alone, strict=True))
    assert len(set(alone)) == 3


def test_the_text_ends_before_the_stop_string(written: Callable[..., str]) -> None:
    text = written("--max-new-tokens", "200")
    stop = text[20:23]
    assert written("--max-new-tokens", "200", "--stop", stop) == text[: text.index(stop, 1)] + "\n"
    line = written("--prompt", "salt", "--max-new-tokens", "200", "--stop", r"\n")
    assert line.count("\n") == 1


def test_unknown_characters_are_replaced_or_dropped_on_request(written: Callable[..., str]) -> None:
    assert written("--prompt", "s§alt", "--unknown", "drop") == written("--prompt", "salt")
    assert written("--prompt", "sált", "--unknown", "replace").startswith("s")


def test_what_a_model_writes_is_inert(
    trained: RunDirectory, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text may hold escape codes, and a model that learned it writes them."""
    monkeypatch.setattr("minigpt.generate.generate", lambda *_: iter(["\x1b]0;", "owned\x07\t.\r", "\n.\r."]))
    assert main(["generate", str(trained.path), "--prompt", "salt", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == "salt␛]0;owned␇\t.\n.␍.\n"


@pytest.mark.parametrize("pieces", [["a\r\nb"], ["a\r", "\nb"], ["a", "\r", "\n", "b"]])
def test_a_line_of_a_windows_text_ends_plainly_however_it_comes(pieces: list[str]) -> None:
    """A character model writes carriage return and line feed one after the other: each line ended in a ␍."""
    assert "".join(_printable(pieces)) == "a\nb"
    assert "".join(_printable([*pieces, "\r"])) == "a\nb␍"


def test_the_help_is_plain_and_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "run", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--prompt TEXT", "--max-new-tokens INT", "--top-k INT", "--device auto|cpu|cuda|mps", "--unknown"):
        assert option in out
    assert "default: 200" in out
    assert not set(out) & set("╭│╰\x1b")


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────


def test_everything_wrong_comes_in_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    """Before the run is even looked for: one correction, not seven."""
    arguments = ["generate", "none", "--max-new-tokens", "0", "--top_k", "-1", "--seed=-1", "--temperature", "nan"]
    arguments += [
        "--top-p",
        "0",
        "--device",
        "gpu",
        "--tempreature",
        "1",
        "--prompt",
        b"caf\xe9".decode(errors="surrogateescape"),
        "--stop",
    ]
    err = assert_refused(
        capsys,
        arguments,
        "--max-new-tokens 0: must be at least 1",
        "--top_k -1: must be at least 0",
        "--seed -1: must be at least 0",
        "--temperature nan: must be a finite number",
        "--top-p 0: must be greater than 0",
        "--device gpu: must be 'auto', 'cpu', 'cuda' or 'mps'",
        "--tempreature: no such option; did you mean --temperature?",
        "--stop: needs a value",
        "is not UTF-8 text",
    )
    assert len(err.splitlines()) == 9


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--prompt", "salt§"], "§ (U+00A7 SECTION SIGN)"),
        (["--prompt", "salt§"], "--unknown replace"),
        (["--prompt", "§", "--unknown", "drop"], "the prompt is empty"),
        (["--checkpoint", "7"], "has no checkpoint 7; ask for last, best or one of "),
        (["--checkpoint", "\x1b[2J"], "has no checkpoint ␛[2J"),
        (["--checkpoint", "./none"], "--checkpoint ./none: no such directory"),
        (["--checkpoint", "/"], "--checkpoint /: holds no checkpoint"),
        (["--checkpoint", "/" + "x" * 300], "File name too long"),
        (["--seed", str(2**63 - 1), "--num-samples", "2"], "the last sample's seed"),
        (["salt"], "salt: one run at a time; a text to continue is given by --prompt TEXT"),
    ],
)
def test_a_text_that_cannot_be_continued_is_refused(
    trained: RunDirectory, capsys: pytest.CaptureFixture[str], options: list[str], part: str
) -> None:
    """Before anything is printed: what stands on stdout is the model's text alone."""
    assert_refused(capsys, ["generate", str(trained.path), "--device", "cpu", *options], part)


def test_without_a_run_it_asks_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(capsys, ["generate", "--prompt", "salt"], "which run? minigpt generate RUN --prompt TEXT")


def test_a_checkpoint_of_another_run_is_refused(
    trained: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two vocabularies of the same size would give a text of wrong letters, and no error."""
    other = tmp_path / "other"
    shutil.copytree(trained.path, other)
    path = str(other / "checkpoints" / "step-00000010")
    assert_refused(capsys, ["generate", str(trained.path), "--checkpoint", path], "belongs to the run other, not to")


# ── beside a training ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_checkpoint_that_is_removed_before_it_is_read_is_asked_for_again(
    trained: RunDirectory,
    written: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A trainer that keeps few checkpoints removes the one that was the last a moment ago."""
    expected = written("--prompt", "salt")
    found = RunDirectory.checkpoint
    answers = [Checkpoint(39, trained.checkpoints_dir / "step-00000039")]

    def race(self: RunDirectory, which: str = "last") -> Checkpoint:
        return answers.pop() if answers else found(self, which)

    monkeypatch.setattr(RunDirectory, "checkpoint", race)
    assert written("--prompt", "salt") == expected
    assert answers == []


def test_a_damaged_checkpoint_is_not_asked_for_again(
    trained: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "damaged"
    shutil.copytree(trained.path, copy)
    weights = copy / "checkpoints" / "step-00000040" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert_refused(capsys, ["generate", str(copy)], "is damaged")


def test_ctrl_c_ends_the_text_quietly(trained: RunDirectory) -> None:
    """No traceback, and the shell's prompt on a line of its own; as a process of its own, since a signal it is."""
    minigpt = [sys.executable, "-c", "from minigpt.cli import entry_point; entry_point()"]
    command = [*minigpt, "generate", str(trained.path), "--max-new-tokens", "1000000", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        begun = process.stdout.read(20)  # streamed: it comes long before the end
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.stderr.read() == b""
    assert process.returncode == 130
    assert len(begun) == 20
    assert rest.endswith(b"\n")
