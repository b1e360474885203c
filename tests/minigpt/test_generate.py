"""Generation is reproducible, bounded by the context, the same with a cache, and leaves the training alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.config import ModelConfig
from minigpt.errors import UserError
from minigpt.generate import Context, before_stop, generate, generate_ids, random_start
from minigpt.model import GPT, KVCache
from minigpt.sampling import Sampling
from minigpt.tokenizer import ByteTokenizer, CharTokenizer
from tests.architectures import ARCHITECTURES, architectures

TOKENIZER = CharTokenizer(list("abcdefghij \n"))
VOCAB = 37


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(ModelConfig(n_layer=1, n_head=2, n_embd=16, block_size=8, dropout=0.5), TOKENIZER.vocab_size)


def write(model: GPT, prompt: str = "abc", **settings: float | str) -> str:
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
    write(model, top_p=0.9, min_p=0.01, repetition_penalty=1.2)
    random_start(TOKENIZER, 3)
    assert torch.equal(before, torch.get_rng_state())
    assert model.training


def test_temperature_zero_takes_the_likeliest_whatever_the_seed(model: GPT) -> None:
    assert write(model, temperature=0, seed=1) == write(model, temperature=0, seed=2)


def test_cancelled_between_two_tokens(model: GPT) -> None:
    pieces: list[int] = []
    pieces.extend(generate_ids(model, [0], Sampling(max_new_tokens=50), lambda: len(pieces) >= 3))
    assert len(pieces) == 3


@pytest.mark.parametrize("stop", ["", "zz"])
def test_an_abandoned_generation_puts_the_model_back_into_training(model: GPT, stop: str) -> None:
    model.train()
    stream = generate(model, TOKENIZER, "a", Sampling(stop=stop))
    next(stream)
    assert not model.training
    stream.close()
    assert model.training


def test_unusable_prompts_are_refused_before_the_first_token(model: GPT) -> None:
    with pytest.raises(UserError, match="é"):
        next(generate(model, TOKENIZER, "aé", Sampling()))
    with pytest.raises(UserError, match="empty"):
        next(generate(model, TOKENIZER, "", Sampling()))


def test_a_diverged_model_is_one_message(model: GPT) -> None:
    """Guards against torch's words about a probability tensor, or a text of the first token over and over."""
    model.wte.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="diverged"):
        write(model)


def test_a_penalty_above_one_makes_a_greedy_text_repeat_itself_less(model: GPT) -> None:
    model.eval()
    plain, penalised = write(model, temperature=0), write(model, temperature=0, repetition_penalty=2.0)
    assert len(set(penalised)) > len(set(plain))


def test_characters_split_over_byte_tokens_come_out_whole() -> None:
    """Guards streaming: half a UTF-8 character must be held back, not shown as a replacement."""
    decoder = ByteTokenizer().stream_decoder()
    pieces = [decoder.feed(byte) for byte in "né漢🎉".encode()]
    assert "".join(pieces) == "né漢🎉"
    assert set(pieces) == {"n", "é", "漢", "🎉", ""}


# ── the stop string ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pieces", "stop", "expected"),
    [
        (["ab", "cd", "ef"], "", ["ab", "cd", "ef"]),
        (["ab", "cd", "ef"], "x", ["ab", "cd", "ef"]),
        (["ab", "cXd", "ef"], "X", ["ab", "c"]),
        (["ab", "X"], "X", ["ab"]),
        # Spread over pieces: held back while it may still become the stop string, and never shown then.
        (["a\n", "\n", "b"], "\n\n", ["a"]),
        (["a\n", "b\n", "c"], "\n\n", ["a", "\nb", "\nc"]),
        # At the end what was held back is text after all.
        (["ab", "\n"], "\n\n", ["ab", "\n"]),
        # The beginning of the stop string inside itself: giving up one beginning must not lose the other.
        (["a", "a", "b", "a", "a", "a", "b", "c"], "aabc", ["aab", "a"]),
    ],
)
def test_a_text_ends_before_its_stop_string(pieces: list[str], stop: str, expected: list[str]) -> None:
    shown = list(before_stop(iter(pieces), stop))
    assert shown == expected


@given(st.lists(st.text("ab", min_size=1, max_size=3)), st.text("ab", max_size=4))
def test_any_pieces_give_what_the_whole_text_has_before_the_stop(pieces: list[str], stop: str) -> None:
    whole = "".join(pieces)
    assert "".join(before_stop(iter(pieces), stop)) == (whole.split(stop)[0] if stop else whole)


def test_nothing_is_held_back_that_cannot_become_the_stop() -> None:
    """Guards the stream: a long stop string must not delay the text by its length."""
    shown = before_stop(iter(["R", "O", "M"]), "ROAM")
    assert list(shown) == ["ROM"]
    assert list(before_stop(iter(["a", "b", "c"]), "XXXX")) == ["a", "b", "c"]


def test_a_stop_string_ends_the_generation_itself(model: GPT) -> None:
    whole = write(model, seed=4)
    stop = whole[5:7]
    asked: list[int] = []
    text = "".join(
        generate(model, TOKENIZER, "abc", Sampling(max_new_tokens=40, seed=4, stop=stop), lambda: bool(asked.append(1)))
    )
    assert text == whole[: whole.index(stop)]
    assert len(asked) == len(text) + 2  # no token more than were needed to see it


