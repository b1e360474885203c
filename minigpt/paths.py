"""Where things lie: presets and corpora of the package, the user's cache, the runs."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _packaged(name: str) -> Path:
    # A wheel carries configs/ and data/ inside the package; a checkout has them beside it.
    installed = _PACKAGE / f"_{name}"
    return installed if installed.is_dir() else _PACKAGE.parent / name


def presets_dir() -> Path:
    """The directory of the presets, one TOML file each."""
    return _packaged("configs")


def bundled_data_dir() -> Path:
    """The directory of the bundled corpus and of the list of known ones."""
    return _packaged("data")


def cache_dir() -> Path:
    """Where downloaded corpora are kept, by the platform's custom (`~/.cache/minigpt-tui` on Linux)."""
    from platformdirs import user_cache_path

    return user_cache_path("minigpt-tui")


def runs_dir() -> Path:
    """Where runs lie: `MINIGPT_RUNS_DIR`, or `runs` in the current directory."""
    return expand_home(os.environ.get("MINIGPT_RUNS_DIR") or "runs").absolute()


def expand_home(path: str | Path) -> Path:
    """The path with its `~` or `~user` replaced; as it stands if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)
