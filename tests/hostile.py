"""Run directories as a stranger, a full disk or an accident may leave them: a small trained run, damaged in every way.

Each damage is a function of the run and of a directory outside of it, `outside`, which has a file `secret` in it that
nobody may change, and that no message may show.
"""

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

from minigpt.rundir import RunDirectory
from tests.training import tiny_config, train, write_corpus

Damage = Callable[[RunDirectory, Path], None]

SECRET = "the secret of somebody else"
TERABYTE = 1 << 40


def whole_run(folder: Path) -> RunDirectory:
    """A run of 20 steps with four to go, with checkpoints of steps 10 and 20, a chat and an evaluation."""
    run = train(
        tiny_config(
            write_corpus(folder / "corpus.txt"),
            folder / "whole",
            device={"threads": 1},
            train={"max_steps": 20, "checkpoint_interval": 10, "eval_interval": 10, "warmup_steps": 2},
            sample={"interval": 10},
        )
    )
    change(run.config_file, lambda text: text.replace("max_steps = 20", "max_steps = 24"))
    shutil.rmtree(run.checkpoints_dir / "step-00000000")
    run.evaluations_dir.mkdir()
    result = {"time": 1.0, "step": 20, "split": "val", "corpus": "corpus.txt", "nll": 1.5, "tokens": 300}
    for name in ("step-00000020-val.json", "evaluation_metrics.json"):
        (run.evaluations_dir / name).write_text(json.dumps(result))
    (run.chat_dir / "20261121-000000-1.jsonl").write_text('{"prompt": "salt", "text": "tide", "step": 20}\n')
    (run.commands_dir / "00000000000000000001-aaaaaa.json").write_text('{"command": "save"}')
    run.console_file.write_text("printed\n")
    return run


def change(path: Path, changed: Callable[[str], str]) -> None:
    path.write_text(changed(path.read_text(encoding="utf-8")), encoding="utf-8")


# ── what can be done to any file ──────────────────────────────────────────────────────────────────────────────────


def files_of(run: RunDirectory) -> dict[str, Path]:
    last = run.checkpoints_dir / "step-00000020"
    return {
        "config": run.config_file,
        "tokenizer": run.tokenizer_file,
        "metrics": run.metrics_file,
        "events": run.events_file,
        "samples": run.samples_file,
        "best": run.best_file,
        "checkpoint": last / "checkpoint.json",
        "weights": last / "model.safetensors",
        "training": last / "training.safetensors",
        "hugging-face": last / "config.json",
        "lock": run.lock_file,
        "console": run.console_file,
        "epochs": run.epochs_file,
        "chat": run.chat_dir / "20261121-000000-1.jsonl",
        "evaluation": run.evaluations_dir / "step-00000020-val.json",
        "command": run.commands_dir / "00000000000000000001-aaaaaa.json",
    }


