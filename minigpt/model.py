"""The GPT, to be read from top to bottom: layer norm, attention, feed-forward, block, and the whole model.

A decoder-only transformer in the shape of GPT-2 (Radford et al. 2019, "Language Models are Unsupervised Multitask
Learners"): token and position embeddings, blocks that normalise before each branch, a final norm, an output head.
The names of the parts are GPT-2's too, so that weights can go from here to other programs and back.

In the shape comments B is the batch, T the sequence, C the width (n_embd), H the heads, D = C / H, V the vocabulary.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minigpt.config import ModelConfig


class LayerNorm(nn.Module):
    """Layer normalisation over the last dimension (Ba et al. 2016), with an optional bias."""

    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, eps=1e-5)


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a token sees itself and what came before (Vaswani et al. 2017)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_head = config.n_head
        self.dropout = config.dropout
        # Query, key and value of all heads in one product.
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias_qkv)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias_proj)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape  # noqa: N806
        q, k, v = self.c_attn(x).split(C, dim=2)  # (B, T, 3C) -> 3 × (B, T, C)
        q = q.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)  # (B, H, T, D)
        k = k.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)  # (B, H, T, D)
        v = v.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)  # (B, H, T, D)
        # softmax(q kᵀ / √D + causal mask) v, fused: the (B, H, T, T) weights are never all in memory.
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout if self.training else 0.0, is_causal=True)
        y = y.transpose(1, 2).reshape(B, T, C)  # heads side by side again: (B, H, T, D) -> (B, T, C)
        return F.dropout(self.c_proj(y), self.dropout, self.training)


class MLP(nn.Module):
    """The feed-forward: each position by itself, widened fourfold, through a GELU (arXiv 1606.08415), and back."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.approximate = "tanh" if config.activation == "gelu_tanh" else "none"
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias_mlp)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias_mlp)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.c_fc(x), approximate=self.approximate)  # (B, T, C) -> (B, T, 4C)
        return F.dropout(self.c_proj(x), self.dropout, self.training)  # (B, T, 4C) -> (B, T, C)


class Block(nn.Module):
    """One layer: attention, then feed-forward, each read from the normalised stream and added back to it (pre-LN)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.ln_1 = LayerNorm(config.n_embd, config.bias_norm)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = LayerNorm(config.n_embd, config.bias_norm)
        self.mlp = MLP(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        x = x + self.mlp(self.ln_2(x))
        return x  # (B, T, C), as it came


class GPT(nn.Module):
    """The whole model: token ids in, logits over the next token out.

    The weights are drawn as GPT-2's were: normal with standard deviation 0.02, the projections that end a residual
    branch scaled down by √(2 · n_layer), so that the stream's variance does not grow with the depth; biases zero.
    """

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.wte = nn.Embedding(vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = LayerNorm(config.n_embd, config.bias_norm)
        self.lm_head = nn.Linear(config.n_embd, vocab_size, bias=config.bias_head)
        if config.tie_weights:
            self.lm_head.weight = self.wte.weight
        # On the meta device there is nothing to draw, and drawing would still advance the global generator.
        if not self.wte.weight.is_meta:
            self.init_weights()

    def init_weights(self) -> None:
        """Draw fresh weights from torch's global generator."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith("c_proj.weight"):
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.n_layer))
            elif parameter.dim() >= 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        """Map token ids (B, T), T at most block_size, to the logits of each next token (B, T, V)."""
        T = ids.shape[1]  # noqa: N806
        positions = torch.arange(T, device=ids.device)  # (T)
        x = self.wte(ids) + self.wpe(positions)  # (B, T, C) + (T, C) -> (B, T, C)
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.h:
            x = block(x)
        logits: Tensor = self.lm_head(self.ln_f(x))  # (B, T, C) -> (B, T, V)
        return logits

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats of the targets (B, T) that follow the ids (B, T)."""
        # In float32 whatever the products were in: a log-softmax in bf16 would lose the third decimal of the loss.
        return F.cross_entropy(self(ids).flatten(0, 1).float(), targets.flatten())


def count_parameters(config: ModelConfig, vocab_size: int) -> int:
    """How many parameters `GPT(config, vocab_size)` has, without making it; a tied head counts once."""
    C, V = config.n_embd, vocab_size  # noqa: N806
    norm = C * (1 + config.bias_norm)
    attention = 3 * C * (C + config.bias_qkv) + C * (C + config.bias_proj)
    mlp = 4 * C * (C + config.bias_mlp) + C * (4 * C + config.bias_mlp)
    head = 0 if config.tie_weights else V * (C + config.bias_head)
    return V * C + config.block_size * C + config.n_layer * (2 * norm + attention + mlp) + norm + head
