"""The settings of a run beside those of the preset it was started from, and what each of them means."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.journal import Row
from minigpt.presets import list_presets

_GIVEN_NAME = re.compile(r"\d{4}-\d\d-\d\d-(.+)-[a-z]+-[a-z]+")

Values = dict[str, Any]
"""Settings by their dotted keys, such as `train.max_steps`."""


@dataclass(frozen=True)
class Known:
    """What the program knows of the settings there are, beside those of one preset."""

    preset: str
    """Whose values are in `compared`; empty for the defaults."""
    compared: Values
    """Every setting there is, in its order."""
    help: dict[str, str]
    """What each setting is for, its default and its range; of a section what it is about."""


def preset_of(run_name: str, values: Mapping[str, Any], first_start: Row) -> str:
    """The preset that a run was started from: as its first event says, or its name or its `about`; empty if none."""
    presets = {preset.name: preset.about for preset in list_presets()}
    if "preset" in first_start:
        recorded = first_start["preset"]
        return recorded if isinstance(recorded, str) and recorded in presets else ""
    # A run of an earlier version, which did not record it.
    match = _GIVEN_NAME.fullmatch(run_name)
    if match is not None and match[1] in presets:
        return match[1]
    about = values.get("run.about")
    return next((name for name, text in presets.items() if text and text == about), "")


def known_settings(preset: str) -> Known:
    """Ask the configuration itself; imports pydantic, so for a thread."""
    from minigpt.config import Config
    from minigpt.configfile import keys, load_config
    from minigpt.options import notes_of

    config = Config()
    if preset:
        try:
            config = load_config(preset)
        except UserError:  # somebody has edited the installed file
            preset = ""
    explained = {key: f"{field.description} ({notes_of(field)})" for key, field in keys()}
    for name, field in Config.model_fields.items():
        explained[name] = getattr(field.annotation, "__doc__", "") or ""
    dumped = config.model_dump()
    return Known(preset, {key: dumped[key.split(".")[0]][key.split(".")[1]] for key, _ in keys()}, explained)


def flat(tables: Mapping[str, Any]) -> Values:
    """The tables of a configuration file by dotted keys; whatever they hold."""
    values: Values = {}
    for section, table in tables.items():
        if isinstance(table, dict):
            values.update({f"{section}.{key}": value for key, value in table.items()})
        else:
            values[section] = table
    return values


def was_worked_out(key: str, compared: Values) -> bool:
    """Whether the preset leaves a setting open, so that the run has what came out of it at its start."""
    if key == "train.max_steps":
        return not compared.get(key) and bool(compared.get("train.max_epochs"))
    return key.startswith("device.") and compared.get(key) in {"auto", 0} and compared.get(key) is not False


def changes_in(started: Row) -> dict[str, tuple[str, str]]:
    """Which settings the resumption that an event tells of has changed: the old and the new value, printable."""
    changed = started.get("changed")
    if not isinstance(changed, dict):
        return {}
    return {
        key: (shown(pair[0]), shown(pair[1]))
        for key, pair in list(changed.items())[:100]
        if isinstance(pair, list) and len(pair) == 2
    }


def shown(value: Any, limit: int = 60) -> str:
    """A value as a line shows it, printable."""
    if value is None:
        return "not set"
    try:
        return inert_line(json.dumps(value, ensure_ascii=False), limit)
    except (TypeError, ValueError, RecursionError):  # such as a date, which TOML has and no setting is
        return inert_line(str(value), limit)
