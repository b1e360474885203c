"""A configuration is valid and whole, or refused by one message that names every problem in it."""

import datetime
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from minigpt.config import Config
from minigpt.configfile import keys, load_config, merge_config, read_toml
from minigpt.errors import UserError
from minigpt.options import options_help, parse_overrides
from minigpt.presets import find_target, list_presets

HERE = Path("/somewhere/run.toml")


def problems(table: dict[str, Any], overrides: dict[str, str] | None = None) -> list[str]:
    """What is wrong with a table and the command line, one line per problem."""
    with pytest.raises(UserError) as caught:
        merge_config(table, HERE, overrides or {})
    head, *lines = str(caught.value).splitlines()
    count = "one problem" if len(lines) == 1 else f"{len(lines)} problems"
    assert head == f"{HERE}: {count}"
    return [line.strip() for line in lines]


def refusal(path: Path) -> str:
    """The message with which a file is refused."""
    with pytest.raises(UserError) as caught:
        load_config(path)
    return str(caught.value)


# ── one message ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_problems_of_file_and_command_line_come_together() -> None:
    """Nobody should mend one key, start again, and be told of the next."""
    table = {"train": {"learning_rate": "fast", "max_step": 10}, "modle": {"n_layer": 2}, "data": {"val_fraction": 2}}
    found = problems(table, {"train.batch_size": "0", "device.type": "gpu"})
    assert sorted(found) == sorted(
        [
            'train.learning_rate = "fast": must be a number',
            "train.max_step = 10: unknown key; did you mean train.max_steps?",
            "modle: unknown section; did you mean model?",
            "data.val_fraction = 2: must be at most 0.5",
            "--train.batch-size 0: must be greater than 0",
            "--device.type gpu: must be 'auto', 'cpu', 'cuda' or 'mps'",
        ]
    )


@pytest.mark.parametrize(
    ("section", "key", "value", "reason"),
    [
        ("device", "compile", "yes", "must be true or false"),
        ("device", "compile", 1, "must be true or false"),
        ("train", "max_steps", 1.5, "must be a whole number"),
        ("train", "max_steps", True, "must be a whole number"),
        ("train", "max_steps", "10", "must be a whole number"),
        ("train", "max_steps", 0, "must be greater than 0"),
        ("train", "max_steps", 2**41, "must be at most 1099511627776"),
        ("train", "max_steps", 2**300, "too large a number"),
        ("train", "max_steps", {"a": 1}, "must be a whole number"),
        ("train", "max_steps", [1], "must be a whole number"),
        ("train", "max_steps", [float("inf")], "lists have no place here"),
        ("train", "learning_rate", "1e-3", "must be a number"),
        ("train", "learning_rate", float("nan"), "must be a finite number"),
        ("train", "learning_rate", float("inf"), "must be a finite number"),
        ("train", "seed", datetime.date(2026, 11, 20), "dates and times have no place here"),
        ("train", "seed", datetime.time(7, 30), "dates and times have no place here"),
        ("train", "beta1", 1, "must be less than 1"),
        ("train", "seed", -1, "must be at least 0"),
        ("train", "lr_schedule", "cosin", "must be 'constant', 'cosine' or 'linear'"),
        ("data", "corpus", "", "must not be empty"),
        ("data", "corpus", "a\0b", "must not contain the character U+0000"),
        ("data", "corpus", 5, "must be text, in quotes"),
        ("run", "name", "../elsewhere", "must be letters, digits"),
        ("run", "name", ".hidden", "must be letters, digits"),
        ("run", "name", "a\n", "must be letters, digits"),
        ("run", "dir", "a\0b", "must not contain the character U+0000"),
        ("sample", "prompt", "", "must not be empty"),
    ],
)
def test_a_value_that_will_not_do_is_named_with_its_key_and_what_is_allowed(
    section: str, key: str, value: object, reason: str
) -> None:
    (line,) = problems({section: {key: value}})
    assert line.startswith(f"{section}.{key}")
    assert reason in line


