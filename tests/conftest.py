"""What all tests share: runs go to a temporary directory, and a training that takes a second."""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from minigpt.config import Config
from tests.training import tiny_config as make_tiny_config
from tests.training import write_corpus

# The machines of CI are slow and uneven: what an example costs is no failure.
settings.register_profile("minigpt", deadline=None, max_examples=30, print_blob=True)
settings.load_profile("minigpt")


# What is started in the background or by nohup ignores these, and so would the programs that the tests start and signal.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# The programs that the tests start are to be this checkout's, not whichever is installed.
_ROOT = Path(__file__).resolve().parents[1]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))


def pytest_collection_finish() -> None:
    """Look for garbage in what the tests make, and rarely: in all of torch it takes a quarter of their time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs go in this test; not made yet."""
    path = tmp_path / "runs"
    monkeypatch.setenv("MINIGPT_RUNS_DIR", str(path))
    return path


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the program remembers what its user has seen; neither that nor the settings are the user's own."""
    path = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(path))
    monkeypatch.setenv("MINIGPT_SETTINGS", str(tmp_path / "settings.toml"))
    return path


@pytest.fixture
def tiny_config(tmp_path: Path) -> Config:
    """A model of a few thousand parameters on a text of 3,000 characters; trained in about a second."""
    corpus = write_corpus(tmp_path / "corpus.txt")
    return make_tiny_config(corpus, tmp_path / "runs" / "tiny", device={"threads": 1})


@pytest.fixture
def tiny_toml(tmp_path: Path) -> Path:
    """The same configuration as a file, for what reads one; its runs get names of their own."""
    config = make_tiny_config(write_corpus(tmp_path / "corpus.txt"), tmp_path, device={"threads": 1})
    path = tmp_path / "tiny.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    return path


@pytest.fixture
def tinyshakespeare() -> Path:
    """Tiny Shakespeare's file; skips the test where it is not at hand."""
    given = os.environ.get("MINIGPT_DATA_DIR")
    for folder in (*([Path(given)] if given else []), _ROOT.parent / "shared" / "data"):
        if (folder / "tinyshakespeare.txt").is_file():
            return folder / "tinyshakespeare.txt"
    pytest.skip("needs tinyshakespeare.txt in MINIGPT_DATA_DIR or ../shared/data")
