"""The form in which a training is put together: its fields, made from the configuration's, and what is wrong in it.

Free of Textual. It imports pydantic, and so is itself imported after the first frame.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from minigpt.config import Config
from minigpt.configfile import keys, merge_config, read_toml
from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.options import notes_of
from minigpt.paths import runs_dir
from minigpt.presets import find_target
from minigpt.prompt import typed_prompt

Kind = Literal["text", "whole", "number", "choice"]


@dataclass(frozen=True)
class FormField:
    """One setting of the configuration, as a form shows it."""

    key: str
    """Dotted, such as `train.max_steps`."""
    kind: Kind
    help: str
    notes: str
    """Its default and its range, in words."""
    choices: tuple[str, ...] = ()
    """What it may be, where that is a few words; true and false too."""
    optional: bool = False
    """Whether it may be left empty."""

    @property
    def section(self) -> str:
        return self.key.split(".")[0]

    @property
    def name(self) -> str:
        return self.key.split(".")[1]

    @property
    def option(self) -> str:
        """How the command line names it."""
        return "--" + self.key.replace("_", "-")

    def write(self, value: Any) -> str:
        """A value of the configuration as one types it on the command line."""
        if value is None:
            return ""
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float):
            return re.sub(r"\.0$", "", re.sub(r"e([+-])0*", lambda exponent: f"e{exponent[1].strip('+')}", repr(value)))
        if self.key == "sample.prompt":
            return str(value).replace("\\", "\\\\").replace("\n", "\\n")
        return str(value)

    def means(self, text: str) -> Any:
        """What a text stands for, to be compared with another's: 1e-3 is 0.001. What cannot be read is itself."""
        if self.kind == "text":
            return typed_prompt(text) if self.key == "sample.prompt" else text
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return text
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return value if number and (self.kind == "number" or isinstance(value, int)) else text


@cache
def form_fields() -> dict[str, FormField]:
    """Every field of the configuration by its key, what names the run at the end."""
    fields = [_form_field(key, described) for key, described in keys()]
    return {field.key: field for field in sorted(fields, key=lambda field: field.section == "run")}


@cache
def section_titles() -> dict[str, str]:
    """What each section of the configuration is about, in one line."""
    titles = {}
    for name, described in Config.model_fields.items():
        assert described.annotation is not None
        titles[name] = (described.annotation.__doc__ or "").splitlines()[0]
    return titles


def _form_field(key: str, described: Any) -> FormField:
    kind = described.annotation
    optional = NoneType in get_args(kind)
    if optional:
        kind = next(part for part in get_args(kind) if part is not NoneType)
    choices: tuple[str, ...] = ()
    if str(get_origin(kind)) == "typing.Literal":
        choices = tuple(map(str, get_args(kind)))
    elif kind is bool:
        choices = ("true", "false")
    kinds: dict[Any, Kind] = {int: "whole", float: "number"}
    return FormField(
        key,
        "choice" if choices else kinds.get(kind, "text"),
        " ".join((described.description or "").split()),
        notes_of(described),
        choices,
        optional,
    )


# ── what the form holds ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Base:
    """The preset or TOML file that the form begins with."""

    target: str
    """As the command line names it."""
    path: Path
    table: dict[str, Any]
    """What the file says, as it stands."""
    texts: dict[str, str]
    """Every setting that comes of it, by key."""


def open_base(target: str) -> Base:
    """Read a preset or TOML file. Raises UserError with all that is wrong with it."""
    path = find_target(target)
    table = read_toml(path)
    return Base(target, path, table, _texts(merge_config(table, path, {})))


@dataclass(frozen=True)
class Filled:
    """The form as it was filled in, examined."""

    base: Base
    touched: dict[str, str]
    """What the user has set, by key."""
    config: Config | None
    """The whole configuration, if it is valid."""
    texts: dict[str, str]
    """Every setting by key: as the user typed it, or else as it follows."""
    overrides: dict[str, str]
    """What has to be said besides the preset, as the command line would."""
    problems: dict[str, str] = field(default_factory=dict)
    """What is wrong, by the key where it is to be mended, or "" where that is no single one."""

    @property
    def differing(self) -> set[str]:
        """The settings that are not the preset's, those too that only follow from another one."""
        fields = form_fields()
        return {
            key
            for key, text in self.texts.items()
            if fields[key].means(text) != fields[key].means(self.base.texts[key])
        }

    @property
    def command_line(self) -> str:
        """What does the same in a shell."""
        return command_line(self.base.target, self.overrides)


