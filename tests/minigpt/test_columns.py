"""Long metrics: read in columns, by a process of their own and from the cache, they are what reading row by row gives."""

import contextlib
import json
import os
import stat
import struct
import tempfile
import time
import zlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt import indexing, long_metrics, metrics_cache
from minigpt.columns import Column, Part, Table, batch_of
from minigpt.indexing import Indexing
from minigpt.journal import JournalTail, Row, rows_in
from minigpt.long_metrics import LongRead, preview_of
from minigpt.metrics import Metrics
from minigpt.metrics_cache import cache_file


def known(metrics: Metrics) -> tuple[Any, ...]:
    """All that metrics tell, as something that can be compared: nan as its bytes."""
    series = {}
    for name in metrics.names():
        steps, values = metrics.series(name)
        series[name] = (steps.tobytes(), values.tobytes())
    last = json.dumps(metrics.last)
    return metrics.attempt, last, [*metrics.recoveries], [*metrics._improvements], [*series.items()], metrics.offset


def row_by_row(path: Path) -> Metrics:
    """The same file without anything that makes it fast: `json.loads` of each line, each row taken in alone."""
    metrics = Metrics(path)
    data = path.read_bytes()
    data = data[: data.rfind(b"\n") + 1]
    for line in data.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict):
                metrics.take([row])
    metrics._tail.offset = len(data)
    return metrics


def regular(count: int, first: int = 0, attempt: int = 1, **values: Any) -> list[Row]:
    """Rows as the trainer writes them, with an evaluation every ten."""
    rows = []
    for step in range(first, first + count):
        row: Row = {"step": step, "attempt": attempt, "tokens": step * 64}
        if step > first:
            row |= {"train_loss": 3 / (1 + step) if step % 7 else None, "tokens_per_second": 1e5 + step}
        row |= {"elapsed": step * 0.01, **values}
        if step % 10 == 0:
            row |= {"train_eval_loss": 3 - step / 1000, "val_loss": 3 - step / 1000 + (step % 30) / 100}
        rows.append(row)
    return rows


def write(path: Path, rows: list[Any], mode: str = "ab") -> None:
    with path.open(mode) as file:
        for row in rows:
            file.write(row if isinstance(row, bytes) else json.dumps(row).encode() + b"\n")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


# ── any bytes ─────────────────────────────────────────────────────────────────────────────────────────────────────

numbers = st.floats() | st.integers(-5, 5) | st.sampled_from([None, 2**70, 10**400, 2**1000, -(2**1000) + 1])
odd_values = st.booleans() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
names = st.sampled_from(["val_loss", "train_loss", "tokens", "x", "resumed_from"])


@st.composite
def lines(draw: st.DrawFn) -> list[bytes]:
    """Mostly rows of attempts that follow on each other, and between them what else a file may hold."""
    made = []
    step = attempt = draw(st.integers(0, 1))
    for _ in range(draw(st.integers(0, 30))):
        kind = draw(st.integers(0, 14))
        if kind == 0:  # the last step itself, or the next one, is where it is decided
            attempt, step = attempt + draw(st.integers(-1, 2)), max(0, step - draw(st.integers(0, 8)))
        row: dict[Any, Any] = {"step": step, "attempt": attempt, **draw(st.dictionaries(names, numbers, max_size=3))}
        if kind == 1:
            row |= draw(st.dictionaries(names | st.sampled_from(["step", "attempt"]), odd_values | numbers))
        if kind == 2:
            row.pop(draw(st.sampled_from(["step", "attempt"])))
        line = json.dumps(row, ensure_ascii=draw(st.booleans()))
        if kind == 3:
            line = draw(st.sampled_from([" " + line, line + " ", line + "\r", line[:-1], line * 2, line + ", {}", "\ufeff" + line, "", "[]"]))  # fmt: skip
        made.append(line.encode("utf-8", "surrogatepass") if kind != 4 else draw(st.binary(max_size=12)))
        step += draw(st.sampled_from([1, 1, 1, 3]))
    return made


