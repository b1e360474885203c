"""From a TOML file and the command line to one valid configuration, or to one message with every problem in it."""

import difflib
import glob
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import tomli
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from minigpt.config import Config, is_json_value
from minigpt.errors import UserError
from minigpt.files import open_regular
from minigpt.inert import inert_line
from minigpt.paths import expand_home
from minigpt.presets import find_target
from minigpt.prompt import typed_prompt

_LARGEST_FILE = 1 << 20
_LARGEST_NUMBER = 2**256


def load_config(target: str | Path, overrides: Mapping[str, str] | None = None) -> Config:
    """Read a preset or TOML file, lay the command line's values over it, and validate the whole once.

    `overrides` maps dotted keys to values as they were typed, such as `{"train.max_steps": "500"}`. Relative paths
    in the file are relative to the file, those of the command line to the current directory.

    Raises UserError that lists all the problems of file and command line together.
    """
    path = find_target(str(target))
    return merge_config(read_toml(path), path, overrides or {})


def read_run_config(path: Path) -> Config:
    """The configuration that a run was started with. Raises UserError if its file is damaged."""
    try:
        return merge_config(read_toml(path, open_regular), path, {})
    except UserError as error:
        raise UserError(
            f"{error}\n  This is a run's own configuration. If a newer version wrote it, update minigpt-tui."
        ) from None


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def read_toml(path: Path, opened: Callable[[Path], BinaryIO] = _open) -> dict[str, Any]:
    """Read one TOML file, as it stands. Raises UserError that says what is wrong with it."""
    shown = inert_line(str(path))
    try:
        with opened(path) as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            if b"\0" not in data:
                _refuse_text(path)
            raise UserError(f"{shown}: too large for a configuration file")
        return tomli.loads(data.decode("utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{shown}: no such file") from None
    except IsADirectoryError:
        hint = "; to go on with this run, use --resume" if (path / "config.toml").is_file() else ""
        raise UserError(f"{shown}: is a directory, where a TOML file is needed{hint}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{shown}: is not UTF-8 text (byte {error.start})") from None
    except tomli.TOMLDecodeError as error:
        _refuse_text(path)
        raise UserError(f"{shown}: is not valid TOML: {inert_line(str(error))}") from None
    except ValueError:  # Python's, for a number of thousands of digits
        raise UserError(f"{shown}: has a number in it that is too large") from None
    except RecursionError:
        raise UserError(f"{shown}: is nested too deeply") from None
    except OSError as error:
        raise UserError(f"{shown}: cannot be read: {error.strerror}") from None


def _refuse_text(path: Path) -> None:
    """Raise UserError that says how to train on a file, if by its name it is none with settings."""
    if path.suffix.lower() != ".toml":
        shown = inert_line(str(path))
        raise UserError(
            f"{shown}: is a text, where a preset or a TOML file is needed. To train on it: "
            f"minigpt-tui quickstart --data.corpus {shlex.quote(shown)} (or minigpt train quickstart ...)"
        ) from None


def merge_config(
    table: dict[str, Any], path: Path, overrides: Mapping[str, str], known_problems: Sequence[str] = ()
) -> Config:
    """Validate a file's table together with the command line's values.

    Raises UserError with every problem, those that the caller knows of before the others.
    """
    problems = [*known_problems]
    shown = inert_line(str(path))
    try:
        values = _without_unknown_to_json(table, "", problems)
    except RecursionError:
        raise UserError(f"{shown}: is nested too deeply") from None
    _resolve_path(values, "data", "corpus", path.parent)
    _resolve_path(values, "run", "dir", path.parent)
    given: dict[str, dict[str, Any]] = {}
    for key, text in overrides.items():
        section, _, name = key.partition(".")
        option = f"--{inert_line(key.replace('_', '-'), 60)}"
        if section not in Config.model_fields or not name:
            problems.append(f"{option}: unknown option{did_you_mean(key, option=True)}")
            continue
        if not _is_text(name + text):
            # How Python hands over an argument that is not UTF-8; JSON and TOML cannot express it.
            problems.append(f"{option} {inert_line(text, 60)}: is not UTF-8 text")
            continue
        given.setdefault(section, {})[name] = _typed(section, name, text)
    for section, entries in given.items():
        _resolve_path(given, "data", "corpus", Path.cwd())
        _resolve_path(given, "run", "dir", Path.cwd())
        present = values.get(section)
        values[section] = {**present, **entries} if isinstance(present, dict) else entries
        if present is not None and not isinstance(present, dict):
            problems.append(f"{section} = {_shown(present)}: must be a table, written [{section}]")
    try:
        config = Config.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        details = error.errors()
        if details[0]["type"] == "json_invalid":
            deep = "recursion" in details[0]["msg"]
            what = "is nested too deeply" if deep else "names a path that is not UTF-8 text"
            raise UserError(f"{shown}: {what}") from None
        problems.extend(_describe(entry, overrides) for entry in details)
    if problems:
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(f"{shown}: {count}\n" + "\n".join(f"  {problem}" for problem in problems))
    return config


def keys(model: type[BaseModel] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of the configuration with pydantic's description of the field."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from keys(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _without_unknown_to_json(table: dict[str, Any], prefix: str, problems: list[str]) -> dict[str, Any]:
    # Validation runs in pydantic's strict JSON mode; what TOML has beyond JSON is reported here and left out, so
    # that the rest is still validated.
    kept: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            kept[key] = _without_unknown_to_json(value, f"{prefix}{key}.", problems)
        elif isinstance(value, float) and not is_json_value(value):
            problems.append(f"{inert_line(prefix + key)} = {value}: must be a finite number")
        elif isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
            problems.append(f"{inert_line(prefix + key)}: is too large a number")
        elif not is_json_value(value):
            problems.append(f"{inert_line(prefix + key)} = {value}: dates and times have no place here")
        elif isinstance(value, list) and not _plain(value):
            problems.append(f"{inert_line(prefix + key)}: lists have no place here")
        else:
            kept[key] = value
    return kept


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _resolve_path(values: dict[str, Any], section: str, key: str, folder: Path) -> None:
    from minigpt.corpus import KNOWN_CORPORA

    entries = values.get(section)
    text = entries.get(key) if isinstance(entries, dict) else None
    if not (entries and isinstance(text, str) and text) or (key == "corpus" and text in KNOWN_CORPORA):
        return
    path = expand_home(text)
    if key == "corpus" and glob.has_magic(text) and not path.is_absolute() and not _exists(folder / path):
        # A pattern, in a folder whose own name may hold a bracket or a star that is none.
        folder = Path(glob.escape(str(folder.absolute())))
    entries[key] = str((folder / path).absolute())


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _typed(section: str, name: str, text: str) -> Any:
    # A text field takes what was typed as it is; any other is read as a JSON value, and what is none stays a
    # string for validation to refuse by name.
    field = dict(keys()).get(f"{section}.{name}")
    if field is None or field.annotation is str:
        return typed_prompt(text) if name == "prompt" else text
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    try:
        value = json.loads(text, parse_constant=lambda _: text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int) or (isinstance(value, float) and is_json_value(value)) else text


def _describe(error: ErrorDetails, overrides: Mapping[str, str]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if key in overrides:
        where = f"--{inert_line(key).replace('_', '-')} {inert_line(overrides[key], 60)}"
    elif error["type"] in {"extra_forbidden", "value_error"} and isinstance(error["input"], dict):
        where = inert_line(key)
    else:
        where = f"{inert_line(key)} = {_shown(error['input'])}"
    return f"{where}: {reason(error, key)}"


def reason(error: ErrorDetails, key: str) -> str:
    """What is wrong with a value, in words that follow a colon."""
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return f"unknown {'section' if '.' not in key else 'key'}{did_you_mean(key)}"
        case "int_type" | "int_parsing" | "int_from_float":
            return "must be a whole number"
        case "float_type" | "float_parsing":
            return "must be a number"
        case "finite_number":
            return "must be a finite number"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "string_type":
            return "must be text, in quotes"
        case "model_type" | "model_attributes_type":
            return f"must be a table, written [{key}]"
        case "greater_than":
            return f"must be greater than {context['gt']}"
        case "greater_than_equal":
            return f"must be at least {context['ge']}"
        case "less_than":
            return f"must be less than {context['lt']}"
        case "less_than_equal":
            return f"must be at most {context['le']}"
        case "literal_error":
            return f"must be {context['expected']}"
        case "string_too_short":
            return "must not be empty"
        case _:
            return error["msg"].removeprefix("Value error, ")


def did_you_mean(key: str, *, option: bool = False) -> str:
    """The end of a message about an unknown key: the nearest keys there are, written as options or not; or nothing."""
    known = [name for name, _ in keys()]
    if "." not in key:
        known = sorted({name.split(".")[0] for name in known}) + known
    # The last part counts most: `learning_rate` alone, or in the wrong section, still finds train.learning_rate.
    last = key.rsplit(".", 1)[-1].replace("-", "_").lower()
    same = [name for name in known if name.rsplit(".", 1)[-1] == last]
    near = same or difflib.get_close_matches(key.replace("-", "_").lower(), known, n=1, cutoff=0.75)
    if not near:
        by_last = {name.rsplit(".", 1)[-1]: name for name in known}
        near = [by_last[name] for name in difflib.get_close_matches(last, by_last, n=1, cutoff=0.7)]
    written = [f"--{name.replace('_', '-')}" if option else name for name in near]
    return f"; did you mean {' or '.join(written)}?" if near else ""


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if _plain(value) else str(value)
    return inert_line(text, 60)
