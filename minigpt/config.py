"""The configuration of a run: its sections, their keys with ranges and help, and how a TOML file is read.

Every key is documented by the string under it: the help of the command line is made from these. A key that an
earlier version wrote into a run's config.toml keeps its name and meaning.
"""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from minigpt.run_name import NAMES, is_name


def _run_name(name: str) -> str:
    if name and not is_name(name):
        raise ValueError(f"must be {NAMES}")
    return name


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

    name: Annotated[str, AfterValidator(_run_name)] = ""
    """Name of the run and of its directory; empty for the date, the preset and two words."""
    dir: PathText = ""
    """Directory of this very run; empty for its name under MINIGPT_RUNS_DIR or ./runs."""
    about: str = ""
    """What the run or preset is for, in one line."""


class DataConfig(Section):
    """The text to learn from."""

    corpus: PathText = Field(default="the-play", min_length=1)
    """A text file, a folder or glob of them, or a corpus by name: `the-play`, `tinyshakespeare`, `python-docs`."""
    tokenizer: Literal["char", "byte", "bpe", "gpt2"] = "char"
    """What a token is: a character, a byte of UTF-8, a piece learned from the corpus (bpe), or GPT-2's."""
    bpe_vocab_size: int = Field(default=2048, ge=257, le=200_000)
    """How many tokens bpe learns at most, the 256 bytes included."""
    batches: Literal["random", "epochs"] = "random"
    """Random windows, or epochs: sequences that don't overlap, each once per epoch, shuffled anew."""
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
    n_inner: int = Field(default=0, ge=0, le=262144)
    """Width of the feed-forward; 0 for 4 × n_embd, with SwiGLU 8/3 × n_embd, which costs the same."""
    norm: Literal["layernorm", "rmsnorm"] = "layernorm"
    """Normalisation: LayerNorm, or RMSNorm, which neither centres nor shifts."""
    norm_placement: Literal["pre", "post", "branch"] = "pre"
    """Norms before each branch, after each sum, or on the branch before it is added."""
    final_norm: bool = True
    """A norm before the output head; not with norms after each sum, where the last is the final one already."""
    positions: Literal["learned", "sinusoidal", "rotary"] = "learned"
    """Positions: an embedding, fixed sines added to the tokens, or rotations of queries and keys."""
    qk_norm: bool = False
    """RMSNorm without weights on queries and keys, which keeps attention logits small at high learning rates."""
    activation: Literal["gelu", "gelu_tanh", "relu", "relu2", "swiglu"] = "gelu"
    """Nonlinearity of the feed-forward: GELU exact or by GPT-2's tanh, ReLU, its square, or gated by SiLU."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropout in training, wherever the three keys below say nothing else."""
    dropout_embd: float | None = Field(default=None, ge=0, lt=1)
    """Dropout on the sum of the embeddings."""
    dropout_attn: float | None = Field(default=None, ge=0, lt=1)
    """Dropout on the attention weights."""
    dropout_resid: float | None = Field(default=None, ge=0, lt=1)
    """Dropout on what attention and feed-forward add to the stream."""
    tie_weights: bool = True
    """Use the token embedding as the output head too, as GPT-2 does."""
    bias_qkv: bool = True
    """Biases on the query, key and value projections."""
    bias_proj: bool = True
    """Bias on the attention's output projection."""
    bias_mlp: bool = True
    """Biases in the feed-forward."""
    bias_norm: bool = True
    """Biases in the layer norms; RMSNorm has none."""
    bias_head: bool = False
    """Bias on the output head; not with tied weights."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        if self.n_embd % self.n_head:
            problems.append(f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head})")
        elif self.positions == "rotary" and (width := self.n_embd // self.n_head) % 2:
            problems.append(f"rotary positions turn pairs: n_embd / n_head ({width}) must be even")
        if self.positions == "sinusoidal" and self.n_embd % 2:
            problems.append(f"sinusoidal positions come in pairs of sine and cosine: n_embd ({self.n_embd}) is odd")
        if self.bias_head and self.tie_weights:
            problems.append("bias_head needs tie_weights = false: the token embedding has no bias to share")
        if self.norm == "rmsnorm" and self.bias_norm:
            problems.append('norm = "rmsnorm" needs bias_norm = false: RMSNorm only scales')
        if self.norm_placement == "post" and self.final_norm:
            problems.append(
                'norm_placement = "post" needs final_norm = false: the last block already ends in a norm, '
                "and two in a row are one"
            )
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def dropout_on(self, part: Literal["embd", "attn", "resid"]) -> float:
        """Probability of dropout on the embeddings, the attention weights or the residual branches."""
        own = {"embd": self.dropout_embd, "attn": self.dropout_attn, "resid": self.dropout_resid}[part]
        return self.dropout if own is None else own

    @property
    def ffn_width(self) -> int:
        """Width of the feed-forward, worked out where `n_inner` leaves it open."""
        if self.n_inner:
            return self.n_inner
        # Three matrices instead of two: 8/3 of the width, in whole eights, cost what 4 do (Shazeer 2020).
        return 8 * max(1, round(self.n_embd / 3)) if self.activation == "swiglu" else 4 * self.n_embd


class TrainConfig(Section):
    """How the model is trained."""

    batch_size: int = Field(default=32, gt=0, le=65536)
    """Sequences per step."""
    gradient_accumulation_steps: int = Field(default=1, gt=0, le=65536)
    """In how many pieces a batch is computed, to save memory; the result is the same. At most batch_size."""
    max_steps: NonNegativeInt = 2000
    """Optimizer steps in all; 0, the default once max_epochs or max_minutes is given, for no limit by steps."""
    max_epochs: float = Field(default=0, ge=0, le=1e9)
    """Times that the training split is gone through; 0 for no limit. Whichever limit is reached first ends the run."""
    max_minutes: float = Field(default=0, ge=0, le=1e7)
    """Minutes of training; 0 for no limit. The learning rate follows the clock then."""
    optimizer: Literal["adamw", "adam", "sgd", "muon"] = "adamw"
    """AdamW; Adam without decoupled decay; SGD with momentum; Muon for the blocks' matrices and AdamW for the rest."""
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    """Peak learning rate. Muon's is scaled so that the rates that suit AdamW suit it too."""
    min_lr: float = Field(default=1e-4, ge=0, le=10)
    """Learning rate at the end of every schedule but the constant one."""
    warmup_steps: NonNegativeInt = 100
    """Steps over which the learning rate rises linearly from zero."""
    lr_schedule: Literal["constant", "cosine", "linear", "wsd"] = "cosine"
    """How the learning rate goes on after the warm-up; wsd: stable, then a line down to min_lr."""
    decay_fraction: float = Field(default=0.2, gt=0, le=1)
    """Share of the training after the warm-up, at its end, in which wsd comes down."""
    weight_decay: float = Field(default=0.1, ge=0, le=10)
    """Decoupled weight decay of AdamW and Muon, on matrices and embeddings only; Adam and SGD have none."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Adam's and AdamW's decay of the first moment."""
    beta2: float = Field(default=0.99, ge=0, lt=1)
    """Adam's and AdamW's decay of the second moment; 0.99 suits batches of few tokens, 0.95 large ones."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Momentum of SGD and Muon."""
    ema_decay: float = Field(default=0, ge=0, lt=1)
    """Decay of a moving average of the weights, which is then evaluated, sampled and exported; 0 for none."""
    patience: NonNegativeInt = 0
    """Evaluations without a better validation loss after which the run ends early; 0 for never."""
    grad_clip: float = Field(default=1.0, ge=0)
    """Largest norm of the whole gradient; 0 leaves it unclipped."""
    seed: int = Field(default=1337, ge=0, lt=2**63)
    """Seed of the weights, the batches and the dropout."""
    log_interval: PositiveInt = 10
    """Steps between two rows of metrics."""
    eval_interval: NonNegativeInt = 250
    """Steps between two evaluations, one at step 0 and one at the end besides; 0 for one at the end of each epoch."""
    train_eval_tokens: PositiveInt = 32768
    """Tokens of the training split that an evaluation looks at, in fixed windows spread over it."""
    checkpoint_interval: PositiveInt = 250
    """Steps between two checkpoints; a new best validation loss is saved besides."""
    keep_checkpoints: PositiveInt = 5
    """How many of the newest checkpoints stay; the best one stays anyway."""
    keep_every: NonNegativeInt = 4
    """For looking back: of the checkpoints at every so many checkpoint intervals all stay; 0 for none."""
    max_recoveries: NonNegativeInt = 3
    """How often a run whose loss is no finite number any more goes back to a good checkpoint, at half the rate."""

    @model_validator(mode="before")
    @classmethod
    def _length(cls, values: Any) -> Any:
        # The default of max_steps is for those who say nothing about the length; it must not cut ten epochs short.
        if (
            isinstance(values, dict)
            and "max_steps" not in values
            and (values.get("max_epochs") or values.get("max_minutes"))
        ):
            return {**values, "max_steps": 0}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        if not (self.max_steps or self.max_epochs or self.max_minutes):
            problems.append("max_steps = 0 needs another end: give max_epochs or max_minutes")
        if self.gradient_accumulation_steps > self.batch_size:
            problems.append(
                f"gradient_accumulation_steps ({self.gradient_accumulation_steps}) must not exceed batch_size "
                f"({self.batch_size}): a piece needs a sequence"
            )
        if self.min_lr > self.learning_rate:
            problems.append(f"min_lr ({self.min_lr:g}) must not exceed learning_rate ({self.learning_rate:g})")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    @property
    def length(self) -> str:
        """How long the training is, in words: `5,000 steps`, `10 epochs or 480 min`."""
        limits = ((self.max_steps, "steps"), (self.max_epochs, "epochs"), (self.max_minutes, "min"))
        return " or ".join(
            f"{limit:,g} {unit}" if limit < 1e6 else f"{limit:,.0f} {unit}" for limit, unit in limits if limit
        )


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
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Choose among the likeliest tokens that together have this probability; 1 for all."""
    seed: int = Field(default=1, ge=0, lt=2**63)
    """Seed of the sampling."""


class DeviceConfig(Section):
    """Where and how the arithmetic is done."""

    type: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """The device; auto takes CUDA, then Apple's MPS, then the CPU."""
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    """Precision of the matrix products; auto: bf16 on GPUs that have it (capability 8.0 on), fp16 on older ones."""
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

        return tomli_w.dumps(self.model_dump(exclude={"run": {"dir"}}, exclude_none=True))


def is_json_value(value: Any) -> bool:
    """Whether a value that TOML can express exists in JSON too: dates do not, nor nan and inf."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int | list | dict | None)
