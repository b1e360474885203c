"""Generation: the model continues a prompt, token by token."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

import torch
from torch import Tensor

from minigpt.errors import UserError
from minigpt.model import GPT, KVCache
from minigpt.sampling import Sampling, choose
from minigpt.tokenizer import Tokenizer


def generate(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    sampling: Sampling,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[str]:
    """Continue `prompt` and yield the text piece by piece, until the length or the stop string is reached.

    `cancelled()` ends it after the present token. The same weights, prompt and sampling give the same text. Raises
    UserError before the first piece if the prompt is empty or has characters outside the vocabulary.
    """
    ids = [int(token) for token in tokenizer.encode(prompt)]
    if not ids:
        raise UserError("the prompt is empty: type something for the model to continue")
    with closing(generate_ids(model, ids, sampling, cancelled)) as tokens:
        yield from before_stop(_texts(tokens, tokenizer), sampling.stop)


def _texts(tokens: Iterator[int], tokenizer: Tokenizer) -> Iterator[str]:
    decoder = tokenizer.stream_decoder()
    for token in tokens:
        if piece := decoder.feed(token):
            yield piece
    if piece := decoder.finish():
        yield piece


def before_stop(pieces: Iterator[str], stop: str) -> Iterator[str]:
    """The text of `pieces` up to the first `stop`, which may be spread over several of them.

    What may still turn out to be its beginning is held back.
    """
    if not stop:
        yield from pieces
        return
    held = ""
    for piece in pieces:
        held += piece
        end = held.find(stop)
        if end >= 0:
            if end:
                yield held[:end]
            return
        kept = next(
            size for size in range(min(len(stop) - 1, len(held)), -1, -1) if stop.startswith(held[len(held) - size :])
        )
        if text := held[: len(held) - kept]:
            yield text
        held = held[len(held) - kept :]
    if held:
        yield held


def generate_ids(
    model: GPT,
    ids: list[int],
    sampling: Sampling,
    cancelled: Callable[[], bool] = lambda: False,
    *,
    use_cache: bool = True,
) -> Generator[int]:
    """Continue token ids. Draws from a generator of its own: training's random numbers are never touched."""
    # Chosen on the CPU whatever the device, so that a seed means the same text everywhere.
    generator = torch.Generator().manual_seed(sampling.seed)
    seen = torch.zeros(model.vocab_size, dtype=torch.bool)
    seen[ids] = True
    training = model.training
    model.eval()
    try:
        context = Context(model, ids, sampling.max_new_tokens, use_cache=use_cache)
        for _ in range(sampling.max_new_tokens):
            if cancelled():
                return
            token = choose(context.next_logits(), sampling, generator, seen)
            context.append(token)
            seen[token] = True
            yield token
    finally:
        model.train(training)


class Context:
    """The newest tokens of a text, as many as the model can look back on.

    When they are more, the oldest half of them goes at once and the rest is computed anew. That rule lets a key/value
    cache be kept in between (positions count from the first token there is), and the text is the same without one.
    """

    def __init__(self, model: GPT, ids: list[int], new_tokens: int, *, use_cache: bool = True) -> None:
        self._model = model
        self._ids = ids[-model.config.block_size :]
        self._cache: KVCache | None = None
        if use_cache:
            size = min(model.config.block_size, len(self._ids) + new_tokens)
            self._cache = KVCache(model.config, size, like=model.wte.weight)

    def append(self, token: int) -> None:
        """Add a token; the oldest half goes if there is no room for it."""
        block_size = self._model.config.block_size
        self._ids.append(token)
        if len(self._ids) > block_size:
            self._ids = self._ids[-(block_size - block_size // 2) :]
            if self._cache is not None:
                self._cache.length = 0

    @torch.inference_mode()
    def next_logits(self) -> Tensor:
        """The logits of the token that comes next, (V), float32, on the CPU."""
        known = 0 if self._cache is None else self._cache.length
        new = torch.tensor([self._ids[known:]], device=self._model.wte.weight.device)
        logits: Tensor = self._model(new, self._cache)[0, -1]  # (1, T, V) -> (V)
        return logits.float().cpu()


def random_start(tokenizer: Tokenizer, seed: int) -> str:
    """A token of the vocabulary to begin a text with, drawn by the seed; one that can be seen, if there is any."""
    order = torch.randperm(tokenizer.vocab_size, generator=torch.Generator().manual_seed(seed)).tolist()
    texts = (tokenizer.decode([token]) for token in order)
    # A token may be half of a UTF-8 character, which no text can begin with.
    whole = (text for text in texts if text and "\ufffd" not in text)
    spare = ""
    for text in whole:
        if text.isprintable() and not text.isspace():
            return text
        spare = spare or text
    return spare or "\n"
