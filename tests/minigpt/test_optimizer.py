"""Every parameter is optimised once, decayed or not by its kind, at the rate of the schedule."""

from itertools import pairwise
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt.config import ModelConfig, TrainConfig
from minigpt.model import GPT
from minigpt.optimizer import build_optimizers, learning_rate_at
from tests.architectures import ARCHITECTURES, architectures

OPTIMIZERS = get_args(TrainConfig.model_fields["optimizer"].annotation)
SCHEDULES = get_args(TrainConfig.model_fields["lr_schedule"].annotation)


def assert_each_parameter_has_one_optimizer(architecture: ModelConfig, optimizer: str) -> None:
    model = GPT(architecture, 11)
    optimizers = build_optimizers(model, TrainConfig(optimizer=optimizer, weight_decay=0.3), "cpu")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    taken = [
        (names[id(parameter)], type(one).__name__, group["weight_decay"])
        for one in optimizers
        for group in one.param_groups
        for parameter in group["params"]
    ]
    assert sorted(name for name, _, _ in taken) == sorted(names.values())
    for name, kind, decay in taken:
        # Norms' scales and all biases are vectors; neither is pulled towards zero.
        decays = optimizer in {"adamw", "muon"} and model.get_parameter(name).dim() == 2
        assert decay == (0.3 if decays else 0), name
        if optimizer == "muon":
            in_block = name.startswith("h.") and model.get_parameter(name).dim() == 2
            assert kind == ("Muon" if in_block else "AdamW"), name
        else:
            assert kind.lower() == optimizer, name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_each_parameter_has_exactly_one_optimizer(architecture: str, optimizer: str) -> None:
    """Guards against a forgotten parameter, a tied head that is stepped twice, and Muon on an embedding."""
    assert_each_parameter_has_one_optimizer(ARCHITECTURES[architecture], optimizer)


@settings(max_examples=30)
@given(architectures(), st.sampled_from(OPTIMIZERS))
def test_each_parameter_has_one_optimizer_in_any_combination(architecture: ModelConfig, optimizer: str) -> None:
    assert_each_parameter_has_one_optimizer(architecture, optimizer)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_learns(optimizer: str) -> None:
    """At a rate that suits it, and Muon at AdamW's: that is what its scaling promises."""
    torch.manual_seed(0)
    model = GPT(ModelConfig(n_layer=2, n_head=2, n_embd=32, block_size=16), 11)
    rate = 0.1 if optimizer == "sgd" else 1e-2
    optimizers = build_optimizers(model, TrainConfig(optimizer=optimizer, learning_rate=rate, weight_decay=0), "cpu")
    ids = torch.randint(0, 11, (4, 17))
    losses = []
    for _ in range(40):
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        model.zero_grad()
        loss.backward()
        for one in optimizers:
            one.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_muon_steps_are_as_large_as_its_rate_says() -> None:
    """A fifth of the rate for each weight on average, whatever the shape: the scaling under which AdamW's rates suit."""
    torch.manual_seed(0)
    model = GPT(ModelConfig(n_layer=1, n_head=2, n_embd=32, block_size=16), 11)
    _, muon = build_optimizers(model, TrainConfig(optimizer="muon", learning_rate=1e-2, weight_decay=0), "cpu")
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    ids = torch.randint(0, 11, (16, 17))
    model.loss(ids[:, :-1], ids[:, 1:]).backward()
    muon.step()
    for name, parameter in model.named_parameters():
        change = (parameter - before[name]).square().mean().sqrt().item()
        hidden = name.startswith("h.") and parameter.dim() == 2
        assert change == (pytest.approx(0.2e-2, rel=0.3) if hidden else 0), name


# ── the learning rate ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("schedule", "middle"), [("cosine", 0.55), ("linear", 0.55), ("constant", 1.0), ("wsd", 1.0)], ids=str
)
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


def test_wsd_is_stable_and_then_a_line() -> None:
    config = TrainConfig(
        learning_rate=1.0, min_lr=0.0, warmup_steps=10, max_steps=110, lr_schedule="wsd", decay_fraction=0.4
    )
    rates = [learning_rate_at(step, config) for step in range(111)]
    assert rates[10:71] == pytest.approx([1.0] * 61)  # 40 of the 100 steps after the warm-up are the decay
    assert rates[71] < 1.0
    assert (rates[80], rates[90], rates[109], rates[110]) == pytest.approx((0.75, 0.5, 0.025, 0.0))


@st.composite
def schedules(draw: st.DrawFn) -> TrainConfig:
    rate = draw(st.floats(1e-6, 10))
    return TrainConfig(
        learning_rate=rate,
        min_lr=rate * draw(st.floats(0, 1)),
        warmup_steps=draw(st.integers(0, 50)),
        max_steps=draw(st.integers(1, 300)),
        lr_schedule=draw(st.sampled_from(SCHEDULES)),
        decay_fraction=draw(st.floats(0.01, 1)),
    )


def assert_sound(rates: list[float], config: TrainConfig) -> None:
    """Up while it warms up, then never up; never above the peak, and after the warm-up never below the end."""
    warming, going_on = rates[: config.warmup_steps], rates[config.warmup_steps :]
    assert all(0 < earlier < later for earlier, later in pairwise(warming))
    slack = config.learning_rate * 1e-9
    assert all(rate <= config.learning_rate + slack for rate in rates)
    assert all(rate >= config.min_lr - slack for rate in going_on)
    assert all(later <= earlier + slack for earlier, later in pairwise(going_on))
    if going_on:
        assert going_on[0] == pytest.approx(config.learning_rate)


@given(schedules())
def test_no_schedule_leaves_its_bounds(config: TrainConfig) -> None:
    rates = [learning_rate_at(step, config) for step in range(config.max_steps + 1)]
    assert_sound(rates, config)
    if config.warmup_steps < config.max_steps:
        end = config.learning_rate if config.lr_schedule == "constant" else config.min_lr
        assert rates[-1] == pytest.approx(end)
        assert learning_rate_at(config.max_steps + 99, config) == pytest.approx(end)


@given(schedules(), st.lists(st.floats(0, 1), min_size=1, max_size=100).map(sorted))
def test_by_the_clock_no_schedule_leaves_its_bounds_either(config: TrainConfig, clock: list[float]) -> None:
    """The steps warm up; how far it is from there is told by a clock, which need not stand at zero then."""
    progress = [0.0] * (config.warmup_steps + 1) + clock
    rates = [learning_rate_at(step, config, over) for step, over in enumerate(progress)]
    assert_sound(rates, config)
    end = config.learning_rate if config.lr_schedule == "constant" else config.min_lr
    for over in (1.0, 1.5):  # also when the last step took longer than was left
        assert learning_rate_at(10**6, config, over) == pytest.approx(end)


def test_without_a_limit_of_steps_the_clock_alone_decides() -> None:
    config = TrainConfig.model_validate({"max_minutes": 5, "learning_rate": 1.0, "min_lr": 0.0, "warmup_steps": 0})
    assert config.max_steps == 0
    rates = [learning_rate_at(step, config, over) for step, over in ((0, 0.0), (7000, 0.5), (7001, 1.0))]
    assert rates == pytest.approx([1.0, 0.5, 0.0])


def test_no_warmup_starts_at_the_peak() -> None:
    assert learning_rate_at(0, TrainConfig(learning_rate=0.5, warmup_steps=0)) == pytest.approx(0.5)
