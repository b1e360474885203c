"""A configuration is valid and whole, or refused by one message that names every problem in it."""

import datetime
import json
import tempfile
from pathlib import Path
from types import NoneType, SimpleNamespace
from typing import Any, get_args

import pytest
import tomli
import tomli_w
from hypothesis import given, settings
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
        ("train", "max_steps", -1, "must be at least 0"),
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
        ("train", "lr_schedule", "cosin", "must be 'constant', 'cosine', 'linear' or 'wsd'"),
        ("train", "optimizer", "lion", "must be 'adamw', 'adam', 'sgd' or 'muon'"),
        ("train", "max_epochs", -1, "must be at least 0"),
        ("train", "max_epochs", True, "must be a number"),
        ("train", "max_minutes", "8h", "must be a number"),
        ("train", "eval_interval", -5, "must be at least 0"),
        ("train", "gradient_accumulation_steps", 0, "must be greater than 0"),
        ("train", "momentum", 1, "must be less than 1"),
        ("train", "ema_decay", 1.0, "must be less than 1"),
        ("train", "patience", 2.5, "must be a whole number"),
        ("train", "decay_fraction", 0, "must be greater than 0"),
        ("model", "norm", "batchnorm", "must be 'layernorm' or 'rmsnorm'"),
        ("model", "norm_placement", "sandwich", "must be 'pre', 'post' or 'branch'"),
        ("model", "positions", "alibi", "must be 'learned', 'sinusoidal' or 'rotary'"),
        ("model", "activation", "silu", "must be 'gelu', 'gelu_tanh', 'relu', 'relu2' or 'swiglu'"),
        ("model", "dropout_embd", 1, "must be less than 1"),
        ("model", "dropout_attn", "none", "must be a number"),
        ("model", "n_inner", -4, "must be at least 0"),
        ("data", "tokenizer", "word", "must be 'char', 'byte', 'bpe' or 'gpt2'"),
        ("data", "bpe_vocab_size", 256, "must be at least 257"),
        ("data", "batches", "sorted", "must be 'random' or 'epochs'"),
        ("device", "precision", "int8", "must be 'auto', 'float32', 'bf16' or 'fp16'"),
        ("sample", "top_p", 0, "must be greater than 0"),
        ("data", "corpus", "", "must not be empty"),
        ("data", "corpus", "a\0b", "must not contain the character U+0000"),
        ("data", "corpus", 5, "must be text, in quotes"),
        ("run", "name", "../elsewhere", "must be up to 100 letters"),
        ("run", "name", ".hidden", "must be up to 100 letters"),
        ("run", "name", "a\n", "must be up to 100 letters"),
        ("run", "name", "first ", "must be up to 100 letters"),
        ("run", "name", "x" * 101, "must be up to 100 letters"),
        ("run", "name", "字" * 100, "must be up to 100 letters"),  # more bytes than a file's name may have
        ("run", "name", "zero\u200dwidth", "must be up to 100 letters"),
        ("run", "name", "\u05e9\u05dc", "must be up to 100 letters"),  # would reorder what stands beside it
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


@pytest.mark.parametrize(
    ("section", "values", "reason"),
    [
        ("model", {"bias_head": True}, "bias_head needs tie_weights = false: the token embedding has no bias"),
        ("model", {"norm": "rmsnorm"}, 'norm = "rmsnorm" needs bias_norm = false: RMSNorm only scales'),
        ("model", {"norm_placement": "post"}, "needs final_norm = false: the last block already ends in a norm"),
        ("model", {"positions": "rotary", "n_head": 2, "n_embd": 6}, "n_embd / n_head (3) must be even"),
        ("model", {"positions": "sinusoidal", "n_head": 3, "n_embd": 9}, "n_embd (9) is odd"),
        ("train", {"max_steps": 0}, "max_steps = 0 needs another end: give max_epochs or max_minutes"),
        ("train", {"max_steps": 0, "max_epochs": 0}, "needs another end"),
        ("train", {"batch_size": 4, "gradient_accumulation_steps": 5}, "(5) must not exceed batch_size (4)"),
    ],
    ids=str,
)
def test_a_combination_that_makes_no_sense_is_refused_with_the_reason(
    section: str, values: dict[str, Any], reason: str
) -> None:
    (line,) = problems({section: values})
    assert line.startswith(f"{section}: ")
    assert reason in line


def test_what_a_combination_needs_may_come_from_the_command_line() -> None:
    """The reason names a key; given there, the same table is valid."""
    model = {"norm": "rmsnorm", "norm_placement": "post"}
    assert merge_config({"model": model}, HERE, {"model.bias_norm": "false", "model.final_norm": "false"})


# ── lengths and dropouts, which depend on each other ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ({}, (2000, 0, 0)),
        ({"max_epochs": 10}, (0, 10, 0)),
        ({"max_minutes": 0.5}, (0, 0, 0.5)),
        ({"max_epochs": 0, "max_minutes": 0}, (2000, 0, 0)),
        ({"max_steps": 100, "max_epochs": 2.5}, (100, 2.5, 0)),
        ({"max_steps": 100, "max_minutes": 480}, (100, 0, 480)),
        ({"max_steps": 0, "max_minutes": 480}, (0, 0, 480)),
    ],
    ids=str,
)
def test_the_default_of_steps_ends_no_training_of_another_length(
    train: dict[str, Any], expected: tuple[float, ...]
) -> None:
    """Ten epochs must not be cut off after the 2,000 steps that nobody asked for; a given number of steps holds."""
    for config in (merge_config({"train": train}, HERE, {}), overridden(train)):
        assert (config.train.max_steps, config.train.max_epochs, config.train.max_minutes) == expected