@given(lines(), st.sampled_from([50, 200, 400, 1 << 20]), st.sampled_from([b"\n", b"\n", b"\n\n", b"\r\n"]))
@settings(max_examples=150)
def test_whatever_the_bytes_it_is_what_each_row_alone_gives(written: list[bytes], bite: int, newline: bytes) -> None:
    """The fast path: many lines decoded together, many rows turned into columns. It may only be faster."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "metrics.jsonl")
        path.write_bytes(b"".join(line + newline for line in written) + b'{"torn": ')
        expected = known(row_by_row(path))
        patch.setattr("minigpt.metrics._FEWEST_AT_ONCE", 1)
        patch.setattr("minigpt.journal._LONGEST_LINE", 4000)  # so much is read where a bite is too small
        metrics, before = Metrics(path), -1
        while metrics.offset != before:
            before = metrics.offset
            metrics.poll(bite)
        assert known(metrics) == expected


@given(st.lists(st.binary(max_size=20) | st.text(max_size=20).map(str.encode), max_size=8))
def test_rows_are_those_that_json_reads_in_each_line(pieces: list[bytes]) -> None:
    data = b"\n".join([b'{"a": 1}', *pieces, b'{"b": "\xc3\xa9"}', b""])
    expected = []
    for line in data.splitlines():
        with contextlib.suppress(ValueError):
            if isinstance(row := json.loads(line), dict):
                expected.append(row)
    assert repr(rows_in(data)) == repr(expected)


def test_a_line_is_read_whatever_the_bites(path: Path) -> None:
    """A line longer than the bite was passed over as rubbish: a smaller bite would have lost samples."""
    write(path, [{"step": 1, "text": "x" * 5000}, {"step": 2}])
    tail = JournalTail(path)
    assert [row["step"] for _ in range(4) for row in tail.poll(100)] == [1, 2]


def test_a_new_attempt_is_one_also_where_no_step_is_done_again(path: Path) -> None:
    """The rows of each attempt alone are regular, and come in bites of their own."""
    write(path, regular(20))
    metrics = Metrics(path).read_all()
    write(path, regular(20, 20, 2))
    metrics.poll()
    write(path, regular(20, 39, 2, tokens=1))
    metrics.poll()
    assert known(metrics) == known(row_by_row(path))
    assert len(metrics.recoveries) == 1 and metrics.series("tokens")[0].tolist() == [*range(59)]


def test_so_many_names_and_no_more(path: Path) -> None:
    """Each name costs memory and time at each attempt: a file may not make up a million of them."""
    write(path, regular(20, **{f"first {number}": 1 for number in range(60)}))
    metrics = Metrics(path).read_all()
    write(path, regular(20, 20, **{f"second {number}": 1 for number in range(60)}))
    metrics.poll()
    assert known(metrics) == known(row_by_row(path))
    assert len(metrics.names()) == 100


def test_regular_rows_do_become_columns() -> None:
    """Or the property above would hold for nothing but slow reading."""
    rows = regular(100)
    batch = batch_of(rows)
    assert batch is not None
    assert (batch.first, batch.final, batch.last) == (0, 99, rows[-1])
    assert [sorted(part.values) for part in batch.parts] == [
        ["elapsed", "tokens"],
        ["train_eval_loss", "val_loss"],
        ["tokens_per_second", "train_loss"],
    ]


@pytest.mark.parametrize("values", [{"note": "warm"}, {"flag": True}, {"big": 10**400}, {"attempt": "1"}, {"step": 7}])
def test_rows_that_need_a_look_do_not(values: Row) -> None:
    assert batch_of(regular(20, **values)) is None


def test_an_attempt_after_the_zeroth_cuts_off_what_it_does_again(path: Path) -> None:
    """Steps that went down would break every search in them."""
    write(path, [{"step": 5, "attempt": 0, "x": 1}, {"step": 3, "attempt": 1, "x": 2}])
    assert Metrics(path).read_all().series("x")[0].tolist() == [3]


# ── columns ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_handed_out_stays_as_it_is() -> None:
    """A chart that is being drawn, or a cache that is being written, must not see half of another attempt."""
    column = Column("d")
    column.extend(array("d", range(100)))
    held = column.view()
    column.extend(array("d", [7.0] * 1000))
    column.cut(10)
    column.extend(array("d", [9.0] * 50))
    assert held.tolist() == list(range(100))
    assert column.view().tolist() == [*range(10), *[9.0] * 50]
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 1.0


def test_growing_copies_little() -> None:
    """At each poll of a run with a million rows, all of it would be copied."""
    column, moves = Column("q"), 0
    for _ in range(2000):
        before = column._cells
        column.extend(array("q", [1] * 10))
        moves += column._cells is not before
        column.view()
    assert moves < 40


def test_columns_that_go_apart_keep_their_own_steps() -> None:
    """Nearly all columns have values at the same steps and share these; one that pauses must not drag the others."""
    table = Table()
    table.add(Part(array("q", [1, 2]), {"a": array("d", [1, 2]), "b": array("d", [3, 4])}))
    assert len(table.groups()) == 1
    table.add(Part(array("q", [3]), {"b": array("d", [5])}))
    table.add(Part(array("q", [4]), {"b": array("d", [6]), "a": array("d", [7]), "c": array("d", [8])}))
    table.cut_after(3)
    found = {name: [column.tolist() for column in table.series(name)] for name in ("a", "b", "c")}
    assert found == {"a": [[1, 2], [1, 2]], "b": [[1, 2, 3], [3, 4, 5]], "c": [[], []]}
    assert (table.names(), table.order()) == (["a", "b"], ["a", "b", "c"])


# ── by a process, and a preview ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def no_head_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody draws a preview here."""
    monkeypatch.setattr(long_metrics, "_HEAD_START", 0)


