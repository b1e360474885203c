"""Every parameter is optimised once, decayed or not by its kind, at the rate of the schedule."""

from itertools import pairwise

import pytest

from minigpt.config import ModelConfig, TrainConfig
from minigpt.model import GPT
from minigpt.optimizer import build_optimizer, learning_rate_at


@pytest.mark.parametrize("tied", [True, False])
def test_each_parameter_is_in_exactly_one_group(tied: bool) -> None:
    """Guards against a forgotten parameter, and against a tied head that is stepped twice."""
    model = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=8, block_size=4, tie_weights=tied), 11)
    optimizer = build_optimizer(model, TrainConfig(), "cpu")
    optimised = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(optimised) == sorted(id(parameter) for parameter in model.parameters())


def test_norms_and_biases_are_not_decayed() -> None:
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=8, block_size=4), 11)
    decayed, others = build_optimizer(model, TrainConfig(weight_decay=0.3), "cpu").param_groups
    assert decayed["weight_decay"] == 0.3 and others["weight_decay"] == 0.0
    assert all(parameter.dim() >= 2 for parameter in decayed["params"])
    assert all(parameter.dim() == 1 for parameter in others["params"])


@pytest.mark.parametrize(("schedule", "middle"), [("cosine", 0.55), ("linear", 0.55), ("constant", 1.0)])
def test_schedule_warms_up_and_ends_where_it_should(schedule: str, middle: float) -> None:
    config = TrainConfig.model_validate(
        {"learning_rate": 1.0, "min_lr": 0.1, "warmup_steps": 10, "max_steps": 110, "lr_schedule": schedule}
    )
    rates = [learning_rate_at(step, config) for step in range(111)]
    assert rates[0] == pytest.approx(1 / 11)
    assert all(earlier < later for earlier, later in pairwise(rates[:11]))
    assert rates[10] == pytest.approx(1.0)
    assert rates[60] == pytest.approx(middle)
    assert rates[110] == pytest.approx(1.0 if schedule == "constant" else 0.1)
    assert all(earlier >= later for earlier, later in pairwise(rates[10:]))


def test_no_warmup_starts_at_the_peak() -> None:
    assert learning_rate_at(0, TrainConfig(learning_rate=0.5, warmup_steps=0)) == pytest.approx(0.5)
