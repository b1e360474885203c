"""Renaming and deleting runs: only whole, only of runs that nobody trains, and never anything outside of them."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minigpt import run_files
from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.run_files import delete_run, rename_run, size_on_disk
from minigpt.rundir import RunDirectory, list_runs
from tests.recorded import recorded_run


@pytest.fixture
def run(runs: Path) -> RunDirectory:
    return recorded_run(runs)


@pytest.fixture
def treasure(tmp_path: Path) -> Path:
    """Files outside of the runs, which must stay."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    return folder


@contextmanager
def trained_elsewhere(run: RunDirectory) -> Iterator[None]:
    """Another process holds the lock of the run meanwhile."""
    program = (
        "import sys; from pathlib import Path; from minigpt.rundir import RunDirectory\n"
        f"with RunDirectory(Path({str(run.path)!r})).locked(): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield
        process.communicate("")


def contents(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def names() -> list[str]:
    return [run.name for run in list_runs()]


# ── another name ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_gets_another_name(run: RunDirectory) -> None:
    """In its configuration too, where all else stays as it was written, comments included."""
    text = f'# mine\n[model]\nname = "{run.name}"\n[run]\nabout = "a name"\nname = "{run.name}" # old\n[train]\nmax_steps = 5\n'
    run.config_file.write_text(text)
    metrics = run.metrics_file.read_bytes()
    renamed = rename_run(run, "second.try")
    assert names() == ["second.try"] and renamed.path == run.path.with_name("second.try")
    assert renamed.metrics_file.read_bytes() == metrics
    changed = renamed.config_file.read_text()
    assert changed == text[: text.index("[run]")] + text[text.index("[run]") :].replace(run.name, "second.try")


def test_a_resolved_configuration_is_renamed(run: RunDirectory) -> None:
    """It is written by another program than the one that changes it."""
    run.config_file.write_text(
        Config.model_validate({"run": {"name": "first", "about": 'an "old"\nname = "x"'}}).to_toml()
    )
    before = tomllib.loads(run.config_file.read_text())
    after = tomllib.loads(rename_run(run, "second").config_file.read_text())
    assert after == {**before, "run": {**before["run"], "name": "second"}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[run]\nname = ''\n",
        "run = 1\n",
        "[run]\nname = 7\n",
        "\x00",
        "[run\n",
        'run.name = "dotted"\n',
        "a = " + "[" * 900,
    ],
    ids=repr,
)
def test_a_configuration_without_a_name_stays_as_it_is(run: RunDirectory, text: str) -> None:
    """Also a damaged one: the run's name is that of its directory."""
    run.config_file.write_text(text)
    assert rename_run(run, "other").config_file.read_text() == text


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "/tmp/x",
        " a",
        "a ",
        "a\tb",
        "a\n",
        "a" * 101,
        "-x",
        "\x1b[2J",
        "a\u202eb",
        "a\u200bb",
    ],
)
def test_what_is_no_name(run: RunDirectory, name: str) -> None:
    """A name must lead nowhere else and steer no terminal."""
    with pytest.raises(UserError, match="is no name for a run") as refused:
        rename_run(run, name)
    assert "\x1b" not in str(refused.value)
    assert names() == [run.name]


@pytest.mark.parametrize("name", ["night on the docs", "Größe 2", "日本", "a.b_c-d"])
def test_a_name_may_be_of_several_words_and_of_any_script(run: RunDirectory, name: str) -> None:
    """Blanks inside were refused without need. The configuration takes the name too, or the run could not go on."""
    renamed = rename_run(run, name)
    assert names() == [name] and renamed.config().run.name == name


def test_no_name_is_taken_away(run: RunDirectory, treasure: Path) -> None:
    """What is there already is another run, or somebody's file, be it an empty directory or a dangling link."""
    (run.path.parent / "file").write_text("x")
    (run.path.parent / "empty").mkdir()
    (run.path.parent / "dangling").symlink_to(treasure / "nothing")
    for name in ("file", "empty", "dangling", run.name):
        with pytest.raises(UserError, match="already"):
            rename_run(run, name)
    assert names() == [run.name]