def _replaced(make: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    def damage(path: Path, outside: Path) -> None:
        path.unlink(missing_ok=True)
        make(path, outside)

    return damage


def _terabyte(path: Path, _: Path) -> None:
    path.touch()
    os.truncate(path, TERABYTE)


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "missing": _replaced(lambda path, _: None),
    "empty": lambda path, _: path.write_bytes(b"") and None,
    "torn": lambda path, _: os.truncate(path, path.stat().st_size // 2),
    "binary": lambda path, _: path.write_bytes(bytes(range(256)) * 20) and None,
    "zeros": lambda path, _: path.write_bytes(b"\0" * 5000) and None,
    "a-terabyte": _terabyte,
    "a-terabyte-of-nothing": _replaced(_terabyte),
    "deep": lambda path, _: path.write_text("[" * 50_000 + "\n" + '{"a":' * 50_000 + "\n") and None,
    "huge-number": lambda path, _: path.write_text('{"step": ' + "9" * 6000 + "}\n") and None,
    "a-list": lambda path, _: path.write_text("[1, 2, 3]\n") and None,
    "link-out": _replaced(lambda path, outside: path.symlink_to(outside / "secret")),
    "link-to-zeros": _replaced(lambda path, _: path.symlink_to("/dev/zero")),
    "link-to-nowhere": _replaced(lambda path, outside: path.symlink_to(outside / "nothing")),
    "link-to-itself": _replaced(lambda path, _: path.symlink_to(path)),
    "pipe": _replaced(lambda path, _: os.mkfifo(path)),
    "directory": _replaced(lambda path, _: path.mkdir()),
}


def of_files() -> Iterator[tuple[str, Damage]]:
    """Each file in each of these ways."""
    for way, damage in WAYS.items():
        for name in FILES:
            yield f"{name}:{way}", lambda run, outside, n=name, d=damage: d(files_of(run)[n], outside)


FILES = tuple(files_of(RunDirectory(Path("run"))))


# ── what only some files can be ───────────────────────────────────────────────────────────────────────────────────

_WRONG: tuple[Any, ...] = (
    None,
    True,
    "5",
    "",
    [1],
    {"a": 1},
    -1,
    1.5,
    2**70,
    10**4000,
    1e308,
    float("nan"),
    float("inf"),
    "\x1b[2J\x9b5A\u202e[bold]\0\ud800",
    "x" * 100_000,
)


def _some_wrong() -> Iterator[tuple[int, Any]]:
    """Four of the wrong values, from call to call other ones: each is tried, and not all of them everywhere."""
    for _ in range(4):
        yield next(_TURN)


_TURN = cycle(enumerate(_WRONG))


def _last_row(path: Path, **values: Any) -> None:
    """Add a row like the last one, with other values; keys that are None as `...` are left out."""
    row = json.loads(path.read_text().splitlines()[-1]) | values
    with path.open("a", encoding="utf-8", errors="surrogatepass") as file:
        file.write(json.dumps({key: value for key, value in row.items() if value is not ...}) + "\n")


def of_rows() -> Iterator[tuple[str, Damage]]:
    """Rows whose values are of a wrong kind, out of order, or far too many."""

    def wrong(file: str, key: str, value: Any) -> Damage:
        return lambda run, _: _last_row(files_of(run)[file], **{"step": 30, "attempt": 1, key: value})

    keys = {
        "metrics": ("step", "attempt", "val_loss", "train_loss", "elapsed", "epoch", "tokens_per_second", "memory_rss"),
        "events": ("event", "step", "attempt", "message", "time", "reason"),
        "samples": ("step", "attempt", "text", "prompt"),
        "chat": ("prompt", "text"),
    }
    for file, names in keys.items():
        for key in names:
            for number, value in _some_wrong():
                yield f"{file}:{key}-{number}", wrong(file, key, value)
    started = ("pid", "device", "device_name", "device_uuid", "parameters", "corpus", "max_steps", "max_minutes")
    for key in (*started, "resumed_from", "precision", "compiled", "changed", "learning_rate_scale"):
        for number, value in _some_wrong():
            yield f"started:{key}-{number}", wrong_started(key, value)
    for event in ("notice", "failed", "saved", "sampled", "evaluated", "recovered", "handing_over"):
        yield (
            f"events:{event}",
            lambda run, _, e=event: _last_row(run.events_file, event=e, message={"a": [[]]}, command=[], kind=[]),
        )
    deep = json.loads("[" * 400 + "]" * 400)
    yield "started:changed-deep", wrong_started("changed", {"\x1b[2J": [deep, deep], "b": deep, "c": [1e308, "\u202e"]})
    yield "metrics:no-step", lambda run, _: _last_row(run.metrics_file, step=...)
    yield "metrics:backwards", lambda run, _: _reversed(run.metrics_file)
    yield "metrics:many-attempts", lambda run, _: _attempts(run.metrics_file, 5000)
    yield "metrics:many-names", lambda run, _: _last_row(run.metrics_file, step=30, **{f"n{i}": i for i in range(9999)})
    yield "metrics:long-line", lambda run, _: _last_row(run.metrics_file, step=30, x="y" * (9 << 20))
    yield "events:many-attempts", lambda run, _: _attempts(run.events_file, 5000)
    yield "events:backwards", lambda run, _: _reversed(run.events_file)
    yield "samples:many-attempts", lambda run, _: _attempts(run.samples_file, 5000)


def wrong_started(key: str, value: Any) -> Damage:
    return lambda run, _: _last_row(run.events_file, **{"event": "started", "attempt": 2, key: value})


def _reversed(path: Path) -> None:
    change(path, lambda text: "".join(f"{line}\n" for line in reversed(text.splitlines())))


def _attempts(path: Path, count: int) -> None:
    row = json.loads(path.read_text().splitlines()[-1])
    with path.open("a", encoding="utf-8") as file:
        for attempt in range(2, count):
            row |= {"attempt": attempt, "step": 100 + attempt, "resumed_from": 99 + attempt, "val_loss": 1 / attempt}
            file.write(json.dumps(row) + "\n")


def of_json() -> Iterator[tuple[str, Damage]]:
    """Values of a wrong kind in the small JSON files."""
    keys = {
        "checkpoint": ("format", "step", "elapsed", "best", "val_loss", "steps_since_row", "loss_sum", "corpus_sha256"),
        "best": ("step", "val_loss"),
        "evaluation": ("time", "step", "split", "corpus", "nll", "perplexity", "tokens", "altered"),
        "tokenizer": ("type", "characters"),
        "command": ("command",),
    }

    def wrong(file: str, key: str, value: Any) -> Damage:
        def damage(run: RunDirectory, _: Path) -> None:
            path = files_of(run)[file]
            path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))

        return damage

    for file, names in keys.items():
        for key in names:
            for number, value in _some_wrong():
                yield f"{file}:{key}-{number}", wrong(file, key, value)
    more: dict[str, list[tuple[str, Any]]] = {
        "tokenizer": [
            ("characters", []),
            ("characters", ["ab"]),
            ("characters", ["a", "a"]),
            ("characters", ["\ud800"]),
            ("characters", list(map(chr, range(40, 500)))),
        ],
        "checkpoint": [("format", 2), ("scaler", []), ("applied", "x"), ("best", {"step": [], "val_loss": {}})],
        "best": [("step", 15), ("step", "20")],
    }
    for file, pairs in more.items():
        for number, (key, value) in enumerate(pairs):
            yield f"{file}:{key}-more-{number}", wrong(file, key, value)
    for number, merges in enumerate([5, [5], [[1]], [[1, 2], [1, 2]], [["a", "b"]], [[0, 999]], [[True, 1]], "ab", []]):
        for kind in ("bpe", "gpt2"):
            text = json.dumps({"type": kind, "merges": merges})
            yield f"tokenizer:{kind}-{number}", lambda run, _, t=text: run.tokenizer_file.write_text(t) and None


