"""What a training is given besides its configuration: a corpus as token ids, cut in two."""

from dataclasses import dataclass

import numpy as np

from minigpt.batches import Split, split_ids
from minigpt.bpe import load_gpt2, train_bpe
from minigpt.config import Config, DataConfig
from minigpt.corpus import Corpus, Survey, left_out_notice, load_corpus
from minigpt.errors import UserError
from minigpt.inert import inert_line
from minigpt.known_files import Progress
from minigpt.token_cache import cached_ids, encode_corpus
from minigpt.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer

_LARGE = 8_000_000  # bytes of text from which on the ids are mapped from a file, and kept for the next run


class CorpusChangedError(UserError):
    """The corpus is another text than the one that a run was trained on."""


@dataclass(frozen=True)
class TrainingData:
    """A corpus as ids, and how to read them."""

    corpus: str
    """Its name: that of a known corpus, a file or a folder."""
    corpus_sha256: str
    """SHA-256 of its text in UTF-8."""
    characters: int
    bytes: int
    """Length of its text in UTF-8."""
    tokenizer: Tokenizer
    train: Split
    val: Split
    notices: tuple[str, ...] = ()
    """What the user should know: files that were left out, a cache that cannot be written."""


def load_training_data(
    config: Config,
    tokenizer: Tokenizer | None = None,
    progress: Progress = lambda _: None,
    expected_sha256: object = None,
) -> TrainingData:
    """Read the corpus of a configuration and cut it into its two splits.

    `tokenizer` is that of the run to be resumed; without it one is made, which for `bpe` means learned. `progress` is
    told in words what is done, often; what it raises ends the loading. Raises CorpusChangedError if the text has not
    the checksum that is given, and UserError if it, the vocabulary or the sample's prompt cannot be used.
    """
    corpus = load_corpus(config.data.corpus, progress)
    notices = [left_out_notice(corpus)] if corpus.left_out else []
    survey = corpus.survey(progress)
    if expected_sha256 not in (None, survey.sha256):
        raise CorpusChangedError(
            f"{inert_line(corpus.name)}: is not the text any more that this run was trained on. "
            "Put the old text back, or start a new run."
        )
    if tokenizer is None:
        tokenizer = make_tokenizer(config.data, corpus, survey, progress)
    try:
        tokenizer.encode(config.sample.prompt)
    except UserError as error:
        raise UserError(f"sample.prompt: {error}") from None
    if survey.bytes < _LARGE:
        ids = np.concatenate(list(encode_corpus(corpus, survey, tokenizer, progress)))
    else:
        ids = cached_ids(corpus, survey, tokenizer, progress, notices.append)
    train, val = split_ids(ids, config.data.val_fraction, config.model.block_size)
    return TrainingData(
        corpus.name, survey.sha256, survey.characters, survey.bytes, tokenizer, train, val, tuple(notices)
    )


def make_tokenizer(data: DataConfig, corpus: Corpus, survey: Survey, progress: Progress) -> Tokenizer:
    """The vocabulary that a new run gets. Raises UserError if GPT-2's cannot be had."""
    match data.tokenizer:
        case "char":
            return CharTokenizer(survey.alphabet)
        case "byte":
            return ByteTokenizer()
        case "bpe":
            return train_bpe(corpus.pieces(), survey.characters, data.bpe_vocab_size, progress)
        case "gpt2":
            return load_gpt2(progress)
