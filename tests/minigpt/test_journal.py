"""Rows are appended whole and read whole, whatever happens to the process or the disk in between."""

import errno
import json
import math
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.journal import JournalTail, JournalWriter, Row, read_journal

text = st.text(max_size=8)
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
rows = st.lists(st.dictionaries(text, values, max_size=3), max_size=8)


@contextmanager
def temporary_file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder, "rows.jsonl")


@contextmanager
def writing(path: Path) -> Iterator[JournalWriter]:
    writer = JournalWriter(path)
    try:
        yield writer
    finally:
        writer.close()


def append_bytes(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


# ── reading while it is written ───────────────────────────────────────────────────────────────────────────────────


@given(rows, st.lists(st.integers(0, 400), max_size=12), st.integers(1, 60))
def test_a_tail_yields_each_whole_row_once_however_the_bytes_arrive(
    written: list[Row], cuts: list[int], limit: int
) -> None:
    """A poll may fall into the middle of a line, or of a character, and may have to take the file in small bites."""
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in written).encode()
    longest = max([len(line) for line in data.split(b"\n")], default=0) + 1
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    with temporary_file() as path:
        tail = JournalTail(path)
        seen = tail.poll()
        for start, end in pairwise(edges):
            append_bytes(path, data[start:end])
            whole = data[:end].count(b"\n")
            before = -1
            while tail.offset != before:
                before = tail.offset
                seen += tail.poll(limit + longest)
            assert len(seen) == whole
        assert seen == written
        assert tail.restarts == 0
        assert read_journal(path) == seen


def test_a_missing_file_has_no_rows_until_it_appears(tmp_path: Path) -> None:
    tail = JournalTail(tmp_path / "late.jsonl")
    assert tail.poll() == []
    append_bytes(tail.path, b'{"step": 1}\n')
    assert tail.poll() == [{"step": 1}]
    assert read_journal(tmp_path / "never.jsonl") == []
    assert read_journal(tmp_path) == []


def test_lines_that_are_no_objects_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "rubbish.jsonl"
    path.write_bytes(
        b'{"a": 1}\n\nnot json\n[1]\n5\nnull\n"x"\n{"b": \n\xff\xfe\n'
        + b"[" * 100_000
        + b'\n{"b": 2}\n\0\0\0\n{"c": 3}'
    )
    assert read_journal(path) == [{"a": 1}, {"b": 2}]


def test_a_file_that_shrank_or_was_replaced_is_read_again_from_its_start(tmp_path: Path) -> None:
    """What a caller had of it is void: `restarts` says so."""
    path = tmp_path / "rows.jsonl"
    append_bytes(path, b'{"a": 1}\n{"a": 2}\n')
    tail = JournalTail(path)
    assert len(tail.poll()) == 2
    path.write_bytes(b'{"a": 3}\n')
    assert tail.poll() == [{"a": 3}]
    assert tail.restarts == 1
    other = tmp_path / "other.jsonl"
    append_bytes(other, b'{"a": 4}\n{"a": 5}\n{"a": 6}\n')
    other.replace(path)
    assert [row["a"] for row in tail.poll()] == [4, 5, 6]
    assert tail.restarts == 2


def test_a_line_without_end_is_passed_over(tmp_path: Path) -> None:
    """A file of rubbish without a newline must not be read again at every poll, nor hold up what follows."""
    path = tmp_path / "rows.jsonl"
    append_bytes(path, b"\0" * (9 << 20))
    tail = JournalTail(path)
    assert tail.poll() == []
    assert tail.offset == 9 << 20
    append_bytes(path, b'rest\n{"a": 1}\n')
    assert tail.poll() == [{"a": 1}]
    assert read_journal(path) == [{"a": 1}]


