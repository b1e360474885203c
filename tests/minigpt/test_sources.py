"""What the sources promise of themselves: an engine without a screen, and nothing that a run directory can execute."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.training import tiny_config, write_corpus

ROOT = Path(__file__).resolve().parents[2]
ENGINE = sorted((ROOT / "minigpt").rglob("*.py"))
SOURCES = [*ENGINE, *sorted((ROOT / "tui").rglob("*.py"))]


def imported(path: Path) -> set[str]:
    """The top-level names of all modules that a file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", ENGINE, ids=lambda path: path.stem)
def test_the_engine_imports_no_screen(path: Path) -> None:
    """It must run under torchrun, in a notebook and in a log: the dashboard reads it, never the other way round."""
    assert not imported(path) & {"textual", "textual_plotext", "tui"}


def test_the_whole_engine_loads_without_textual() -> None:
    """Nor may anything that it imports bring it along."""
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ENGINE]
    program = f"import sys, importlib; [importlib.import_module(name) for name in {modules!r}]; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = result.stdout.split()
    assert "minigpt.trainer" in loaded
    assert [name for name in loaded if name.split(".")[0] in {"textual", "tui"}] == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_unpickled(path: Path) -> None:
    """A run directory may come from anybody: loading one must never execute what is in it."""
    dangers = re.compile(r"pickle|torch\.(load|save)\(|(?<![\w.])(eval|exec)\(|marshal|shelve|joblib")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if dangers.search(line)] == []


def test_training_does_without_the_compiler(tmp_path: Path) -> None:
    """torch's optimizers import it when they are first used: a second that everybody waited before the first step."""
    config = tiny_config(write_corpus(tmp_path / "corpus.txt"), tmp_path, train={"max_steps": 11})
    (tmp_path / "tiny.toml").write_text(config.to_toml(), encoding="utf-8")
    words = (
        "import sys; from minigpt.cli import main; "
        "assert not any(main(['train', sys.argv[1], '--train.optimizer', each]) for each in sys.argv[2:]); "
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", words, str(tmp_path / "tiny.toml"), "adamw", "adam", "sgd", "muon"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = result.stdout.split()
    assert "torch.optim" in loaded
    assert {"torch._dynamo", "torch._inductor", "sympy"} & set(loaded) == set()


def test_light_modules_stay_light() -> None:
    """The first frame lists presets and runs: it must not wait for torch, pydantic or tyro."""
    light = ["commands", "errors", "files", "inert", "journal", "metrics", "paths", "presets", "run_name", "rundir"]
    program = f"import sys; {'; '.join(f'import minigpt.{name}' for name in light)}; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert {"torch", "pydantic", "tyro", "textual"} & set(result.stdout.split()) == set()
