"""Large corpora are encoded once, never as a whole in memory, and nothing half done is ever taken for all of it."""

import errno
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minigpt.bpe
import minigpt.token_cache
from minigpt.bpe import train_bpe
from minigpt.corpus import Corpus, load_corpus
from minigpt.errors import UserError
from minigpt.token_cache import cached_ids, encode_corpus, tokens_dir
from minigpt.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer

TEXT = "".join(f"line {number}: the tide, the bell and 漢字\n" for number in range(20_000))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, not made yet."""
    path = tmp_path / "cache" / "minigpt-tui"
    monkeypatch.setattr(minigpt.token_cache, "cache_dir", lambda: path)
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Some 900 kB in two files, encoded in a dozen parts."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT[:300_000], encoding="utf-8")
    (folder / "b.txt").write_text(TEXT[300_000:], encoding="utf-8")
    return load_corpus(str(folder))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minigpt.token_cache, "SEGMENT", 50_000)


def silent(_: str) -> None:
    pass


def ids_of(corpus: Corpus, tokenizer: Tokenizer, notices: list[str] | None = None) -> Any:
    told: list[str] = []
    ids = cached_ids(corpus, corpus.survey(), tokenizer, silent, told.append)
    assert told == [] or notices is not None
    if notices is not None:
        notices += told
    return ids


def is_mapped(ids: Any) -> bool:
    return isinstance(ids.base, np.memmap) and type(ids) is np.ndarray


LEARNED = train_bpe([TEXT], len(TEXT), 400)
TOKENIZERS = {"char": CharTokenizer.train(TEXT), "byte": ByteTokenizer(), "bpe": LEARNED}


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.usefixtures("cache")
def test_the_ids_are_those_of_the_whole_text(corpus: Corpus, kind: str) -> None:
    """Encoded in parts by several threads, in order."""
    tokenizer = TOKENIZERS[kind]
    text = corpus.text
    assert len(list(encode_corpus(corpus, corpus.survey(), tokenizer, silent))) > 10
    ids = ids_of(corpus, tokenizer)
    assert is_mapped(ids)
    assert ids.dtype == np.uint16
    assert (ids == tokenizer.encode(text)).all()
    assert tokenizer.decode(ids.tolist()) == text


def test_a_corpus_is_encoded_once(corpus: Corpus, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ids_of(corpus, LEARNED)
    assert [path.suffix for path in (cache / "tokens").iterdir()] == [".npy"]
    assert np.load(next((cache / "tokens").iterdir()), allow_pickle=False).tolist() == ids.tolist()

    def again(*_: object) -> Iterator[Any]:
        raise AssertionError("encoded again")

    monkeypatch.setattr(minigpt.token_cache, "encode_corpus", again)
    assert (ids_of(corpus, LEARNED) == ids).all()


def test_another_text_or_tokenizer_has_ids_of_its_own(corpus: Corpus, cache: Path) -> None:
    """The key is what the ids depend on: the same file with another text must not find the old ids."""
    first = ids_of(corpus, LEARNED)
    assert len(ids_of(corpus, train_bpe([TEXT], len(TEXT), 300))) > len(first)
    corpus.files[0].write_text("Another beginning.\n")
    changed = ids_of(corpus, LEARNED)
    assert LEARNED.decode(changed[:20].tolist()).startswith("Another beginning.")
    assert len(list((cache / "tokens").iterdir())) == 3


@pytest.mark.usefixtures("cache")
def test_a_large_vocabulary_gets_larger_ids(tmp_path: Path) -> None:
    """65,536 characters fit into 16 bits, one more does not."""
    text = "".join(map(chr, [*range(0x20, 0xD800), *range(0xE000, 0x10000), *range(0x20000, 0x20900)]))
    (tmp_path / "all.txt").write_text(text, encoding="utf-8", newline="")
    corpus = load_corpus(str(tmp_path / "all.txt"))
    tokenizer = CharTokenizer.train(corpus.text)
    assert tokenizer.vocab_size > 1 << 16
    ids = ids_of(corpus, tokenizer)
    assert ids.dtype == np.uint32
    assert tokenizer.decode(ids.tolist()) == corpus.text


def test_a_text_that_changes_meanwhile_is_refused(corpus: Corpus, cache: Path) -> None:
    """Its ids would be kept under the name of the text that was surveyed."""
    survey = corpus.survey()
    corpus.files[1].write_text("changed\n")
    with pytest.raises(UserError, match="was changed while it was being read"):
        cached_ids(corpus, survey, LEARNED, silent, silent)
    assert list((cache / "tokens").iterdir()) == []


def test_giving_up_keeps_nothing(corpus: Corpus, cache: Path) -> None:
    """The progress callback raises when the user wants to stop."""

    def stop(words: str) -> None:
        if words.startswith("encoding the corpus: 5"):
            raise UserError("given up")

    with pytest.raises(UserError, match="given up"):
        cached_ids(corpus, corpus.survey(), LEARNED, stop, silent)
    assert list((cache / "tokens").iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY", b"no array of numbers at all" * 20])
def test_a_damaged_file_is_made_anew(corpus: Corpus, cache: Path, damage: bytes) -> None:
    ids = ids_of(corpus, LEARNED).copy()
    (path,) = (cache / "tokens").iterdir()
    path.write_bytes(damage or path.read_bytes()[:-10])
    assert (ids_of(corpus, LEARNED) == ids).all()


# ── killed, and at the same time ──────────────────────────────────────────────────────────────────────────────────

ENCODE = """
import sys, time
from pathlib import Path
import minigpt.token_cache
from minigpt.corpus import load_corpus
from minigpt.tokenizer import ByteTokenizer
minigpt.token_cache.cache_dir = lambda: Path(sys.argv[1])
minigpt.token_cache.SEGMENT = 50_000
corpus = load_corpus(sys.argv[2])
def progress(words):
    print(words, flush=True)
    time.sleep(float(sys.argv[3]))