def test_a_full_disk_leaves_the_old_name(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two renamings, of the directory and in the configuration."""

    def full(path: Path, content: str | bytes) -> None:
        raise OSError(28, "No space left on device")

    run.config_file.write_text('[run]\nname = "first"\n')
    monkeypatch.setattr(run_files, "write_atomically", full)
    with pytest.raises(UserError, match="No space left"):
        rename_run(run, "second")
    assert names() == [run.name]


# ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_deleted_run_is_gone(run: RunDirectory) -> None:
    other = run.path.with_name("other")
    other.mkdir()
    (other / "config.toml").write_text("")
    delete_run(run)
    assert contents(other.parent) == ["other"]


def test_what_a_killed_deletion_left_is_removed_with_the_next(run: RunDirectory, treasure: Path) -> None:
    """And nothing that only looks like it."""
    (run.path.parent / ".0123456789abcdef.deleted" / "checkpoints").mkdir(parents=True)
    (run.path.parent / ".fedcba9876543210.deleted").symlink_to(treasure)
    (run.path.parent / ".mine.deleted").mkdir()
    assert names() == [run.name]
    delete_run(run)
    assert contents(run.path.parent) == [".fedcba9876543210.deleted", ".mine.deleted"]
    assert (treasure / "thesis.txt").exists()


def test_half_a_run_is_never_listed(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks while gigabytes are removed, or after that was killed, must not find a run without checkpoints."""
    seen: list[list[str]] = []

    def failing(path: Path, **_: object) -> None:
        seen.append(names())
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("shutil.rmtree", failing)
    with pytest.raises(UserError, match=r"could not be removed: Input/output error.*\.deleted"):
        delete_run(run)
    assert seen == [[]] and names() == []


def test_nothing_outside_is_touched(run: RunDirectory, treasure: Path) -> None:
    """A run from a stranger may hold links wherever the trainer has files."""
    for path in (run.chat_dir, run.checkpoints_dir):
        path.rename(path.with_name(f"former-{path.name}"))
        path.symlink_to(treasure)
    for path in (run.samples_file, run.lock_file):
        path.unlink(missing_ok=True)
        path.symlink_to(treasure / "thesis.txt")
    (run.path / "up").symlink_to("..")
    os.mkfifo(run.console_file)
    run = rename_run(run, "strange")
    assert size_on_disk(run) < 10 << 20
    delete_run(run)
    assert not run.path.parent.joinpath("strange").exists()
    assert (treasure / "thesis.txt").read_text() == "years of work"


def test_of_a_link_only_the_link_is_renamed_and_removed(run: RunDirectory, treasure: Path) -> None:
    """The run itself lies on another disk, where it may be listed too."""
    real = treasure / "run"
    run.path.rename(real)
    config = '[run]\nname = "first"\n'
    (real / "config.toml").write_text(config)
    files = sorted(real.rglob("*"))
    run.path.symlink_to(real)
    renamed = rename_run(run, "other")
    assert names() == ["other"] and renamed.path.is_symlink()
    delete_run(renamed)
    assert names() == []
    assert sorted(real.rglob("*")) == files and (real / "config.toml").read_text() == config


@pytest.mark.parametrize("linked", [False, True])
def test_a_run_that_is_trained_is_left_alone(run: RunDirectory, treasure: Path, linked: bool) -> None:
    """By another process, which goes on writing where it began."""
    if linked:
        run.path.rename(treasure / "run")
        run.path.symlink_to(treasure / "run")
    with trained_elsewhere(run):
        with pytest.raises(UserError, match="cannot be renamed meanwhile"):
            rename_run(run, "other")
        with pytest.raises(UserError, match="cannot be deleted meanwhile"):
            delete_run(run)
        assert names() == [run.name]
    delete_run(run)


def test_a_run_that_this_process_trains_is_left_alone(run: RunDirectory) -> None:
    with run.locked(), pytest.raises(UserError, match="Stop it first"):
        delete_run(run)
    assert names() == [run.name]


def test_a_run_that_has_vanished(run: RunDirectory) -> None:
    """Another window deleted it, or its disk is gone."""
    run.path.rename(run.path.with_name("moved"))
    with pytest.raises(UserError, match="not there any more"):
        rename_run(run, "other")
    with pytest.raises(UserError, match="holds no run"):
        delete_run(run)


def test_a_directory_that_holds_no_run_is_not_deleted(run: RunDirectory) -> None:
    """Whatever a caller gives: without a configuration it is somebody's directory."""
    run.config_file.unlink()
    with pytest.raises(UserError, match="holds no run"):
        delete_run(run)
    assert run.metrics_file.exists()


def test_what_is_write_protected_stays_whole(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the run was gone before the protected checkpoint was met."""
    protected = run.checkpoints()[3].path
    protected.chmod(0o555)
    files = sorted(run.path.rglob("*"))
    access = os.access
    # Root may write everywhere; for others this is what the system answers anyhow.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != protected and access(path, mode))
    with pytest.raises(UserError, match="step-00001000 is write-protected"):
        delete_run(run)
    assert sorted({*run.path.rglob("*")} - {run.lock_file}) == sorted({*files} - {run.lock_file})
    protected.chmod(0o755)


# ── how large ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_size_is_what_the_disk_has_less(run: RunDirectory) -> None:
    """A file with a hole claims a terabyte, and a second name of a file takes no second room."""
    before = size_on_disk(run)
    assert before > run.metrics_file.stat().st_size
    with (run.path / "hole").open("wb") as file:
        file.truncate(1 << 40)
    (run.path / "weights").write_bytes(os.urandom(1 << 20))
    os.link(run.path / "weights", run.path / "again")
    (run.path / "outside").symlink_to("/usr")
    assert (1 << 20) <= size_on_disk(run) - before < (1 << 20) + (64 << 10)
    assert size_on_disk(RunDirectory(run.path / "nothing")) == 0
