"""Nothing that could execute what a file says, and run directories that are the user's alone."""

import ast
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt.cli import main
from minigpt.commands import send_command, take_commands
from minigpt.evaluations import keep
from minigpt.rundir import RunDirectory
from tests.training import tiny_config, train, write_corpus

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [path for folder in ("minigpt", "tui", "benchmarks") for path in sorted((ROOT / folder).rglob("*.py"))]

# Modules that build objects from bytes, or run what they are given.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "runpy", "codeop"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    ("torch", "load"),
    ("torch", "save"),
    ("torch", "hub"),
    ("torch", "jit"),
    ("torch", "package"),
    ("os", "system"),
    ("os", "popen"),
    ("subprocess", "getoutput"),
    ("subprocess", "getstatusoutput"),
    ("np", "load"),
    ("numpy", "load"),
    ("np", "fromfile"),
    ("ctypes", "CDLL"),
}


def dangers_in(source: str) -> list[str]:
    """What of all that a module has in it, with its line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
            case ast.ImportFrom(module=str(module)):
                taken = [alias.name for alias in node.names if (module.split(".")[0], alias.name) in ATTRIBUTES]
                names = [module] if module.split(".")[0] in MODULES else taken
            case ast.Call(func=ast.Name(id=name)) if name in BUILTINS:
                names = [name]
            case ast.Attribute(value=ast.Name(id=module), attr=attribute) if (module, attribute) in ATTRIBUTES:
                names = [f"{module}.{attribute}"]
            case ast.keyword(arg="allow_pickle" | "shell" | "trust_remote_code", value=value):
                names = [] if isinstance(value, ast.Constant) and value.value is False else [str(node.arg)]
            case ast.keyword(arg="weights_only"):
                names = ["weights_only"]
        found += [f"{getattr(node, 'lineno', '?')}: {name}" for name in names]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_executes_what_a_file_says(path: Path) -> None:
    """A run may come from a stranger: weights are numbers, everything else is JSON or TOML."""
    assert dangers_in(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "from torch import load",
        "eval('1')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import subprocess\nsubprocess.run('x', shell=True)",
        "import os\nos.system('x')",
        "import yaml\nyaml.load('x')",
        "import marshal, shelve",
    ],
)
def test_the_search_finds_them(source: str) -> None:
    assert dangers_in(source)


# ── permissions ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["022", "077", "000"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(int(request.param, 8))
    yield int(request.param, 8)
    os.umask(before)


def test_a_run_is_the_users_alone(tmp_path: Path, umask: int) -> None:
    """Whatever the umask allows, others get neither into the run nor at its command channel."""
    corpus = write_corpus(tmp_path / "corpus.txt")
    run = train(tiny_config(corpus, tmp_path / "run", device={"threads": 1}, train={"max_steps": 4}))
    assert main(["evaluate", str(run.path), "--device", "cpu"]) == 0
    send_command(run.commands_dir, "save")
    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in [run.path, *run.path.rglob("*")]}
    assert len(modes) > 15
    assert {path: oct(mode) for path, mode in modes.items() if mode & umask} == {}
    for directory in (run.path, run.commands_dir, run.checkpoints_dir, run.chat_dir, run.evaluations_dir):
        assert oct(modes[directory]) == "0o700", directory
    assert oct(modes[run.lock_file]) == "0o600"


def test_a_command_channel_that_others_may_write_to_is_closed(tmp_path: Path) -> None:
    """Such as one that was unpacked from an archive, or copied from a disk without permissions.

    Nor may they write to the run's own directory, in which they could put a commands/ of their own in its place.
    """
    run = RunDirectory(tmp_path / "run")
    run.commands_dir.mkdir(parents=True)
    for directory in (run.path, run.commands_dir):
        for mode in (0o777, 0o775, 0o757):
            directory.chmod(mode)
            with run.locked():
                assert stat.S_IMODE(directory.stat().st_mode) == 0o755, (directory, oct(mode))
        directory.chmod(0o750)
        with run.locked():
            assert stat.S_IMODE(directory.stat().st_mode) == 0o750


def test_what_is_no_command_of_a_viewer_is_only_removed(tmp_path: Path) -> None:
    """A link or a pipe in commands/ is not read: opening a pipe would hold up the training."""
    (tmp_path / "elsewhere.json").write_text('{"command": "stop"}')
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "1.json").symlink_to(tmp_path / "elsewhere.json")
    os.mkfifo(commands / "2.json")
    (commands / "3.json").write_text('{"command": "save"}' + " " * 5000)
    (commands / "4.json").write_text('{"command": ["save"]}')
    (commands / "5.json").write_text('{"command": "rm -rf"}')
    sent = send_command(commands, "pause")
    assert [(command.id, command.name) for command in take_commands(commands)] == [(sent, "pause")]
    assert list(commands.iterdir()) == []
    assert (tmp_path / "elsewhere.json").exists()


def test_a_viewer_leaves_nothing_outside_of_the_run(tmp_path: Path) -> None:
    """Through a commands/ or evaluations/ that a stranger's run has as a link."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    (tmp_path / "outside").mkdir()
    for directory in (run.commands_dir, run.evaluations_dir):
        directory.symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="is a link"):
        send_command(run.commands_dir, "stop")
    with pytest.raises(OSError, match="is a link"):
        keep(run, {"split": "val", "step": 5, "corpus": "x"})
    assert list((tmp_path / "outside").iterdir()) == []