@pytest.mark.parametrize("nested", [False, True], ids=["plain", "in a list"])
def test_a_number_of_thousands_of_digits_is_a_problem_and_no_crash(nested: bool) -> None:
    """TOML may write it in hexadecimal; Python refuses to turn it into digits."""
    number = 1 << 20_000
    (line,) = problems({"train": {"seed": [number] if nested else number}})
    assert line.startswith("train.seed: ")


def test_consequences_over_several_keys_are_checked() -> None:
    found = problems(
        {"model": {"n_embd": 100, "n_head": 3}, "train": {"learning_rate": 1e-4, "min_lr": 1e-3}},
    )
    assert found == [
        "model: n_embd (100) must be a multiple of n_head (3)",
        "train: min_lr (0.001) must not exceed learning_rate (0.0001)",
    ]
    assert "tie_weights = false" in problems({"model": {"bias_head": True}})[0]


@pytest.mark.parametrize("value", [1, "quick", [1], datetime.date(2026, 1, 1), True])
def test_a_scalar_in_place_of_a_table_is_a_problem_and_no_crash(value: object) -> None:
    """The command line's values cannot be laid over it either; that must not raise a TypeError."""
    found = problems({"train": value}, {"train.max_steps": "5", "train.seed": "x"})
    assert any(line.startswith("train") for line in found)
    assert "--train.seed x: must be a whole number" in found


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("train.max_step", "train.max_steps"),
        ("max_steps", "train.max_steps"),
        ("model.max_steps", "train.max_steps"),
        ("trian.max_steps", "train.max_steps"),
        ("train.Learning-Rate", "train.learning_rate"),
        ("data.valfraction", "data.val_fraction"),
    ],
)
def test_an_unknown_option_finds_the_one_that_was_meant(typed: str, meant: str) -> None:
    (line,) = problems({}, {typed: "5"})
    assert f"did you mean {meant}?" in line


def test_options_of_no_section_are_told_by_the_name_that_was_typed() -> None:
    """They were once reported under the section that their first part would have been."""
    found = problems({}, {"a.b.c": "1", "": "2", ".x": "3", "train.": "4"})
    assert [line.split(":")[0] for line in found] == ["--a.b.c", "--", "--.x", "--train."]


def test_text_of_the_file_is_inert_in_messages() -> None:
    """A key with an escape code must not steer the terminal that shows the message."""
    for line in problems({"\x1b]0;owned\x07": 1, "train": {"seed": "\x1b[2J"}}):
        assert "\x1b" not in line
    with pytest.raises(UserError) as caught:
        load_config("\x1b[31m.toml")
    assert "\x1b" not in str(caught.value)


# ── files ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.touch()
    assert load_config(path) == Config()


def test_toml_1_1_is_read(tmp_path: Path) -> None:
    """Inline tables over several lines and with a trailing comma, and \\e, are new in 1.1."""
    path = tmp_path / "new.toml"
    path.write_text('train = {\n  max_steps = 7, # a comment\n}\nrun = { about = "\\e" }\n')
    assert load_config(path).train.max_steps == 7
    assert load_config(path).run.about == "\x1b"


def test_a_byte_order_mark_and_crlf_are_accepted(tmp_path: Path) -> None:
    """Windows' editors write both."""
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf[train]\r\nmax_steps = 7\r\n")
    assert load_config(path).train.max_steps == 7


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[train\nmax_steps = 1", "is not valid TOML"),
        (b"[train]\nmax_steps = 1\nmax_steps = 2\n", "is not valid TOML"),
        (b'[run]\nabout = "\xff"\n', "is not UTF-8 text (byte 15)"),
        (b"[train]\nseed = " + b"9" * 5000, "a number in it that is too large"),
        (b"#" * (2 << 20), "too large for a configuration file"),
        (b"a = " + b"[" * 50_000, "is nested too deeply"),
        (b".".join([b"a"] * 50_000) + b" = 1", "is nested too deeply"),
        (b"[train]\n" + b".".join([b"a"] * 300) + b" = 1", "is nested too deeply"),
    ],
    ids=["malformed", "twice", "latin-1", "digits", "huge", "deep list", "deep keys", "deep for JSON"],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    message = refusal(path)
    assert message.startswith(f"{path}: ")
    assert reason in message
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none.toml") == f"{tmp_path}/none.toml: no such file"
    assert refusal(tmp_path).endswith("is a directory, where a TOML file is needed")
    assert "cannot be read: File name too long" in refusal(tmp_path / ("x" * 300))
    assert "~nobody-of-this-name/a.toml: no such file" in refusal(Path("~nobody-of-this-name/a.toml"))
    (tmp_path / "file").touch()
    assert "cannot be read: Not a directory" in refusal(tmp_path / "file" / "a.toml")


