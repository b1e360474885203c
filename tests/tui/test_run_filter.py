"""The filter over the runs: words, comparisons with figures and settings, and what is said of what is none."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.run_list import RunSummary, Setting, settings_of
from minigpt.rundir import RunDirectory, RunState
from tui.run_filter import run_filter


def summary(name: str, state: RunState | None = RunState.FINISHED, **settings: Setting) -> RunSummary:
    """A run with these settings, whose dots are written as two underscores."""
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    return RunSummary(
        run=RunDirectory(Path(name)),
        state=state,
        step=1200,
        max_steps=2000,
        train_loss=1.4,
        val_loss=float("nan"),
        best=(1000, 1.5),
        written=0.0,
        corpus=str(dotted.get("data.corpus", "")),
        settings=dotted,
    )


RUNS = [
    summary("otter", model__n_layer=6, train__learning_rate=1e-3, data__corpus="shakespeare.txt", model__bias=True),
    summary("hare", RunState.CRASHED, model__n_layer=4, train__learning_rate=3e-4, data__corpus="python-docs"),
    summary("new", None),
]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("", "otter hare new"),
        ("OTT", "otter"),
        ("-otter", "hare new"),
        ("-", "otter hare new"),
        ("n_layer>=6", "otter"),
        ("model.n_layer=4", "hare"),
        ("n_layer!=4", "otter"),
        ("-n_layer=4", "otter new"),
        ("learning_rate<1e-3", "hare"),
        ("learning_rate<=0.001 n_layer>5", "otter"),
        ("corpus:shakespeare", "otter"),
        ("corpus=shakespeare", "otter"),
        ("corpus=shakesp", ""),
        ("corpus:docs state:crashed", "hare"),
        ("state:finished -corpus:shakespeare", ""),
        ("bias=yes", "otter"),
        ("bias:false", ""),
        ("corpus>5", ""),
        ("step>=1,200 best<1.6", "otter hare new"),
        ("val<9", ""),
        ("name:ha", "hare"),
        # What cannot be understood leaves all that the rest leaves.
        ("n_layer>= hare", "hare"),
        ("n_layer>six", "otter hare new"),
    ],
)
def test_all_that_is_typed_has_to_hold(text: str, left: str) -> None:
    """A setting by its name alone or in full, figures as the table has them, and a dash for what must not hold."""
    chosen = run_filter(text)
    assert [run.run.name for run in RUNS if chosen.matches(run)] == left.split()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n_layer>=", "n_layer>= needs a value"),
        ("learning_rate<0,001", "learning_rate<0,001: < needs a number"),
        ("n_layer>six", "n_layer>six: > needs a number"),
        ("n_layers>6", "no run has n_layers; did you mean n_layer?"),
        ("model.nlayer>6", "no run has model.nlayer; did you mean model.n_layer?"),
        ("zzz:1", "no run has zzz"),
        ("n_layer>2 otter step<9", ""),
    ],
)
def test_what_cannot_be_understood_is_said(text: str, said: str) -> None:
    assert run_filter(text).complaint(RUNS[:2]) == said


def test_nothing_is_said_of_settings_before_they_are_read() -> None:
    """In the first moment no run has any."""
    assert run_filter("zzz:1").complaint(RUNS) == ""


TYPED = st.text(max_size=40) | st.lists(
    st.sampled_from(
        ["n_layer", "-", ">=", "<", ":", "=", "!=", "6", "nan", "inf", "1e999", " ", "step", ".", "\x1b", "９"]
    ),
    max_size=12,
).map("".join)


@given(TYPED)
def test_any_text_is_a_filter(text: str) -> None:
    """It is read at each key, half-typed as it is."""
    chosen = run_filter(text)
    assert "\x1b" not in chosen.complaint(RUNS[:2])
    assert {chosen.matches(run) for run in RUNS} <= {True, False}


@pytest.mark.parametrize(
    ("config", "settings"),
    [
        (
            '[data]\ncorpus = "x"\n[model]\nn_layer = 6\nbias = true\n',
            {"data.corpus": "x", "model.n_layer": 6, "model.bias": True},
        ),
        (f"[model]\nn_layer = 0x{'f' * 900}\nn_head = [1]\n", {}),
        ("model = 3\n", {}),
        ("[[[", {}),
    ],
    ids=["whole", "no values", "no table", "no file"],
)
def test_settings_are_read_from_any_file(tmp_path: Path, config: str, settings: dict[str, Setting]) -> None:
    """A number of thousands of digits cannot be compared with a float."""
    (tmp_path / "config.toml").write_text(config)
    assert settings_of(RunDirectory(tmp_path)) == settings