def of_configs() -> Iterator[tuple[str, Damage]]:
    """Configurations that are valid and impossible, or invalid."""
    changes = {
        "another-model": ("n_embd = 16", "n_embd = 32"),
        "deep-model": ("n_layer = 1", "n_layer = 200"),
        "long-context": ("block_size = 16", "block_size = 65536"),
        "wrong-kind": ("n_layer = 1", 'n_layer = "one"'),
        "huge-number": ("n_layer = 1", "n_layer = " + "9" * 5000),
        "date": ("n_layer = 1", "n_layer = 2026-11-21"),
        "newer": ("[model]", '[model]\nquantum = "yes"'),
        "newer-section": ("[model]", "[warp]\nspeed = 9\n[model]"),
        "twice": ("[model]", "[model]\n[model]"),
        "hostile-key": ("[model]", '[model]\n"\x9b[bold]\\u001b[2J\\u202e" = 1'),
        "hostile-about": ('about = ""', 'about = "\\u001b[2J\\u202e[bold]"'),
        "unknown-prompt": ('prompt = "salt"', 'prompt = "\\u001b]0;x\\u0007"'),
        "deep": ("[model]", "a = " + "[" * 5000 + "]" * 5000 + "\n[model]"),
        "not-utf-8": None,
    }
    for name, pair in changes.items():
        if pair is None:
            yield f"config:{name}", lambda run, _: run.config_file.write_bytes(b"[model]\nx = \xff\xfe") and None
        else:
            yield f"config:{name}", lambda run, _, p=pair: change(run.config_file, lambda text: text.replace(*p, 1))
    yield "config:huge-model", lambda run, _: change(run.config_file, _hundreds_of_times)
    corpora = ["/dev/zero", "/nowhere/at/all", "\\u0000", "/", "pipe", "\\u001b[2J"]
    for number, corpus in enumerate(corpora[:3] + corpora[4:]):
        yield f"config:corpus-{number}", _with_corpus(corpus)


