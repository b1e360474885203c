"""A corpus is read whole and as it stands, or refused in words; a download is checked before it is kept."""

import hashlib
import lzma
import platform
import re
import shutil
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import minigpt.known_files
from minigpt.config import Config
from minigpt.configfile import merge_config
from minigpt.corpus import (
    KNOWN_CORPORA,
    corpus_is_local,
    left_out_notice,
    load_corpus,
    read_text,
    vocab_size_of,
)
from minigpt.errors import UserError
from minigpt.known_files import KnownFile
from minigpt.paths import bundled_data_dir


def refusal(name: str | Path) -> str:
    with pytest.raises(UserError) as caught:
        load_corpus(str(name)).survey()
    return str(caught.value)


# ── a file of the user's ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_text_is_taken_as_it_stands(tmp_path: Path) -> None:
    """Ends of lines too: a model of a Windows text writes Windows text. Only a byte order mark is no text."""
    path = tmp_path / "mine.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "Ä\r\nb\n\0 漢\n".encode())
    corpus = load_corpus(str(path))
    assert (corpus.name, corpus.text) == ("mine.txt", "Ä\r\nb\n\0 漢\n")


def test_what_is_not_utf_8_is_named_by_its_byte_and_line(tmp_path: Path) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"one\ntwo\ncaf\xe9\n")
    message = refusal(path)
    assert "byte 0xe9 at position 11 (line 3)" in message
    assert "iconv" in message


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b" \n\r\n\t "])
def test_an_empty_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty.txt"
    path.write_bytes(content)
    assert "is empty" in refusal(path)


