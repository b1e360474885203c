"""The GPT of minigpt/model.py once more, function by function, over tensors that have only a size; see shadow.py.

A change there needs one here; tests compare the parameters exactly and the memory with what torch allocates.
"""

from minigpt.config import ModelConfig
from minigpt.shadow import FLOAT32, HALF, Shadow, Storage, Tensor


def parameter_shapes(config: ModelConfig, vocab_size: int) -> dict[str, tuple[int, int]]:
    """Name and shape, as rows and columns, of each parameter of `GPT(config, vocab_size)`; vectors have one column."""
    C, F = config.n_embd, config.ffn_width  # noqa: N806
    shapes = {"wte.weight": (vocab_size, C)}

    def linear(name: str, outputs: int, inputs: int, bias: bool) -> None:
        shapes[f"{name}.weight"] = outputs, inputs
        if bias:
            shapes[f"{name}.bias"] = outputs, 1

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = C, 1
        if config.bias_norm:
            shapes[f"{name}.bias"] = C, 1

    if config.positions == "learned":
        shapes["wpe.weight"] = config.block_size, C
    for layer in range(config.n_layer):
        norm(f"h.{layer}.ln_1")
        linear(f"h.{layer}.attn.c_attn", 3 * C, C, config.bias_qkv)
        linear(f"h.{layer}.attn.c_proj", C, C, config.bias_proj)
        norm(f"h.{layer}.ln_2")
        linear(f"h.{layer}.mlp.c_fc", F, C, config.bias_mlp)
        if config.activation == "swiglu":
            linear(f"h.{layer}.mlp.c_gate", F, C, config.bias_mlp)
        linear(f"h.{layer}.mlp.c_proj", C, F, config.bias_mlp)
    if config.final_norm:
        norm("ln_f")
    if not config.tie_weights:
        linear("lm_head", vocab_size, C, config.bias_head)
    return shapes