minigpt.token_cache.cached_ids(corpus, corpus.survey(), ByteTokenizer(), progress, print)
"""


def start(cache: Path, corpus: Corpus, pause: float) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", ENCODE, str(cache), str(corpus.files[0].parent), str(pause)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_process_left_is_neither_used_nor_kept(corpus: Corpus, cache: Path) -> None:
    process = start(cache, corpus, 0.3)
    assert process.stdout is not None
    assert any("encoding the corpus: 2" in line for line in process.stdout)
    (unfinished,) = (cache / "tokens").iterdir()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert unfinished.suffix == ".tmp"
    (cache / "tokens" / "other.tmp").write_bytes(b"left by yet another")
    ids_of(corpus, LEARNED)  # another corpus or tokenizer clears it away too
    assert [path.suffix for path in (cache / "tokens").iterdir()] == [".npy"]
    assert (ids_of(corpus, ByteTokenizer()) == ByteTokenizer().encode(corpus.text)).all()


def test_two_processes_encode_it_once(corpus: Corpus, cache: Path) -> None:
    """Two runs started together, or the ranks of one: the second waits for the first's file."""
    first = start(cache, corpus, 0.05)
    assert first.stdout is not None
    assert any(line.startswith("encoding") for line in first.stdout)
    told: list[str] = []
    ids = cached_ids(corpus, corpus.survey(), ByteTokenizer(), told.append, silent)
    first.communicate()
    assert first.returncode == 0
    assert set(told) == {"waiting for another process that encodes the same corpus"}
    assert (ids == ByteTokenizer().encode(corpus.text)).all()
    assert [path.suffix for path in (cache / "tokens").iterdir()] == [".npy"]


def test_threads_wait_for_each_other_too(corpus: Corpus, cache: Path) -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(ids_of(corpus, LEARNED))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all((ids == found[0]).all() for ids in found)
    assert [path.suffix for path in (cache / "tokens").iterdir()] == [".npy"]


# ── no room ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_cache_the_ids_lie_in_a_temporary_file(corpus: Corpus, cache: Path) -> None:
    cache.parent.mkdir()
    cache.touch()  # a file where the directory should be
    notices: list[str] = []
    ids = ids_of(corpus, LEARNED, notices)
    assert is_mapped(ids)
    assert (ids == LEARNED.encode(corpus.text)).all()
    assert len(notices) == 1
    assert "cannot be kept" in notices[0]
    assert str(tokens_dir()) in notices[0]


def test_a_disk_without_room_is_named(corpus: Corpus, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(minigpt.token_cache, "_write", full)
    with pytest.raises(UserError) as caught:
        ids_of(corpus, LEARNED, [])
    message = str(caught.value)
    for part in ("texts: no room", "up to 2 MB", "No space left", str(cache), tempfile.gettempdir(), "TMPDIR"):
        assert part in message
    assert list((cache / "tokens").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the memory from /proc")
def test_a_corpus_is_never_in_memory_as_a_whole(tmp_path: Path, cache: Path) -> None:
    """60 MB of text, whose ids take 120 MB, are encoded with less than 40 MB more than the program itself takes."""
    (tmp_path / "large.txt").write_text("the tide, the bell, the lamp\n" * 2_000_000)
    program = """
import sys
from pathlib import Path
import minigpt.token_cache
from minigpt.corpus import load_corpus
from minigpt.tokenizer import ByteTokenizer
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
minigpt.token_cache.cache_dir = lambda: Path(sys.argv[1])
before = peak()
corpus = load_corpus(sys.argv[2])
ids = minigpt.token_cache.cached_ids(corpus, corpus.survey(), ByteTokenizer(), lambda _: None, print)
assert len(ids) == 58_000_000
print(peak() - before)
"""
    arguments = [sys.executable, "-c", program, str(cache), str(tmp_path / "large.txt")]
    result = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert float(result.stdout) < 40
