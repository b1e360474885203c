"""Generation: the model continues a prompt, token by token."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from minigpt.errors import UserError
from minigpt.model import GPT
from minigpt.sampling import Sampling
from minigpt.tokenizer import Tokenizer


def generate(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    sampling: Sampling,
    cancelled: Callable[[], bool] = lambda: False,
) -> Iterator[str]:
    """Continue `prompt` and yield the text piece by piece, until the length is reached or `cancelled()` says so.

    The same weights, prompt and sampling give the same text. Raises UserError before the first piece if the prompt
    is empty or has characters outside the vocabulary.
    """
    ids = [int(token) for token in tokenizer.encode(prompt)]
    if not ids:
        raise UserError("the prompt is empty: type something for the model to continue")
    decoder = tokenizer.stream_decoder()
    for token in generate_ids(model, ids, sampling, cancelled):
        if piece := decoder.feed(token):
            yield piece
    if piece := decoder.finish():
        yield piece


def generate_ids(
    model: GPT, ids: list[int], sampling: Sampling, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[int]:
    """Continue token ids. Draws from a generator of its own: training's random numbers are never touched."""
    block_size = model.config.block_size
    device = model.wte.weight.device
    # Chosen on the CPU whatever the device, so that a seed means the same text everywhere.
    generator = torch.Generator().manual_seed(sampling.seed)
    window = ids[-block_size:]
    training = model.training
    model.eval()
    try:
        for _ in range(sampling.max_new_tokens):
            if cancelled():
                return
            if len(window) > block_size:
                # Dropping the oldest half at once, not one token each time, lets a key/value cache be kept meanwhile.
                window = window[-(block_size - block_size // 2) :]
            with torch.inference_mode():
                logits = model(torch.tensor([window], device=device))[0, -1]  # (1, T, V) -> (V)
            token = choose_token(logits.float().cpu(), sampling, generator)
            window.append(token)
            yield token
    finally:
        model.train(training)


def choose_token(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """Choose the next token from its logits (V)."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < len(logits):
        values, candidates = logits.topk(sampling.top_k)
        return int(candidates[torch.multinomial(values.softmax(0), 1, generator=generator)])
    return int(torch.multinomial(logits.softmax(0), 1, generator=generator))
