"""The form without its screen: every field of the configuration, what is wrong where, and the command line."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minigpt.config import Config
from minigpt.configfile import keys, load_config
from minigpt.errors import UserError
from minigpt.options import parse_overrides
from minigpt.presets import list_presets
from tui.launch.form import Base, Filled, examine, form_fields, open_base, section_titles

QUICKSTART = open_base("quickstart")
FIELDS = form_fields()


def parsed(filled: Filled) -> Config:
    """What the program makes of the command line that the form shows."""
    program, target, *options = shlex.split(filled.command_line)
    assert program == "minigpt-tui"
    return load_config(target, parse_overrides(options))


def test_every_field_of_the_configuration_is_in_the_form() -> None:
    """A setting that is added to the configuration must not be forgotten here."""
    assert set(FIELDS) == {key for key, _ in keys()}
    assert all(field.help and field.notes for field in FIELDS.values())
    assert set(section_titles()) == {field.section for field in FIELDS.values()}
    assert {key for key, field in FIELDS.items() if field.kind == "choice" and "true" in field.choices} == {
        key for key, field in keys() if field.annotation is bool
    }


@pytest.mark.parametrize("preset", [preset.name for preset in list_presets()])
def test_a_preset_as_it_is_needs_no_options(preset: str) -> None:
    """Each value that the form shows, typed as it stands there, must be the preset's."""
    base = open_base(preset)
    untouched, retyped = examine(base, {}), examine(base, base.texts)
    assert untouched.overrides == retyped.overrides == {} and not retyped.problems
    assert untouched.config == retyped.config == load_config(preset)
    assert not untouched.differing


@pytest.mark.parametrize("key", [key for key, field in FIELDS.items() if field.kind != "text"])
def test_a_bad_value_is_said_beside_its_field(key: str) -> None:
    """Problems are told apart by the words of the validation's message; guards them for each field."""
    filled = examine(QUICKSTART, {key: "[b]: = nonsense"})
    assert list(filled.problems) == [key] and filled.problems[key].startswith("must be ")
    assert filled.config is None and filled.texts[key] == "[b]: = nonsense"


@pytest.mark.parametrize(
    ("touched", "problems"),
    [
        ({"model.n_embd": "130"}, {"model.n_embd": "must be a multiple of n_head"}),
        ({"model.n_head": "3"}, {"model.n_head": "must be a multiple of n_head"}),
        ({"train.min_lr": "1"}, {"train.min_lr": "must not exceed learning_rate"}),
        (
            {"model.norm": "rmsnorm", "model.bias_head": "true"},
            {"model.norm": "needs bias_norm = false", "model.bias_head": "needs tie_weights = false"},
        ),
        ({"data.corpus": ""}, {"data.corpus": "must not be empty"}),
        ({"data.corpus": "a\0b"}, {"data.corpus": "U+0000"}),
        ({"sample.prompt": "\0"}, {"sample.prompt": "U+0000"}),
        ({"sample.prompt": "caf\udce9"}, {"sample.prompt": "is not UTF-8 text"}),
        (
            {"run.name": "../up", "train.seed": "-1"},
            {"run.name": "letters (200 bytes), digits", "train.seed": "at least 0"},
        ),
    ],
)
def test_what_is_wrong_stands_where_it_is_to_be_mended(touched: dict[str, str], problems: dict[str, str]) -> None:
    """Of the several fields that a rule is about, the changed one; and every problem at once."""
    found = examine(QUICKSTART, touched).problems
    assert set(found) == set(problems)
    assert all(words in found[key] for key, words in problems.items())


def test_what_is_wrong_in_a_file_of_ones_own(tmp_path: Path) -> None:
    """A file that is no configuration is refused with all its problems; a preset that is none, with the nearest."""
    path = tmp_path / "own.toml"
    path.write_text("[train]\nmax_steps = 'x'\nmax_step = 3\n")
    with pytest.raises(UserError, match=r"2 problems[^$]*train\.max_steps = \"x\"[^$]*did you mean train\.max_steps"):
        open_base(str(path))
    with pytest.raises(UserError, match="did you mean quickstart"):
        open_base("quickstar")