def test_the_directory_of_a_run_is_refused_with_the_way_to_resume_it(tmp_path: Path) -> None:
    (tmp_path / "config.toml").touch()
    assert "--resume" in refusal(tmp_path)


def test_reading_stops_at_the_limit_also_where_a_file_has_no_size() -> None:
    """`minigpt train /dev/zero` once read until the memory was full."""
    assert "too large" in refusal(Path("/dev/zero"))


# ── paths in it ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_paths_are_relative_to_where_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the file to the file, those of the command line to the current directory."""
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    path = folder / "mine.toml"
    path.write_text('[data]\ncorpus = "text.txt"\n[run]\ndir = "my-run"\n')
    monkeypatch.chdir(elsewhere)
    config = load_config(path)
    assert (config.data.corpus, config.run.dir) == (str(folder / "text.txt"), str(folder / "my-run"))
    config = load_config("../folder/mine.toml", {"data.corpus": "other.txt", "run.dir": "other"})
    assert (config.data.corpus, config.run.dir) == (str(elsewhere / "other.txt"), str(elsewhere / "other"))


def test_a_known_corpus_is_no_path_and_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert merge_config({"data": {"corpus": "tinyshakespeare"}}, HERE, {}).data.corpus == "tinyshakespeare"
    assert merge_config({}, HERE, {"data.corpus": "~/a.txt"}).data.corpus == str(tmp_path / "a.txt")
    # A user that is not there was a RuntimeError.
    strange = merge_config({"data": {"corpus": "~nobody-of-this-name/a.txt"}}, HERE, {}).data.corpus
    assert strange == "/somewhere/~nobody-of-this-name/a.txt"


def test_a_path_that_is_not_utf_8_is_refused_in_words(tmp_path: Path) -> None:
    """It reaches Python as lone surrogates, which neither JSON nor TOML can express: the message was a parser's."""
    assert problems({}, {"data.corpus": "caf\udce9.txt"}) == ["--data.corpus caf\ufffd.txt: is not UTF-8 text"]
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    (folder / "a.toml").write_text('[data]\ncorpus = "text.txt"\n')
    assert refusal(folder / "a.toml").endswith("names a path that is not UTF-8 text")


# ── the command line ──────────────────────────────────────────────────────────────────────────────────────────────


def test_options_come_in_all_spellings() -> None:
    arguments = ["--train.max-steps", "5", "--train.batch_size=6", "--train.min-lr", "-1", "--sample.prompt=--x=y"]
    assert parse_overrides(arguments) == {
        "train.max_steps": "5",
        "train.batch_size": "6",
        "train.min_lr": "-1",
        "sample.prompt": "--x=y",
    }


def test_the_last_of_an_option_given_twice_holds() -> None:
    assert parse_overrides(["--train.seed", "1", "--train.seed=2"]) == {"train.seed": "2"}


@pytest.mark.parametrize("text", ["None", "none", "", " ", "null", "{}", "'", "a b", "-x", "\n"])
def test_text_is_taken_as_it_was_typed(text: str) -> None:
    """`--run.name None` was read as no value at all and silently ignored."""
    assert parse_overrides([f"--sample.prompt={text}"]) == {"sample.prompt": text}


