"""Generation is reproducible, bounded by the context, and leaves the training's random numbers alone."""

import pytest
import torch

from minigpt.config import ModelConfig
from minigpt.errors import UserError
from minigpt.generate import choose_token, generate, generate_ids
from minigpt.model import GPT
from minigpt.sampling import Sampling
from minigpt.tokenizer import ByteTokenizer, CharTokenizer

TOKENIZER = CharTokenizer(list("abcdefghij \n"))


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, dropout=0.5), TOKENIZER.vocab_size)


def write(model: GPT, prompt: str = "abc", **settings: float) -> str:
    return "".join(generate(model, TOKENIZER, prompt, Sampling(**{"max_new_tokens": 40, **settings})))  # type: ignore[arg-type]


def test_same_seed_same_text_and_other_seed_other_text(model: GPT) -> None:
    assert write(model, seed=5) == write(model, seed=5)
    assert write(model, seed=5) != write(model, seed=6)


def test_length_counts_new_tokens_far_beyond_the_context(model: GPT) -> None:
    """Guards the position embedding's end: block_size is 8 here, and 40 tokens are asked for."""
    assert len(write(model)) == 40
    assert len(write(model, prompt="abcdefghij" * 3)) == 40


def test_generating_draws_nothing_from_the_global_generator_and_keeps_the_mode(model: GPT) -> None:
    model.train()
    before = torch.get_rng_state()
    write(model)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training


def test_temperature_zero_takes_the_likeliest_whatever_the_seed(model: GPT) -> None:
    assert write(model, temperature=0, seed=1) == write(model, temperature=0, seed=2)
    logits = torch.tensor([0.0, 3.0, 1.0])
    assert choose_token(logits, Sampling(temperature=0), torch.Generator()) == 1


def test_top_k_never_chooses_outside_the_k_likeliest() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    generator = torch.Generator().manual_seed(0)
    chosen = {choose_token(logits, Sampling(temperature=2.0, top_k=2), generator) for _ in range(200)}
    assert chosen == {3, 4}
    unlimited = {choose_token(logits, Sampling(temperature=5.0, top_k=0), generator) for _ in range(500)}
    assert unlimited == {0, 1, 2, 3, 4}


def test_temperature_shapes_the_distribution_as_a_softmax_does() -> None:
    """Guards the order of the operations: dividing after the softmax would leave the odds unchanged."""
    logits = torch.tensor([0.0, 1.0])
    generator = torch.Generator().manual_seed(0)
    sampling = Sampling(temperature=0.5, top_k=0)
    ones = sum(choose_token(logits, sampling, generator) for _ in range(4000)) / 4000
    assert ones == pytest.approx(torch.sigmoid(torch.tensor(2.0)).item(), abs=0.02)


def test_cancelled_between_two_tokens(model: GPT) -> None:
    pieces: list[int] = []
    pieces.extend(generate_ids(model, [0], Sampling(max_new_tokens=50), lambda: len(pieces) >= 3))
    assert len(pieces) == 3


def test_an_abandoned_generation_puts_the_model_back_into_training(model: GPT) -> None:
    model.train()
    stream = generate(model, TOKENIZER, "a", Sampling())
    next(stream)
    stream.close()
    assert model.training


def test_unusable_prompts_are_refused_before_the_first_token(model: GPT) -> None:
    with pytest.raises(UserError, match="é"):
        next(generate(model, TOKENIZER, "aé", Sampling()))
    with pytest.raises(UserError, match="empty"):
        next(generate(model, TOKENIZER, "", Sampling()))


def test_characters_split_over_byte_tokens_come_out_whole() -> None:
    """Guards streaming: half a UTF-8 character must be held back, not shown as a replacement."""
    decoder = ByteTokenizer().stream_decoder()
    pieces = [decoder.feed(byte) for byte in "né漢🎉".encode()]
    assert "".join(pieces) == "né漢🎉"
    assert set(pieces) == {"n", "é", "漢", "🎉", ""}


def test_what_the_model_sees_beyond_the_context_is_the_newest_half(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that a key/value cache will share: when the window is full, its oldest half goes at once."""
    seen: list[int] = []
    forward = GPT.forward

    def spy(self: GPT, ids: torch.Tensor) -> torch.Tensor:
        seen.append(ids.shape[1])
        return forward(self, ids)

    monkeypatch.setattr(GPT, "forward", spy)
    list(generate_ids(model, [0, 1], Sampling(max_new_tokens=12)))
    assert seen == [2, 3, 4, 5, 6, 7, 8, 4, 5, 6, 7, 8]
