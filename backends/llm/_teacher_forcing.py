"""Log-probabilities of given tokens in one forward pass per batch: right padding, so that nothing leaks into a row."""

from collections.abc import Callable, Sequence
from typing import Any

#: Logits held at once; bounds memory whatever the vocabulary.
_MAX_LOGITS = 100_000_000


def completion_logprobs(
    model: Any,
    pairs: Sequence[tuple[list[int], list[int]]],
    *,
    pad: int,
    batch_size: int,
    told: Callable[[int, list[float]], None] = lambda i, row: None,
) -> list[list[float]]:
    """Nats of each completion token given the prompt and the tokens before it, for (prompt ids, completion ids).

    Prompts are not empty, and prompt and completion together fit the context. Batches hold rows of similar length;
    ``told`` gets each row, by its place, when its batch is through.
    """
    import torch

    scores: list[list[float]] = [[] for _ in pairs]
    order = sorted((i for i in range(len(pairs)) if pairs[i][1]), key=lambda i: -sum(map(len, pairs[i])))
    vocabulary = int(model.config.get_text_config().vocab_size)
    with torch.inference_mode():
        while order:
            longest = sum(map(len, pairs[order[0]]))
            fits = max(1, min(batch_size, _MAX_LOGITS // (longest * vocabulary)))
            batch, order = order[:fits], order[fits:]
            for i, row in zip(batch, _forward(model, [pairs[i] for i in batch], pad), strict=True):
                scores[i] = row
                told(i, row)
    return scores


def _forward(model: Any, pairs: Sequence[tuple[list[int], list[int]]], pad: int) -> list[list[float]]:
    import torch

    rows = [prompt + completion for prompt, completion in pairs]
    width = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=model.device)
    first = min(len(prompt) for prompt, _ in pairs) - 1  # the position whose logits speak about the earliest token
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=width - first).logits.float()
    targets = ids[:, first + 1 :]
    ahead = logits[:, :-1]
    scored = ahead.gather(2, targets[:, :, None])[:, :, 0] - ahead.logsumexp(-1)
    return [
        scored[i, len(prompt) - 1 - first : len(prompt) + len(completion) - 1 - first].tolist()
        for i, (prompt, completion) in enumerate(pairs)
    ]