def test_values_of_the_command_line_get_the_type_of_their_key() -> None:
    typed = {
        "train.max_steps": "5",
        "train.learning_rate": "1",
        "train.min_lr": "1e-5",
        "device.compile": "TRUE",
        "run.about": "true",
        "run.name": "123",
        "sample.prompt": "\\n",
    }
    config = merge_config({}, HERE, typed)
    assert (config.train.max_steps, config.train.learning_rate, config.train.min_lr) == (5, 1.0, 1e-5)
    assert (config.device.compile, config.run.about, config.run.name) == (True, "true", "123")
    assert config.sample.prompt == "\n"


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 10_000, "NaN", "-Infinity", "1e999", '{"a":1}', "null", "0x10"])
def test_what_json_makes_of_a_value_is_no_crash(text: str) -> None:
    (line,) = problems({}, {"train.seed": text})
    assert line.startswith("--train.seed ")
    assert line.endswith("must be a whole number")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train.seed"], "--train.seed: needs a value"),
        (["--train.seed", "--train.min-lr", "1"], "--train.seed: needs a value"),
        (["--device.compile"], "--device.compile: needs a value; did you mean --device.compile true?"),
        (["5"], "5: unexpected argument; options look like --train.max-steps 500"),
        (["-s", "5"], "-s: unexpected argument; options look like --train.max-steps 500"),
        (["--"], "--: unexpected argument; options look like --train.max-steps 500"),
    ],
)
def test_arguments_that_are_no_options_are_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_overrides(arguments)
    assert str(caught.value) == message


def test_unknown_options_are_kept_for_the_one_message() -> None:
    assert parse_overrides(["--train.lr", "5", "--foo=6", "--train.bar"]) == {
        "train.lr": "5",
        "foo": "6",
        "train.bar": "",
    }


def test_the_help_names_every_key_with_its_default() -> None:
    text = options_help()
    for key, field in keys():
        assert f"--{key.replace('_', '-')}" in text
        assert field.description, key
    assert "\x1b" not in text
    assert "\0" not in text


# ── presets ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("preset", list_presets(), ids=lambda preset: preset.name)
def test_every_preset_is_valid_and_says_what_it_is_for(preset: Any) -> None:
    config = load_config(preset.name)
    assert config.run.about == preset.about
    assert len(preset.about) > 10


def test_quickstart_is_the_first_preset_and_needs_no_network() -> None:
    assert list_presets()[0].name == "quickstart"
    assert load_config("quickstart").data.corpus == "the-play"


def test_an_unknown_preset_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean quickstart") as caught:
        find_target("quikstart")
    assert "shakespeare-cpu" in str(caught.value)
    with pytest.raises(UserError) as caught:
        find_target("zzzzzz")
    assert "did you mean" not in str(caught.value)


# ── properties ────────────────────────────────────────────────────────────────────────────────────────────────────

SECTIONS = list(Config.model_fields)
KEYS = [key for key, _ in keys()]

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalar = st.one_of(
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**200, max_value=2**300),
    st.floats(),
    text,
    st.dates(),
    st.times(),
    st.datetimes(),
)
toml_value = st.recursive(
    scalar, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3), max_leaves=8
)
section = st.dictionaries(st.sampled_from([key.split(".")[1] for key in KEYS]) | text, toml_value, max_size=6)
table = st.dictionaries(st.sampled_from(SECTIONS) | text, section | toml_value, max_size=5)
# What a shell can hand over: anything, also bytes that are not UTF-8, which arrive as lone surrogates.
argument = st.text(st.characters(exclude_characters="\0"), max_size=12)
typed = st.dictionaries(st.sampled_from(KEYS) | argument, argument | st.from_regex(r"-?[0-9.e]{1,8}"), max_size=5)


@given(table, typed)
def test_any_table_and_any_command_line_give_a_configuration_or_a_user_error(
    values: dict[str, Any], overrides: dict[str, str]
) -> None:
    try:
        config = merge_config(values, HERE, overrides)
    except UserError as error:
        assert "\x1b" not in str(error)
    else:
        assert isinstance(config, Config)


