"""The GPT, to be read from top to bottom: norms, positions, attention, feed-forward, block, and the whole model.

A decoder-only transformer. Without further words it is GPT-2 (Radford et al. 2019, "Language Models are Unsupervised
Multitask Learners"): token and position embeddings, blocks that normalise before each branch, a final norm, an output
head. What can be chosen otherwise is chosen in one place each: the norm in `build_norm`, where norms stand in
`Block.forward`, positions in `GPT.embed` and `rotate`, the nonlinearity in `MLP.forward`. The names of the parts are
GPT-2's, so that weights can go from here to other programs and back.

In the shape comments B is the batch, T the sequence, C the width (n_embd), H the heads, D = C / H, F the width of the
feed-forward, V the vocabulary, and L the length of a key/value cache.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.config import ModelConfig

# ── norms ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class LayerNorm(nn.Module):
    """Layer normalisation over the last dimension (Ba et al. 2016), with an optional bias."""

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, eps=1e-5)


class RMSNorm(nn.Module):
    """Division by the root mean square of the last dimension, and a learned scale (Zhang and Sennrich 2019)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        # A branch comes in half precision; weights of another precision than x would take the slow way, with a warning.
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), eps=1e-5)


def build_norm(config: ModelConfig) -> nn.Module:
    """A norm over the stream, of the configured kind."""
    return RMSNorm(config.n_embd) if config.norm == "rmsnorm" else LayerNorm(config.n_embd, config.bias_norm)


# ── positions ─────────────────────────────────────────────────────────────────────────────────────────────────────


def angles(positions: Tensor, width: int) -> Tensor:
    """The angles p / 10000^(2i / width) of positions p (T) in `width` / 2 frequencies i: (T, width / 2)."""
    # Worked out each time: a buffer would have to be moved, saved or left out with the weights, and these are few.
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width  # (width / 2)
    return positions.float()[:, None] * 10000.0**-exponents  # (T, 1) × (width / 2) -> (T, width / 2)


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Fixed position embeddings: a sine and a cosine of each frequency (Vaswani et al. 2017): (T) -> (T, width)."""
    turned = angles(positions, width)
    return torch.stack((turned.sin(), turned.cos()), dim=-1).flatten(-2)  # (T, width / 2, 2) -> (T, width)


def rotate(x: Tensor, turned: Tensor) -> Tensor:
    """Rotary positions (RoPE; Su et al. 2021): turn each pair of x (B, H, T, D) by its angle (T, D / 2).

    The product of a query and a key, both turned, depends on the distance of their positions only.
    """
    cos, sin = turned.cos().to(x.dtype), turned.sin().to(x.dtype)  # (T, D / 2)
    first, second = x.chunk(2, dim=-1)  # component i makes a pair with i + D / 2
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


# ── attention ─────────────────────────────────────────────────────────────────────────────────────────────────────


class KVCache:
    """Keys and values of the tokens that a model has seen, so that the next token alone has to be computed.

    `length` tokens are in it, of the `size` that it has room for.
    """

    def __init__(self, config: ModelConfig, size: int, *, batch_size: int = 1, like: Tensor | None = None) -> None:
        shape = (config.n_layer, 2, batch_size, config.n_head, size, config.n_embd // config.n_head)
        # Device and precision are those of `like`, such as a weight of the model.
        self.tensor = torch.zeros(shape) if like is None else like.new_zeros(shape)  # (n_layer, 2, B, H, L, D)
        self.size = size
        self.length = 0

    def put(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add the keys and values of T new tokens to one layer; returns those of all tokens, (B, H, length + T, D)."""
        end = self.length + k.shape[2]
        self.tensor[layer, 0, :, :, self.length : end] = k
        self.tensor[layer, 1, :, :, self.length : end] = v
        return self.tensor[layer, 0, :, :, :end], self.tensor[layer, 1, :, :, :end]


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a token sees itself and what came before (Vaswani et al. 2017)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_head = config.n_head
        self.qk_norm = config.qk_norm
        self.dropout_attn = config.dropout_on("attn")
        self.dropout_resid = config.dropout_on("resid")
        # Query, key and value of all heads in one product.
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias_qkv)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias_proj)

    def forward(self, x: Tensor, turned: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        B, T, C = x.shape  # noqa: N806
        D = C // self.n_head  # noqa: N806
        q, k, v = self.c_attn(x).split(C, dim=2)  # (B, T, 3C) -> 3 × (B, T, C)
        q = q.view(B, T, self.n_head, D).transpose(1, 2)  # (B, H, T, D)
        k = k.view(B, T, self.n_head, D).transpose(1, 2)  # (B, H, T, D)
        v = v.view(B, T, self.n_head, D).transpose(1, 2)  # (B, H, T, D)
        if self.qk_norm:  # Henry et al. 2020, in the form without weights
            q, k = F.rms_norm(q, (D,), eps=1e-5), F.rms_norm(k, (D,), eps=1e-5)
        if turned is not None:
            q, k = rotate(q, turned), rotate(k, turned)
        mask = None
        if cache is not None:
            k, v = cache.put(self.layer, k, v)  # (B, H, length + T, D)
            if 1 < T < k.shape[2]:  # several new tokens after old ones: each sees the old, and the new up to itself
                mask = torch.ones(T, k.shape[2], dtype=torch.bool, device=x.device).tril(k.shape[2] - T)
        # softmax(q kᵀ / √D + causal mask) v, fused: the (B, H, T, T) weights are never all in memory.
        y = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=mask,
            dropout_p=self.dropout_attn if self.training else 0.0,
            is_causal=k.shape[2] == T,
        )
        y = y.transpose(1, 2).reshape(B, T, C)  # heads side by side again: (B, H, T, D) -> (B, T, C)
        return F.dropout(self.c_proj(y), self.dropout_resid, self.training)