def read_long(path: Path) -> LongRead:
    reading = LongRead(path)
    reading._thread.join(60)
    return reading


@pytest.mark.parametrize("by_process", [True, False])
def test_read_beside_what_else_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch, by_process: bool) -> None:
    """Several bites, attempts, rows that are not regular, a torn end; and without a process, should none start."""
    monkeypatch.setattr(long_metrics, "_WORTH_A_PROCESS", 0)
    if not by_process:
        monkeypatch.setattr("sys.executable", "/nowhere/python")
    last = {"resumed_from": 5000}
    write(path, [*regular(9000), b"rubbish\n", *regular(4000, 5001, 2, **last), *regular(3000, 9001, 2, note="x")])
    write(path, [b'{"step": 99999, "attempt"'])
    reading = read_long(path)
    assert reading.metrics is not None and reading.share > 0.99
    assert known(reading.metrics) == known(row_by_row(path))
    write(path, [b': 3, "resumed_from": 100}\n'])
    assert reading.metrics.poll() and len(reading.metrics.recoveries) == 2


def test_the_process_itself_gives_columns(path: Path) -> None:
    """Otherwise the test above would pass by reading everything row by row."""
    write(path, regular(20000))
    with path.open("rb") as file, contextlib.closing(Indexing(file, 0)) as processes:
        said = list(processes.batches())
    ends = [end for _, end, _ in said]
    assert [begin for begin, _, _ in said] == [0, *ends[:-1]] and ends[-1] == path.stat().st_size and len(said) > 2
    assert sum(len(batch.parts[0].steps) for _, _, batch in said if batch is not None) == 20000


