"""`minigpt data` says what is where, and fetches what is not here."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import minigpt.cli.data
import minigpt.known_files
import minigpt.token_cache
from minigpt.cli import main
from minigpt.corpus import KNOWN_CORPORA
from minigpt.known_files import KnownFile, read_known

MERGES = b"#version: 0.2\n\xc4\xa0 t\nh e\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, not made yet; and no data directory."""
    path = tmp_path / "cache" / "minigpt-tui"
    for module in (minigpt.known_files, minigpt.token_cache):
        monkeypatch.setattr(module, "cache_dir", lambda: path)
    monkeypatch.delenv("MINIGPT_DATA_DIR", raising=False)
    monkeypatch.setenv("no_proxy", "*")
    return path


@pytest.fixture
def server() -> Iterator[str]:
    """Serves two merges as the vocabulary of GPT-2."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(MERGES)))
            self.end_headers()
            self.wfile.write(MERGES)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/vocab.bpe"
    server.shutdown()
    server.server_close()


def know_gpt2(monkeypatch: pytest.MonkeyPatch, url: str, content: bytes = MERGES) -> None:
    known = replace(read_known("vocabularies.toml")["gpt2"], url=url, sha256=hashlib.sha256(content).hexdigest())
    tables = {"corpus": KNOWN_CORPORA, "vocabulary": {"gpt2": known}}
    monkeypatch.setattr(minigpt.cli.data, "_tables", lambda: tables)


def test_all_that_is_known_is_listed_with_its_place(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cache / "gpt2").mkdir(parents=True)
    (cache / "gpt2" / "vocab.bpe").touch()
    (cache / "tokens").mkdir()
    (cache / "tokens" / "0.npy").write_bytes(b"\0" * 2_000_000)
    assert main(["data"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "with the program" in rows["the-play"]
    assert "with Python 3." in rows["python-docs"]
    assert "not here" in rows["tinyshakespeare"]
    for part in ("vocabulary", "0.5 MB", "MIT", str(cache / "gpt2" / "vocab.bpe")):
        assert part in rows["gpt2"].replace("\n", "")
    assert "1 encoded corpora, 2.0 MB" in rows["1"]


def test_a_vocabulary_is_fetched_checked_and_kept(
    cache: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    know_gpt2(monkeypatch, server)
    assert main(["data", "fetch", "gpt2"]) == 0
    assert capsys.readouterr().out == f"gpt2: {cache}/gpt2/vocab.bpe\n"
    assert (cache / "gpt2" / "vocab.bpe").read_bytes() == MERGES
    know_gpt2(monkeypatch, "http://127.0.0.1:9/gone")
    assert main(["data", "fetch", "gpt2"]) == 0


def test_one_message_says_which_file_goes_where(
    cache: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for url, content, reason in (
        ("http://127.0.0.1:9/vocab.bpe", MERGES, "could not be downloaded"),
        (server, b"another file", "came damaged"),
    ):
        know_gpt2(monkeypatch, url, content)
        assert main(["data", "fetch", "gpt2"]) == 2
        message = capsys.readouterr().err
        assert message.count("minigpt:") == 1
        for part in (
            reason,
            url,
            f"put the file at {cache}/gpt2/vocab.bpe",
            "MINIGPT_DATA_DIR",
            "--data.tokenizer bpe",
        ):
            assert part in message
        assert not cache.exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["fetch"], "takes one name: tinyshakespeare, gpt2"),
        (["fetch", "gpt2", "gpt2"], "takes one name"),
        (["fetch", "gpt3"], "gpt3: not known; there are tinyshakespeare, gpt2"),
        (["fetch", "the-play"], "comes with the program"),
        (["fetch", "python-docs"], "comes with Python"),
        (["\x1b[31m"], "takes nothing, or fetch and a name"),
    ],
)
def test_what_cannot_be_fetched_is_refused(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *arguments]) == 2
    message = capsys.readouterr().err
    assert reason in message
    assert "\x1b" not in message


def test_help_names_what_the_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--help"]) == 0
    assert "fetch NAME" in capsys.readouterr().out


def test_every_download_has_a_checksum_and_says_what_to_do_without_it() -> None:
    known = [*KNOWN_CORPORA.values(), *read_known("vocabularies.toml").values()]
    assert all(isinstance(entry, KnownFile) and entry.licence and entry.about for entry in known)
    for entry in known:
        if entry.url:
            assert len(entry.sha256) == 64
            assert entry.instead
            assert entry.size
            assert entry.url.startswith("https://")
