"""The command line's `--section.key VALUE` options, made from the configuration's fields and their docstrings."""

import dataclasses
import difflib
import io
from collections.abc import Iterable
from contextlib import redirect_stdout, suppress
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

import tyro

from minigpt.config import Config
from minigpt.configfile import did_you_mean, keys
from minigpt.errors import UserError
from minigpt.inert import inert_line

# The default of an option that was not given. No argument can be it, whereas tyro reads `None` as no value at all.
_NOT_GIVEN = "\0"


def parse_overrides(arguments: list[str]) -> dict[str, str]:
    """Read `--section.key VALUE` options into dotted keys and the values as they were typed.

    Unknown ones are kept under the name that was typed: validation reports them together with everything else.
    Raises UserError for anything that is no option, and for an option without its value.
    """
    known = {key for key, _ in keys()}
    unknown: dict[str, str] = {}
    rest: list[str] = []
    position = 0
    while position < len(arguments):
        option, has_value, value = arguments[position].partition("=")
        if not option.startswith("--") or option == "--":
            raise UserError(f"{inert_line(option)}: unexpected argument; options look like --train.max-steps 500")
        key = option[2:].replace("-", "_")
        if not has_value:
            position += 1
            if position == len(arguments) or arguments[position].startswith("--"):
                # A bare --section.flag is what people type for a boolean; say what to type instead.
                hint = f"; did you mean {option} true?" if key in known and _metavar(key) == "true|false" else ""
                if key in known or "." not in key:
                    raise UserError(f"{inert_line(option)}: needs a value{hint}")
                unknown[key] = ""
                continue
            value = arguments[position]
        position += 1
        if key in known:
            rest.append(f"{option}={value}")
        else:
            unknown[key] = value
    parsed = tyro.cli(_options(), args=rest, prog="minigpt")
    given = {
        f"{section.name}.{field.name}": value
        for section in dataclasses.fields(parsed)
        for field in dataclasses.fields(getattr(parsed, section.name))
        if (value := getattr(getattr(parsed, section.name), field.name)) != _NOT_GIVEN
    }
    return {**given, **unknown}


def misplaced_option(argument: str, command: str, flags: Iterable[str] = ()) -> str:
    """What is wrong with an option where the preset or file belongs: its place, or that there is none of that name.

    `command` is what comes before the options, and `flags` are the other ones that it takes.
    """
    option = argument.partition("=")[0]
    shown = inert_line(option, 60)
    key = option.lstrip("-").replace("-", "_")
    if key in {known for known, _ in keys()}:
        return f"{shown}: the preset or TOML file comes first: {command} {shown} ..."
    near = difflib.get_close_matches(option.lower(), flags, n=1)
    hint = f"; did you mean {near[0]}?" if near else did_you_mean(key, option=True)
    return f"unknown option {shown}{hint}"


def options_help() -> str:
    """The help of all configuration options, as text."""
    printed = io.StringIO()
    with redirect_stdout(printed), suppress(SystemExit):
        tyro.cli(_options(), args=["--help"], prog="minigpt")
    text = "\n".join(line.rstrip() for line in printed.getvalue().splitlines()) + "\n"
    return text[text.index("\n\n") + 2 :] if "\n\n" in text else text


def _options() -> type[Any]:
    # Every option is optional text: what was typed is laid over the file's values and the whole validated once, so
    # that problems of both come in one message. tyro gives the spelling (dashes or underscores) and the help.
    sections: dict[str, list[Any]] = {}
    for key, field in keys():
        section, name = key.split(".")
        hint = f"({notes_of(field)})"
        argument = tyro.conf.arg(metavar=_metavar(key), help=field.description, help_behavior_hint=hint)
        sections.setdefault(section, []).append((name, Annotated[str, argument], dataclasses.field(default=_NOT_GIVEN)))
    return dataclasses.make_dataclass(
        "Options",
        [
            (name, (made := dataclasses.make_dataclass(name, fields)), dataclasses.field(default_factory=made))
            for name, fields in sections.items()
        ],
    )


def _metavar(key: str) -> str:
    section, name = key.split(".")
    annotation = Config.model_fields[section].annotation
    assert annotation is not None
    return metavar_of(annotation.model_fields[name].annotation)


def metavar_of(kind: Any) -> str:
    """How the help names a value of that type."""
    if str(get_origin(kind)) == "typing.Literal":
        return "|".join(map(str, get_args(kind)))
    if NoneType in get_args(kind):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    return {bool: "true|false", int: "INT", float: "FLOAT"}.get(kind, "TEXT")


def notes_of(field: Any) -> str:
    """What the help says of a field besides its description: its default and its range."""
    return "; ".join([f"default: {_shown(field.default)}", *_range(field)])


def _range(field: Any) -> list[str]:
    words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    limits = [
        f"{text} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, text in words.items()
        if isinstance(getattr(limit, name, None), int | float) and getattr(limit, name) < 2**30
    ]
    return [", ".join(limits)] if limits else []


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or value == "":
        return "none"
    if isinstance(value, str):
        return repr(value)
    return f"{value:g}" if isinstance(value, float) else str(value)