@given(st.lists(st.integers(0, 40), max_size=40), st.integers(0, 3), st.booleans())
def test_the_bites_are_all_of_the_file(lengths: list[int], offset_lines: int, torn: bool) -> None:
    """A line on the border of two bites must be in one of them, once; behind one that is too long for that they end."""
    lines = [b"x" * length + b"\n" for length in lengths]
    offset = sum(map(len, lines[:offset_lines]))
    with tempfile.TemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "_BITE", 24)
        patch.setattr(indexing, "_LONGEST", 16)
        file.write(b"".join(lines) + (b"yyy" if torn else b""))
        file.flush()
        end = offset
        for bite in range(100):
            begin, data = indexing._lines_of(file.fileno(), offset, bite)
            if not data:
                break
            assert begin == end
            end += len(data)
            file.seek(begin)
            assert data == file.read(len(data)) and data.endswith(b"\n")
        if end < sum(map(len, lines)):
            assert max(lengths) >= 16
        assert end in {offset, *(sum(map(len, lines[:count])) for count in range(len(lines) + 1))}


def test_a_process_that_is_killed_leaves_the_rest_to_the_reader(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_metrics, "_WORTH_A_PROCESS", 0)
    write(path, regular(20000))
    batches = Indexing.batches

    def killed(self: Indexing) -> Any:
        for number, said in enumerate(batches(self)):
            yield said
            if number == 1:
                self._processes[0].kill()

    monkeypatch.setattr(Indexing, "batches", killed)
    reading = read_long(path)
    assert reading.metrics is not None and known(reading.metrics) == known(row_by_row(path))


def test_a_file_that_is_replaced_meanwhile_counts_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_metrics, "_WORTH_A_PROCESS", 0)
    write(path, regular(20000))
    batches = Indexing.batches

    def replaced(self: Indexing) -> Any:
        for number, said in enumerate(batches(self)):
            yield said
            if number == 1:
                other = path.with_name("other")
                write(other, regular(30000, val_accuracy=1.0))
                other.replace(path)

    monkeypatch.setattr(Indexing, "batches", replaced)
    metrics = read_long(path).metrics
    assert metrics is not None
    metrics.read_all()
    assert metrics.series("val_accuracy")[0].size == 30000 == metrics.series("tokens")[0].size


def test_reading_ends_when_nobody_wants_it_any_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen that is left must not keep a core busy for seconds."""
    monkeypatch.setattr(long_metrics, "_WORTH_A_PROCESS", 0)
    write(path, regular(20000))
    began: list[Indexing] = []
    batches = Indexing.batches

    def stopping(self: Indexing) -> Any:
        began.append(self)
        for said in batches(self):
            reading.stop()
            yield said

    monkeypatch.setattr(Indexing, "batches", stopping)
    reading = LongRead(path)
    reading._thread.join(60)
    assert not reading._thread.is_alive() and reading.metrics is None
    assert all(process.returncode is not None for process in began[0]._processes)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reader_that_fails_leaves_all_to_the_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The screen would say for ever that it is reading."""
    monkeypatch.setattr(long_metrics, "_WORTH_A_PROCESS", 0)
    monkeypatch.setattr(Metrics, "go_on", lambda *_: 1 / 0)
    write(path, regular(100))
    reading = read_long(path)
    assert reading.metrics is not None
    assert known(reading.metrics.read_all()) == known(row_by_row(path))


