"""From a configuration to ids in two splits: small texts in memory, large ones mapped, and both train alike."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import minigpt.dataset
import minigpt.token_cache
from minigpt.batches import Batches
from minigpt.config import Config, ModelConfig
from minigpt.dataset import load_training_data
from minigpt.device import Device
from minigpt.errors import UserError
from minigpt.evaluate import evaluate
from minigpt.journal import read_journal
from minigpt.model import GPT
from minigpt.tokenizer import CharTokenizer, load_tokenizer
from tests.training import assert_same_run, resume, tiny_config, train, write_corpus

POEMS = Path(__file__).resolve().parents[1] / "data" / "chinese"


def config_of(corpus: Path | str, kind: str = "char", **data: Any) -> Config:
    values = {"corpus": str(corpus), "tokenizer": kind, **data}
    return Config.model_validate({"data": values, "model": {"block_size": 16}})


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, where every text counts as large."""
    monkeypatch.setattr(minigpt.dataset, "_LARGE", 0)
    monkeypatch.setattr(minigpt.token_cache, "cache_dir", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_the_splits_together_are_the_text(tmp_path: Path, kind: str) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt")
    text = corpus.read_text()
    data = load_training_data(config_of(corpus, kind, bpe_vocab_size=300))
    ids = [*data.train.ids.tolist(), *data.val.ids.tolist()]
    assert data.tokenizer.decode(ids) == text
    assert len(data.val) == int(0.1 * len(ids))
    assert (data.corpus, data.characters, data.bytes) == ("corpus.txt", 3000, 3000)
    assert data.notices == ()


def test_the_checksum_is_that_of_the_text(tmp_path: Path) -> None:
    """Runs of earlier versions are resumed by it: of the decoded text's UTF-8, without a byte order mark."""
    path = tmp_path / "marked.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "Ä漢\r\n".encode() * 100)
    data = load_training_data(config_of(path))
    assert data.corpus_sha256 == hashlib.sha256("Ä漢\r\n".encode() * 100).hexdigest()
    assert (data.characters, data.bytes) == (400, 700)


def test_a_resumed_run_keeps_its_vocabulary(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt")
    wider = CharTokenizer.train(corpus.read_text() + "漢")
    assert load_training_data(config_of(corpus), wider).tokenizer is wider
    with pytest.raises(UserError, match="not in the model's vocabulary"):
        load_training_data(config_of(corpus), CharTokenizer.train("ab\n"))


def test_a_prompt_that_the_vocabulary_has_not_is_refused_with_its_key(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt")
    config = Config.model_validate({"data": {"corpus": str(corpus)}, "sample": {"prompt": "§"}})
    with pytest.raises(UserError, match=r"sample\.prompt: not in the model's vocabulary: §"):
        load_training_data(config)


def test_what_was_left_out_of_a_folder_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    write_corpus(folder / "a.txt")
    for name in ("1.png", "2.png", "3.png", "4.png"):
        (folder / name).write_bytes(b"\0")
    assert load_training_data(config_of(folder)).notices == (
        "left out of texts: 1.png, 2.png, 3.png and 1 more: no text",
    )


def test_loading_is_ended_by_its_progress(tmp_path: Path) -> None:
    """Ctrl+C while a corpus is read."""
    told: list[str] = []

    def stop(words: str) -> None:
        told.append(words)
        if words.startswith("encoding"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_training_data(config_of(write_corpus(tmp_path / "corpus.txt"), "bpe"), None, stop)
    assert [words.split(":")[0] for words in told][:2] == ["reading the corpus", "learning byte pairs"]


# ── mapped from a file ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("order", ["random", "epochs"])
def test_batches_of_a_mapped_corpus_are_those_of_one_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: Any
) -> None:
    corpus = write_corpus(tmp_path / "corpus.txt")
    memory = load_training_data(config_of(corpus)).train
    monkeypatch.setattr(minigpt.dataset, "_LARGE", 0)
    monkeypatch.setattr(minigpt.token_cache, "cache_dir", lambda: tmp_path / "cache")
    mapped = load_training_data(config_of(corpus)).train
    assert isinstance(mapped.ids.base.base, np.memmap)
    assert not mapped.ids.flags.writeable
    for step in (0, 7, 60):
        ours, theirs = Batches(mapped, 4, order, 1).at(step), Batches(memory, 4, order, 1).at(step)
        assert ours[0].dtype == torch.int64
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


@pytest.mark.usefixtures("large")
def test_a_mapped_corpus_is_evaluated(tmp_path: Path) -> None:
    data = load_training_data(config_of(write_corpus(tmp_path / "corpus.txt"), "byte"))
    model = GPT(ModelConfig(n_layer=1, n_head=1, n_embd=8, block_size=16), 256)
    result = evaluate(model, data.val.windows(), data.tokenizer, Device("cpu", "test", "float32"))
    assert (result.tokens, result.bytes) == (299, 299)


def test_a_run_on_a_mapped_corpus_is_the_run_on_one_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus that grows over the limit, or a cache that is cleared, must not change what is trained."""
    corpus = write_corpus(tmp_path / "corpus.txt")
    changes = {"device": {"threads": 1}, "train": {"max_steps": 12}}
    one = train(tiny_config(corpus, tmp_path / "memory", **changes))
    monkeypatch.setattr(minigpt.dataset, "_LARGE", 0)
    monkeypatch.setattr(minigpt.token_cache, "cache_dir", lambda: tmp_path / "cache")
    assert_same_run(one, train(tiny_config(corpus, tmp_path / "mapped", **changes)))
    assert len(list((tmp_path / "cache" / "tokens").glob("*.npy"))) == 1


# ── Chinese ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_of_chinese_poems_trains(tmp_path: Path) -> None:
    """Each character is a token; the loss falls, and what the model writes is made of theirs."""
    config = tiny_config(
        POEMS,
        tmp_path / "poems",
        model={"n_embd": 32, "dropout": 0.0},
        train={"max_steps": 60},
        sample={"prompt": "山", "interval": 60},
        device={"threads": 1},
    )
    run = train(config)
    tokenizer = load_tokenizer(run.tokenizer_file)
    assert tokenizer.vocab_size > 200
    rows = [row for row in read_journal(run.metrics_file) if "train_eval_loss" in row]
    assert rows[-1]["train_eval_loss"] < rows[0]["train_eval_loss"] - 1
    sample = read_journal(run.samples_file)[-1]["text"]
    assert tokenizer.unknown_characters(sample) == []
    assert any("\u4e00" <= character <= "\u9fff" for character in sample)
    started = next(row for row in read_journal(run.events_file) if row["event"] == "started")
    assert started["corpus"] == "chinese"


def test_learned_pieces_of_words_train_and_resume(tmp_path: Path) -> None:
    """The vocabulary is saved with the run: a resumed run must not learn another one."""
    corpus = write_corpus(tmp_path / "corpus.txt")
    changes = {"data": {"tokenizer": "bpe", "bpe_vocab_size": 290}, "device": {"threads": 1}}
    run = train(tiny_config(corpus, tmp_path / "run", train={"max_steps": 10}, **changes))
    (run.path / "config.toml").write_text(run.config_file.read_text().replace("max_steps = 10", "max_steps = 14"))
    before = run.tokenizer_file.read_bytes()
    assert resume(run).checkpoint("last").step == 14
    assert run.tokenizer_file.read_bytes() == before
