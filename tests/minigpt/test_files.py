"""A file is the old one or the new one, and never half of either."""

import os
from pathlib import Path

import pytest

from minigpt.files import write_atomically


def test_content_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_atomically(path, "ä\n")
    assert path.read_bytes() == b"\xc3\xa4\n"
    write_atomically(path, b"\0\r\n")
    assert path.read_bytes() == b"\0\r\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A full disk often shows only when the bytes are brought to it."""
    path = tmp_path / "best.json"
    write_atomically(path, "old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_content_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other way round, a power cut can leave an empty file under the right name."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (calls.append("fsync"), fsync(descriptor)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_atomically(tmp_path / "file", "x")
    assert calls == ["fsync", "replace", "fsync"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """Nothing outside a run directory is overwritten through it."""
    outside = tmp_path / "outside"
    outside.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(outside)
    write_atomically(link, "new")
    assert outside.read_text() == "mine"
    assert not link.is_symlink()


@pytest.mark.parametrize("place", ["none/file", "file/file"])
def test_without_a_directory_it_raises(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        write_atomically(tmp_path / place, "x")
