"""What viewers ask of a trainer arrives once, in order, and never half."""

import json
import os
import threading
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt.commands import Command, CommandName, send_command, take_commands


def test_commands_are_taken_once_and_in_the_order_in_which_they_were_sent(tmp_path: Path) -> None:
    names = [*get_args(CommandName), "pause", "resume", "pause"]
    sent = [Command(send_command(tmp_path, name), name) for name in names]
    assert take_commands(tmp_path) == sent
    assert take_commands(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_command_is_removed_and_ignored(tmp_path: Path) -> None:
    """It would be read again at every poll; and a pipe would hold up the training until somebody wrote into it."""
    rubbish = [b"", b"{", b"[]", b"5", b'"stop"', b"\xff", b"[" * 100_000, b'{"command": "stop"' + b" " * 10_000 + b"}"]
    others = [b'{"command": "format"}', b'{"command": ["stop"]}', b'{"command": null}']
    for index, content in enumerate([*rubbish, *others]):
        (tmp_path / f"{index:03}.json").write_bytes(content)
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "link.json").symlink_to("/dev/zero")
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere")
    sent = send_command(tmp_path, "save")
    taken: list[list[Command]] = []
    thread = threading.Thread(target=lambda: taken.append(take_commands(tmp_path)), daemon=True)
    thread.start()
    thread.join(10)
    assert taken == [[Command(sent, "save")]]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_place_of_a_command_holds_up_nothing(tmp_path: Path) -> None:
    (tmp_path / "000.json").mkdir()
    sent = send_command(tmp_path, "stop")
    assert take_commands(tmp_path) == [Command(sent, "stop")]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".1.json.77.abcd.tmp").write_text("half a comm")
    (tmp_path / ".hidden.json").write_text('{"command": "stop"}')
    (tmp_path / "notes.txt").write_text("mine")
    assert take_commands(tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 3


def test_a_command_appears_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer looks many times a second: until all of it is written, it must have another name."""
    seen: list[list[Command]] = []
    fsync = os.fsync

    def look(descriptor: int) -> None:
        seen.append(take_commands(tmp_path))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    sent = send_command(tmp_path, "pause")
    assert seen[0] == []  # while the content is brought to the disk
    assert [command for commands in seen for command in commands] + take_commands(tmp_path) == [Command(sent, "pause")]


def test_without_a_directory_nothing_is_taken_and_sending_raises(tmp_path: Path) -> None:
    assert take_commands(tmp_path / "none") == []
    with pytest.raises(FileNotFoundError):
        send_command(tmp_path / "none", "stop")


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.just("stop"), lambda inner: st.lists(inner) | st.dictionaries(st.just("command") | st.text(max_size=3), inner), max_leaves=5))  # fmt: skip
def test_no_json_makes_it_raise(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    folder = tmp_path_factory.mktemp("commands")
    (folder / "1.json").write_text(json.dumps(value))
    commands = take_commands(folder)
    assert commands == ([Command("1", "stop")] if isinstance(value, dict) and value.get("command") == "stop" else [])