def test_one_setting_may_follow_from_another(tmp_path: Path) -> None:
    """max_steps is 0 once max_epochs is given. The form showed the preset's 2000, and could not bring it back."""
    path = tmp_path / "own.toml"
    path.write_text("[train]\nbatch_size = 8\n")
    base = open_base(str(path))
    assert base.texts["train.max_steps"] == "2000"
    following = examine(base, {"train.max_epochs": "3"})
    assert following.texts["train.max_steps"] == "0" and "train.max_steps" in following.differing
    both = examine(base, {"train.max_epochs": "3", "train.max_steps": "2000"})
    assert both.overrides == {"train.max_steps": "2000", "train.max_epochs": "3"}
    assert both.config is not None and both.config.train.max_steps == 2000 and parsed(both) == both.config


def test_another_way_to_write_the_same_is_no_change() -> None:
    same = {"train.learning_rate": " 3.0e-3 ", "train.max_steps": "2500", "model.dropout": "0.0"}
    assert examine(QUICKSTART, same).overrides == {}
    whole = examine(QUICKSTART, {"train.max_steps": "2500.0"})
    assert whole.problems == {"train.max_steps": "must be a whole number"}


def test_a_run_that_exists_is_not_named_again(runs: Path) -> None:
    """The training would be refused only after the screen was left."""
    (runs / "mine").mkdir(parents=True)
    assert "there is one already" in examine(QUICKSTART, {"run.name": "mine"}).problems["run.name"]
    assert "there is one already" in examine(QUICKSTART, {"run.dir": str(runs)}).problems["run.dir"]
    assert not examine(QUICKSTART, {"run.name": "other"}).problems


def _texts(key: str) -> st.SearchStrategy[str]:
    field = FIELDS[key]
    words = st.text(st.characters(codec="utf-8"), max_size=20)
    return {
        "choice": st.sampled_from([*field.choices, "nonsense"]),
        "whole": st.integers(-2, 300).map(str),
        "number": st.floats(0, 2).map(repr) | st.sampled_from(["1e-3", "", "-1", "nan", "5"]),
        "text": words | st.sampled_from(["--help", "-h", "--train.seed", "a=b", "it's $HOME", "\\n", "\\", "*.txt"]),
    }[field.kind]


@st.composite
def _touched(draw: Any) -> dict[str, str]:
    chosen = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=5, unique=True))
    return {key: draw(_texts(key)) for key in chosen}


@given(_touched())
@example({"sample.prompt": "-h"})
@example({"sample.prompt": "--help", "run.about": "--train.seed"})
@example({"train.max_epochs": "2", "run.about": "it's $HOME \n*"})
@settings(max_examples=25)
def test_the_command_line_gives_the_configuration_that_is_shown(touched: dict[str, str]) -> None:
    """Parsed as a shell and the program parse it. A prompt of `-h` was taken for the option of that name."""
    filled = examine(QUICKSTART, touched)
    if filled.config is not None:
        assert parsed(filled) == filled.config
        assert not {"-h", "--help"} & set(shlex.split(filled.command_line))
    elif not any("\0" in text for text in touched.values()):
        with pytest.raises(UserError):
            parsed(filled)


@given(st.text(st.sampled_from("\\n\n\t a")) | st.text(st.characters(codec="utf-8")))
def test_a_prompt_is_written_as_it_is_typed(prompt: str) -> None:
    field = FIELDS["sample.prompt"]
    assert field.means(field.write(prompt)) == prompt


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_written_without_loss(value: float) -> None:
    field = FIELDS["train.learning_rate"]
    assert field.means(field.write(value)) == value


def test_numbers_are_written_as_people_do() -> None:
    write = FIELDS["train.min_lr"].write
    assert [write(value) for value in (1e-05, 5.0, 0.001, 1e16, None)] == ["1e-5", "5", "0.001", "1e16", ""]


def test_a_file_of_ones_own_keeps_its_relative_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path in the file is relative to the file, one that is typed to where the program runs; so in the command."""
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "own.toml"
    path.write_text('[data]\ncorpus = "text.txt"\n')
    monkeypatch.chdir(tmp_path)
    base: Base = open_base("sub/own.toml")
    assert base.texts["data.corpus"] == str(tmp_path / "sub" / "text.txt")
    filled = examine(base, {"data.corpus": "other text.txt"})
    assert filled.command_line == "minigpt-tui sub/own.toml --data.corpus 'other text.txt'"
    assert filled.config is not None and filled.config.data.corpus == str(tmp_path / "other text.txt")
