"""How many tokens the splits of a corpus have, without making them."""

from dataclasses import dataclass

import numpy as np

from minigpt.batches import Batches, Split
from minigpt.config import Config
from minigpt.corpus import KNOWN_CORPORA, load_corpus
from minigpt.known_files import read_known


@dataclass(frozen=True)
class SplitSizes:
    """Tokens of the training and validation split, and steps of an epoch."""

    train: int
    val: int
    steps_per_epoch: float
    exact: bool
    """Whether they are counted, and not extrapolated from the corpus's first million bytes."""


def split_sizes(config: Config) -> tuple[SplitSizes | None, str]:
    """The sizes, or None and the name of the corpus or vocabulary that would have to be fetched first.

    Raises UserError if the corpus cannot be used or is too short.
    """
    name, kind = config.data.corpus, config.data.tokenizer
    if name in KNOWN_CORPORA and not KNOWN_CORPORA[name].is_here():
        return None, name
    if kind == "gpt2" and not read_known("vocabularies.toml")["gpt2"].is_here():
        return None, "gpt2"
    corpus = load_corpus(name)
    survey = corpus.survey()
    tokens = survey.characters if kind == "char" else survey.bytes
    if kind in {"bpe", "gpt2"}:
        from minigpt.bpe import load_gpt2, train_bpe

        sample = next(corpus.pieces())
        tokenizer = load_gpt2() if kind == "gpt2" else train_bpe([sample], len(sample), config.data.bpe_vocab_size)
        tokens = tokens * len(tokenizer.encode(sample)) // len(sample.encode("utf-8"))
    val = int(tokens * config.data.val_fraction)
    # Splits of so many ids, all of them the same one in memory: only their lengths are asked for.
    train = Split(np.broadcast_to(np.uint8(0), tokens - val), "training", config.model.block_size)
    Split(np.broadcast_to(np.uint8(0), val), "validation", config.model.block_size)
    batches = Batches(train, config.train.batch_size, config.data.batches, config.train.seed)
    return SplitSizes(tokens - val, val, batches.steps_per_epoch, exact=kind in {"char", "byte"}), ""
