"""The evaluation is the mean over all targets, whatever the groups, and leaves no trace in the training."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from minigpt.batches import Split
from minigpt.config import ModelConfig
from minigpt.device import Device
from minigpt.errors import UserError
from minigpt.evaluate import Evaluation, evaluate
from minigpt.evaluations import evaluate_text
from minigpt.model import GPT
from minigpt.tokenizer import ByteTokenizer, CharTokenizer
from minigpt.windows import windows_of

CPU = Device("cpu", "test", "float32")
TOKENIZER = CharTokenizer(list("abcdé漢🎉 \n.,"))


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, dropout=0.5), TOKENIZER.vocab_size)


def one_by_one(model: GPT, ids: list[int]) -> tuple[list[float], list[bool]]:
    """Loss of each token but the first, and whether it was the likeliest, each worked out by itself."""
    model.eval()
    losses, right = [], []
    with torch.no_grad():
        for place in range(1, len(ids)):
            start = (place - 1) // 8 * 8
            logits = model(torch.tensor([ids[start:place]]))[0, -1]
            losses.append(float(F.cross_entropy(logits, torch.tensor(ids[place]))))
            right.append(int(logits.argmax()) == ids[place])
    return losses, right


def test_each_token_but_the_first_is_predicted_once(model: GPT) -> None:
    """Guards the weighting: the short last window must not count as much as a whole one."""
    ids = np.random.default_rng(0).integers(0, 11, size=8 * 5 + 4)
    windows = Split(ids, "validation", 8).windows()
    assert len(windows[-1]) < 9
    measured = evaluate(model, windows, TOKENIZER, CPU, batch_tokens=16)
    losses, right = one_by_one(model, ids.tolist())
    assert measured.tokens == len(ids) - 1
    assert measured.loss == pytest.approx(np.mean(losses), abs=1e-6)
    assert measured.accuracy == np.mean(right)


def test_perplexity_and_bits_follow_from_the_loss_and_the_text(model: GPT) -> None:
    """Bits per character and per byte are those of the whole text: that is what makes tokenizers comparable."""
    text = "a漢é🎉b.é\ncd漢漢, 🎉a"
    measured = evaluate_text(model, TOKENIZER, text, CPU)
    nats = sum(one_by_one(model, TOKENIZER.encode(text).tolist())[0])
    assert (measured.tokens, measured.characters) == (len(text) - 1, len(text) - 1)
    assert measured.bytes == len(text[1:].encode())
    assert measured.perplexity == pytest.approx(math.exp(nats / (len(text) - 1)), rel=1e-5)
    assert measured.bits_per_character == pytest.approx(nats / math.log(2) / len(text[1:]), rel=1e-5)
    assert measured.bits_per_byte == pytest.approx(nats / math.log(2) / len(text[1:].encode()), rel=1e-5)


def test_characters_are_counted_where_a_token_is_a_byte() -> None:
    torch.manual_seed(0)
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=8), 256)
    text = "né漢🎉n"
    measured = evaluate_text(model, ByteTokenizer(), text, CPU)
    assert (measured.tokens, measured.bytes, measured.characters) == (10, 10, 4)
    assert measured.bits_per_byte == pytest.approx(measured.loss / math.log(2))
    assert measured.bits_per_character == pytest.approx(measured.loss / math.log(2) * 10 / 4)


def test_what_cannot_be_expressed_is_not_a_crash() -> None:
    """A diverged model has a perplexity that no float can hold; one token may hold no whole character."""
    hopeless = Evaluation(loss=1e6, accuracy=0, tokens=3, characters=0, bytes=3)
    assert hopeless.perplexity == math.inf
    assert math.isnan(hopeless.bits_per_character)
    assert hopeless.bits_per_byte == pytest.approx(1e6 / math.log(2))


def test_the_size_of_the_groups_does_not_change_what_is_measured(model: GPT) -> None:
    ids = np.random.default_rng(1).integers(0, 11, size=200)
    windows = Split(ids, "validation", 8).windows()
    losses = [evaluate(model, windows, TOKENIZER, CPU, batch_tokens=tokens).loss for tokens in (1, 24, 10_000)]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)


class Counting(nn.Module):
    """A model of nothing, which keeps how large its batches were."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []

    def forward(self, ids: Tensor) -> Tensor:
        self.batches.append(tuple(ids.shape))
        return torch.zeros(*ids.shape, 1)


@pytest.mark.parametrize(("vocab_size", "rows"), [(256, 16), (8192, 16), (50_257, 2), (200_000, 1)])
def test_a_large_vocabulary_means_smaller_batches(vocab_size: int, rows: int) -> None:
    """8192 tokens × 50,257 logits were 1.6 GB, three times over; what small vocabularies get is unchanged."""
    model = Counting()

    class Tokens:
        token_bytes = token_characters = np.ones(vocab_size, dtype=np.int64)

    Tokens.vocab_size = vocab_size  # type: ignore[attr-defined]
    windows = windows_of(np.zeros(512 * rows * 2 + 1, dtype=np.int64), 512)
    evaluate(model, windows[:2] if rows == 1 else windows, Tokens(), CPU)  # type: ignore[arg-type]
    assert model.batches == [(rows, 512)] * 2


def test_evaluating_draws_no_random_number_and_keeps_the_mode(model: GPT) -> None:
    """Guards determinism: dropout left on, or a draw from the global generator, would change the run."""
    windows = Split(np.arange(100) % 11, "validation", 8).windows()
    model.train()
    before = torch.get_rng_state()
    assert evaluate(model, windows, TOKENIZER, CPU) == evaluate(model, windows, TOKENIZER, CPU)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training


def test_progress_is_told_and_may_end_it(model: GPT) -> None:
    """How the app gives up on one: what the report raises comes through, and the model is as it was."""
    windows = Split(np.arange(100) % 11, "validation", 8).windows()
    shares: list[float] = []
    evaluate(model, windows, TOKENIZER, CPU, batch_tokens=32, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1

    def enough(_: float) -> None:
        raise InterruptedError

    model.train()
    with pytest.raises(InterruptedError):
        evaluate(model, windows, TOKENIZER, CPU, progress=enough)
    assert model.training


# ── a text ────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.integers(2, 60), st.integers(1, 12))
def test_the_windows_of_a_text_are_those_of_a_split_and_miss_nothing(length: int, block_size: int) -> None:
    ids = np.arange(length)
    windows = windows_of(ids, block_size)
    assert [target for window in windows for target in window[1:]] == list(range(1, length))
    if length > block_size:
        split = Split(ids, "validation", block_size).windows()
        assert [window.tolist() for window in windows] == [window.tolist() for window in split]


@pytest.mark.parametrize(("text", "what"), [("", "no token"), ("a", "one token")])
def test_a_text_with_nothing_to_predict_is_refused(model: GPT, text: str, what: str) -> None:
    with pytest.raises(UserError, match=f"too short: {what}"):
        evaluate_text(model, TOKENIZER, text, CPU)


def test_unknown_characters_are_named_replaced_or_dropped(model: GPT) -> None:
    with pytest.raises(UserError, match="SECTION SIGN"):
        evaluate_text(model, TOKENIZER, "a§bc", CPU)
    assert evaluate_text(model, TOKENIZER, "a§bc", CPU, unknown="drop") == evaluate_text(model, TOKENIZER, "abc", CPU)
    assert evaluate_text(model, TOKENIZER, "a§bc", CPU, unknown="replace").tokens == 3
    with pytest.raises(UserError, match="too short"):
        evaluate_text(model, TOKENIZER, "a§", CPU, unknown="drop")
