"""The command line: what works, and what is refused by one message and exit code 2, with nothing left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minigpt.corpus
from minigpt.cli import _printable, main
from minigpt.config import Config
from minigpt.rundir import RunDirectory, RunState
from tests.training import tiny_config, train, write_corpus

MINIGPT = [sys.executable, "-c", "from minigpt.cli import entry_point; entry_point()"]


def lines_without_screen(output: str) -> list[str]:
    """The output of a training but for the lines that say how it goes on."""
    return [line for line in output.splitlines() if not line.startswith("#")]


def assert_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *parts: str) -> str:
    """Run the command; it must end with exit code 2 and exactly one message on stderr, which has all the parts."""
    capsys.readouterr()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert lines_without_screen(out) == []
    assert err.startswith("minigpt: ")
    assert err.count("minigpt: ") == 1
    assert "Traceback" not in err
    assert "\x1b" not in err
    for part in parts:
        assert part in err
    return err


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
        ("--train.max-steps", "-5", "--train.max-steps -5: must be greater than 0"),
        ("--data.corpus", "", "--data.corpus : must not be empty"),
        ("--data.corpus", "none.txt", "none.txt: no such text file"),
        ("--data.corpus", ".", "is a directory; data.corpus takes a text file"),
        ("--data.corpus", "empty.txt", "empty.txt: is empty"),
        ("--data.corpus", "latin1.txt", "latin1.txt: is not UTF-8 text: byte 0xe9 at position 3 (line 1)"),
        ("--data.corpus", "short.txt", "the corpus is too short: its validation split has 2 tokens"),
        ("--data.corpus", "x" * 300, "cannot be read: File name too long"),
        ("--run.dir", ".", "exists already, and no run is ever started over"),
        ("--run.dir", "corpus.txt/run", "cannot make the directory of the run: a file is in its way"),
        ("--run.dir", "x" * 300, "cannot make the directory of the run: File name too long"),
        ("--run.name", "a/b", "--run.name a/b: must be letters, digits"),
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
        (["sing"], "sing: no such command; there are train, generate, runs, presets"),
        (["train", "--train.seed", "5"], "the preset or TOML file comes first"),
        (["train", "quickstart", "again"], "again: unexpected argument"),
        (["train", "quickstart", "--train.seed"], "--train.seed: needs a value"),
        (["train", "--resume"], "--resume: needs the directory or the name of a run"),
        (["train", "--resume", "none"], "none: no such run"),
        (["train", "--resume", "."], "is a directory, but holds no run"),
        (["train", "--resume", "notes.txt"], "is a file, where the directory of a run is needed"),
        (["train", "quickstart", "--resume=none"], "takes no options"),
        (["generate", "none"], "none: no such run"),
        (["generate", "."], "is a directory, but holds no run"),
        (["generate", "x" * 300], "File name too long"),
        (["generate", "none", "--temperature", "nan", "--top-k", "-1"], "--temperature nan: must be between 0 and 10"),
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


def test_several_bad_settings_of_generate_come_in_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "none", "--max-new-tokens", "0", "--top-k", "-1", "--seed", "-1"]
    assert_refused(capsys, arguments, "--max-new-tokens 0", "--top-k -1", "--seed -1")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--prompt", "salt§"], "§ (U+00A7 SECTION SIGN)"),
        (["--prompt", ""], "the prompt is empty"),
        (["--checkpoint", "7"], "has no checkpoint 7; ask for last, best or one of "),
        (["--checkpoint", "\x1b[2J"], "has no checkpoint ␛[2J"),
    ],
)
def test_a_text_that_cannot_be_continued_is_refused(
    trained: RunDirectory, capsys: pytest.CaptureFixture[str], options: list[str], part: str
) -> None:
    """Before anything is printed: what stands on stdout is the model's text alone."""
    assert_refused(capsys, ["generate", str(trained.path), "--device", "cpu", *options], part)


def test_an_option_that_generate_has_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["generate", "none", "--tempreature", "1"])
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "--temperature" in err


def test_a_run_that_has_finished_is_not_gone_on_with(trained: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    before = trained.events_file.read_bytes()
    assert_refused(capsys, ["train", "--resume", str(trained.path)], "has finished already, with step 40 of 40")
    assert trained.events_file.read_bytes() == before


def test_an_error_of_no_known_kind_is_told_too(
    tiny_toml: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before a run had its directory, a crash said only that nothing was trained."""

    def fail(_: Path) -> str:
        raise RuntimeError("the moon is full")

    monkeypatch.setattr(minigpt.corpus, "read_text", fail)
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


def test_a_model_continues_a_text_alike_for_the_same_seed(
    trained: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    def written(*options: str) -> str:
        common = ["generate", str(trained.path), "--prompt", "salt", "--max-new-tokens", "30", "--device", "cpu"]
        assert main([*common, *options]) == 0
        return capsys.readouterr().out

    text = written()
    assert text.startswith("salt")
    assert text.endswith("\n")
    assert len(text) == len("salt") + 30 + 1
    assert text == written("--seed", "1", "--checkpoint", "last") == written("--checkpoint", "40")
    assert text != written("--seed", "2")
    assert written("--checkpoint", "10") != text


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
    monkeypatch.setattr(minigpt.corpus, "cache_dir", lambda: tmp_path)
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
