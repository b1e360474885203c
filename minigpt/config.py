"""The configuration of a run: its sections, their keys with ranges and help, and how a TOML file is read.

Every key is documented by the string under it: the help of the command line is made from these. A key that an
earlier version wrote into a run's config.toml keeps its name and meaning.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


def _no_nul(path: str) -> str:
    if "\0" in path:
        raise ValueError("must not contain the character U+0000, which no path can")
    return path


PathText = Annotated[str, AfterValidator(_no_nul)]
PositiveInt = Annotated[int, Field(gt=0, le=2**40)]
NonNegativeInt = Annotated[int, Field(ge=0, le=2**40)]


class Section(BaseModel):
    """What all sections share: nothing unknown, nothing changed afterwards, help taken from the docstrings."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class RunConfig(Section):
    """Which run this is."""

    name: str = Field(default="", pattern=rf"^$|{NAME_PATTERN}")
    """Name of the run and of its directory; empty for the date, the preset and two words."""
    dir: PathText = ""
    """Directory of this very run; empty for its name under MINIGPT_RUNS_DIR or ./runs."""
    about: str = ""
    """What the run or preset is for, in one line."""


class DataConfig(Section):
    """The text to learn from."""

    corpus: PathText = Field(default="the-play", min_length=1)
    """A text file, or a corpus known by name: `the-play` (bundled) or `tinyshakespeare`."""
    tokenizer: Literal["char", "byte"] = "char"
    """What a token is: a character of the corpus, or a byte of UTF-8."""
    val_fraction: float = Field(default=0.1, gt=0, le=0.5)
    """Share of the corpus, at its end, that is held out for validation."""


class ModelConfig(Section):
    """The shape of the GPT."""

    n_layer: int = Field(default=4, gt=0, le=200)
    """Number of transformer blocks."""
    n_head: int = Field(default=4, gt=0, le=200)
    """Attention heads in each block; must divide n_embd."""
    n_embd: int = Field(default=128, gt=0, le=16384)
    """Width of the embeddings and of the residual stream."""
    block_size: int = Field(default=128, gt=0, le=65536)
    """Context length: how many tokens the model can look back on."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropout on embeddings, attention weights and residual branches, in training only."""
    activation: Literal["gelu", "gelu_tanh"] = "gelu"
    """Nonlinearity of the feed-forward: GELU exact, or by the tanh approximation that GPT-2 uses."""
    tie_weights: bool = True
    """Use the token embedding as the output head too, as GPT-2 does."""
    bias_qkv: bool = True
    """Biases on the query, key and value projections."""
    bias_proj: bool = True
    """Bias on the attention's output projection."""
    bias_mlp: bool = True
    """Biases in the feed-forward."""
    bias_norm: bool = True
    """Biases in the layer norms."""
    bias_head: bool = False
    """Bias on the output head; not with tied weights."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head})")
        if self.bias_head and self.tie_weights:
            raise ValueError("bias_head needs tie_weights = false: the token embedding has no bias to share")
        return self


class TrainConfig(Section):
    """How the model is trained."""

    batch_size: int = Field(default=32, gt=0, le=65536)
    """Sequences per step."""
    max_steps: PositiveInt = 2000
    """Optimizer steps in all."""
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    """Peak learning rate of AdamW."""
    min_lr: float = Field(default=1e-4, ge=0, le=10)
    """Learning rate at the end of the cosine and linear schedules."""
    warmup_steps: NonNegativeInt = 100
    """Steps over which the learning rate rises linearly from zero."""
    lr_schedule: Literal["constant", "cosine", "linear"] = "cosine"
    """How the learning rate goes on after the warm-up."""
    weight_decay: float = Field(default=0.1, ge=0, le=10)
    """Decoupled weight decay, on matrices and embeddings only."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's decay of the first moment."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """AdamW's decay of the second moment; 0.99 suits batches of few tokens, 0.95 large ones."""
    grad_clip: float = Field(default=1.0, ge=0)
    """Largest norm of the whole gradient; 0 leaves it unclipped."""
    seed: int = Field(default=1337, ge=0, lt=2**63)
    """Seed of the weights, the batches and the dropout."""
    log_interval: PositiveInt = 10
    """Steps between two rows of metrics."""
    eval_interval: PositiveInt = 250
    """Steps between two evaluations; one at step 0 and one at the end besides."""
    train_eval_tokens: PositiveInt = 32768
    """Tokens of the training split that an evaluation looks at, in fixed windows spread over it."""
    checkpoint_interval: PositiveInt = 250
    """Steps between two checkpoints; a new best validation loss is saved besides."""
    keep_checkpoints: PositiveInt = 5
    """How many of the newest checkpoints stay; the best one stays anyway."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.min_lr > self.learning_rate:
            raise ValueError(f"min_lr ({self.min_lr:g}) must not exceed learning_rate ({self.learning_rate:g})")
        return self


class SampleConfig(Section):
    """The text written now and then during training, always from the same prompt and seed."""

    interval: PositiveInt = 250
    """Steps between two samples; one at the end besides."""
    prompt: str = Field(default="\n", min_length=1)
    """What the sample continues; a newline for text of its own choice."""
    max_new_tokens: int = Field(default=300, gt=0, le=100_000)
    """Length of a sample in tokens."""
    temperature: float = Field(default=0.8, ge=0, le=10)
    """Below 1 for likelier text, above for wilder; 0 takes the likeliest token every time."""
    top_k: NonNegativeInt = 40
    """Choose among this many likeliest tokens; 0 for all."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    """Seed of the sampling."""


class DeviceConfig(Section):
    """Where and how the arithmetic is done."""

    type: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """The device; auto takes CUDA, then Apple's MPS, then the CPU."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Precision of the matrix products; auto takes bf16 on GPUs that have it (compute capability 8.0 on)."""
    compile: bool = False
    """Compile the model with torch.compile: a slower start, then faster steps on a GPU."""
    threads: int = Field(default=0, ge=0, le=1024)
    """CPU threads of torch; 0 for torch's own choice."""


class Config(Section):
    """A whole configuration, valid and complete."""

    run: RunConfig = RunConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    sample: SampleConfig = SampleConfig()
    device: DeviceConfig = DeviceConfig()

    def to_toml(self) -> str:
        """The configuration as TOML, with every key but `run.dir`: enough to start the run again."""
        import tomli_w

        return tomli_w.dumps(self.model_dump(exclude={"run": {"dir"}}))


def is_json_value(value: Any) -> bool:
    """Whether a value that TOML can express exists in JSON too: dates do not, nor nan and inf."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int | list | dict | None)
