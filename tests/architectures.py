"""Every architecture that the configuration can choose, made from its fields: a new choice is covered by itself."""

import itertools
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from hypothesis import strategies as st
from pydantic import ValidationError

from minigpt.config import ModelConfig

# Small, so that hundreds of models a second can be made; two of each part, so that their order shows.
SIZES: dict[str, Any] = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 12}

# What a field that is a number can be tried with; the sizes above are no choice of architecture.
_NUMBERS: dict[str, tuple[Any, ...]] = {
    "n_inner": (0, 24),
    "dropout": (0.0, 0.3),
    "dropout_embd": (None, 0.3),
    "dropout_attn": (None, 0.3),
    "dropout_resid": (None, 0.3),
}


def _choices() -> dict[str, tuple[Any, ...]]:
    choices = {}
    for name, field in ModelConfig.model_fields.items():
        kind = field.annotation
        if name in SIZES:
            continue
        if get_origin(kind) is Literal:
            choices[name] = get_args(kind)
        elif kind is bool:
            choices[name] = (False, True)
        else:
            assert name in _NUMBERS, f"say in tests/architectures.py which values of model.{name} to try"
            assert kind in {int, float} or NoneType in get_args(kind)
            choices[name] = _NUMBERS[name]
    return choices


CHOICES = _choices()
"""The values of every field that is a choice of architecture."""


def _with(name: str, value: Any) -> ModelConfig:
    # Some choices need another one beside them, such as RMSNorm no biases: the first that makes them valid is taken.
    companions = ({}, *({other: choice} for other in CHOICES for choice in CHOICES[other] if other != name))
    for companion in companions:
        try:
            return ModelConfig(**SIZES, **{name: value}, **companion)
        except ValidationError:
            continue
    raise AssertionError(f"model.{name} = {value!r}: valid with no other single choice; add one to ARCHITECTURES")


ARCHITECTURES: dict[str, ModelConfig] = {
    "default": ModelConfig(**SIZES),
    **{
        f"{name}={value}": _with(name, value)
        for name, values in CHOICES.items()
        for value in values
        if value != ModelConfig.model_fields[name].default
    },
    # What is known under a name, all its choices together.
    "transformer-2017": ModelConfig(
        **SIZES, norm_placement="post", final_norm=False, positions="sinusoidal", activation="relu", dropout=0.1
    ),
    "llama": ModelConfig(
        **SIZES,
        norm="rmsnorm",
        positions="rotary",
        activation="swiglu",
        tie_weights=False,
        bias_qkv=False,
        bias_proj=False,
        bias_mlp=False,
        bias_norm=False,
    ),
    "nanochat": ModelConfig(
        **SIZES,
        norm="rmsnorm",
        positions="rotary",
        qk_norm=True,
        activation="relu2",
        tie_weights=False,
        bias_qkv=False,
        bias_proj=False,
        bias_mlp=False,
        bias_norm=False,
    ),
}
"""One configuration for each value of each field, and some well-known combinations."""


@st.composite
def architectures(draw: st.DrawFn) -> ModelConfig:
    """Any combination of choices that is valid."""
    chosen = {name: draw(st.sampled_from(values)) for name, values in CHOICES.items()}
    try:
        return ModelConfig(**SIZES, **chosen)
    except ValidationError:
        # Not thrown away, since half of all combinations are refused: the fewest choices at their default mend it.
        for count in (1, 2, 3, 4):
            for names in itertools.combinations(CHOICES, count):
                kept = {name: value for name, value in chosen.items() if name not in names}
                try:
                    return ModelConfig(**SIZES, **kept)
                except ValidationError:
                    continue
    return ModelConfig(**SIZES)
