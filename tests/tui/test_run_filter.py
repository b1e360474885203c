"""The filter over the runs: words, comparisons with figures and settings, and what is said of what is none."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.files import read_limited
from minigpt.run_list import RunSummary, Setting, settings_of
from minigpt.rundir import RunDirectory, RunState
from tui.run_filter import run_filter
from tui.run_rows import entry


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


def test_notes_are_read_when_the_filter_asks_and_again_when_they_have_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the words of which a user remembers a run, and a list that reads a thousand files at every key."""
    read: list[str] = []

    def counting(path: Path, limit: int) -> bytes:
        read.append(path.parent.name)
        return read_limited(path, limit)

    monkeypatch.setattr("minigpt.files.read_limited", counting)
    runs = []
    for name, notes in {
        "good": "Baseline for the PAPER\nlr 3e-4",
        "bad": "debug: diverges Straße",
        "none": None,
    }.items():
        runs.append(summary(str(tmp_path / name)))
        runs[-1].run.path.mkdir()
        if notes is not None:
            runs[-1].run.notes_file.write_text(notes, encoding="utf-8")

    def left(text: str) -> str:
        chosen = run_filter(text)
        assert chosen.complaint(runs) == ""
        return " ".join(run.run.name for run in runs if chosen.matches(run))

    assert left("good -state:crashed") == "good" and read == []
    assert left("note:paper") == "good" and read == ["good", "bad"]
    assert left("NOTE:STRASSE") == "bad"
    assert left("-note:debug") == "good none"
    assert left("note:lr -note:debug") == "good"
    assert left("note:the") == left("note:the note:3e-4") == "good"
    assert left("note!=x") == "good bad none"
    assert left("note>5") == left("note:[b]") == ""
    assert read == ["good", "bad"]
    runs[0].run.notes_file.write_text("a debug run after all", encoding="utf-8")
    assert left("note:debug") == "good bad" and read == ["good", "bad", "good"]
    assert run_filter("notes:debug").complaint(runs[:1]) == "no run has notes; did you mean note?"
    # What is no text of ours is none, and nothing is waited for.
    runs[0].run.notes_file.unlink()
    os.mkfifo(runs[0].run.notes_file)
    runs[1].run.notes_file.write_bytes(b"\xff\x00 debug \x1b[2J")
    runs[2].run.notes_file.write_bytes(b"debug" * 100_000)
    assert left("note:debug") == "bad"
    runs[1].run.notes_file.unlink()
    runs[1].run.notes_file.symlink_to("/etc/passwd")
    assert left("note:root") == ""


TYPED = st.text(max_size=40) | st.lists(
    st.sampled_from(
        ["n_layer", "-", ">=", "<", ":", "=", "!=", "6", "nan", "inf", "1e999", " ", "step", "note", ".", "\x1b", "９"]
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


def test_a_run_that_hangs_is_not_said_to_have_written_just_now() -> None:
    """A stopped process stood in the list as training, its age `now`, for as long as nobody looked closer."""
    for state, seconds, said in ((RunState.TRAINING, 30, "now"), (RunState.TRAINING, 250, "4 min")):
        assert said in entry(summary("otter", state), seconds).cells