@given(st.lists(argument | st.sampled_from([f"--{key}" for key in KEYS]), max_size=6))
def test_any_arguments_are_read_or_refused(arguments: list[str]) -> None:
    """tyro ends the process by itself on arguments that it cannot take: none may come that far."""
    try:
        overrides = parse_overrides(arguments)
    except UserError:
        return
    assert all(isinstance(value, str) for value in overrides.values())


@given(st.binary(max_size=60) | table.map(lambda values: repr(values).encode("utf-8", "replace")))
def test_any_bytes_as_a_file_are_read_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.toml")
        path.write_bytes(data)
        try:
            assert isinstance(read_toml(path), dict)
        except UserError:
            return


def _valid_value(field: Any) -> st.SearchStrategy[Any]:
    bounds = {
        name: getattr(rule, name) for rule in field.metadata for name in ("gt", "ge", "lt", "le") if hasattr(rule, name)
    }
    if field.annotation is bool:
        return st.booleans()
    if field.annotation is int:
        low = bounds.get("ge", bounds.get("gt", -1) + 1)
        return st.integers(low, min(bounds.get("le", 2**62), bounds.get("lt", 2**63) - 1))
    if field.annotation is float:
        return st.floats(
            bounds.get("ge", bounds.get("gt")),
            bounds.get("le", bounds.get("lt", 1e9)),
            exclude_min="gt" in bounds,
            exclude_max="lt" in bounds,
        )
    return st.sampled_from(field.annotation.__args__)


@st.composite
def valid_configs(draw: st.DrawFn) -> Config:
    """Any valid configuration; paths are absolute, as reading a file makes them."""
    name = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=20)
    texts = {
        "run.name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", fullmatch=True) | st.just(""),
        "run.dir": st.just(""),
        "run.about": text,
        "data.corpus": st.just("the-play") | name.filter(lambda part: part not in {".", ".."}).map("/texts/".__add__),
        "sample.prompt": text.filter(bool),
    }
    values: dict[str, dict[str, Any]] = {}
    for key, field in keys():
        place, _, last = key.partition(".")
        values.setdefault(place, {})[last] = draw(texts[key] if key in texts else _valid_value(field))
    model, train = values["model"], values["train"]
    model["n_embd"] = model["n_head"] * draw(st.integers(1, 16384 // model["n_head"]))
    model["bias_head"] = model["bias_head"] and not model["tie_weights"]
    train["min_lr"] = min(train["min_lr"], train["learning_rate"])
    return Config.model_validate(values)


@given(valid_configs())
def test_what_a_run_keeps_of_its_configuration_reads_back_as_the_same(config: Config) -> None:
    """A run is resumed from its config.toml: no character of a prompt, no digit of a rate may be lost on the way."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.toml")
        path.write_text(config.to_toml(), encoding="utf-8", newline="")
        assert load_config(path) == config


def test_the_kept_configuration_leaves_out_where_the_run_lies() -> None:
    """A run directory that was moved must not point at its old place."""
    assert "dir" not in Config.model_validate({"run": {"dir": "/a/b"}}).to_toml()


@given(valid_configs())
def test_the_command_line_can_say_all_that_a_file_can(config: Config) -> None:
    overrides = {
        f"{place}.{key}": value if isinstance(value, str) else json.dumps(value)
        for place, entries in config.model_dump().items()
        for key, value in entries.items()
        if value != "" and (place, key) != ("sample", "prompt")
    }
    arguments = [f"--{key}={value}" for key, value in overrides.items()]
    prompt = {"sample": {"prompt": config.sample.prompt}}
    assert merge_config(prompt, HERE, parse_overrides(arguments)) == config


@given(table)
def test_a_file_and_its_table_are_refused_alike(values: dict[str, Any]) -> None:
    """Reading the file must not stumble over what validation would have named."""
    try:
        written = tomli_w.dumps(values).encode()
    except (ValueError, TypeError):  # Python's limit of digits
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "any.toml")
        path.write_bytes(written)
        try:
            load_config(path)
        except UserError as error:
            assert str(error).startswith(str(path))
