"""`minigpt plot`: the curves of runs as a picture, with gaps where there are no numbers, over no file that is none."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from minigpt.cli import main
from minigpt.figure import Curves, draw, has_curves
from minigpt.journal import JournalWriter, Row
from minigpt.metrics import Metrics
from minigpt.rundir import RunDirectory
from tests.command_line import assert_refused
from tests.recorded import recorded_run


def run_of(path: Path, rows: list[Row]) -> RunDirectory:
    """A run with these rows of metrics."""
    path.mkdir(parents=True)
    run = RunDirectory(path)
    run.config_file.touch()
    writer = JournalWriter(run.metrics_file)
    for row in rows:
        writer.append({"attempt": 1, **row})
    writer.close()
    return run


def metrics_of(run: RunDirectory) -> Metrics:
    return Metrics(run.metrics_file).read_all()


# ── what is drawn ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "begins"), [("a.png", b"\x89PNG\r\n"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF"), ("over.png", b"\x89PNG")]
)
def test_the_suffix_says_what_kind_of_picture_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, begins: bytes
) -> None:
    run = recorded_run(tmp_path)
    path = tmp_path / name
    for _ in range(2):  # its own picture is drawn over
        assert main(["plot", str(run.path), "-o", str(path)]) == 0
        assert path.read_bytes().startswith(begins)
    out, err = capsys.readouterr()
    assert out == f"written to {path}\n" * 2
    assert err == ""
    assert [other.name for other in tmp_path.iterdir() if "tmp" in other.name] == []


def test_without_a_name_it_is_training_metrics_png(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = recorded_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["plot", str(run.path)]) == 0
    assert (tmp_path / "training_metrics.png").stat().st_size > 10_000


def test_both_panels_show_what_was_measured(tmp_path: Path) -> None:
    run = recorded_run(tmp_path)
    metrics = metrics_of(run)
    figure = draw([Curves("a run", metrics)])
    loss, perplexity = figure.axes
    steps, values = metrics.series("val_loss")
    drawn = next(line for line in loss.lines if len(line.get_xdata()) == len(steps) and line.get_linestyle() == "-")
    np.testing.assert_array_equal(drawn.get_xdata(), steps)
    np.testing.assert_array_equal(drawn.get_ydata(), values)
    drawn = next(
        line for line in perplexity.lines if len(line.get_xdata()) == len(steps) and line.get_linestyle() == "-"
    )
    np.testing.assert_allclose(drawn.get_ydata(), np.exp(values))
    assert perplexity.get_yscale() == "log"
    assert metrics.best is not None
    step, best = metrics.best
    assert any(f"{best:.4f} at step {step:,}" in text.get_text() for text in figure.legends[0].get_texts())
    assert any((step, best) == (*line.get_xdata(), *line.get_ydata()) for line in loss.lines)


def test_several_runs_are_told_apart_by_more_than_colour(tmp_path: Path) -> None:
    """Printed in black and white, or seen by somebody who cannot tell red from green."""
    runs = [
        run_of(tmp_path / name, [{"step": step, "val_loss": 2.0 - step / 9} for step in range(4)]) for name in "abc"
    ]
    figure = draw([Curves(run.name, metrics_of(run)) for run in runs])
    lines = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 4]
    assert len({line.get_color() for line in lines}) == len({line.get_marker() for line in lines}) == 3
    legend = [text.get_text().lstrip("\u200b") for text in figure.legends[0].get_texts()]
    assert legend[:3] == [f"{name}: best 1.6667 at step 3" for name in "abc"]
    assert "validation" in legend


def test_values_that_are_no_numbers_are_gaps(tmp_path: Path) -> None:
    """And a loss of a thousand is no overflow in the perplexity, but a gap there."""
    rows: list[Row] = [
        {"step": step, "val_loss": loss} for step, loss in enumerate([3.0, None, 1000.0, 2.0, float("inf")])
    ]
    run = run_of(tmp_path / "run", rows)
    loss, perplexity = draw([Curves("run", metrics_of(run))]).axes
    shown = [next(line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 5) for axes in (loss, perplexity)]
    assert np.isnan(shown[0]).tolist() == [False, True, False, False, True]
    assert np.isnan(shown[1]).tolist() == [False, True, True, False, True]
    assert main(["plot", str(run.path), "-o", str(tmp_path / "a.png")]) == 0


@pytest.mark.parametrize(
    "rows",
    [
        [{"step": 0, "train_loss": 4.0}],
        [{"step": 0, "val_loss": 0.0}],
        [{"step": 5, "train_loss": 4.0, "val_loss": None}, {"step": 6, "train_loss": 4.0}],
        [{"step": step, "val_loss": 1e-9 * step, "train_eval_loss": 650.0} for step in range(3)],
    ],
)
def test_a_run_of_hardly_any_rows_is_drawn(tmp_path: Path, rows: list[Row]) -> None:
    run = run_of(tmp_path / "run", rows)
    assert main(["plot", str(run.path), "-o", str(tmp_path / "a.svg")]) == 0


def test_names_are_text_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory may be called anything: `$x$` is a formula to matplotlib, `_x` a line without a legend."""
    names = ["$\\frac{1}$", "_hidden", "漢字🎉", "<b>&", "a\x1b[2Jb"]
    runs = [run_of(tmp_path / name, [{"step": 0, "val_loss": 1.0}, {"step": 1, "val_loss": 0.9}]) for name in names]
    path = tmp_path / "a.svg"
    assert main(["plot", *(str(run.path) for run in runs), "-o", str(path)]) == 0
    assert main(["plot", str(runs[0].path), "-o", str(path)]) == 0
    assert capsys.readouterr().err == ""
    ET.parse(path)
    legend = [
        text.get_text().lstrip("\u200b")
        for text in draw([Curves(name, metrics_of(runs[0])) for name in names]).legends[0].get_texts()
    ]
    shown = ["$\\frac{1}$", "_hidden", "漢字🎉", "<b>&", "a␛[2Jb"]
    assert [label.partition(": best")[0] for label in legend[: len(names)]] == shown