def test_a_tail_can_begin_where_an_attempt_did(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_bytes(path, b'{"a": 1}\n')
    tail = JournalTail(path, path.stat().st_size)
    append_bytes(path, b'{"a": 2}\n')
    assert tail.poll() == [{"a": 2}]


# ── writing ───────────────────────────────────────────────────────────────────────────────────────────────────────


@given(rows, st.integers(0, 300))
def test_the_torn_line_of_a_killed_process_is_cut_off_by_the_next(written: list[Row], kept: int) -> None:
    """Otherwise the next attempt's first row would be glued to it, and both lost."""
    with temporary_file() as path:
        with writing(path) as writer:
            for row in written:
                writer.append(row)
        os.truncate(path, min(kept, path.stat().st_size))
        whole = path.read_bytes().count(b"\n")
        with writing(path) as writer:
            writer.append({"next": True})
        assert read_journal(path) == [*written[:whole], {"next": True}]


def test_a_torn_line_longer_than_a_block_is_cut_off_whole(tmp_path: Path) -> None:
    """The end of the last whole line is searched block by block."""
    path = tmp_path / "rows.jsonl"
    for torn in (b"x" * 65535, b"x" * 65536, b"x" * 200_000):
        path.write_bytes(b'{"a": 1}\n' + torn)
        JournalWriter(path).close()
        assert path.read_bytes() == b'{"a": 1}\n'
    path.write_bytes(b"x" * 200_000)
    JournalWriter(path).close()
    assert path.read_bytes() == b""


def test_a_viewer_keeps_its_place_when_a_torn_line_is_cut_off(tmp_path: Path) -> None:
    """The file shrinks, but not below what the viewer has read."""
    path = tmp_path / "rows.jsonl"
    append_bytes(path, b'{"a": 1}\n{"a": ')
    tail = JournalTail(path)
    assert tail.poll() == [{"a": 1}]
    with writing(path) as writer:
        writer.append({"a": 2})
    assert tail.poll() == [{"a": 2}]
    assert tail.restarts == 0


def test_numbers_that_json_has_not_are_written_as_null(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with writing(path) as writer:
        writer.append({"loss": math.nan, "list": [math.inf, 1.0], "table": {"x": -math.inf}, "tuple": (1, math.nan)})
    assert path.read_text() == '{"loss": null, "list": [null, 1.0], "table": {"x": null}, "tuple": [1, null]}\n'


def test_any_text_fits_on_one_line(tmp_path: Path) -> None:
    """Samples hold newlines, and the separators that other readers of lines take for some."""
    path = tmp_path / "rows.jsonl"
    row = {"text": "a\nb\r\u2028\u0085\0\ud800\x1b[2J"}
    with writing(path) as writer:
        writer.append(row)
    assert path.read_bytes().count(b"\n") == 1
    assert read_journal(path) == [row]


def test_a_full_disk_leaves_whole_lines_and_the_row_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that comes short must not leave half a row, which the row after it would be glued to."""
    path = tmp_path / "rows.jsonl"
    write = os.write
    with writing(path) as writer:
        writer.append({"a": 1})
        monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        writer.append({"a": 2})
        assert path.read_bytes() == b'{"a": 1}\n'
        assert writer.error is not None and writer.error.errno == errno.ENOSPC
        monkeypatch.undo()
        writer.append({"a": 3})
    assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n{"a": 3}\n'


def test_half_a_row_that_cannot_be_cut_off_is_cut_off_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk fills up in the middle of a row and fails in the next moment: the row after it was glued to it."""
    path = tmp_path / "rows.jsonl"
    write = os.write

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with writing(path) as writer:
        writer.append({"a": 1})
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", fail)
            with monkeypatch.context() as full:
                full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
                writer.append({"a": 2})
            writer.append({"a": 3})
            assert writer.waiting == 2
        writer.append({"a": 4})
    assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n{"a": 3}\n{"a": 4}\n'


@pytest.mark.parametrize("size", [5 << 20, 9 << 20])
def test_after_a_line_without_end_rows_can_be_read(tmp_path: Path, size: int) -> None:
    """Rubbish longer than any row is not cut off, in case it is somebody's; but it gets an end."""
    path = tmp_path / "rows.jsonl"
    append_bytes(path, b'{"a": 1}\n' + b"x" * size)
    with writing(path) as writer:
        writer.append({"a": 2})
    assert read_journal(path) == [{"a": 1}, {"a": 2}]
    assert path.stat().st_size > size


def descriptors() -> int:
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to count open files")
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_made_again_has_all_rows_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor for each time would be too many in the end."""
    path = tmp_path / "rows.jsonl"

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with writing(path) as writer:
        writer.append({"a": 0})
        before = descriptors()
        for row in range(1, 20):
            path.unlink()
            if row % 2:
                with monkeypatch.context() as patch, suppress(OSError):
                    patch.setattr(os, "fsync", fail)
                    writer.make_again()
                assert not path.exists()
            writer.append({"a": row})
        assert descriptors() == before
    assert [row["a"] for row in read_journal(path)] == list(range(20))


def test_a_file_is_made_again_under_the_number_that_another_thread_syncs(tmp_path: Path) -> None:
    """The thread that writes checkpoints may be about to sync it: a number that is closed is an error, or another file."""
    path = tmp_path / "rows.jsonl"
    with writing(path) as writer:
        writer.append({"a": 1})
        number = writer._descriptor
        path.unlink()
        writer.append({"a": 2})
        assert os.path.samestat(os.fstat(number), path.stat())
        assert not os.get_inheritable(number)


def test_where_it_may_not_be_made_again_rows_wait(tmp_path: Path) -> None:
    """A directory may have been deleted, and another run have taken its name."""
    path = tmp_path / "rows.jsonl"
    ours = [True]
    writer = JournalWriter(path, lambda: ours[0])
    writer.append({"a": 1})
    path.unlink()
    ours[0] = False
    writer.append({"a": 2})
    assert writer.waiting == 1 and not path.exists()
    ours[0] = True
    writer.append({"a": 3})
    writer.close()
    assert [row["a"] for row in read_journal(path)] == [1, 2, 3]


def test_a_new_file_is_durable_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut its rows were there, and no name to find them by."""
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino) or fsync(descriptor))
    path = tmp_path / "rows.jsonl"
    with writing(path) as writer:
        writer.append({"a": 1})
        for _ in range(2):
            writer.sync()
        assert synced == [path.stat().st_ino, tmp_path.stat().st_ino, path.stat().st_ino]
        synced.clear()
        path.unlink()
        writer.append({"a": 2})
        assert synced == [path.stat().st_ino, tmp_path.stat().st_ino]


def test_rows_of_several_threads_are_each_written_once(tmp_path: Path) -> None:
    """The thread that watches for stalls writes beside the training's. Without a lock rows came double, or never."""
    path = tmp_path / "rows.jsonl"
    with writing(path) as writer:

        def append(name: int) -> None:
            for number in range(500):
                if (name, number) == (0, 100):
                    path.unlink()  # it is made again by whoever comes first
                writer.append({"thread": name, "number": number})

        threads = [threading.Thread(target=append, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    read = read_journal(path)
    for name in range(4):
        assert [row["number"] for row in read if row["thread"] == name] == list(range(500))


def test_what_waits_for_a_device_without_space_can_be_asked_for() -> None:
    """Linux has one to try it on."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with writing(Path("/dev/full")) as writer:
        writer.append({"a": 1})
        assert writer.waiting == 1
        with pytest.raises(OSError, match="No space left"):
            writer.flush()
