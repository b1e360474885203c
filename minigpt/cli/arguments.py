"""The options of a command: from what was typed to a valid model, or to one message with every problem in it."""

import difflib
import textwrap
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from minigpt.configfile import reason
from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.options import metavar_of, notes_of

Options = TypeVar("Options", bound=BaseModel)

_SHORT = {"-o": "output"}


def wants_help(arguments: list[str]) -> bool:
    """Whether help is asked for, wherever that stands."""
    return bool({"-h", "--help"} & set(arguments))


def parse(model: type[Options], arguments: list[str]) -> tuple[list[str], Options]:
    """What is no option, and the options, which are the fields of `model`, spelled with dashes or underscores.

    Raises UserError that lists all that is wrong with them.
    """
    positional: list[str] = []
    given: dict[str, str] = {}
    spelled: dict[str, str] = {}
    problems: list[str] = []
    rest = iter(enumerate(arguments))
    for place, argument in rest:
        if not argument.startswith("-") or argument == "-":
            positional.append(argument)
            continue
        option, has_value, value = argument.partition("=")
        name = _name(model, option)
        if name is None:
            problems.append(f"{inert_line(option)}: no such option{_did_you_mean(model, option)}")
        # What follows an option is its value, also if it begins with dashes, unless it is an option itself.
        following = arguments[place + 1 : place + 2]
        if not has_value and following and _name(model, following[0].partition("=")[0]) is None:
            if name is None and following[0].startswith("-"):
                continue
            value = next(rest)[1]
        elif not has_value and name is not None:
            problems.append(f"{inert_line(option)}: needs a value")
            continue
        if name is not None:
            given[name], spelled[name] = value, option
    for name, value in list(given.items()):
        try:
            value.encode()
        except UnicodeEncodeError:  # how Python hands over an argument that is not UTF-8
            problems.append(f"{spelled[name]} {inert_line(given.pop(name), 60)}: is not UTF-8 text")
    try:
        options = model.model_validate(given)
    except ValidationError as error:
        for entry in error.errors():
            name = str(entry["loc"][0]) if entry["loc"] else ""
            where = f"{spelled[name]} {inert_line(given[name], 60)}: " if name in spelled else ""
            problems.append(where + reason(entry, name))
    if problems:
        raise UserError("\n  ".join(problems))
    return positional, options


def help_of(model: type[BaseModel]) -> str:
    """The help of the options, as text."""
    lines = []
    for name, field in model.model_fields.items():
        short = "".join(f"{short}, " for short, long in _SHORT.items() if long == name)
        lines.append(f"  {short}--{name.replace('_', '-')} {metavar_of(field.annotation)}")
        text = f"{field.description} ({notes_of(field)})"
        lines += textwrap.wrap(text, 80, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines) + "\n"


def _name(model: type[BaseModel], option: str) -> str | None:
    if option.startswith("--"):
        name = option[2:].replace("-", "_")
        return name if name in model.model_fields else None
    return _SHORT[option] if _SHORT.get(option) in model.model_fields else None


def _did_you_mean(model: type[BaseModel], option: str) -> str:
    name = option.lstrip("-").replace("-", "_").lower()
    near = difflib.get_close_matches(name, model.model_fields, n=1, cutoff=0.6)
    return f"; did you mean --{near[0].replace('_', '-')}?" if near else "; --help lists them"
