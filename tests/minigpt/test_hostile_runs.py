"""A damaged or hostile run gives a clear message or is read as far as it goes: no crash, no hang, no memory taken."""

import contextlib
import io
import json
import os
import resource
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import tensors
from minigpt.capacity import require_memory, require_memory_to_generate
from minigpt.checkpoint import load_for_generation
from minigpt.cli import main
from minigpt.config import Config
from minigpt.errors import UserError
from minigpt.files import open_regular, read_json, read_limited
from minigpt.metrics import Metrics, epoch_table
from minigpt.rundir import RunDirectory
from minigpt.session import TrainingSession
from tests.hostile import KINDS, SECRET, Damage, damaged_runs, files_of, whole_run

pytestmark = pytest.mark.timeout(100)  # a pipe that somebody opens waits for ever

PATIENCE = 30.0  # seconds; each takes a tenth of one


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return whole_run(tmp_path_factory.mktemp("whole"))


@pytest.fixture(autouse=True)
def little_memory() -> Iterator[None]:
    """Whatever a file claims to hold, only what it holds is read."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400 << 10  # KiB


def about(kind: str, *beginnings: str, every: int = 1) -> dict[str, Damage]:
    """The damages of a kind that concern these files, or every so many of them."""
    chosen = [name for name in KINDS[kind] if not beginnings or name.startswith(beginnings)]
    return {name: KINDS[kind][name] for name in chosen[::every]}


def command(*arguments: str) -> str:
    """Run a command in this process; it must end well or with one message. What it said on stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(arguments))
    printed = out.getvalue() + err.getvalue()
    assert (code, err.getvalue().count("minigpt: ")) in {(0, 0), (2, 1)}
    assert "Traceback" not in printed
    assert not {"\x1b", "\x9b", "\u202e"} & set(printed)
    assert SECRET not in printed
    return err.getvalue()


def each(runs: Iterator[tuple[str, RunDirectory]], act: Callable[[RunDirectory], object]) -> None:
    """Do it with each run, and say which of them failed."""
    failed = []
    for name, run in runs:
        try:
            act(run)
        except Exception as error:  # noqa: BLE001 - any but a UserError is what is looked for
            failed.append(f"{name}: {error!r}"[:300])
    assert failed == []


