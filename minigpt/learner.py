"""The model together with what changes it: one update, in pieces if memory asks for it, and all the state it needs."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minigpt.config import Config
from minigpt.device import Device
from minigpt.model import GPT
from minigpt.optimizer import build_optimizers
from minigpt.training_state import (
    optimizer_states,
    restore_optimizer_states,
    restore_rng_states,
    restore_weights,
    rng_states,
)


class Learner:
    """A model under training. It knows nothing of files, and of steps only how many it has done.

    `averaged` is the moving average of the weights where one is kept. `notice` is called, with a kind and a message,
    for what somebody should know.
    """

    def __init__(self, config: Config, vocab_size: int, device: Device, notice: Callable[[str, str], None]) -> None:
        self.config = config.train
        self.device = device
        self._notice = notice
        torch.manual_seed(config.train.seed)
        self.model = GPT(config.model, vocab_size).to(device.type)
        self.averaged = copy.deepcopy(self.model).requires_grad_(False) if config.train.ema_decay else None
        self.optimizers = build_optimizers(self.model, config.train, device.type)
        self.scaler = device.gradient_scaler()
        self.updates = 0
        self.loss_sum = torch.zeros((), device=device.type)
        """Sum of the losses since it was last set to zero."""
        self.grad_norm: Tensor | None = None
        """Norm of the last update's whole gradient, before clipping."""
        self._loss: Callable[[Tensor, Tensor], Tensor] = self.model.loss
        self.compiled = False
        """Whether a compiled model has run."""

    @property
    def speaker(self) -> GPT:
        """The model that is evaluated, sampled from and exported: the average of the weights, if there is one."""
        return self.model if self.averaged is None else self.averaged

    def update(self, ids: Tensor, targets: Tensor, learning_rate: float) -> None:
        """One optimizer step on a batch (B, T), computed in `gradient_accumulation_steps` pieces of it."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
        pieces = min(self.config.gradient_accumulation_steps, len(ids))
        for piece, expected in zip(ids.tensor_split(pieces), targets.tensor_split(pieces), strict=True):
            with self.device.autocast():
                loss = self._loss(piece.to(self.device.type), expected.to(self.device.type))
            if pieces > 1:
                loss = loss * (len(piece) / len(ids))  # the pieces' means make up the batch's, also where sizes differ
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self.loss_sum += loss.detach()
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        clip = self.config.grad_clip or float("inf")
        self.grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        # The scaler would leave out only those optimizers whose own gradients overflowed, when clipping has spread the
        # damage to all of them already.
        overflowed = self.scaler.is_enabled() and not bool(self.grad_norm.isfinite())
        if not overflowed:
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
        self.scaler.update()
        self.model.zero_grad(set_to_none=True)
        self.updates += 1
        if self.averaged is not None and not overflowed:
            # A short memory at first, or the random initial weights would stay in the average for long.
            decay = min(self.config.ema_decay, (1 + self.updates) / (10 + self.updates))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - decay)

    def compile(self) -> None:
        """Compile the training's forward pass from the next update on; if that fails it goes on as it was."""
        compiled = torch.compile(self.model.loss)

        def loss(ids: Tensor, targets: Tensor) -> Tensor:
            try:
                value: Tensor = compiled(ids, targets)
            except Exception as error:
                if self.compiled:
                    raise
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                self._notice("compile", f"torch.compile failed, going on in eager mode: {reason}")
                self._loss = self.model.loss
                return self.model.loss(ids, targets)
            self.compiled = True
            return value

        self._loss = loss

    # ── state ─────────────────────────────────────────────────────────────────────────────────────────────────

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, besides the speaker's weights, that the next update depends on, on the CPU."""
        tensors = {"loss_sum": self.loss_sum, **rng_states(self.device.type)}
        if self.grad_norm is not None:
            tensors["grad_norm"] = self.grad_norm
        if self.averaged is not None:
            tensors |= {f"weights.{name}": parameter for name, parameter in self.model.named_parameters()}
        for optimizer in self.optimizers:
            tensors |= optimizer_states(self.model, optimizer)
        return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def numbers(self) -> dict[str, Any]:
        """The rest of the state, as JSON has it."""
        return {"scaler": self.scaler.state_dict()}

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any], updates: int) -> None:
        """The inverse of `tensors` and `numbers` after so many updates, once the speaker has its weights.

        Raises KeyError, TypeError, ValueError or RuntimeError if they are not those of such a learner.
        """
        if self.averaged is not None:
            restore_weights(tensors, self.model)
        # Before the first update there is no state; nor after some that fp16 left out.
        complete = updates > 0 and not self.scaler.is_enabled()
        for optimizer in self.optimizers:
            restore_optimizer_states(tensors, self.model, optimizer, complete=complete)
        restore_rng_states(tensors, self.device.type)
        self.loss_sum.copy_(_scalar(tensors["loss_sum"]))
        if "grad_norm" in tensors:
            self.grad_norm = _scalar(tensors["grad_norm"])
        self.updates = updates
        if state := numbers.get("scaler"):
            if not all(isinstance(value, int | float) and 0 <= value < 2**63 for value in state.values()):
                raise ValueError("scaler")
            self.scaler.load_state_dict(state)


def _scalar(tensor: Tensor) -> Tensor:
    if tensor.shape or not tensor.is_floating_point():
        raise ValueError(f"a number is a tensor of shape {tuple(tensor.shape)}")
    return tensor
