"""How a token is chosen: each rule on distributions that are known, their order, and the seed."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from minigpt.errors import UserError
from minigpt.sampling import (
    Sampling,
    apply_temperature,
    choose,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalise_repetition,
)


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor(probabilities, dtype=torch.float64).log()


def kept(logits: Tensor) -> list[int]:
    """The tokens that are still possible."""
    return logits.isfinite().nonzero().flatten().tolist()


def frequencies(logits: Tensor, sampling: Sampling, draws: int = 4000, seen: Tensor | None = None) -> list[float]:
    generator = torch.Generator().manual_seed(0)
    chosen = [choose(logits, sampling, generator, seen) for _ in range(draws)]
    return [chosen.count(token) / draws for token in range(len(logits))]


# ── one by one ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("temperature", "power"), [(0.5, 2.0), (1.0, 1.0), (2.0, 0.5)])
def test_temperature_is_a_power_of_the_probabilities(temperature: float, power: float) -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    expected = probabilities**power / (probabilities**power).sum()
    torch.testing.assert_close(apply_temperature(probabilities.log(), temperature).softmax(0), expected)


def test_top_k_keeps_exactly_k() -> None:
    logits = logits_of(0.1, 0.4, 0.2, 0.3)
    assert kept(keep_top_k(logits, 2)) == [1, 3]
    assert torch.equal(keep_top_k(logits, 4), logits)
    assert len(kept(keep_top_k(torch.zeros(5), 2))) == 2  # equals are no reason for more


@pytest.mark.parametrize(
    ("p", "expected"), [(0.39, [1]), (0.41, [1, 3]), (0.69, [1, 3]), (0.71, [1, 2, 3]), (0.91, [0, 1, 2, 3])]
)
def test_top_p_keeps_the_fewest_that_reach_p(p: float, expected: list[int]) -> None:
    assert kept(keep_top_p(logits_of(0.1, 0.4, 0.2, 0.3), p)) == expected


def test_top_p_always_keeps_the_likeliest() -> None:
    assert kept(keep_top_p(logits_of(0.1, 0.9), 1e-9)) == [1]


@pytest.mark.parametrize(("min_p", "expected"), [(0.2, [0, 1, 2, 3]), (0.4, [1, 2, 3]), (0.6, [1, 3]), (1.0, [1])])
def test_min_p_is_measured_by_the_likeliest(min_p: float, expected: list[int]) -> None:
    assert kept(keep_min_p(logits_of(0.1, 0.4, 0.2, 0.3), min_p)) == expected


def test_the_penalty_makes_what_was_seen_less_likely_whatever_its_sign() -> None:
    """Guards CTRL's rule: dividing a negative logit would make its token likelier."""
    logits = torch.tensor([2.0, 2.0, -1.0, -1.0, 0.0])
    seen = torch.tensor([True, False, True, False, True])
    assert penalise_repetition(logits, seen, 2.0).tolist() == [1.0, 2.0, -2.0, -1.0, 0.0]
    assert penalise_repetition(logits, seen, 0.5).tolist() == [4.0, 2.0, -0.5, -1.0, 0.0]


# ── together ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    shares = frequencies(logits_of(0.1, 0.4, 0.2, 0.3), Sampling(temperature=1.0, top_k=0))
    assert shares == pytest.approx([0.1, 0.4, 0.2, 0.3], abs=0.03)
    # 0.4 and 0.3 remain of top-p, and are likelier than the rest in the same proportion as before.
    shares = frequencies(logits_of(0.1, 0.4, 0.2, 0.3), Sampling(temperature=1.0, top_k=0, top_p=0.6))
    assert shares == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=0.03)


def test_top_k_never_chooses_outside_the_k_likeliest() -> None:
    shares = frequencies(torch.arange(5.0), Sampling(temperature=2.0, top_k=2), 300)
    assert [token for token, share in enumerate(shares) if share] == [3, 4]
    assert all(frequencies(torch.arange(5.0), Sampling(temperature=5.0, top_k=0), 500))


def test_top_p_sees_what_the_temperature_made_and_top_k_left() -> None:
    """Guards the order: at temperature 0.5 the likeliest of (0.5, 0.3, 0.2) has 0.66 and is all of top-p 0.6."""
    logits = logits_of(0.5, 0.3, 0.2)
    assert frequencies(logits, Sampling(temperature=0.5, top_k=0, top_p=0.6), 100) == [1, 0, 0]
    assert frequencies(logits, Sampling(temperature=1.0, top_k=0, top_p=0.6), 100)[1] > 0
    # Of two tokens the likelier one has 0.625; of all three it has not.
    assert frequencies(logits, Sampling(temperature=1.0, top_k=2, top_p=0.6), 100) == [1, 0, 0]


def test_min_p_sees_what_the_temperature_made() -> None:
    logits = logits_of(0.6, 0.3, 0.1)
    assert frequencies(logits, Sampling(temperature=1.0, top_k=0, min_p=0.4), 200)[1] > 0
    assert frequencies(logits, Sampling(temperature=0.5, top_k=0, min_p=0.4), 200) == [1, 0, 0]


def test_the_penalty_comes_before_the_temperature_and_counts_at_temperature_zero() -> None:
    """Guards the order: after the temperature's shift no logit is above 0, and the penalty would be another."""
    logits, seen = torch.tensor([3.0, 2.0]), torch.tensor([True, False])
    greedy = Sampling(temperature=0, repetition_penalty=2.0)
    assert choose(logits, Sampling(temperature=0), torch.Generator(), seen) == 0
    assert choose(logits, greedy, torch.Generator(), seen) == 1
    shares = frequencies(logits, Sampling(temperature=0.5, top_k=0, repetition_penalty=2.0), seen=seen)
    assert shares[1] == pytest.approx(torch.sigmoid(torch.tensor((2.0 - 1.5) / 0.5)).item(), abs=0.03)


def test_the_seed_alone_decides() -> None:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(1))

    def drawn(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return [choose(logits, Sampling(temperature=1.0), generator) for _ in range(20)]

    before = torch.get_rng_state()
    assert drawn(1) == drawn(1) != drawn(2)
    assert torch.equal(before, torch.get_rng_state())


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=8),
    st.sampled_from([5e-324, 1e-10, 0.8, 10.0]),
    st.integers(0, 10),
    st.sampled_from([1e-12, 0.5, 1.0]),
    st.sampled_from([0.0, 1e-300, 0.5, 1.0]),
    st.sampled_from([0.01, 1.0, 10.0]),
)
def test_any_finite_logits_and_settings_give_a_token(
    values: list[float], temperature: float, top_k: int, top_p: float, min_p: float, penalty: float
) -> None:
    """Guards against probabilities that are all 0 or nan, which torch refuses in words nobody would understand."""
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=penalty)
    seen = torch.arange(len(values)) % 2 == 0
    token = choose(torch.tensor(values), sampling, torch.Generator().manual_seed(0), seen)
    assert 0 <= token < len(values)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_no_numbers_are_refused(bad: float, temperature: float) -> None:
    with pytest.raises(UserError, match="diverged"):
        choose(torch.tensor([0.0, bad]), Sampling(temperature=temperature), torch.Generator())
