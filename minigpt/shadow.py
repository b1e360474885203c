"""The shadow of a model: its operations over tensors that have a size and nothing else, to learn what memory they take.

Memory in eager mode is decided by when each tensor is made and dropped: what autograd saves for the backward pass, what
autocast casts, what the variables of a function still hold. Formulas for the sum are wrong as soon as one choice
changes. So the forward pass is walked function by function, with a tape that saves what torch saves; Python's reference
counting drops the rest at the same moments as in torch; the tape is walked back as autograd does; and a ledger keeps
the highest sum. That takes milliseconds and needs no torch.

What the operations save was read from the allocations of torch 2.13 on the CPU, as its profiler reports them, and for
CUDA from what its kernels are known to return and save. `minigpt/estimate.py` has the GPT that is made of them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

Kind = Literal["weights", "gradients", "optimizer", "average", "activations"]

FLOAT32 = 4  # bytes
HALF = 2  # bf16 and fp16
INT64 = 8


class Ledger:
    """What is allocated now, by kind, and what it was when it was most; in bytes."""

    def __init__(self) -> None:
        self.phase = ""
        """What is going on, in words for the user; the peak is noted with it."""
        self.now: Counter[Kind] = Counter()
        self.total = 0
        self.peak = 0
        self.at_peak: Counter[Kind] = Counter()
        self.peak_phase = ""

    def add(self, kind: Kind, size: int) -> None:
        """Account for an allocation or, with a negative size, for its end."""
        self.now[kind] += size
        self.total += size
        if self.total > self.peak:
            self.peak, self.at_peak, self.peak_phase = self.total, self.now.copy(), self.phase


class Storage:
    """Memory that is on the ledger for as long as somebody refers to it."""

    __slots__ = ("kind", "ledger", "size")

    def __init__(self, ledger: Ledger, size: int, kind: Kind = "activations") -> None:
        self.ledger, self.size, self.kind = ledger, size, kind
        ledger.add(kind, size)

    def __del__(self) -> None:
        self.ledger.add(self.kind, -self.size)

    def become(self, kind: Kind) -> None:
        """Count as another kind from now on."""
        self.ledger.add(self.kind, -self.size)
        self.kind = kind
        self.ledger.add(kind, self.size)


_keys = count()


class Tensor:
    """A tensor without values: its shape as rows × columns, bytes per element, and the memory it lies in."""

    __slots__ = ("columns", "key", "rows", "storage", "width")

    def __init__(self, storage: Storage, rows: int, columns: int, width: int) -> None:
        self.storage, self.rows, self.columns, self.width = storage, rows, columns, width
        self.key = next(_keys)
        """By this its gradient is found, so that the tape need not hold what torch does not save."""

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return self.rows * self.columns


Backward = Callable[[list[Storage]], Sequence[Storage]]
"""From the gradients of the outputs, which it may drop by clearing the list, to those of the inputs."""


@dataclass(slots=True)
class _Node:
    # One operation on the tape; of its tensors it holds only the saved ones.
    outputs: tuple[int, ...]
    inputs: tuple[int, ...]
    saved: tuple[Tensor, ...]
    backward: Backward


class Shadow:
    """The operations, on one device and in one precision.

    `half` is autocast to bf16 or fp16. Without `training` nothing is saved and dropout does nothing.
    """

    def __init__(self, ledger: Ledger, device_type: str, *, half: bool, training: bool) -> None:
        self.ledger = ledger
        self.device_type = device_type
        self.half = half
        self.training = training
        self.weights_are_learned = True
        """Autocast keeps the casted copies of learned weights only; those of an average are made anew each time."""
        self._tape: list[_Node] = []
        self._casts: dict[int, Tensor] = {}
        self._weights: set[int] = set()
        self._gradients: dict[int, Storage] = {}

    # ── memory and autograd ───────────────────────────────────────────────────────────────────────────────────

    def new(self, rows: int, columns: int, width: int = FLOAT32) -> Tensor:
        """A fresh tensor."""
        return Tensor(self.memory(rows * columns * width), rows, columns, width)

    def memory(self, size: int) -> Storage:
        """Memory of `size` bytes that is no tensor of the tape: a gradient or a temporary."""
        return Storage(self.ledger, size)

    def weight(self, rows: int, columns: int) -> Tensor:
        """A parameter in float32."""
        weight = Tensor(Storage(self.ledger, rows * columns * FLOAT32, "weights"), rows, columns, FLOAT32)
        self._weights.add(weight.key)
        return weight

    def record(
        self, outputs: Sequence[Tensor], inputs: Sequence[Tensor], saved: Sequence[Tensor], backward: Backward
    ) -> None:
        """Put an operation on the tape."""
        if self.training:
            keys = tuple(tensor.key for tensor in outputs), tuple(tensor.key for tensor in inputs)
            self._tape.append(_Node(*keys, tuple(saved), backward))

    def leave_autocast(self) -> None:
        """Drop the casted weights; those that the backward pass needs are still on the tape."""
        self._casts.clear()

    def backward(self) -> None:
        """Walk the tape back, dropping it on the way. The gradients of the weights stay and are added up."""
        pending = {self._tape[-1].outputs[0]: self.memory(FLOAT32)}
        uses = Counter(key for node in self._tape for key in node.inputs if key in self._weights)
        while self._tape:
            node = self._tape.pop()
            gradients = list(node.backward([pending.pop(key) for key in node.outputs]))
            for key in reversed(node.inputs):
                gradient = gradients.pop()
                if key in self._weights:
                    uses[key] -= 1
                    # The two gradients of a tied table are added into a third; the sum goes to those of other
                    # micro-batches in place. Activations used twice get theirs summed in place, too.
                    if key in pending:
                        gradient = self.memory(gradient.size)
                    if uses[key] == 0:
                        pending.pop(key, None)
                        if key not in self._gradients:
                            gradient.become("gradients")
                            self._gradients[key] = gradient
                        continue
                pending.setdefault(key, gradient)
            gradient = None  # type: ignore[assignment]  # a name that outlives the loop would hold memory

    def zero_gradients(self) -> None:
        """Drop the gradients of the weights, as `zero_grad(set_to_none=True)` does."""
        self._gradients.clear()

    # ── operations ────────────────────────────────────────────────────────────────────────────────────────────

    def cast(self, x: Tensor, width: int) -> Tensor:
        """To another precision. A weight is cast once and kept until autocast is left."""
        if x.width == width:
            return x
        if x.key in self._casts:
            return self._casts[x.key]
        out = self.new(x.rows, x.columns, width)
        size = x.storage.size if x.key in self._weights else x.numel * x.width
        self.record([out], [x], [], lambda _: [self.memory(size)])
        if x.key in self._weights and self.weights_are_learned:
            self._casts[x.key] = out
        return out

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(N, in) by a weight (out, in) -> (N, out). Both factors are saved."""
        if self.half:
            weight, x = self.cast(weight, HALF), self.cast(x, HALF)
            bias = bias and self.cast(bias, HALF)
        out = self.new(x.rows, weight.rows, x.width)
        sizes = [tensor.numel * tensor.width for tensor in (x, weight, bias) if tensor]
        repacked = self._repacked(out, x)

        def backward(gradients: list[Storage]) -> list[Storage]:
            made = [self.memory(size) for size in sizes]
            self.memory(repacked)
            return made

        self.record([out], [tensor for tensor in (x, weight, bias) if tensor], [x, weight], backward)
        return out

    def _repacked(self, gradient: Tensor, x: Tensor) -> int:
        # For half precision on the CPU oneDNN copies both factors of a weight's gradient into an order of its own.
        return (gradient.numel + x.numel) * HALF if self.half and self.device_type == "cpu" else 0

    def embedding(self, table: Tensor, rows: int) -> Tensor:
        """Rows of a table. Its gradient is dense, however few rows were used."""
        out = self.new(rows, table.columns)
        size = table.numel * FLOAT32
        self.record([out], [table], [], lambda _: [self.memory(size)])
        return out

    def add_rows(self, x: Tensor, short: Tensor) -> Tensor:
        """x (N, C) plus something that is the same for each sequence of the batch (T, C)."""
        out = self.new(x.rows, x.columns, x.width)
        size = short.numel * short.width
        self.record([out], [x, short], [], lambda gradients: [gradients[0], self.memory(size)])
        return out

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """The residual sum: the gradient goes to both as it is."""
        if branch.width != x.width and self.device_type == "cpu":
            _converted = self.memory(branch.numel * x.width)
        out = self.new(x.rows, x.columns, max(x.width, branch.width))
        narrow = [None if t.width == out.width else t.numel * t.width for t in (x, branch)]
        self.record(
            [out],
            [x, branch],
            [],
            lambda gradients: [gradients[0] if size is None else self.memory(size) for size in narrow],
        )
        return out

    def elementwise(self, x: Tensor, *, saves: Literal["input", "output", "nothing"], temporaries: int = 0) -> Tensor:
        """A function of each element. `temporaries` are what its derivative needs besides the result."""
        out = self.new(x.rows, x.columns, x.width)
        size = x.numel * x.width

        def backward(gradients: list[Storage]) -> list[Storage]:
            made = [self.memory(size) for _ in range(temporaries + 1)]
            return made[:1]

        self.record([out], [x], {"input": [x], "output": [out], "nothing": []}[saves], backward)
        return out

    def product(self, x: Tensor, y: Tensor) -> Tensor:
        """Element by element; saves both."""
        out = self.new(x.rows, x.columns, x.width)
        size = x.numel * x.width
        self.record([out], [x, y], [x, y], lambda _: [self.memory(size), self.memory(size)])
        return out

    def dropout(self, x: Tensor, p: float) -> Tensor:
        """Saves which elements stay: a byte each on CUDA, their factors in full precision elsewhere."""
        if p == 0 or not self.training:
            return x
        noise = self.new(x.rows, x.columns, 1 if self.device_type == "cuda" else x.width)
        out = self.new(x.rows, x.columns, x.width)
        size = x.numel * x.width
        self.record([out], [x], [noise], lambda _: [self.memory(size)])
        return out

    def layer_norm(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Saves its input, and mean and deviation of each row."""
        if self.half and self.device_type != "cpu":
            x = self.cast(x, FLOAT32)
        out = self.new(x.rows, x.columns, x.width)
        statistics = self.new(x.rows, 2)
        sizes = [tensor.numel * tensor.width for tensor in (x, weight, bias) if tensor]
        inputs = [tensor for tensor in (x, weight, bias) if tensor]
        self.record([out], inputs, [x, statistics], lambda _: [self.memory(size) for size in sizes])
        return out

    def rms_norm(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """One kernel on CUDA; a handful of operations elsewhere, each of which saves what it needs."""
        if self.device_type == "cuda":
            x = self.cast(x, FLOAT32) if self.half else x
            out = self.new(x.rows, x.columns, x.width)
            statistics = self.new(x.rows, 1)
            sizes = [tensor.numel * tensor.width for tensor in (x, weight) if tensor]
            inputs = [tensor for tensor in (x, weight) if tensor]
            self.record([out], inputs, [x, statistics], lambda _: [self.memory(size) for size in sizes])
            return out
        narrow, x = x.width, self.cast(x, FLOAT32)
        self.memory(x.numel * FLOAT32)  # the squares
        statistics = self.new(x.rows, 1)
        out = self.elementwise(x, saves="input", temporaries=4)  # x / √(mean of squares)
        if weight:
            scaled = self.new(x.rows, x.columns)
            size, own = x.numel * FLOAT32, weight.numel * FLOAT32

            def backward(gradients: list[Storage]) -> list[Storage]:
                made = [self.memory(size), self.memory(own)]
                self.memory(size)  # the products that are summed over the rows for the weight
                return made

            self.record([scaled], [out, weight], [out, statistics], backward)
            out = scaled
        return self.cast(out, narrow)

    def split(self, x: Tensor, parts: int) -> list[Tensor]:
        """Views of equal columns; their gradients are put together again in a copy."""
        views = [Tensor(x.storage, x.rows, x.columns // parts, x.width) for _ in range(parts)]
        size = x.numel * x.width
        self.record(views, [x], [], lambda _: [self.memory(size)])
        return views

    def copy(self, x: Tensor) -> Tensor:
        """The same in another order of memory."""
        return self.elementwise(x, saves="nothing")

    def matmul(self, a: Tensor, b: Tensor, rows: int, columns: int) -> Tensor:
        """Products of activations; saves both."""
        out = self.new(rows, columns, a.width)
        sizes = [tensor.numel * tensor.width for tensor in (a, b)]
        self.record([out], [a, b], [a, b], lambda _: [self.memory(size) for size in sizes])
        return out
