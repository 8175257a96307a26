"""Tokens per second of scoring given answers, against a plain loop of transformers, and the share that is padding.

Both score the answers of shipped rows under sprout, with one thread, end of turn included; the loop sends one conversation
after another through the model and takes the log-softmax of everything. Rounds alternate, the best of each counts, and the
sums of both are compared. Padding is counted over the batches that were really sent.

    python -m benchmarks.scoring --rows 1000
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from backends.llm import _teacher_forcing
from backends.llm.transformers import Transformers
from backends.protocols import ScoreRequest, Turn
from methods.asking.prompts import question

SHIPPED = Path(__file__).resolve().parent.parent / "recipes" / "data" / "permissive_instructions.jsonl"


def main() -> None:
    import torch

    args = _arguments()
    engine = Transformers(model="sprout", threads=1).open()
    requests = [
        ScoreRequest(row["output"], (Turn("user", question(row["instruction"], row["input"] or "")),))
        for row in pl.read_ndjson(SHIPPED).to_dicts()[: args.rows]
    ]
    ours, theirs = [], []
    with torch.inference_mode():
        engine.logprobs(requests[:32])
        plain_loop(engine, requests[:8])
        for _ in range(args.rounds):
            start = time.perf_counter()
            batched = engine.logprobs(requests)
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            single = plain_loop(engine, requests)
            theirs.append(time.perf_counter() - start)
    sums = np.array([one.sum_logprob for one in batched])
    apart = float(np.abs(sums - single).max())
    read, padded = padding(engine, requests)
    scored = sum(one.n_tokens for one in batched)
    print(f"{len(requests)} rows, {read} tokens read, {scored} of them scored; one thread")
    print(f"batched: {read / min(ours):9,.0f} tokens/s ({min(ours):.2f} s)")
    print(f"loop:    {read / min(theirs):9,.0f} tokens/s ({min(theirs):.2f} s); ratio {min(theirs) / min(ours):.2f}")
    print(
        f"padding: {padded / (read + padded):.1%} of what the model computed; largest difference of a sum {apart:.4f} nats"
    )


def plain_loop(engine: Any, requests: list[ScoreRequest]) -> np.ndarray:
    """Sum of the log-probabilities of each answer, one forward pass per conversation."""
    import torch

    sums: list[float] = []
    with engine._threads():
        for request in requests:
            prompt, answer = engine._tokens.opening(request.messages), engine._tokens.completion(request.completion)
            answer = answer[: engine._context - len(prompt)]
            ids = torch.tensor([prompt + answer])
            logprobs = torch.log_softmax(engine.model(input_ids=ids).logits[0].float(), dim=-1)
            at = torch.arange(len(prompt), len(prompt) + len(answer))
            sums.append(float(logprobs[at - 1, ids[0, at]].sum()))
    return np.array(sums)


def padding(engine: Any, requests: list[ScoreRequest]) -> tuple[int, int]:
    """Tokens of the conversations and tokens that only filled up batches, from the batches themselves."""
    read = filled = 0
    forward = _teacher_forcing._forward

    def counting(model: Any, pairs: Any, pad: int) -> Any:
        nonlocal read, filled
        lengths = [len(prompt) + len(answer) for prompt, answer in pairs]
        read += sum(lengths)
        filled += max(lengths) * len(lengths) - sum(lengths)
        return forward(model, pairs, pad)

    _teacher_forcing._forward = counting
    try:
        engine.logprobs(requests)
    finally:
        _teacher_forcing._forward = forward
    return read, filled


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