def overridden(train: dict[str, Any]) -> Config:
    """The same values as options of the command line."""
    return merge_config({}, HERE, {f"train.{key}": str(value) for key, value in train.items()})


def test_a_preset_without_steps_can_be_shortened_by_steps() -> None:
    config = merge_config({"train": {"max_minutes": 480}}, HERE, {"train.max_steps": "20"})
    assert (config.train.max_steps, config.train.max_minutes) == (20, 480)


def test_each_dropout_falls_back_on_the_one_for_all() -> None:
    model = merge_config({"model": {"dropout": 0.2, "dropout_attn": 0.0}}, HERE, {"model.dropout_embd": "0.1"}).model
    assert [model.dropout_on(part) for part in ("embd", "attn", "resid")] == [0.1, 0.0, 0.2]


def test_a_dropout_that_is_not_given_is_not_written_down() -> None:
    """TOML has no word for nothing: a key that says nothing is left out, and comes back as nothing."""
    config = Config.model_validate({"model": {"dropout": 0.2, "dropout_attn": 0.0}})
    written = tomli.loads(config.to_toml())["model"]
    assert (written["dropout"], written["dropout_attn"]) == (0.2, 0.0)
    assert "dropout_embd" not in written and "dropout_resid" not in written


def test_what_an_earlier_version_wrote_means_what_it_meant(tmp_path: Path) -> None:
    """A run of before can be resumed: every key that it lacks stands for what was the only way then."""
    path = tmp_path / "config.toml"
    path.write_text(WRITTEN_BEFORE)
    config = load_config(path)
    assert (config.data.tokenizer, config.data.batches) == ("char", "random")
    model, train = config.model, config.train
    assert (model.norm, model.norm_placement, model.final_norm, model.positions) == (
        "layernorm",
        "pre",
        True,
        "learned",
    )
    assert (model.qk_norm, model.ffn_width, model.bias_qkv, model.bias_head) == (False, 4 * 384, False, True)
    assert [model.dropout_on(part) for part in ("embd", "attn", "resid")] == [0.2] * 3
    assert (train.optimizer, train.gradient_accumulation_steps, train.ema_decay) == ("adamw", 1, 0)
    assert (train.max_steps, train.max_epochs, train.max_minutes, train.patience) == (600, 0, 0, 0)
    assert (config.sample.top_p, config.device.precision) == (1.0, "float32")


WRITTEN_BEFORE = """\
[run]
name = "old-one"
about = ""

[data]
corpus = "the-play"
tokenizer = "char"
val_fraction = 0.1

[model]
n_layer = 6
n_head = 6
n_embd = 384
block_size = 256
dropout = 0.2
activation = "gelu"
tie_weights = false
bias_qkv = false
bias_proj = true
bias_mlp = true
bias_norm = true
bias_head = true

[train]
batch_size = 64
max_steps = 600
learning_rate = 0.001
min_lr = 0.0001
warmup_steps = 100
lr_schedule = "cosine"
weight_decay = 0.1
beta1 = 0.9
beta2 = 0.99
grad_clip = 1.0
seed = 1337
log_interval = 10
eval_interval = 250
train_eval_tokens = 32768
checkpoint_interval = 250
keep_checkpoints = 5

[sample]
interval = 250
prompt = "\\n"
max_new_tokens = 300
temperature = 0.8
top_k = 40
seed = 1

[device]
type = "cpu"
precision = "float32"
compile = false
threads = 2
"""


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
    assert f"did you mean {meant}?" in line.replace("did you mean --", "did you mean ").replace(
        "max-steps?", "max_steps?"
    )


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


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, "9" * 10_000, "NaN", "-Infinity", "1e999", '{"a":1}', "null", "0x10"],
    ids=lambda text: text[:9],
)
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


def test_a_part_of_a_runs_name_names_the_run(runs: Path) -> None:
    """Long names are typed in part: the message had presets for it alone."""
    for name in ("2026-11-20-quick-otter", "2026-11-21-brave-otter", "2026-11-21-slow-hare"):
        (runs / name).mkdir(parents=True)
        (runs / name / "config.toml").touch()
    for typed, meant in (
        ("otter", "2026-11-21-brave-otter or 2026-11-20-quick-otter"),
        ("2026-11-21-slwo-hare", "2026-11-21-slow-hare"),
    ):
        with pytest.raises(UserError, match="did you mean") as caught:
            find_target(typed)
        assert meant in str(caught.value)


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
    kinds = get_args(field.annotation)
    if NoneType in kinds:
        (kind,) = set(kinds) - {NoneType}
        return st.none() | _valid_value(SimpleNamespace(annotation=kind, metadata=field.metadata))
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
    model["n_embd"] = 2 * model["n_head"] * draw(st.integers(1, 8192 // model["n_head"]))  # even heads for rotary
    model["bias_head"] = model["bias_head"] and not model["tie_weights"]
    model["bias_norm"] = model["bias_norm"] and model["norm"] != "rmsnorm"
    model["final_norm"] = model["final_norm"] and model["norm_placement"] != "post"
    train["min_lr"] = min(train["min_lr"], train["learning_rate"])
    train["gradient_accumulation_steps"] = min(train["gradient_accumulation_steps"], train["batch_size"])
    if not (train["max_epochs"] or train["max_minutes"]):
        train["max_steps"] = max(1, train["max_steps"])
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


@settings(max_examples=15)  # tyro takes a fifth of a second for each
@given(valid_configs())
def test_the_command_line_can_say_all_that_a_file_can(config: Config) -> None:
    overrides = {
        f"{place}.{key}": value if isinstance(value, str) else json.dumps(value)
        for place, entries in config.model_dump().items()
        for key, value in entries.items()
        if value not in {"", None} and (place, key) != ("sample", "prompt")
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
