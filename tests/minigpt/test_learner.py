"""One update in half precision, and what of a checkpoint's state is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor

from minigpt.config import Config
from minigpt.device import Device
from minigpt.learner import Learner

VOCAB = 11
FP16 = Device("cpu", "cpu", "fp16")
FLOAT32 = Device("cpu", "cpu", "float32")


def learner(device: Device = FLOAT32, **train: Any) -> Learner:
    model = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 8}
    config = Config.model_validate({"model": model, "train": {"seed": 3, **train}})
    return Learner(config, VOCAB, device, lambda *_: None)


def batch() -> tuple[Tensor, Tensor]:
    ids = torch.randint(0, VOCAB, (4, 9), generator=torch.Generator().manual_seed(1))
    return ids[:, :-1], ids[:, 1:]


def weights(one: Learner) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in one.model.named_parameters()}


@pytest.mark.parametrize("grad_clip", [0.0, 0.05])
def test_an_update_in_fp16_is_that_in_float32_but_for_rounding(grad_clip: float) -> None:
    """Guards against gradients that are clipped, or applied, while they are still scaled up by 65,536."""
    settings = {"optimizer": "sgd", "momentum": 0.0, "grad_clip": grad_clip}
    ours, theirs = learner(FP16, **settings), learner(**settings)
    for one in (ours, theirs):
        one.update(*batch(), learning_rate=1.0)
    assert ours.grad_norm is not None and theirs.grad_norm is not None
    assert float(ours.grad_norm) == pytest.approx(float(theirs.grad_norm), rel=0.02)
    for name, weight in weights(theirs).items():
        torch.testing.assert_close(weights(ours)[name], weight, atol=2e-3, rtol=0, msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "sgd"])
@pytest.mark.parametrize("grad_clip", [0.0, 1.0])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_gradient_that_overflowed_changes_nothing_at_all(optimizer: str, grad_clip: float, value: float) -> None:
    """With two optimizers the one whose own gradients were finite stepped with what clipping had made of them: nan."""
    one = learner(FP16, optimizer=optimizer, grad_clip=grad_clip, ema_decay=0.5)
    one.update(*batch(), learning_rate=0.1)
    before, average, scale = weights(one), one.speaker.wte.weight.clone(), one.scaler.get_scale()
    hook = one.model.wte.weight.register_hook(lambda grad: torch.full_like(grad, value))
    one.update(*batch(), learning_rate=0.1)
    hook.remove()
    assert all(torch.equal(weights(one)[name], weight) for name, weight in before.items())
    assert torch.equal(one.speaker.wte.weight, average)
    assert one.scaler.get_scale() == scale / 2
    one.update(*batch(), learning_rate=0.1)
    assert all(bool(weight.isfinite().all()) for weight in weights(one).values())
    assert not torch.equal(weights(one)["wte.weight"], before["wte.weight"])


def test_in_fp16_it_is_a_fault_once_there_is_nothing_left_to_scale_down() -> None:
    """A gradient that is no number at any scale was called an overflow for ever."""
    one = learner(FP16)
    one.model.wte.weight.register_hook(lambda grad: torch.full_like(grad, float("nan")))
    applied = [one.update(*batch(), learning_rate=0.1) for _ in range(20)]
    assert applied == [True] * 16 + [False] * 4  # from 65,536 down to 1


def test_an_update_is_half_applied_only_while_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp16 the gradient can be unscaled only once: what breaks off then cannot be repeated, what comes later can."""
    one = learner(FP16)
    one.update(*batch(), learning_rate=0.1)
    assert not one.half_applied
    state, numbers = one.tensors(), one.numbers()
    with monkeypatch.context() as patch:

        def no_memory(*_: object) -> Tensor:
            raise torch.OutOfMemoryError

        patch.setattr(torch.nn.utils, "clip_grad_norm_", no_memory)
        with pytest.raises(torch.OutOfMemoryError):
            one.update(*batch(), learning_rate=0.1)
    assert one.half_applied
    one.restore(dict(state), numbers, updates=1)
    assert not one.half_applied
    assert one.update(*batch(), learning_rate=0.1) and not one.half_applied


DAMAGE = {
    "too small": lambda state: state.update({"optimizer.wte.weight.exp_avg": torch.zeros(3)}),
    "another type": lambda state: state.update({"optimizer.wte.weight.exp_avg": torch.zeros(VOCAB, 16).int()}),
    "one missing": lambda state: state.pop("optimizer.wte.weight.exp_avg_sq"),
    "all missing": lambda state: [state.pop(name) for name in list(state) if name.startswith("optimizer.")],
    "one too many": lambda state: state.update({"optimizer.wte.weight.momentum_buffer": torch.zeros(VOCAB, 16)}),
    "a step of many": lambda state: state.update({"optimizer.wte.weight.step": torch.ones(4)}),
    "raw weights of another shape": lambda state: state.update({"weights.wte.weight": torch.zeros(VOCAB, 8)}),
    "raw weights missing": lambda state: state.pop("weights.wte.weight"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_state_that_is_not_this_learners_is_refused(damage: str) -> None:
    """The fused optimizers trust the shapes: a smaller tensor was written past its end, which crashed the process."""
    one, other = learner(ema_decay=0.5), learner(ema_decay=0.5)
    one.update(*batch(), learning_rate=0.1)
    state = one.tensors()
    other.restore(dict(state), one.numbers(), updates=1)
    DAMAGE[damage](state)
    with pytest.raises((KeyError, ValueError)):
        learner(ema_decay=0.5).restore(state, one.numbers(), updates=1)


@pytest.mark.parametrize("scaler", [{"scale": "much"}, {"scale": -1.0}, {"scale": float("nan")}])
def test_a_scale_that_is_none_is_refused(scaler: dict[str, Any]) -> None:
    one = learner(FP16)
    one.update(*batch(), learning_rate=0.1)
    with pytest.raises(ValueError, match="scaler"):
        learner(FP16).restore(
            one.tensors(), {**one.numbers(), "scaler": {**one.scaler.state_dict(), **scaler}}, updates=1
        )


@pytest.mark.parametrize(
    "damage", [{"loss_sum": "nan"}, {"loss_sum": None}, {"grad_norm": []}, {"applied": []}], ids=str
)
def test_a_sum_that_is_no_number_is_refused(damage: dict[str, Any]) -> None:
    one = learner()
    one.update(*batch(), learning_rate=0.1)
    with pytest.raises((TypeError, ValueError)):
        learner().restore(one.tensors(), {**one.numbers(), **damage}, updates=1)


def test_muon_without_momentum_can_be_restored() -> None:
    """It keeps a buffer all the same, which was taken for damage."""
    one, other = (learner(optimizer="muon", momentum=0.0) for _ in range(2))
    one.update(*batch(), learning_rate=0.1)
    other.restore(one.tensors(), one.numbers(), updates=1)