def test_runs_of_the_same_name_are_told_apart_and_a_run_given_twice_is_drawn_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    monkeypatch.setattr("minigpt.figure.picture", lambda runs, _: seen.append([run.name for run in runs]) or b"\x89PNG")
    rows: list[Row] = [{"step": 0, "val_loss": 1.0}]
    one, other = (str(run_of(tmp_path / folder / "run", rows).path) for folder in ("x", "y"))
    assert main(["plot", one, other, "-o", str(tmp_path / "a.png")]) == 0
    assert main(["plot", one, f"{one}/", "-o", str(tmp_path / "a.png")]) == 0
    assert seen == [[one, other], ["run"]]


def test_an_abandoned_attempt_is_not_drawn(tmp_path: Path) -> None:
    """The reader of the metrics is the one that everything else uses: steps done again are there once."""
    steps = draw([Curves("run", metrics_of(recorded_run(tmp_path)))]).axes[0].lines[0].get_xdata()
    assert np.all(np.diff(np.asarray(steps)) > 0)


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["a.jpg", "a", ".png", "a.png.exe"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    run = recorded_run(tmp_path)
    assert_refused(capsys, ["plot", str(run.path), "-o", str(tmp_path / name)], "must end in .png, .svg, .pdf")


def test_a_file_that_is_no_picture_is_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`-o notes.svg` by a slip of the completion must not cost the notes."""
    run = recorded_run(tmp_path)
    path = tmp_path / "notes.svg"
    path.write_text("years of work")
    assert_refused(capsys, ["plot", str(run.path), "-o", str(path)], "notes.svg: exists and is no such picture")
    assert path.read_text() == "years of work"
    path.write_text("")
    assert main(["plot", str(run.path), "-o", str(path)]) == 0


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = recorded_run(tmp_path)
    (tmp_path / "folder.png").mkdir()
    for name, part in (
        ("none/a.png", "No such file"),
        ("folder.png", "is a directory"),
        ("x" * 300 + ".png", "too long"),
    ):
        assert_refused(capsys, ["plot", str(run.path), "-o", str(tmp_path / name)], part)


@pytest.mark.parametrize("rows", [[], [{"step": 0, "learning_rate": 1.0}], [{"step": 0, "val_loss": None}]])
def test_a_run_without_losses_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: list[Row]) -> None:
    run = run_of(tmp_path / "young", rows)
    assert not has_curves(metrics_of(run))
    assert_refused(capsys, ["plot", str(run.path), "-o", str(tmp_path / "a.png")], "young: has no losses to draw yet")
    assert not (tmp_path / "a.png").exists()


def test_without_matplotlib_it_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = recorded_run(tmp_path)
    monkeypatch.delitem(sys.modules, "minigpt.figure", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    err = assert_refused(capsys, ["plot", str(run.path), "-o", str(tmp_path / "a.png")])
    assert err == "minigpt: minigpt plot needs matplotlib: pip install 'minigpt-tui[plot]'\n"


def test_no_window_system_is_asked_for(tmp_path: Path) -> None:
    """Over SSH there is none; pyplot would choose a backend, and some of them end the process."""
    run = recorded_run(tmp_path)
    program = f"""
import sys
from minigpt.cli import main
assert main(["plot", {str(run.path)!r}, "-o", {str(tmp_path / "a.png")!r}]) == 0
assert "matplotlib.pyplot" not in sys.modules
assert "torch" not in sys.modules
"""
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={"MPLBACKEND": "TkAgg", "PATH": "", "HOME": str(tmp_path)}
    )


def test_the_help_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "--help"]) == 0
    out = capsys.readouterr().out
    assert "-o, --output TEXT" in out
    assert "training_metrics.png" in out