def test_a_preview_is_evenly_spread_and_has_the_evaluations_and_the_end(path: Path) -> None:
    write(path, regular(30000))
    preview = preview_of(path)
    assert preview is not None
    steps = preview.series("train_loss")[0]
    assert 500 < steps.size < 3000 and np.diff(steps).max() < 200
    assert preview.series("val_loss")[0].size > 500
    assert preview.last == regular(1, 29999)[0] | {"train_loss": 3 / 30000, "tokens_per_second": 129999.0}
    assert steps[-50:].tolist() == list(range(29950, 30000))


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 100_000, b"\0" * 100_000, b"[]\n" * 50_000, b'{"a": 1}'])
def test_a_preview_of_nothing(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert preview_of(path) is None
    assert preview_of(path.with_name("missing")) is None


# ── the cache ─────────────────────────────────────────────────────────────────────────────────────────────────────


def keep(path: Path) -> Metrics:
    metrics = Metrics(path)
    metrics.read_all()
    assert metrics.prepare_cache()()
    return metrics


@given(lines(), lines())
@settings(max_examples=60)
def test_what_is_kept_is_what_reading_gives_and_goes_on(written: list[bytes], more: list[bytes]) -> None:
    """Also where a later attempt cuts off what came from the cache."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metrics.jsonl")
        path.write_bytes(b"".join(line + b"\n" for line in written))
        keep(path)
        metrics = Metrics(path)
        assert metrics.read_cache()
        assert known(metrics) == known(row_by_row(path))
        write(path, [line + b"\n" for line in more])
        assert known(metrics.read_all()) == known(row_by_row(path))


def test_the_cache_is_private_and_beside_the_file(path: Path) -> None:
    write(path, regular(100))
    keep(path)
    cache = cache_file(path)
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.parent.stat().st_mode) == 0o700
    assert list(cache.parent.iterdir()) == [cache]


def test_a_copied_run_keeps_its_cache(path: Path, tmp_path: Path) -> None:
    """What is compared is the content: inodes and times change when somebody moves a run to another machine."""
    write(path, regular(100))
    keep(path)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "metrics.jsonl").write_bytes(path.read_bytes())
    (tmp_path / "copy" / "cache").mkdir()
    cache_file(tmp_path / "copy" / "metrics.jsonl").write_bytes(cache_file(path).read_bytes())
    assert Metrics(tmp_path / "copy" / "metrics.jsonl").read_cache()


def crafted(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change the header, and make its checksum right again."""

    def damage(path: Path) -> None:
        data = cache_file(path).read_bytes()
        magic, length, _ = struct.unpack("<16sII", data[:24])
        header = json.loads(data[24 : 24 + length])
        replaced = change(header)
        text = (
            replaced if isinstance(replaced, bytes) else json.dumps(header if replaced is None else replaced).encode()
        )
        prefix = struct.pack("<16sII", magic, len(text), zlib.crc32(text))
        cache_file(path).write_bytes(prefix + text + data[24 + length :])

    return damage


def swapped(path: Path) -> None:
    data = bytearray(cache_file(path).read_bytes())
    data[-40] ^= 1
    cache_file(path).write_bytes(bytes(data))


def linked_directory(path: Path) -> None:
    cache_file(path).parent.rename(path.with_name("elsewhere"))
    cache_file(path).parent.symlink_to(path.with_name("elsewhere"))


def linked_file(path: Path) -> None:
    cache_file(path).rename(path.with_name("elsewhere"))
    cache_file(path).symlink_to(path.with_name("elsewhere"))


def instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        cache_file(path).unlink()
        make(cache_file(path))

    return damage


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: cache_file(path).write_bytes(b""),
    "no cache": lambda path: cache_file(path).write_bytes(os.urandom(5000)),
    "cut": lambda path: os.truncate(cache_file(path), cache_file(path).stat().st_size - 8),
    "grown": lambda path: os.truncate(cache_file(path), cache_file(path).stat().st_size + 8),
    "another number": swapped,
    "a header of gigabytes": lambda path: cache_file(path).write_bytes(
        struct.pack("<16sII", b"minigpt columns\n", 2**32 - 1, 0) + b"x" * 100
    ),
    "a terabyte of nothing": lambda path: os.truncate(cache_file(path), 1 << 40),
    "a deep header": crafted(lambda _: b"[" * 100_000),
    "a list": crafted(lambda _: []),
    "another version": crafted(lambda header: header.update(version=2)),
    "another machine": crafted(lambda header: header.update(byteorder="middle")),
    "another file": crafted(lambda header: header.update(digest="0" * 64)),
    "beyond the end": crafted(lambda header: header.update(offset=10**9)),
    "before the end": crafted(lambda header: header.update(offset=header["offset"] - 5)),
    "no last row": crafted(lambda header: header.update(last={})),
    "a last row without step": crafted(lambda header: header.update(last={"step": "x"})),
    "an earlier last row": crafted(lambda header: header.update(last={"step": 3, "attempt": 1})),
    "rows without end": crafted(lambda header: header["groups"][0].update(rows=2**61)),
    "fewer rows than none": crafted(lambda header: header["groups"][0].update(rows=-1)),
    "another type": crafted(lambda header: header["groups"][0].update(rows="100")),
    "a name twice": crafted(lambda header: header["groups"][0].update(names=["tokens", "tokens"])),
    "a name that is none": crafted(lambda header: header["groups"][0].update(names=[7, 8])),
    "a name of its own": crafted(lambda header: header["groups"][0].update(names=["step", "elapsed"])),
    "another order": crafted(lambda header: header.update(order=["x"])),
    "groups without end": crafted(lambda header: header["groups"].extend([{"rows": 0, "names": []}] * 10_000)),
    "improvements without end": crafted(lambda header: header.update(improvements=10**12)),
    "rubbish for recoveries": crafted(lambda header: header.update(recoveries=[[1, 2], "x"])),
    "a link for the directory": linked_directory,
    "a link for the file": linked_file,
    "a directory": instead(lambda path: path.mkdir()),
    "a pipe": instead(os.mkfifo),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_cache_that_is_wrong_counts_as_none(path: Path, damage: str) -> None:
    """A run may come from a stranger: what its cache says is ignored quickly, and made anew where that can be."""
    write(path, regular(100))
    keep(path)
    DAMAGES[damage](path)
    began = time.process_time()
    metrics = Metrics(path)
    assert not metrics.read_cache()
    assert time.process_time() - began < 5
    assert known(metrics.read_all()) == known(row_by_row(path))
    was_made = metrics.prepare_cache()()
    assert was_made == (damage not in {"a link for the directory", "a directory"})
    assert Metrics(path).read_cache() == was_made
    assert damage != "a link for the directory" or path.with_name("elsewhere").is_dir()


@pytest.mark.parametrize("at", [0.0, 0.5, 0.99])
def test_a_metrics_file_that_was_changed_is_read_anew(path: Path, at: float) -> None:
    write(path, regular(100))
    keep(path)
    data = bytearray(path.read_bytes())
    place = data.find(b"tokens", int(at * len(data)) - 300 if at else 0)
    data[place : place + 6] = b"Tokens"
    path.write_bytes(bytes(data))
    assert not Metrics(path).read_cache()
    os.truncate(path, 200)
    assert not Metrics(path).read_cache()


def test_nothing_is_kept_where_nothing_can_be(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is the training's; a file that was replaced meanwhile is another one; a directory may be gone."""
    write(path, regular(100))
    metrics = Metrics(path).read_all()
    keeps = metrics.prepare_cache()
    monkeypatch.setattr(metrics_cache, "_ROOM_LEFT", 1 << 62)
    assert not keeps() and not cache_file(path).exists()
    monkeypatch.undo()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)
    assert not keeps() and not cache_file(path).exists()
    path.unlink()
    assert not keeps()


def test_what_a_killed_viewer_left_is_swept(path: Path) -> None:
    write(path, regular(100))
    keep(path)
    left = [cache_file(path).with_name(f".metrics.columns.{name}.tmp") for name in ("old", "new")]
    for one in left:
        one.write_bytes(b"half")
    os.utime(left[0], (1, 1))
    keep(path)
    assert [one.exists() for one in left] == [False, True]


def test_rows_that_come_while_it_is_written_are_not_in_it(path: Path) -> None:
    """Another thread writes what was known when it was asked to, while attempts come and go."""
    write(path, regular(100))
    metrics = Metrics(path).read_all()
    keeps = metrics.prepare_cache()
    expected = known(metrics)
    write(path, regular(5, 50, 2, resumed_from=49) + regular(200, 55, 2))
    metrics.poll()
    assert keeps()
    again = Metrics(path)
    assert again.read_cache()
    assert known(again) == expected
    again.poll()
    assert known(again) == known(metrics)