def test_the_prompt_may_hold_the_stop_string(model: GPT) -> None:
    """`--prompt "A: hello\\n" --stop "\\n"` asks for one line, not for nothing."""
    assert write(model, prompt="ab", stop="ab", seed=4) != ""


# ── the start ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_random_start_can_be_seen_and_depends_on_the_seed() -> None:
    starts = [random_start(TOKENIZER, seed) for seed in range(100)]
    assert starts == [random_start(TOKENIZER, seed) for seed in range(100)]
    assert set(starts) == set("abcdefghij")
    assert all(random_start(ByteTokenizer(), seed).isascii() for seed in range(20))


def test_a_vocabulary_with_nothing_to_see_starts_with_what_there_is() -> None:
    assert random_start(CharTokenizer(["\n"]), 1) == "\n"


# ── the cache ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_the_model_sees_beyond_the_context_is_the_newest_half(model: GPT, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule that generation with and without a cache share: when the window is full, its oldest half goes at once."""
    seen: list[tuple[int, int]] = []
    forward = GPT.forward

    def spy(self: GPT, ids: torch.Tensor, cache: KVCache | None = None) -> torch.Tensor:
        seen.append((cache.length if cache else 0, ids.shape[1]))
        return forward(self, ids, cache)

    monkeypatch.setattr(GPT, "forward", spy)
    list(generate_ids(model, [0, 1], Sampling(max_new_tokens=12), use_cache=False))
    assert seen == [(0, length) for length in (2, 3, 4, 5, 6, 7, 8, 4, 5, 6, 7, 8)]
    seen.clear()
    list(generate_ids(model, [0, 1], Sampling(max_new_tokens=12)))
    assert seen == [(0, 2), *((length, 1) for length in range(2, 8)), (0, 4), *((length, 1) for length in range(4, 8))]


@pytest.mark.parametrize(("prompt", "new", "size"), [(2, 3, 5), (2, 100, 8), (20, 1, 8), (8, 1, 8)])
def test_the_cache_is_sized_to_what_is_asked(
    model: GPT, monkeypatch: pytest.MonkeyPatch, prompt: int, new: int, size: int
) -> None:
    """A context of 65,536 tokens must not cost its memory for an answer of twenty."""
    sizes: list[int] = []
    made = KVCache.__init__

    def spy(self: KVCache, config: ModelConfig, size: int, **rest: object) -> None:
        sizes.append(size)
        made(self, config, size, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(KVCache, "__init__", spy)
    assert len(list(generate_ids(model, [0] * prompt, Sampling(max_new_tokens=new)))) == new
    assert sizes == [size]


def trained_looking(config: ModelConfig) -> GPT:
    """A model away from its small initial weights, where a wrong position or mask would hardly show."""
    torch.manual_seed(0)
    model = GPT(config, VOCAB).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.15)
    return model


def assert_same_logits(config: ModelConfig) -> None:
    """At every position, across two drops of the oldest half, whatever comes next."""
    model = trained_looking(config)
    ids = torch.randint(0, VOCAB, (3 * config.block_size,)).tolist()
    contexts = [Context(model, ids[:3], 10**6, use_cache=use_cache) for use_cache in (True, False)]
    for token in ids[3:]:
        cached, anew = (context.next_logits() for context in contexts)
        torch.testing.assert_close(cached, anew, atol=1e-4, rtol=0)
        for context in contexts:
            context.append(token)


def assert_same_greedy_text(config: ModelConfig) -> None:
    """Token by token, unless the two best candidates are closer than 1e-4."""
    model = trained_looking(config)
    greedy = Sampling(max_new_tokens=3 * config.block_size, temperature=0)
    with_cache, without = (
        list(generate_ids(model, [1, 2], greedy, use_cache=use_cache)) for use_cache in (True, False)
    )
    if with_cache == without:
        return
    parted = next(place for place, (one, other) in enumerate(zip(with_cache, without, strict=True)) if one != other)
    context = Context(model, [1, 2], 10**6, use_cache=False)
    for token in without[:parted]:
        context.append(token)
    best, second = context.next_logits().topk(2).values.tolist()
    assert best - second < 1e-4


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_cache_may_be_filled_in_any_pieces(name: str) -> None:
    """Guards the mask of several new tokens after old ones, and the count of what is in the cache."""
    config = ARCHITECTURES[name]
    model = trained_looking(config)
    ids = torch.randint(0, VOCAB, (2, config.block_size))
    cache = KVCache(config, config.block_size, batch_size=2, like=model.wte.weight)
    with torch.inference_mode():
        pieces = [model(piece, cache) for piece in ids.split([3, 1, 4, config.block_size - 8], dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_cache_changes_nothing_whatever_the_architecture(name: str) -> None:
    """Guards positions, rotations and masks that start anew instead of where the cache ends."""
    assert_same_logits(ARCHITECTURES[name])
    assert_same_greedy_text(ARCHITECTURES[name])


@settings(max_examples=25)
@given(architectures())
def test_a_cache_changes_nothing_for_any_combination(config: ModelConfig) -> None:
    assert_same_logits(config)
