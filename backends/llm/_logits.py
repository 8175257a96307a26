"""Logits at chosen positions of a batch, and nowhere else: with a small model the vocabulary is a third of the work."""

from collections.abc import Mapping
from typing import Any


def logits_at(model: Any, inputs: Mapping[str, Any], rows: Any, columns: Any) -> Any:
    """Float32 logits, shape (n, vocabulary), that the model gives after ``inputs[rows[k], columns[k]]``.

    ``rows`` and ``columns`` are index tensors of length n. The output layer sees only these positions, so that what a
    model does with its logits afterwards (scaling, capping) is done to them as always.
    """
    head = model.get_output_embeddings()
    hook = (
        head.register_forward_pre_hook(lambda _, given: (given[0][rows, columns][None], *given[1:])) if head else None
    )
    try:
        logits = model(**inputs).logits
    finally:
        if hook is not None:
            hook.remove()
    if logits.shape[:2] != (1, len(rows)):  # the model does not call its output layer as a module
        logits = logits[rows, columns][None]
    return logits[0].float()


def logprobs_of(logits: Any, targets: Any) -> Any:
    """Log-probability (nats), shape (n,), of ``targets[k]`` under ``logits[k]``."""
    return logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(-1)