# ── the commands ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["files", "rows", "configs", "directories"])
def test_runs_lists(whole: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def lists(run: RunDirectory) -> None:
        monkeypatch.setenv("MINIGPT_RUNS_DIR", str(run.path.parent))
        assert command("runs") == ""

    beginnings = ("config", "metrics", "events", "lock", "started", "checkpoints")
    each(damaged_runs(whole, tmp_path, about(kind, *beginnings)), lists)


MODEL = ("config", "tokenizer", "best", "checkpoint", "weights", "tensors", "hugging", "named", "no ")


@pytest.mark.parametrize("kind", ["files", "json", "configs", "tensors", "directories"])
def test_generate_writes_or_refuses(whole: RunDirectory, tmp_path: Path, kind: str) -> None:
    options = ("--prompt", "salt", "--max-new-tokens", "4", "--device", "cpu")
    each(damaged_runs(whole, tmp_path, about(kind, *MODEL)), lambda run: command("generate", str(run.path), *options))


@pytest.mark.parametrize("kind", ["files", "json", "configs", "tensors", "directories"])
def test_evaluate_measures_or_refuses(whole: RunDirectory, tmp_path: Path, kind: str) -> None:
    damages = about(kind, *MODEL, "evaluation", every=3) | about("directories", "evaluations")
    each(damaged_runs(whole, tmp_path, damages), lambda run: command("evaluate", str(run.path), "--device", "cpu"))


def test_plot_draws_or_refuses(whole: RunDirectory, tmp_path: Path) -> None:
    damages = about("files", "metrics", every=4) | about("rows", "metrics:val_loss", "metrics:step", every=2)
    picture = str(tmp_path / "picture.svg")
    each(damaged_runs(whole, tmp_path / "runs", damages), lambda run: command("plot", str(run.path), "-o", picture))


def resume(run: RunDirectory) -> str:
    """Go on with a run to its end, or to the message that refuses it."""
    session = TrainingSession(resume=run)
    session.start()
    session.join(PATIENCE)
    if session.is_alive():
        session.request_stop()
        raise AssertionError(f"it hangs: {session.phase}")
    if session.error is not None and not isinstance(session.error, UserError):
        raise session.error
    message = "" if session.error is None else str(session.error)
    assert "\x1b" not in message and SECRET not in message
    return message


@pytest.mark.parametrize("kind", ["files", "rows", "json", "configs", "tensors", "directories"])
def test_a_resumption_goes_on_or_is_refused(whole: RunDirectory, tmp_path: Path, kind: str) -> None:
    """From the checkpoint before, where only the last is damaged; nothing outside is written to, nor pruned."""
    read = ("config", "tokenizer", "metrics", "events", "best", "checkpoint", "weights", "training", "lock", "tensors")
    every = {"directories": 1, "configs": 2}.get(kind, 4)
    others = ("chat", "commands", "evaluations", "named", "no ", "unfinished")
    each(damaged_runs(whole, tmp_path, about(kind, *read, *others, every=every)), resume)


# ── what it says ──────────────────────────────────────────────────────────────────────────────────────────────────


def one(whole: RunDirectory, folder: Path, kind: str, name: str) -> RunDirectory:
    return next(damaged_runs(whole, folder, {name: KINDS[kind][name]}))[1]


FILES_WRITTEN = ["metrics", "events", "samples", "lock", "console", "best"]


@pytest.mark.parametrize("name", ["checkpoints", "commands", "chat", "evaluations", *FILES_WRITTEN])
def test_a_run_that_leads_elsewhere_is_not_written_to(whole: RunDirectory, tmp_path: Path, name: str) -> None:
    """Appending, taking commands and pruning would be done to somebody's own files."""
    kind = "files" if name in FILES_WRITTEN else "directories"
    run = one(whole, tmp_path, kind, f"{name}:link-out")
    assert "is a link" in resume(run)
    if name == "checkpoints":
        assert "is a link" in command("generate", str(run.path), "--prompt", "salt")


def test_runs_on_another_disk_are_as_good(whole: RunDirectory, tmp_path: Path) -> None:
    """The link that leads to a run is the user's own."""
    shutil.copytree(whole.path, tmp_path / "disk" / "run")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert resume(RunDirectory(tmp_path / "link" / "run")) == ""
    assert command("generate", str(tmp_path / "link" / "run"), "--prompt", "salt", "--max-new-tokens", "4") == ""


@pytest.mark.parametrize("name", ["claims-a-terabyte", "sparse-terabyte"])
@pytest.mark.parametrize("file", ["weights", "training"])
def test_a_terabyte_is_refused_before_it_is_allocated(
    whole: RunDirectory, tmp_path: Path, file: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a header that fits the file, too, as one with a hole in it has."""
    load = tensors.load

    def small(data: bytes) -> dict[str, torch.Tensor]:
        assert len(data) < 10**6
        return load(data)

    monkeypatch.setattr(tensors, "load", small)
    run = one(whole, tmp_path, "tensors", f"{file}:{name}")
    shutil.rmtree(run.checkpoints_dir / "step-00000010")
    if file == "weights":
        assert "does not fit" in command("generate", str(run.path), "--prompt", "salt") or name == "claims-a-terabyte"
    assert "step-00000020" in resume(run)


def test_a_model_larger_than_the_machine_is_refused(whole: RunDirectory, tmp_path: Path) -> None:
    run = one(whole, tmp_path, "configs", "config:huge-model")
    assert "GiB of memory" in command("generate", str(run.path), "--prompt", "salt")
    config = Config.model_validate({"model": {"n_layer": 200, "n_head": 128, "n_embd": 16384}})
    there_is = f"{(psutil.virtual_memory().total + psutil.swap_memory().total) / (1 << 30):,.1f}"
    with pytest.raises(UserError, match=f"needs [0-9,.]+ GiB of memory, and the machine has {there_is}"):
        require_memory(config, 65, "cpu", "float32")
    with pytest.raises(UserError, match="this model needs"):
        require_memory_to_generate(config, 65, "cpu")
    require_memory(Config(), 65, "cpu", "float32")


def test_a_batch_larger_than_the_machine_can_be_cut_in_pieces() -> None:
    config = Config.model_validate(
        {"model": {"n_embd": 1024, "block_size": 4096, "dropout": 0.1}, "train": {"batch_size": 65536}}
    )
    with pytest.raises(UserError, match=r"--train\.gradient-accumulation-steps [0-9]+ computes the batch in smaller"):
        require_memory(config, 65, "cpu", "float32")


def test_a_newer_versions_run_is_named_so(whole: RunDirectory, tmp_path: Path) -> None:
    """It is whole: neither put aside as damaged, nor gone behind."""
    run = one(whole, tmp_path, "json", "checkpoint:format-more-0")
    assert "newer version" in resume(run)
    assert [checkpoint.step for checkpoint in run.checkpoints()] == [10, 20]
    newer = one(whole, tmp_path / "config", "configs", "config:newer")
    assert "newer version" in command("generate", str(newer.path), "--prompt", "salt")


def test_a_checkpoint_of_another_step_is_damaged(whole: RunDirectory, tmp_path: Path) -> None:
    """A directory that was renamed would let the run count on from where it never was."""
    run = one(whole, tmp_path, "directories", "named 'step-00000021'")
    assert resume(run) == ""
    assert (run.checkpoints_dir / "damaged-step-00000021").is_dir()


# ── any bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=25)
@given(data=st.data())
def test_any_bytes_in_any_file(whole: RunDirectory, data: st.DataObject) -> None:
    """Cut at any byte, overwritten anywhere, or with any values under the right keys."""
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder, "run"))
        shutil.copytree(whole.path, run.path)
        name = data.draw(st.sampled_from(sorted(files_of(run))))
        path = files_of(run)[name]
        content = path.read_bytes()
        way = data.draw(st.sampled_from(["cut", "bytes", "values"]))
        if way == "cut":
            path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        elif way == "bytes":
            place = data.draw(st.integers(0, len(content)))
            path.write_bytes(content[:place] + data.draw(st.binary(max_size=40)) + content[place + 10 :])
        else:
            keys = ["step", "attempt", "event", "message", "text", "val_loss", "format", "type", "merges", "best"]
            rows = data.draw(st.lists(st.dictionaries(st.sampled_from(keys), json_values), max_size=4))
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        epoch_table(Metrics(run.metrics_file).read_all())
        run.state()
        for checkpoint in run.checkpoints():
            with contextlib.suppress(UserError):
                load_for_generation(run, checkpoint)
        if way != "values":
            resume(run)


@given(st.binary(max_size=300), st.integers(0, 2**64 - 1))
def test_any_bytes_as_weights(whole: RunDirectory, content: bytes, length: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder, "run"))
        shutil.copytree(whole.path, run.path)
        path = run.checkpoint().path / "model.safetensors"
        for written in (content, struct.pack("<Q", length) + content, struct.pack("<Q", len(content)) + content):
            path.write_bytes(written)
            with pytest.raises(UserError, match=r"model\.safetensors|does not fit"):
                load_for_generation(run, run.checkpoint())


# ── opening a file ────────────────────────────────────────────────────────────────────────────────────────────────


def test_only_regular_files_in_their_own_directory_are_opened(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "secret").write_text(SECRET)
    folder = tmp_path / "inner"
    (folder / "file").write_text("x")
    (folder / "near").symlink_to("file")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to("../secret")
    (folder / "null").symlink_to("/dev/null")
    os.mkfifo(folder / "pipe")
    for name in ("file", "near"):
        with open_regular(folder / name) as file:
            assert file.read() == b"x"
    for name in ("out", "up", "null", "pipe", "none", "."):
        with pytest.raises(OSError):
            open_regular(folder / name)


def test_whole_files_have_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text('{"a": 1}')
    assert read_limited(path, 8) == b'{"a": 1}'
    with pytest.raises(OSError, match="larger than 7 bytes"):
        read_limited(path, 7)
    assert (read_json(path), read_json(path, 7), read_json(tmp_path)) == ({"a": 1}, {}, {})
