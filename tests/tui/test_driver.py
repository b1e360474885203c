"""What is typed, as the driver hands it over."""

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue

import pytest
from textual import constants, events
from textual.message import Message

from tui.terminal import driver

FOR_EVER = 3600.0


class Typed:
    """A driver that reads from a pipe, and what came of it."""

    def __init__(self) -> None:
        self.messages: Queue[Message] = Queue()
        self.driver = driver.Driver.__new__(driver.Driver)  # without an app, which would want a terminal
        self.driver._debug = False
        self.driver.fileno, self.end = os.pipe()
        self.driver.exit_event = threading.Event()
        self.driver.process_message = self.messages.put  # type: ignore[method-assign, assignment]
        self.thread = threading.Thread(target=self.driver.run_input_thread, daemon=True)

    def type(self, data: bytes) -> None:
        os.write(self.end, data)

    def key(self) -> str:
        message = self.messages.get(timeout=30)
        assert isinstance(message, events.Key)
        return message.key


@contextmanager
def reading() -> Iterator[Typed]:
    typed = Typed()
    typed.thread.start()
    try:
        yield typed
    finally:
        typed.driver.exit_event.set()
        typed.thread.join(30)
        assert not typed.thread.is_alive()
        os.close(typed.driver.fileno)
        os.close(typed.end)


def _waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the driver was ready to wait at each of its looks."""
    waits: list[float] = []
    real: Callable[..., tuple[list[int], list[int], list[int]]] = select.select

    def noted(read: list[int], write: list[int], errors: list[int], seconds: float) -> object:
        waits.append(seconds)
        return real(read, write, errors, seconds)

    monkeypatch.setattr(select, "select", noted)
    return waits


def test_esc_waits_no_longer_than_it_has_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Esc took a tenth of a second or two: whether it was one was looked at ten times a second only."""
    monkeypatch.setattr(constants, "ESCAPE_DELAY", 0.02)
    waits = _waits(monkeypatch)
    with reading() as typed:
        typed.type(b"\x1b")
        assert typed.key() == "escape"
    assert any(wait <= 0.02 for wait in waits)


def test_a_key_in_two_pieces_is_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """An arrow key that a connection tore apart is no Esc and two letters."""
    monkeypatch.setattr(constants, "ESCAPE_DELAY", FOR_EVER)
    with reading() as typed:
        typed.type(b"\x1b")
        typed.type(b"[D")
        assert typed.key() == "left"


def test_letters_in_two_pieces() -> None:
    """The bytes of one character may come one by one."""
    with reading() as typed:
        for byte in "ä".encode():
            typed.type(bytes([byte]))
        message = typed.messages.get(timeout=30)
        assert isinstance(message, events.Key) and message.character == "ä"


def test_bytes_that_are_no_text_end_nothing() -> None:
    """A terminal that is not in UTF-8 ended the whole program at the first umlaut."""
    with reading() as typed:
        typed.type(b"\xe4x")
        keys = {typed.messages.get(timeout=30).character for _ in range(2)}  # type: ignore[attr-defined]
        assert "x" in keys


def test_the_end_of_the_input_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of its input Textual's loop reads on and on, for a whole core."""
    typed = Typed()
    os.close(typed.end)
    paused = threading.Event()
    real = typed.driver.exit_event.wait

    def wait(seconds: float | None = None) -> bool:
        paused.set()
        return real(seconds)

    monkeypatch.setattr(typed.driver.exit_event, "wait", wait)
    typed.thread.start()
    assert paused.wait(30)
    typed.driver.exit_event.set()
    typed.thread.join(30)
    assert not typed.thread.is_alive()
    os.close(typed.driver.fileno)