# ── feed-forward, block, model ────────────────────────────────────────────────────────────────────────────────────


class MLP(nn.Module):
    """The feed-forward: each position by itself, widened, through a nonlinearity, and back."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.activation = config.activation
        self.dropout = config.dropout_on("resid")
        self.c_fc = nn.Linear(config.n_embd, config.ffn_width, bias=config.bias_mlp)
        if config.activation == "swiglu":
            self.c_gate = nn.Linear(config.n_embd, config.ffn_width, bias=config.bias_mlp)
        self.c_proj = nn.Linear(config.ffn_width, config.n_embd, bias=config.bias_mlp)

    def forward(self, x: Tensor) -> Tensor:
        h = self.c_fc(x)  # (B, T, C) -> (B, T, F)
        match self.activation:
            case "gelu":  # Hendrycks and Gimpel 2016
                h = F.gelu(h)
            case "gelu_tanh":
                h = F.gelu(h, approximate="tanh")
            case "relu":
                h = F.relu(h)
            case "relu2":  # So et al. 2021
                h = F.relu(h).square()
            case "swiglu":  # Shazeer 2020
                h = F.silu(self.c_gate(x)) * h
        return F.dropout(self.c_proj(h), self.dropout, self.training)  # (B, T, F) -> (B, T, C)


class Block(nn.Module):
    """One layer: attention, then feed-forward, each added to the stream that runs through all layers."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.norm_placement = config.norm_placement
        self.ln_1 = build_norm(config)
        self.attn = CausalSelfAttention(config, layer)
        self.ln_2 = build_norm(config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, turned: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        match self.norm_placement:
            case "pre":  # what a branch reads is normalised, the stream itself never: GPT-2
                x = x + self.attn(self.ln_1(x), turned, cache)
                x = x + self.mlp(self.ln_2(x))
            case "post":  # the stream is normalised after each sum: the transformer of 2017
                x = self.ln_1(x + self.attn(x, turned, cache))
                x = self.ln_2(x + self.mlp(x))
            case "branch":  # what a branch adds is normalised, after its dropout
                x = x + self.ln_1(self.attn(x, turned, cache))
                x = x + self.ln_2(self.mlp(x))
        return x  # (B, T, C), as it came


class GPT(nn.Module):
    """The whole model: token ids in, logits over the next token out.

    The weights are drawn as GPT-2's were: normal with standard deviation 0.02, the projections that end a residual
    branch scaled down by √(2 · n_layer), so that the stream's variance does not grow with the depth; biases zero.
    With norms on the branch and an untied head the embeddings have standard deviation 1.
    """

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.wte = nn.Embedding(vocab_size, config.n_embd)
        if config.positions == "learned":
            self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.ln_f = build_norm(config) if config.final_norm else nn.Identity()
        self.lm_head = nn.Linear(config.n_embd, vocab_size, bias=config.bias_head)
        if config.tie_weights:
            self.lm_head.weight = self.wte.weight
        # On the meta device there is nothing to draw, and drawing would still advance the global generator.
        if not self.wte.weight.is_meta:
            self.init_weights()

    def init_weights(self) -> None:
        """Draw fresh weights from torch's global generator."""
        # Norms on the branch add terms of size one, in which embeddings of 0.02 drown: it learned nothing but the
        # frequencies for hundreds of steps. A tied head must have them small all the same, or its first loss is high.
        large_embeddings = self.config.norm_placement == "branch" and not self.config.tie_weights
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif large_embeddings and name in {"wte.weight", "wpe.weight"}:
                nn.init.normal_(parameter, std=1.0)
            elif name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.n_layer))
            elif parameter.dim() >= 2:
                nn.init.normal_(parameter, std=0.02)

    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Vectors of tokens (B, T) at positions (T): (B, T, C)."""
        x: Tensor = self.wte(ids)  # (B, T) -> (B, T, C)
        match self.config.positions:
            case "learned":
                x = x + self.wpe(positions)  # (B, T, C) + (T, C)
            case "sinusoidal":  # the sines are as large as 1: without the factor the tokens would drown (2017, 3.4)
                x = x * math.sqrt(self.config.n_embd) + sinusoids(positions, self.config.n_embd)
            case "rotary":
                pass  # queries and keys are turned instead, in each layer
        return F.dropout(x, self.config.dropout_on("embd"), self.training)

    def forward(self, ids: Tensor, cache: KVCache | None = None) -> Tensor:
        """Map token ids (B, T) to the logits of each next token (B, T, V); T is at most block_size.

        With a cache the ids go on from the tokens that are in it, at most block_size in all, and are added to it.
        """
        start = 0 if cache is None else cache.length
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)  # (T)
        x = self.embed(ids, positions)
        turned = None
        if self.config.positions == "rotary":
            turned = angles(positions, self.config.n_embd // self.config.n_head)  # (T, D / 2)
        for block in self.h:
            x = block(x, turned, cache)
        if cache is not None:
            cache.length += ids.shape[1]
        logits: Tensor = self.lm_head(self.ln_f(x))  # (B, T, C) -> (B, T, V)
        return logits

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats of the targets (B, T) that follow the ids (B, T)."""
        # In float32 whatever the products were in: a log-softmax in bf16 would lose the third decimal of the loss.
        logits = self(ids).flatten(0, 1)
        return F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), targets.flatten())


def count_parameters(config: ModelConfig, vocab_size: int) -> int:
    """How many parameters `GPT(config, vocab_size)` has, without making it; a tied head counts once."""
    C, F_, V = config.n_embd, config.ffn_width, vocab_size  # noqa: N806
    norm = C * (1 + config.bias_norm)
    attention = 3 * C * (C + config.bias_qkv) + C * (C + config.bias_proj)
    widening = 2 if config.activation == "swiglu" else 1
    mlp = widening * F_ * (C + config.bias_mlp) + C * (F_ + config.bias_mlp)
    positions = config.block_size * C if config.positions == "learned" else 0
    head = 0 if config.tie_weights else V * (C + config.bias_head)
    return V * C + positions + config.n_layer * (2 * norm + attention + mlp) + config.final_norm * norm + head