def test_what_is_no_readable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no such text file. Known corpora: the-play, python-docs, tinyshakespeare" in refusal(tmp_path / "none.txt")
    assert "has no text file in it" in refusal(tmp_path)
    assert "File name too long" in refusal(tmp_path / ("x" * 300))
    with pytest.raises(UserError, match="is a directory"):
        read_text(tmp_path)

    def forbidden(*_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    assert refusal(tmp_path / "secret.txt").endswith("cannot be read: Permission denied")


def test_the_name_of_a_file_is_inert_in_messages() -> None:
    assert "\x1b" not in refusal("/\x1b]0;owned\x07.txt")


def test_the_vocabulary_is_counted_without_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of presets shows sizes; it must not fetch a corpus for that."""
    monkeypatch.setenv("MINIGPT_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(minigpt.known_files, "cache_dir", lambda: tmp_path)

    def sized(corpus: str, tokenizer: str = "char") -> int:
        return vocab_size_of(Config.model_validate({"data": {"corpus": corpus, "tokenizer": tokenizer}}))

    path = tmp_path / "mine.txt"
    path.write_text("abcabc\n")
    assert sized(str(path)) == 4
    assert sized(str(path), "byte") == 256
    assert sized("tinyshakespeare") == 65
    assert sized("tinyshakespeare", "gpt2") == 50257
    assert sized(str(path), "bpe") == 2048
    for missing, reason in ((str(tmp_path / "none.txt"), "no such text file"), ("x" * 300, "File name too long")):
        with pytest.raises(UserError, match=reason):
            sized(missing)


def test_a_large_file_is_read_in_pieces_as_the_whole_would_be(tmp_path: Path) -> None:
    """A character cut by the end of a piece was a decoding error; and errors must count from the file's beginning."""
    text = "漢字 and more\n" * 200_000
    path = tmp_path / "large.txt"
    path.write_bytes(b"\xef\xbb\xbf" + b"x" + text.encode())
    corpus = load_corpus(str(path))
    assert len(list(corpus.pieces())) > 2
    survey = corpus.survey()
    assert corpus.text == "x" + text
    assert survey.sha256 == hashlib.sha256(("x" + text).encode()).hexdigest()
    assert (survey.characters, survey.bytes) == (len(text) + 1, len(text.encode()) + 1)
    assert survey.alphabet == sorted(set("x" + text))
    with path.open("ab") as file:
        file.write(b"\xe6\xbc")
    assert f"byte 0xe6 at position {len(text.encode()) + 4} (line 200001)" in refusal(path)


# ── a folder, a glob ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Texts with and without a newline at their end, one folder deeper too, and what is no text."""
    path = tmp_path / "poems"
    (path / "b" / ".hidden").mkdir(parents=True)
    (path / "b.txt").write_text("last\n")
    (path / "a.txt").write_text("first")
    (path / "b" / "inner.md").write_bytes(b"\xef\xbb\xbfmiddle\n")
    (path / "b" / "empty").touch()
    (path / ".DS_Store").write_bytes(b"\0\1")
    (path / "b" / ".hidden" / "c.txt").write_text("unseen")
    (path / "cover.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    return path


def test_a_folder_is_its_texts_in_the_order_of_their_paths(folder: Path) -> None:
    corpus = load_corpus(str(folder))
    assert corpus.name == "poems"
    assert corpus.text == "first\nmiddle\nlast\n"
    assert corpus.left_out == ("cover.png",)
    assert left_out_notice(corpus) == "left out of poems: cover.png: no text"
    assert corpus_is_local(str(folder))


def test_a_folder_of_one_file_is_that_file(folder: Path) -> None:
    """The checksum by which a run is resumed goes by the text, not by where it lies."""
    alone = folder / "b" / "inner.md"
    assert load_corpus(str(alone.parent)).survey() == load_corpus(str(alone)).survey()


@pytest.mark.parametrize(
    ("pattern", "name", "text"),
    [
        ("*.txt", "poems/*.txt", "first\nlast\n"),
        ("**/*.md", "poems/**/*.md", "middle\n"),
        ("*", "poems/*", "first\nlast\n"),
        ("[ab].txt", "poems/[ab].txt", "first\nlast\n"),
    ],
)
def test_a_glob_is_what_it_matches(folder: Path, pattern: str, name: str, text: str) -> None:
    corpus = load_corpus(str(folder / pattern))
    assert (corpus.name, corpus.text) == (name, text)
    assert corpus_is_local(str(folder / pattern))


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(folder: Path) -> None:
    (folder / "a[1].txt").write_text("itself")
    assert load_corpus(str(folder / "a[1].txt")).text == "itself"


def test_a_pattern_in_a_toml_file_is_relative_to_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the folder's own name looks like a pattern; that of the command line is relative to where one is."""
    odd = folder.rename(folder.parent / "[poems]*")
    for text, found in (("*.txt", "first\nlast\n"), ("b", "middle\n"), (".", "first\nmiddle\nlast\n")):
        config = merge_config({"data": {"corpus": text}}, odd / "mine.toml", {})
        assert load_corpus(config.data.corpus).text == found
    (odd / "a[1].txt").write_text("itself")
    monkeypatch.chdir(odd)
    for text, found in (("a[1].txt", "itself"), ("b/*.md", "middle\n"), (str(odd / "b"), "middle\n")):
        config = merge_config({}, Path("/elsewhere/mine.toml"), {"data.corpus": text})
        assert load_corpus(config.data.corpus).text == found
    assert merge_config({"data": {"corpus": "python-docs"}}, odd / "mine.toml", {}).data.corpus == "python-docs"


def test_a_glob_or_folder_without_texts_names_what_it_found(folder: Path) -> None:
    assert "matches no text file, only cover.png" in refusal(folder / "*.png")
    assert "matches no text file. Known corpora" in refusal(folder / "*.pdf")
    assert not corpus_is_local(str(folder / "*.pdf"))
    assert "poems: is empty" in refusal_of_files(folder, {"a.txt": b" ", "b.txt": b"\n"})


def refusal_of_files(folder: Path, files: dict[str, bytes]) -> str:
    shutil.rmtree(folder)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return refusal(folder)


def test_a_text_in_another_encoding_is_refused_not_left_out(folder: Path) -> None:
    """It would be missed only when the model has not learned from it."""
    assert "latin.txt: is not UTF-8 text" in refusal_of_files(folder, {"a.txt": b"a", "latin.txt": b"caf\xe9"})
    message = refusal_of_files(folder, {"a.txt": b"a", "wide.txt": "ab".encode("utf-16")})
    assert "wide.txt: is not UTF-8 text" in message
    assert "iconv -f utf-16" in message


def test_folders_that_lead_into_themselves_end(folder: Path) -> None:
    (folder / "b" / "loop").symlink_to(folder)
    assert load_corpus(str(folder)).text == "first\nmiddle\nlast\n"


# ── the documentation that comes with Python ──────────────────────────────────────────────────────────────────────


def test_the_documentation_of_python_is_a_corpus() -> None:
    """It differs between Pythons: its name says which one it is of, in the run too."""
    pytest.importorskip("pydoc_data.topics")
    corpus = load_corpus("python-docs")
    assert corpus.name == f"python-docs (Python {platform.python_version()})"
    assert corpus_is_local("python-docs")
    assert len(corpus.text) > 100_000
    assert "assert_stmt" in corpus.text
    assert corpus.text == load_corpus("python-docs").text


def test_a_python_without_documentation_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some distributions leave pydoc_data out."""
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(UserError, match=r"this Python \(3\.\S+\) came without its documentation"):
        load_corpus("python-docs")
    elsewhere = KnownFile("python-docs", "", "", module="no_such_package.topics")
    monkeypatch.setitem(KNOWN_CORPORA, "python-docs", elsewhere)
    assert not corpus_is_local("python-docs")


# ── tiny Shakespeare, at hand ─────────────────────────────────────────────────────────────────────────────────────


def test_tiny_shakespeare_is_found_in_the_data_directory(
    tinyshakespeare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT_DATA_DIR", str(tinyshakespeare.parent))
    assert corpus_is_local("tinyshakespeare")
    corpus = load_corpus("tinyshakespeare")
    assert (corpus.name, len(corpus.text), len(set(corpus.text))) == ("tinyshakespeare", 1_115_394, 65)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, not made yet; and no data directory."""
    path = tmp_path / "cache" / "minigpt-tui"
    monkeypatch.setattr(minigpt.known_files, "cache_dir", lambda: path)
    monkeypatch.delenv("MINIGPT_DATA_DIR", raising=False)
    return path


def test_another_text_under_its_name_is_refused(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves of a text that only has the name would be compared with those of others."""
    (tmp_path / "tinyshakespeare.txt").write_text("To be or not.\n")
    monkeypatch.setenv("MINIGPT_DATA_DIR", str(tmp_path))
    assert "its SHA-256 differs" in refusal("tinyshakespeare")
    monkeypatch.setenv("MINIGPT_DATA_DIR", "~nobody-of-this-name")
    cache.mkdir(parents=True)
    (cache / "tinyshakespeare.txt").write_text("To be or not.\n")
    assert f"{cache}/tinyshakespeare.txt: is not tinyshakespeare" in refusal("tinyshakespeare")


def test_a_directory_that_may_not_be_searched_is_passed_over(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pathlib raises there, where it says no to a file that is missing."""
    cache.mkdir(parents=True)
    stat = Path.stat

    def forbidden(path: Path, **options: bool) -> object:
        if path.parent == tmp_path / "locked":
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", forbidden)
    monkeypatch.setenv("MINIGPT_DATA_DIR", str(tmp_path / "locked"))
    assert not corpus_is_local("tinyshakespeare")
    assert not corpus_is_local(str(tmp_path / "locked" / "a.txt"))


# ── the download ──────────────────────────────────────────────────────────────────────────────────────────────────

TEXT = b"HAMLET:\nTo be.\n" * 10_000


class Handler(BaseHTTPRequestHandler):
    """Serves the text well and in several bad ways."""

    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path == "/garbage":
            self.wfile.write(b"\x00\x01 this is no HTTP\r\n\r\n")
            return
        self.send_response(200)
        if self.path != "/unmeasured":
            self.send_header("Content-Length", "many" if self.path == "/odd" else str(len(TEXT)))
        self.end_headers()
        self.wfile.write(TEXT[:1000] if self.path == "/short" else TEXT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def hamlet(cache: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A known corpus `hamlet`, at /text of the local server; the test may put it elsewhere with `know`."""
    monkeypatch.setenv("no_proxy", "*")
    know(monkeypatch, f"{server}/text")
    return monkeypatch


def know(monkeypatch: pytest.MonkeyPatch, url: str, content: bytes = TEXT) -> None:
    sha256 = hashlib.sha256(content).hexdigest()
    ways = "train on the bundled text (--data.corpus the-play)"
    known = KnownFile("hamlet", "", "", file="hamlet.txt", vocab_size=3, url=url, sha256=sha256, instead=ways)
    monkeypatch.setitem(KNOWN_CORPORA, "hamlet", known)


@pytest.mark.parametrize("page", ["text", "unmeasured"])
def test_a_known_corpus_is_downloaded_once(hamlet: pytest.MonkeyPatch, cache: Path, server: str, page: str) -> None:
    know(hamlet, f"{server}/{page}")
    told: list[str] = []
    assert load_corpus("hamlet", told.append).text == TEXT.decode()
    assert told[-1].startswith("downloading hamlet: 0.1")
    assert [path.name for path in cache.iterdir()] == ["hamlet.txt"]
    know(hamlet, "http://127.0.0.1:9/gone")
    assert load_corpus("hamlet", told.append).text == TEXT.decode()


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("missing", "Not Found"),
        ("short", "came damaged|IncompleteRead"),
        ("garbage", "could not be downloaded"),
        ("odd", "could not be downloaded"),
    ],
)
def test_a_download_that_fails_keeps_nothing_and_names_the_ways_out(
    hamlet: pytest.MonkeyPatch, cache: Path, server: str, page: str, reason: str
) -> None:
    """An answer that is no HTTP raised an exception that is no OSError, and so came as a traceback."""
    know(hamlet, f"{server}/{page}")
    message = refusal("hamlet")
    assert re.search(reason, message)
    for way in (f"put the file at {cache}/hamlet.txt", "MINIGPT_DATA_DIR", "--data.corpus the-play"):
        assert way in message
    assert not cache.exists()


def test_another_text_from_the_network_is_refused(hamlet: pytest.MonkeyPatch, cache: Path, server: str) -> None:
    know(hamlet, f"{server}/text", content=b"another text")
    assert "its SHA-256 is not the expected one" in refusal("hamlet")
    assert not cache.exists()


def test_without_a_network_the_message_names_the_ways_out(hamlet: pytest.MonkeyPatch, cache: Path) -> None:
    know(hamlet, "http://127.0.0.1:9/discard")
    message = refusal("hamlet")
    assert "could not be downloaded" in message
    assert "refused" in message
    assert not cache.exists()


@pytest.mark.usefixtures("hamlet")
def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    cache.parent.mkdir()
    cache.touch()
    assert f"hamlet: cannot be kept in {cache}" in refusal("hamlet")


@pytest.mark.usefixtures("hamlet")
def test_giving_up_a_download_keeps_nothing(cache: Path) -> None:
    """The progress callback raises when the user wants to stop."""

    def stop(_: str) -> None:
        raise UserError("given up")

    with pytest.raises(UserError, match="given up"):
        load_corpus("hamlet", stop)
    assert not cache.exists()


# ── the bundled play ──────────────────────────────────────────────────────────────────────────────────────────────

# How far lzma (preset 9e) compresses the first N bytes of tiny Shakespeare; measured by
#   python -c "import lzma,sys; d=open(sys.argv[1],'rb').read()[:N]; print(len(lzma.compress(d,preset=9|1<<31))/N)" FILE
SHAKESPEARE = {60_000: 0.3912, 80_000: 0.3797, 100_000: 0.3727, 120_000: 0.3660, 140_000: 0.3627, 160_000: 0.3614,
               180_000: 0.3590, 200_000: 0.3567, 250_000: 0.3494}  # fmt: skip


@pytest.fixture(scope="module")
def play() -> str:
    return read_text(bundled_data_dir() / KNOWN_CORPORA["the-play"].file)


def test_the_play_is_long_enough_to_learn_from(play: str) -> None:
    assert len(play.encode()) >= 60_000
    assert load_corpus("the-play").text == play


def test_the_play_has_the_layout_of_tiny_shakespeare(play: str) -> None:
    """NAME:, its lines, a blank line: what a reader of the samples sees a model learn first."""
    assert play.endswith("\n")
    assert "\r" not in play
    for block in play.rstrip("\n").split("\n\n"):
        name, *lines = block.split("\n")
        assert re.fullmatch(r"[A-Z][A-Za-z' .-]*:", name), block[:80]
        assert lines, name
        for line in lines:
            assert line == line.strip(), line
            assert line, block[:80]


def test_the_play_is_nowhere_filled_up(play: str) -> None:
    """No long line twice, and as hard to compress as real drama of its length: so it repeats itself no more."""
    counts = Counter(line for line in play.split("\n") if len(line) > 40)
    assert [line for line, count in counts.items() if count > 1] == []
    data = play.encode()
    length = min(length for length in SHAKESPEARE if length >= len(data))
    ratio = len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)) / len(data)
    assert ratio >= 0.97 * SHAKESPEARE[length]


def test_the_play_is_made_of_few_characters(play: str) -> None:
    """A small vocabulary is learned sooner: letters and plain punctuation, typed as on any keyboard."""
    assert len(set(play)) <= 70
    assert play.isascii()


def test_the_recorded_vocabulary_of_the_bundled_play_is_that_of_its_text(play: str) -> None:
    """Guards the parameter counts that are shown before a corpus is here, and the size that is listed."""
    assert KNOWN_CORPORA["the-play"].size == len(play.encode())
    assert len(set(load_corpus("the-play").text)) == KNOWN_CORPORA["the-play"].vocab_size


def test_the_recorded_vocabulary_of_tiny_shakespeare_is_that_of_its_text(tinyshakespeare: Path) -> None:
    assert len(set(tinyshakespeare.read_text(encoding="utf-8"))) == KNOWN_CORPORA["tinyshakespeare"].vocab_size


@pytest.mark.parametrize("name", ["texts", "texts/**/*.t*"])
def test_runs_in_a_folder_are_no_part_of_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A run inside its own corpus could never be resumed: every row that it wrote made it another text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts" / "runs" / "one" / "checkpoints" / "step-00000001").mkdir(parents=True)
    (tmp_path / "texts" / "tale.txt").write_text("salt and tide\n")
    for file in ("config.toml", "notes.txt", "checkpoints/step-00000001/some.txt"):
        (tmp_path / "texts" / "runs" / "one" / file).write_text("no part of it\n")
    assert load_corpus(str(tmp_path / name)).text == "salt and tide\n"