def examine(base: Base, touched: Mapping[str, str]) -> Filled:
    """Validate the form as the command line's options would be, with every problem beside its field."""
    fields = form_fields()
    touched = {
        key: text.strip() if fields[key].kind in {"whole", "number"} else text
        for key, text in sorted(touched.items(), key=lambda item: list(fields).index(item[0]))
    }
    needed = {key: text for key, text in touched.items() if not _same(key, text, base.texts[key])}
    config, problems = _validated(base, needed)
    if config is not None:
        # One setting may follow from another: max_steps is 0 once max_epochs is given, unless it is given itself.
        came_out = _texts(config)
        needed |= {
            key: text for key, text in touched.items() if key not in needed and not _same(key, text, came_out[key])
        }
        overrides = {key: touched[key] for key in touched if key in needed}
        config, problems = _validated(base, overrides)
    overrides = {key: touched[key] for key in touched if key in needed}
    for key, text in overrides.items():
        if "\0" in text:
            problems.setdefault(key, "must not contain the character U+0000, which no command line can")
    if config is not None:
        problems |= _existing_run(config)
    texts = (base.texts if config is None else _texts(config)) | touched
    return Filled(base, touched, None if problems else config, texts, overrides, problems)


def command_line(target: str, overrides: Mapping[str, str]) -> str:
    """The command that starts the same training, for a shell."""
    words = ["minigpt-tui", target]
    for key, text in overrides.items():
        option = form_fields()[key].option
        # In one word, since a value like -h would be taken for an option.
        words += [f"{option}={text}"] if text.startswith("-") else [option, text]
    return shlex.join(words)


def _same(key: str, one: str, other: str) -> bool:
    means = form_fields()[key].means
    return bool(means(one) == means(other))


def _texts(config: Config) -> dict[str, str]:
    values = config.model_dump()
    return {key: field.write(values[field.section][field.name]) for key, field in form_fields().items()}


# ── what is wrong ─────────────────────────────────────────────────────────────────────────────────────────────────


def _validated(base: Base, overrides: Mapping[str, str]) -> tuple[Config | None, dict[str, str]]:
    try:
        return merge_config(base.table, base.path, overrides), {}
    except UserError as error:
        first, *listed = str(error).splitlines()
        problems: dict[str, list[str]] = {}
        for key, words in _placed(listed or [first], overrides):
            problems.setdefault(key, []).append(words)
        return None, {key: "; ".join(words) for key, words in problems.items()}


def _placed(lines: list[str], overrides: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each problem of a message of `merge_config` with the key of the field that it is about."""
    fields = form_fields()
    # The same words that the message puts before the colon.
    heads = {f"{fields[key].option} {inert_line(text, 60)}: ": key for key, text in overrides.items()}
    for line in map(str.strip, lines):
        if head := next((head for head in heads if line.startswith(head)), ""):
            yield heads[head], line.removeprefix(head)
        elif (key := line.split(" = ")[0]) in fields:
            yield key, line
        elif (section := line.split(": ")[0]) in section_titles():
            for words in line.removeprefix(f"{section}: ").split("; "):
                yield _first_named(section, words, overrides), words
        else:
            yield "", line


def _first_named(section: str, words: str, overrides: Mapping[str, str]) -> str:
    """Of the fields that a problem of several names, the first that was changed: there it is to be mended."""
    named = [f"{section}.{word}" for word in re.findall(r"[a-z0-9_]+", words)]
    known = [key for key in named if key in form_fields()]
    return next((key for key in known if key in overrides), known[0] if known else "")


def _existing_run(config: Config) -> dict[str, str]:
    run = config.run
    if not (run.dir or run.name) or not os.path.lexists(run.dir or runs_dir() / run.name):
        return {}
    key = "run.dir" if run.dir else "run.name"
    return {key: "there is one already, and no run is ever started over"}
