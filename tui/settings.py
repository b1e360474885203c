"""The user's settings: how the screen looks and behaves, in a TOML file of their own that all runs share.

Read before the first frame, hence without pydantic.
"""

import difflib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import tomli

from minigpt.errors import UserError
from minigpt.files import open_regular, write_atomically
from minigpt.inert import inert_line
from minigpt.paths import expand_home

AUTO = "auto"
"""The theme that suits the terminal, see `tui.theme.theme_for`."""

_LARGEST_FILE = 1 << 16  # bytes
_ABOVE_HALF = 0.999


@dataclass(frozen=True)
class Settings:
    """What the file may say. Every key has a default, and docs/settings.md describes it."""

    theme: str = field(default=AUTO, metadata={"allowed": 'a theme, such as "minigpt-dark" or "minigpt-light"'})
    ascii: bool = False
    low_bandwidth: bool = False
    mouse: bool = True
    plain: bool = False
    bell: bool = True
    notifications: bool = True
    smoothing: float = field(default=0.8, metadata={"allowed": f"a number from 0 (off) to {_ABOVE_HALF}"})


DEFAULTS = Settings()
_FIELDS = {field.name: field for field in fields(Settings)}


def settings_file() -> Path:
    """Where the settings are: `MINIGPT_SETTINGS`, or settings.toml in the platform's folder for configurations."""
    if named := os.environ.get("MINIGPT_SETTINGS"):
        return expand_home(named).absolute()
    from platformdirs import user_config_path

    return user_config_path("minigpt-tui") / "settings.toml"


def load_settings() -> Settings:
    """The user's settings; the defaults for all that the file does not say, or without one.

    Raises UserError that lists every problem of the file.
    """
    path = settings_file()
    table = _parse(_read(path), path)
    if problems := [problem for key, value in table.items() if (problem := _problem_of(key, value))]:
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise UserError(f"{inert_line(str(path))}: {count} in the settings\n{listed}")
    given: dict[str, Any] = {key: float(value) if key == "smoothing" else value for key, value in table.items()}
    return Settings(**given)


def save_setting(key: str, value: str | bool | float) -> None:
    """Set one key in the user's file and leave all else there as it is, comments included.

    Raises UserError if the file cannot be read or written; it is then as it was.
    """
    path = settings_file()
    text = _read(path)
    before = _parse(text, path)
    if key in before and before[key] == value and type(before[key]) is type(value):
        return
    try:
        # A link, as those who keep their settings under version control have it, stays one.
        real = Path(os.path.realpath(path))
        if real.exists() and not os.access(real, os.W_OK):
            raise PermissionError(0, "is read-only")
        real.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(real, _with_setting(text, before, key, value))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"{inert_line(str(path))}: the setting {key} cannot be kept: {reason}") from None


def _read(path: Path) -> str:
    shown = inert_line(str(path))
    try:
        # Opened where a link leads to: the user's own folder is no stranger's. But a pipe would wait for ever.
        with open_regular(Path(os.path.realpath(path))) as file:
            data = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{shown}: the settings cannot be read: {reason}") from None
    if len(data) > _LARGEST_FILE:
        raise UserError(f"{shown}: is larger than {_LARGEST_FILE:,} bytes, too large for settings")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{shown}: is not UTF-8 text (byte {error.start})") from None


def _parse(text: str, path: Path) -> dict[str, Any]:
    shown = inert_line(str(path))
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise UserError(f"{shown}: is not valid TOML: {inert_line(str(error))}") from None
    except ValueError:  # Python's, for a number of thousands of digits
        raise UserError(f"{shown}: has a number in it that is too large") from None
    except RecursionError:
        raise UserError(f"{shown}: is nested too deeply") from None


def _problem_of(key: str, value: Any) -> str:
    shown = inert_line(key, 60)
    if key not in _FIELDS:
        near = difflib.get_close_matches(key.lower().replace("-", "_"), _FIELDS, n=1, cutoff=0.6)
        return f"{shown}: unknown key; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(_FIELDS)}")
    given = f"{shown} = {_shown(value)}"
    if key == "theme":
        return _problem_of_theme(given, value)
    if key == "smoothing":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = number and math.isfinite(value) and 0 <= value <= _ABOVE_HALF
        return "" if fits else f"{given}: must be {_FIELDS[key].metadata['allowed']}"
    return "" if isinstance(value, bool) else f"{given}: must be true or false"


def _problem_of_theme(given: str, value: Any) -> str:
    if value == AUTO:
        return ""
    # Only for those who have chosen one: textual is imported soon after anyway.
    from tui.theme import theme_names

    names = [AUTO, *theme_names()]
    if value in names:
        return ""
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5) if isinstance(value, str) else []
    return f"{given}: must be one of {', '.join(names)}" + (f"; did you mean {near[0]}?" if near else "")


def _shown(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return inert_line(text, 60)


def _with_setting(text: str, before: Mapping[str, Any], key: str, value: str | bool | float) -> str:
    """The file's text with one line replaced or added."""
    import tomli_w

    line = tomli_w.dumps({key: value})
    wanted = {**before, key: value}
    # The keys of the file come before its first table, and a table after them would take a key appended to the end.
    lines = text.splitlines(keepends=True)
    first_table = next((at for at, one in enumerate(lines) if one.lstrip().startswith("[")), len(lines))
    place = next((at for at in range(first_table) if lines[at].partition("=")[0].strip() == key), None)
    kept = "" if first_table == 0 or lines[first_table - 1].endswith("\n") else "\n"
    changed = (
        [*lines[:first_table], kept, line, *lines[first_table:]]
        if place is None
        else [*lines[:place], _with_comment_of(lines[place], line), *lines[place + 1 :]]
    )
    candidate = "".join(changed)
    try:
        if tomli.loads(candidate) == wanted:
            return candidate
    except ValueError:
        pass
    # Something that spans lines, a key in quotes: its comments go, its values stay.
    return tomli_w.dumps(wanted)


def _with_comment_of(old: str, new: str) -> str:
    _, mark, comment = old.partition("#")
    return f"{new.rstrip()}  # {comment.strip()}\n" if mark else new
