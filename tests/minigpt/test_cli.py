"""The command line: what works, and what is refused by one message and exit code 2, with nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minigpt.corpus
import minigpt.known_files
from minigpt.cli import main
from minigpt.config import Config
from minigpt.rundir import RunDirectory, RunState
from tests.command_line import assert_refused
from tests.training import tiny_config, train, write_corpus

MINIGPT = [sys.executable, "-c", "from minigpt.cli import entry_point; entry_point()"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A finished run, to generate from; not to be written to."""
    folder = tmp_path_factory.mktemp("trained")
    return train(tiny_config(write_corpus(folder / "corpus.txt"), folder / "run", device={"threads": 1}))


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--train.lr", "1", "--train.lr 1: unknown key; did you mean"),
        ("--train.max-steps", "many", "--train.max-steps many: must be a whole number"),
        ("--train.max-steps", "-5", "--train.max-steps -5: must be at least 0"),
        ("--data.corpus", "", "--data.corpus : must not be empty"),
        ("--data.corpus", "none.txt", "none.txt: no such text file"),
        ("--data.corpus", "nothing", "has no text file in it"),
        ("--data.corpus", "pipe", "pipe: is a pipe or a device"),
        ("--data.corpus", "empty.txt", "empty.txt: is empty"),
        ("--data.corpus", "latin1.txt", "latin1.txt: is not UTF-8 text: byte 0xe9 at position 3 (line 1)"),
        ("--data.corpus", "short.txt", "the corpus is too short: its validation split has 2 tokens"),
        ("--data.corpus", "x" * 300, "cannot be read: File name too long"),
        ("--run.dir", ".", "exists already, and no run is ever started over"),
        ("--run.dir", "corpus.txt/run", "cannot make the directory of the run: a file is in its way"),
        ("--run.dir", "x" * 300, "cannot make the directory of the run: File name too long"),
        ("--run.name", "a/b", "--run.name a/b: must be up to 100 letters"),
        ("--sample.prompt", "§", "§ (U+00A7 SECTION SIGN)"),
        ("--device.compile", "yes", "--device.compile yes: must be true or false"),
    ],
)
def test_a_training_that_cannot_begin_is_refused(
    tmp_path: Path,
    tiny_toml: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    value: str,
    part: str,
) -> None:
    """And no run directory is left behind, half made, for the list of runs to show."""
    (tmp_path / "empty.txt").touch()
    (tmp_path / "nothing").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin1.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "short.txt").write_text("salt and tide " * 2)
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert_refused(capsys, ["train", str(tiny_toml), option, value], part)
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and path != tmp_path / "runs"] == []


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("wrong.toml", b"[train]\nlr = 1\n", ["wrong.toml: one problem", "train.lr = 1: unknown key"]),
        ("wrong.toml", b'[train]\nmax_steps = "5"\n', ['train.max_steps = "5": must be a whole number']),
        ("wrong.toml", b"[train]\nbeta1 = 1\n[model]\nn_head = 0\n", ["2 problems", "train.beta1 = 1", "model.n_head"]),
        ("wrong.toml", b"[train\n", ["wrong.toml: is not valid TOML"]),
        ("wrong.toml", b"\xff", ["wrong.toml: is not UTF-8 text (byte 0)"]),
        ("wrong.toml", None, ["wrong.toml: no such file"]),
        ("my diary.txt", b"Dear diary,\n", ["diary.txt: is a text", "quickstart --data.corpus 'my diary.txt'"]),
        ("large.txt", b"Dear diary,\n" * 100_000, ["large.txt: is a text", "quickstart --data.corpus large.txt"]),
        (".", None, ["is a directory, where a TOML file is needed"]),
        ("quickstrat", None, ["quickstrat: neither a preset nor a file; did you mean quickstart?"]),
        ("x" * 300, None, ["cannot be read: File name too long"]),
        ("~nobody-of-this-name/a.toml", None, ["no such file"]),
        ("\x1b]0;owned\x07", None, ["neither a preset nor a file"]),
    ],
)
def test_a_configuration_that_will_not_do_is_refused(
    tmp_path: Path,
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: bytes | None,
    parts: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert_refused(capsys, ["train", name], *parts)
    assert not runs.exists()


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["sing"], "sing: no such command; there are train, generate, evaluate, "),
        (["train", "--train.seed", "5"], "the preset or TOML file comes first"),
        (["train", "--foo", "quickstart"], "unknown option --foo"),
        (["train", "--train.max-stepz=5"], "unknown option --train.max-stepz; did you mean --train.max-steps?"),
        (["train", "quickstart", "again"], "again: unexpected argument"),
        (["train", "quickstart", "--train.seed"], "--train.seed: needs a value"),
        (["train", "--resume"], "--resume: needs the directory or the name of a run"),
        (["train", "--resume", "none"], "none: no such run"),
        (["train", "--resume", "."], "is a directory, but holds no run"),
        (["train", "--resume", "notes.txt"], "is a file, where the directory of a run is needed"),
        (["train", "quickstart", "--resume=none"], "quickstart: unexpected argument"),
        (["generate", "none"], "none: no such run"),
        (["generate", "."], "is a directory, but holds no run"),
        (["generate", "x" * 300], "File name too long"),
        (["evaluate", "none"], "none: no such run"),
        (["evaluate", "none", "--split"], "--split: needs a value"),
        (["plot", "none"], "none: no such run"),
        (["runs", "all"], "all: `minigpt runs` takes no arguments"),
        (["presets", "--long"], "--long: `minigpt presets` takes no arguments"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(
    tmp_path: Path,
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    part: str,
) -> None:
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert_refused(capsys, arguments, part)
    assert not runs.exists()


def test_a_run_that_has_finished_is_not_gone_on_with(trained: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    before = trained.events_file.read_bytes()
    assert_refused(capsys, ["train", "--resume", str(trained.path)], "has finished already, with step 40 of 40")
    assert trained.events_file.read_bytes() == before


def test_an_error_of_no_known_kind_is_told_too(
    tiny_toml: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a run had its directory, a crash said only that nothing was trained."""

    def fail(*_: object) -> None:
        raise RuntimeError("the moon is full")

    monkeypatch.setattr(minigpt.corpus.Corpus, "survey", fail)
    assert main(["train", str(tiny_toml)]) == 1
    assert capsys.readouterr().err == "nothing was trained: the moon is full\n"


# ── what works ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_training_without_a_screen_ends_with_the_way_to_its_text(
    tiny_toml: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", str(tiny_toml), "--run.name", "mine", "--train.max_steps=8"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert f"minigpt generate {runs}/mine --prompt" in out
    run = RunDirectory.open("mine")
    assert run.state() == RunState.FINISHED
    assert run.config().train.max_steps == 8
    # The name that is made up tells the preset or file.
    assert main(["train", str(tiny_toml), "--train.max-steps", "1"]) == 0
    assert any("-tiny-" in path.name for path in runs.iterdir())


def test_the_runs_are_listed_with_state_and_losses(
    runs: Path, tiny_config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs"]) == 0
    assert "no runs in" in capsys.readouterr().out
    run = train(tiny_config)
    (runs / "\x1b[2J").mkdir()
    (runs / "\x1b[2J" / "config.toml").touch()
    assert main(["runs"]) == 0
    out = capsys.readouterr().out
    (line,) = (line for line in out.splitlines() if run.name in line)
    assert "finished" in line
    assert " 40 " in line
    (other,) = (line for line in out.splitlines() if "␛[2J" in line)
    assert "crashed" in other
    assert "\x1b" not in out


def test_the_presets_are_listed_whatever_becomes_of_their_corpora(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One damaged file of a corpus made the whole list an error."""
    monkeypatch.setattr(minigpt.known_files, "cache_dir", lambda: tmp_path)
    for content, shown in ((None, "804,096"), ("To be.", "no corpus")):
        monkeypatch.setenv("MINIGPT_DATA_DIR", str(tmp_path))
        if content:
            (tmp_path / "tinyshakespeare.txt").write_text(content)
        assert main(["presets"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert any("quickstart" in line and "the-play" in line for line in lines)
        assert any("shakespeare-cpu" in line and shown in line for line in lines)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["help"], ["runs", "--help"]])
def test_the_usage_names_all_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        assert main(arguments) == 0
    except SystemExit as ended:
        assert ended.code == 0
    out = capsys.readouterr().out
    for command in ("train CONFIG", "train --resume RUN", "generate RUN", "minigpt runs", "minigpt presets"):
        assert command in out


@pytest.mark.parametrize("arguments", [["--help"], ["quickstart", "--help"], ["quickstart", "--train.seed", "1", "-h"]])
def test_help_of_train_is_found_wherever_it_is_asked_for(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """`minigpt train quickstart --help` said that --help needs a value."""
    assert main(["train", *arguments]) == 0
    assert "--train.learning-rate" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("minigpt-tui ")


# ── as a process of its own ───────────────────────────────────────────────────────────────────────────────────────


def test_the_script_ends_with_the_code_and_one_message(runs: Path) -> None:
    result = subprocess.run([*MINIGPT, "train", "quikstart"], check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("minigpt: quikstart: neither a preset nor a file; did you mean quickstart?")
    assert not runs.exists()


def test_an_argument_that_is_not_utf_8_is_no_crash() -> None:
    result = subprocess.run([*MINIGPT, "train", "quickstart", b"--run.about=caf\xe9"], check=False, capture_output=True)
    assert result.returncode == 2
    assert b"is not UTF-8 text" in result.stderr
    assert b"Traceback" not in result.stderr


def test_an_output_that_is_not_utf_8_or_closed_is_no_crash() -> None:
    """The table of runs is drawn with characters that Latin-1 has not."""
    latin = subprocess.run(
        [*MINIGPT, "presets"], check=False, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "latin-1"}
    )
    assert (latin.returncode, latin.stderr) == (0, b"")
    assert b"quickstart" in latin.stdout
    closed = subprocess.run(
        f'exec "{sys.executable}" -c "{MINIGPT[2]}" runs >&-', shell=True, check=False, capture_output=True
    )
    assert (closed.returncode, closed.stderr) == (0, b"")


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`minigpt train --help | head -1` must not end in a traceback."""
    with subprocess.Popen([*MINIGPT, "train", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_platform_without_locks_is_one_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards Windows, where importing fcntl ended in a traceback."""
    monkeypatch.setattr("minigpt.cli.importlib.util.find_spec", lambda _: None)
    assert main(["runs"]) == 2
    assert capsys.readouterr().err == "minigpt: needs Linux, macOS or, on Windows, WSL\n"