class ShadowGPT:
    """The GPT over a shadow's operations: what a function's variables hold there is held here, too."""

    def __init__(self, config: ModelConfig, vocab_size: int, shadow: Shadow) -> None:
        self.config = config
        self.shadow = shadow
        self.shapes = parameter_shapes(config, vocab_size)
        self.weights = {name: shadow.weight(*shape) for name, shape in self.shapes.items()}

    def loss(self, sequences: int, context: int) -> None:
        shadow = self.shadow
        logits = self.forward(sequences, context)
        in_float32 = shadow.cast(logits, FLOAT32)
        log_softmax = shadow.elementwise(in_float32, saves="output")
        del in_float32
        mean = shadow.new(1, 1)
        size = log_softmax.numel * FLOAT32
        shadow.record([mean], [log_softmax], [log_softmax], lambda _: [shadow.memory(size)])

    def forward(self, sequences: int, context: int) -> Tensor:
        x = self.embed(sequences, context)
        for layer in range(self.config.n_layer):
            x = self.block(f"h.{layer}", x, sequences)
        head = "wte" if self.config.tie_weights else "lm_head"
        return self.linear(head, self.norm("ln_f", x) if self.config.final_norm else x)

    def embed(self, sequences: int, context: int) -> Tensor:
        shadow, config = self.shadow, self.config
        x = shadow.embedding(self.weights["wte.weight"], sequences * context)
        match config.positions:
            case "learned":
                x = shadow.add_rows(x, shadow.embedding(self.weights["wpe.weight"], context))
            case "sinusoidal":
                x = shadow.elementwise(x, saves="nothing")
                x = shadow.elementwise(x, saves="nothing")
        return shadow.dropout(x, config.dropout_on("embd"))

    def block(self, name: str, x: Tensor, sequences: int) -> Tensor:
        add = self.shadow.add
        match self.config.norm_placement:
            case "pre":
                x = add(x, self.attention(name, self.norm(f"{name}.ln_1", x), sequences))
                x = add(x, self.mlp(name, self.norm(f"{name}.ln_2", x)))
            case "post":
                x = self.norm(f"{name}.ln_1", add(x, self.attention(name, x, sequences)))
                x = self.norm(f"{name}.ln_2", add(x, self.mlp(name, x)))
            case "branch":
                x = add(x, self.norm(f"{name}.ln_1", self.attention(name, x, sequences)))
                x = add(x, self.norm(f"{name}.ln_2", self.mlp(name, x)))
        return x

    def attention(self, name: str, x: Tensor, sequences: int) -> Tensor:
        shadow, config = self.shadow, self.config
        q, k, v = shadow.split(self.linear(f"{name}.attn.c_attn", x), 3)
        if config.qk_norm:
            q, k = self.heads_norm(q), self.heads_norm(k)
        if config.positions == "rotary":
            q, k = self.rotate(q), self.rotate(k)
        p = config.dropout_on("attn") if shadow.training else 0.0
        if p and shadow.device_type != "cuda":
            y = self.plain_attention(q, k, v, p, sequences)
        else:
            y = self.fused_attention(q, k, v)
            if config.qk_norm or config.positions == "rotary":
                y = shadow.copy(y)
        return shadow.dropout(self.linear(f"{name}.attn.c_proj", y), config.dropout_on("resid"))

    def heads_norm(self, x: Tensor) -> Tensor:
        # Each head by itself: rows × heads rows of width D. The result is made contiguous.
        heads = Tensor(x.storage, x.rows * self.config.n_head, x.columns // self.config.n_head, x.width)
        heads.key = x.key
        out = self.shadow.rms_norm(heads, None)
        joined = Tensor(out.storage, x.rows, x.columns, out.width)
        joined.key = out.key
        return joined

    def rotate(self, x: Tensor) -> Tensor:
        # Two halves, each of two products and their sum, then both together; nothing but the angles is saved.
        shadow = self.shadow
        half = x.numel * x.width // 2
        _first = shadow.memory(half)
        _second, _products = shadow.memory(half), [shadow.memory(half), shadow.memory(half)]
        del _products
        out = shadow.new(x.rows, x.columns, x.width)

        def backward(gradients: list[Storage]) -> list[Storage]:
            parts = [shadow.memory(half) for _ in range(4)]
            gradients.clear()
            del parts[2:]
            return [shadow.memory(2 * half)]

        shadow.record([out], [x], [], backward)
        return out

    def fused_attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shadow = self.shadow
        if shadow.half:
            q, k, v = (shadow.cast(tensor, HALF) for tensor in (q, k, v))
        out = shadow.new(q.rows, q.columns, q.width)
        rows = q.rows * self.config.n_head
        log_sum_exp = shadow.new(rows, 1)
        numel, width = q.numel, q.width

        def backward(gradients: list[Storage]) -> list[Storage]:
            made = [shadow.memory(numel * width) for _ in range(3)]
            # The sums over rows, and on CUDA the gradient of the queries, which many blocks add to, in float32.
            shadow.memory(rows * FLOAT32 + (numel * FLOAT32 if shadow.device_type == "cuda" and shadow.half else 0))
            return made

        shadow.record([out], [q, k, v], [q, k, v, out, log_sum_exp], backward)
        return out

    def plain_attention(self, q: Tensor, k: Tensor, v: Tensor, p: float, sequences: int) -> Tensor:
        # Attention with dropout has a fused kernel on CUDA only: elsewhere the weights (B, H, T, T) are there in full.
        shadow, width = self.shadow, q.width
        q, k, v = (shadow.cast(tensor, FLOAT32) for tensor in (q, k, v))
        context = q.rows // sequences
        rows = q.rows * self.config.n_head
        scaled_q, scaled_k = shadow.copy(q), shadow.copy(k)
        ordered_q, ordered_k = shadow.copy(scaled_q), shadow.copy(scaled_k)
        scores = shadow.matmul(ordered_q, ordered_k, rows, context)
        del scaled_k, ordered_q, ordered_k
        weights = shadow.elementwise(scores, saves="output")
        del scores
        weights = shadow.dropout(weights, p)
        out = shadow.matmul(weights, shadow.copy(v), q.rows, q.columns)
        return shadow.copy(shadow.cast(out, width))

    def mlp(self, name: str, x: Tensor) -> Tensor:
        shadow = self.shadow
        h = self.linear(f"{name}.mlp.c_fc", x)
        match self.config.activation:
            case "gelu" | "gelu_tanh":
                h = shadow.elementwise(h, saves="input")
            case "relu":
                h = shadow.elementwise(h, saves="output")
            case "relu2":
                rectified = shadow.elementwise(h, saves="output")
                if shadow.half and shadow.device_type != "cpu":
                    rectified = shadow.cast(rectified, FLOAT32)
                h = shadow.elementwise(rectified, saves="input", temporaries=2)
                del rectified
            case "swiglu":
                h = shadow.product(shadow.elementwise(self.linear(f"{name}.mlp.c_gate", x), saves="input"), h)
        return shadow.dropout(self.linear(f"{name}.mlp.c_proj", h), self.config.dropout_on("resid"))

    def linear(self, name: str, x: Tensor) -> Tensor:
        return self.shadow.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        if self.config.norm == "rmsnorm":
            return self.shadow.rms_norm(x, weight)
        return self.shadow.layer_norm(x, weight, self.weights.get(f"{name}.bias"))
