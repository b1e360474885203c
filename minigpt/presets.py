"""The presets: one TOML file each in configs/. Free of pydantic and torch, so that the first frame can list them."""

import difflib
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.paths import expand_home, presets_dir, runs_dir


@dataclass(frozen=True)
class Preset:
    """A preset as a list shows it: its name, what it is for in one line, and its file."""

    name: str
    about: str
    path: Path


def list_presets() -> list[Preset]:
    """All presets, `quickstart` first and the others by name."""
    import tomli

    found = []
    for path in sorted(presets_dir().glob("*.toml")):
        run = tomli.loads(path.read_text(encoding="utf-8")).get("run", {})
        found.append(Preset(path.stem, str(run.get("about", "")), path))
    return sorted(found, key=lambda preset: (preset.name != "quickstart", preset.name))


def find_target(target: str) -> Path:
    """The TOML file that a preset's name or a path means. Raises UserError with the nearest names."""
    names = {path.stem: path for path in presets_dir().glob("*.toml")}
    if target in names:
        return names[target]
    path = expand_home(target)
    try:
        if path.suffix == ".toml" or path.exists():
            return path
    except (OSError, ValueError):
        return path  # such as a name too long: reading it says so
    shown = inert_line(target)
    with suppress(OSError, ValueError):
        if (runs_dir() / target / "config.toml").is_file():
            raise UserError(f"{shown}: is a run. To go on with it: minigpt train --resume {shlex.quote(shown)}")
    near = [*difflib.get_close_matches(target, names, n=1, cutoff=0.5), *_runs_like(target)]
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    raise UserError(
        f"{shown}: neither a preset nor a file{hint} There is no run of that name either: `minigpt runs` lists them. "
        f"Presets: {', '.join(sorted(names))}. A path of your own ends in .toml."
    )


def _runs_like(target: str) -> list[str]:
    """The names of the newest runs that have this in their name, or are nearly written like it."""
    try:
        names = sorted((path.name for path in runs_dir().iterdir() if (path / "config.toml").is_file()), reverse=True)
    except OSError:
        return []
    having = [name for name in names if target.lower() in name.lower()]
    return [shlex.quote(inert_line(name)) for name in (having or difflib.get_close_matches(target, names, n=1))[:2]]
