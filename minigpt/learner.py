"""The model together with what changes it: one update, in pieces if memory asks for it, and all the state it needs."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from minigpt.config import Config
from minigpt.device import Device, is_out_of_memory
from minigpt.model import GPT
from minigpt.optimizer import apply_gradients, build_optimizers
from minigpt.training_state import (
    on_host,
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
        self.applied = 0
        """How many of the updates were applied, and not left out."""
        self.half_applied = False
        """Whether an update was broken off while the weights were changing."""
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

    def update(self, ids: Tensor, targets: Tensor, learning_rate: float) -> bool:
        """One optimizer step on a batch (B, T), computed in `gradient_accumulation_steps` pieces of it.

        Returns whether there was one: if the loss or the gradient is no finite number nothing changes. Where it runs
        out of memory it raises, and may be called again for the same step, unless `half_applied` says otherwise.
        """
        generators = rng_states(self.device.type)
        try:
            return self._update(ids, targets, learning_rate)
        except Exception as error:
            if is_out_of_memory(error):
                self.model.zero_grad(set_to_none=True)
                restore_rng_states(generators, self.device.type)
            raise

    def _update(self, ids: Tensor, targets: Tensor, learning_rate: float) -> bool:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
        pieces = min(self.config.gradient_accumulation_steps, len(ids))
        step_loss = torch.zeros_like(self.loss_sum)
        for piece, expected in zip(ids.tensor_split(pieces), targets.tensor_split(pieces), strict=True):
            with self.device.autocast():
                loss = self._loss(piece.to(self.device.type), expected.to(self.device.type))
            if pieces > 1:
                loss = loss * (len(piece) / len(ids))  # the pieces' means make up the batch's, also where sizes differ
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            step_loss += loss.detach()
        self.half_applied = self.scaler.is_enabled()  # it unscales only once
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        clip = self.config.grad_clip or float("inf")
        self.grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        # Left out for all optimizers or for none: the scaler would look at each one's own gradients, when clipping has
        # spread the damage to all of them already. Waits for the device, once a step.
        loss_is_finite, norm_is_finite = torch.stack((step_loss, self.grad_norm)).isfinite().tolist()
        if loss_is_finite and norm_is_finite:
            self._apply()
        self.scaler.update()
        self.half_applied = False
        self.model.zero_grad(set_to_none=True)
        self.updates += 1
        if not loss_is_finite or not (norm_is_finite or self._overflowed()):
            return False
        self.loss_sum += step_loss
        return True

    def _overflowed(self) -> bool:
        # With fp16 a gradient may overflow: the next is scaled down, and that is no fault. Once there is nothing left
        # to scale down it is one.
        return self.scaler.is_enabled() and self.scaler.get_scale() >= 1

    def _apply(self) -> None:
        self.half_applied = True
        for optimizer in self.optimizers:
            if self.scaler.is_enabled():
                self.scaler.step(optimizer)
            else:
                apply_gradients(optimizer)
        if self.averaged is not None:
            # A short memory at first, or the random initial weights would stay in the average for long.
            decay = min(self.config.ema_decay, (2 + self.updates) / (11 + self.updates))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - decay)
        self.applied += 1

    def is_finite(self) -> bool:
        """Whether all weights are finite numbers."""
        with torch.no_grad():
            return bool(torch.stack(torch._foreach_norm(list(self.speaker.parameters()))).isfinite().all())

    def compile(self) -> None:
        """Compile the training's forward pass from the next update on; if that fails it goes on as it was."""
        compiled = torch.compile(self.model.loss)

        def loss(ids: Tensor, targets: Tensor) -> Tensor:
            try:
                value: Tensor = compiled(ids, targets)
            except Exception as error:
                if self.compiled or is_out_of_memory(error):
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
        """Copies, on the CPU, of all tensors besides the speaker's weights that the next update depends on."""
        tensors = rng_states(self.device.type)
        if self.averaged is not None:
            tensors |= {f"weights.{name}": parameter for name, parameter in self.model.named_parameters()}
        for optimizer in self.optimizers:
            tensors |= optimizer_states(self.model, optimizer)
        return {name: on_host(tensor) for name, tensor in tensors.items()}

    def numbers(self) -> dict[str, Any]:
        """The rest of the state, as JSON has it."""
        grad_norm = math.nan if self.grad_norm is None else float(self.grad_norm)
        return {
            "scaler": self.scaler.state_dict(),
            "loss_sum": float(self.loss_sum),
            "grad_norm": grad_norm if math.isfinite(grad_norm) else None,
            "applied": self.applied,
        }

    def restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any], updates: int) -> None:
        """The inverse of `tensors` and `numbers` after so many updates, once the speaker has its weights.

        Raises KeyError, TypeError, ValueError or RuntimeError if they are not those of such a learner.
        """
        if self.averaged is not None:
            restore_weights(tensors, self.model)
        self.applied = int(numbers.get("applied", updates))  # not there in checkpoints of earlier versions
        # Before the first update there is no state; nor after some that fp16 left out.
        complete = self.applied > 0 and not self.scaler.is_enabled()
        for optimizer in self.optimizers:
            optimizer.state.clear()
            restore_optimizer_states(tensors, self.model, optimizer, complete=complete)
        restore_rng_states(tensors, self.device.type)
        # Earlier versions kept it with the tensors.
        loss_sum = float(numbers["loss_sum"] if "loss_sum" in numbers else _scalar(tensors["loss_sum"]))
        if not math.isfinite(loss_sum):
            raise ValueError("loss_sum")
        self.loss_sum.fill_(loss_sum)
        grad_norm = numbers.get("grad_norm", tensors.get("grad_norm"))
        self.grad_norm = None if grad_norm is None else torch.tensor(float(grad_norm))
        self.half_applied = False
        self.scaler = self.device.gradient_scaler()
        self.updates = updates
        if state := numbers.get("scaler"):
            if not all(isinstance(value, int | float) and 0 <= value < 2**63 for value in state.values()):
                raise ValueError("scaler")
            self.scaler.load_state_dict(state)


def _scalar(tensor: Tensor) -> Tensor:
    if tensor.shape or not tensor.is_floating_point():
        raise ValueError(f"a number is a tensor of shape {tuple(tensor.shape)}")
    return tensor