def _hundreds_of_times(text: str) -> str:
    return text.replace("n_embd = 16", "n_embd = 16000").replace("n_layer = 1", "n_layer = 200")


def _with_corpus(corpus: str) -> Damage:
    def damage(run: RunDirectory, outside: Path) -> None:
        place = corpus
        if corpus == "pipe":
            os.mkfifo(outside / "pipe")
            place = str(outside / "pipe")
        lines = run.config_file.read_text().splitlines()
        lines = [f'corpus = "{place}"' if line.startswith("corpus = ") else line for line in lines]
        run.config_file.write_text("\n".join(lines) + "\n")

    return damage


# ── safetensors ───────────────────────────────────────────────────────────────────────────────────────────────────


def read_header(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_header(path: Path, header: Any, data: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def of_tensors() -> Iterator[tuple[str, Damage]]:
    """Headers that lie, tensors of other shapes and types, numbers that are none."""

    def header(file: str, changed: Callable[[dict[str, Any]], Any]) -> Damage:
        def damage(run: RunDirectory, _: Path) -> None:
            path = files_of(run)[file]
            table, data = read_header(path)
            made = changed(table)
            write_header(path, table if made is None else made, data)

        return damage

    def first(table: dict[str, Any]) -> dict[str, Any]:
        return next(value for name, value in table.items() if name != "__metadata__" and len(value["shape"]) == 2)

    def claims(table: dict[str, Any]) -> None:
        first(table).update(shape=[TERABYTE // 4], data_offsets=[0, TERABYTE])

    def renamed(table: dict[str, Any]) -> dict[str, Any]:
        return {f"{name}\x1b[2J" if name != "__metadata__" else name: value for name, value in table.items()}

    def sparse(file: str) -> Damage:
        def damage(run: RunDirectory, _: Path) -> None:
            path = files_of(run)[file]
            name = "transformer.wte.weight" if file == "weights" else "weights.wte.weight"
            write_header(path, {name: {"dtype": "F32", "shape": [TERABYTE // 4], "data_offsets": [0, TERABYTE]}})
            os.truncate(path, path.stat().st_size + TERABYTE)

        return damage

    def flooded(file: str, value: bytes) -> Damage:
        def damage(run: RunDirectory, _: Path) -> None:
            path = files_of(run)[file]
            table, data = read_header(path)
            write_header(path, table, (value * (len(data) // len(value) + 1))[: len(data)])

        return damage

    wrong: dict[str, Callable[[dict[str, Any]], Any]] = {
        "claims-a-terabyte": claims,
        "names-with-escapes": renamed,
        "empty-table": lambda _: {},
        "no-table": lambda _: [1],
        "shape-of-text": lambda table: first(table).update(shape="ab"),
        "negative-shape": lambda table: first(table).update(shape=[-1, -4]),
        "huge-shape": lambda table: first(table).update(shape=[10**4000]),
        "many-dimensions": lambda table: first(table).update(shape=[1] * 5000),
        "other-shape": lambda table: first(table).update(shape=first(table)["shape"] + [1]),
        "turned-shape": lambda table: first(table).update(shape=first(table)["shape"][::-1]),
        "type-of-old": lambda table: first(table).update(dtype="Q7"),
        "type-of-list": lambda table: first(table).update(dtype=["F32"]),
        "whole-numbers": lambda table: first(table).update(dtype="I32"),
        "overlap": lambda table: first(table).update(data_offsets=[0, first(table)["data_offsets"][1]]),
        "more-keys": lambda table: first(table).update(pickle="x"),
        "extra": lambda table: table.update(extra={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
        "without-one": lambda table: table.pop(next(name for name in table if name != "__metadata__")) and None,
        "twice": lambda table: b'{"a": {}, "a": {}, ' + json.dumps(table).encode()[1:],
        "deep": lambda _: b'{"a":' * 50_000,
        "huge-number": lambda _: b'{"a": ' + b"9" * 6000 + b"}",
        "not-utf-8": lambda _: b'{"\xff": 1}',
    }
    for file in ("weights", "training"):
        for name, changed in wrong.items():
            yield f"{file}:{name}", header(file, changed)
        yield f"{file}:sparse-terabyte", sparse(file)
        yield f"{file}:nan", flooded(file, struct.pack("<f", float("nan")))
        yield f"{file}:inf", flooded(file, struct.pack("<f", float("inf")))
        yield f"{file}:large", flooded(file, struct.pack("<f", 3e38))
        yield f"{file}:ones", flooded(file, b"\xff\xff\xff\x3f")
        yield f"{file}:header-of-exabytes", lambda run, _, f=file: _begin_with(files_of(run)[f], 2**63 - 1)
        yield f"{file}:header-longer-than-file", lambda run, _, f=file: _begin_with(files_of(run)[f], 10**6)
    yield "tensors:swapped", lambda run, _: _swap(files_of(run)["weights"], files_of(run)["training"])


def _begin_with(path: Path, length: int) -> None:
    with path.open("r+b") as file:
        file.write(struct.pack("<Q", length))


def _swap(one: Path, other: Path) -> None:
    ours, theirs = one.read_bytes(), other.read_bytes()
    one.write_bytes(theirs)
    other.write_bytes(ours)


# ── directories ───────────────────────────────────────────────────────────────────────────────────────────────────


def of_directories() -> Iterator[tuple[str, Damage]]:
    """Directories that are missing, files, pipes, or lead elsewhere."""

    def moved_out(run: RunDirectory, outside: Path, name: str) -> None:
        (run.path / name).rename(outside / name)
        (run.path / name).symlink_to(outside / name)

    def replaced(run: RunDirectory, name: str, make: Callable[[Path], object]) -> None:
        shutil.rmtree(run.path / name)
        make(run.path / name)

    for name in ("checkpoints", "commands", "chat", "evaluations"):
        yield f"{name}:link-out", lambda run, outside, n=name: moved_out(run, outside, n)
        yield f"{name}:missing", lambda run, _, n=name: shutil.rmtree(run.path / n)
        yield f"{name}:file", lambda run, _, n=name: replaced(run, n, Path.touch)
        yield f"{name}:pipe", lambda run, _, n=name: replaced(run, n, os.mkfifo)
        yield f"{name}:link-to-itself", lambda run, _, n=name: replaced(run, n, lambda path: path.symlink_to(path))
    last = "checkpoints/step-00000020"
    yield f"{last}:link-out", _step_moved_out
    yield f"{last}:file", lambda run, _: replaced(run, last, Path.touch)
    yield f"{last}:empty", lambda run, _: replaced(run, last, Path.mkdir)
    for step in (
        "step-999999999999",
        "step-00000021",
        "step-000000020",
        "step-٠٠٠٠٠٠٣٠",
        "step--0000001",
        "step-\x1b[2J",
    ):
        yield (
            f"named {step!a}",
            lambda run, _, s=step: shutil.copytree(run.path / last, run.checkpoints_dir / s) and None,
        )
    yield "no checkpoints", lambda run, _: replaced(run, "checkpoints", Path.mkdir)
    yield "unfinished link", lambda run, outside: (run.checkpoints_dir / ".step-00000024.tmp").symlink_to(outside)


def _step_moved_out(run: RunDirectory, outside: Path) -> None:
    path = run.checkpoints_dir / "step-00000020"
    path.rename(outside / path.name)
    path.symlink_to(outside / path.name)


KINDS = {
    kind.__name__.removeprefix("of_"): dict(kind())
    for kind in (of_files, of_rows, of_json, of_configs, of_tensors, of_directories)
}


def damaged_runs(whole: RunDirectory, folder: Path, damages: dict[str, Damage]) -> Iterator[tuple[str, RunDirectory]]:
    """A copy of the run for each damage, by its name; after each it is seen to that nothing outside was changed."""
    for number, (name, damage) in enumerate(damages.items()):
        place = folder / f"{number}"
        outside = place / "outside"
        outside.mkdir(parents=True)
        (outside / "secret").write_text(SECRET)
        run = RunDirectory(place / "runs" / "run")
        shutil.copytree(whole.path, run.path)
        damage(run, outside)
        before = _content(outside)
        yield name, run
        assert _content(outside) == before, f"{name}: something outside of the run was changed"
        shutil.rmtree(place)


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
