"""The tensors, besides the exported weights, that a resumed training needs: the optimizers', the generators', ours."""

import torch
from torch import Tensor, nn

KEPT_BY_OPTIMIZERS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")
"""The names of all that an optimizer may keep for a parameter."""


def on_host(tensor: Tensor) -> Tensor:
    """A copy on the CPU, which the training that goes on does not change."""
    tensor = tensor.detach()
    return tensor.clone(memory_format=torch.contiguous_format) if tensor.is_cpu else tensor.cpu().contiguous()


def rng_states(device_type: str) -> dict[str, Tensor]:
    """The states of torch's global generators, from which dropout draws."""
    states = {"rng.cpu": torch.get_rng_state()}
    if device_type == "cuda":
        states["rng.cuda"] = torch.cuda.get_rng_state()
    if device_type == "mps":
        states["rng.mps"] = torch.mps.get_rng_state()
    return states


def restore_rng_states(states: dict[str, Tensor], device_type: str) -> None:
    """Put the generators back. Raises KeyError or RuntimeError if the states are no such states.

    The device's own is missing where the training went on on another one until now.
    """
    torch.set_rng_state(states["rng.cpu"])
    if device_type == "cuda" and "rng.cuda" in states:
        torch.cuda.set_rng_state(states["rng.cuda"])
    if device_type == "mps" and "rng.mps" in states:
        torch.mps.set_rng_state(states["rng.mps"])


def optimizer_states(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """One optimizer's tensors, such as `optimizer.wte.weight.exp_avg`, by the names of the parameters."""
    return {
        f"optimizer.{name}.{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)  # SGD without momentum keeps a None
    }


def restore_optimizer_states(
    states: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer, *, complete: bool
) -> None:
    """The inverse of `optimizer_states`, for the parameters that are this optimizer's, on the device of each.

    Raises ValueError if a tensor is not what this optimizer keeps, or one is missing where there must be all
    (`complete`): the fused optimizers trust the shapes, and would write past the end of a smaller tensor.
    """
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    expected = _kept_by(optimizer)
    for name, parameter in model.named_parameters():
        if id(parameter) not in own:
            continue
        prefix = f"optimizer.{name}."
        state = {key.removeprefix(prefix): value for key, value in states.items() if key.startswith(prefix)}
        if (state or complete) and state.keys() != expected:
            raise ValueError(f"{name}: {sorted(state)}, where the optimizer keeps {sorted(expected)}")
        for key, value in state.items():
            shape = torch.Size() if key == "step" else parameter.shape
            if value.shape != shape or value.dtype != torch.float32:
                raise ValueError(f"{prefix}{key}: {value.dtype} of shape {tuple(value.shape)}")
        if state:
            # The step counters of a fused optimizer live on the device with the rest.
            optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}


def _kept_by(optimizer: torch.optim.Optimizer) -> set[str]:
    if isinstance(optimizer, torch.optim.Adam):  # AdamW is one too
        return {"step", "exp_avg", "exp_avg_sq"}
    # Muon keeps its buffer with a momentum of 0, too.
    keeps = isinstance(optimizer, torch.optim.Muon) or optimizer.param_groups[0]["momentum"]
    return {"momentum_buffer"} if keeps else set()


def restore_weights(states: dict[str, Tensor], model: nn.Module) -> None:
    """Put back `weights.NAME` of each parameter: those under training, where the exported ones are their average."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = states[f"weights.{name}"]
            if value.shape != parameter.shape or value.dtype != parameter.dtype:
                raise ValueError(f"weights.{name}: {value.dtype} of shape {tuple(value.shape)}")
            parameter.copy_(value)
