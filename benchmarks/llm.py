"""LLM backends: tokens/s beside bare `model.generate`, requests/s beside bare httpx.

    python -m benchmarks.llm [--quick] [--only transformers|openai]

Every ratio is taken in one run on one machine.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from backends.llm.openai import OpenAI
from backends.llm.transformers import Transformers
from backends.protocols import Request, Sampling
from benchmarks._server import Server
from storage.calls.cached_llm import CachedLLM, CallCache


def transformers(quick: bool) -> None:
    """Sprout, greedy, the same prompts: ours against `generate` in batches of the same size, and one by one.

    Runs alternate and the best of each counts, so that a neighbour's load does not decide. Replies end where the model
    ends them ("as written"); in "full length" no row may end, so that dropping finished rows gains nothing.
    """
    import torch

    from backends.llm._decode import Row, decode

    rows, new, batch = (32, 32, 16) if quick else (128, 64, 32)
    engine = Transformers(model="sprout", batch_size=batch).open()
    model, tokens = engine.model, engine._tokens
    prompts = [f"Tell me about {'this and that and ' * (i * 7 % 12)}number {i}." for i in range(rows)]
    requests = [Request.ask(prompt, Sampling(max_tokens=new)) for prompt in prompts]
    hot = [Request.ask(p, Sampling(max_tokens=new, temperature=0.8, top_p=0.95, seed=1)) for p in prompts]
    ids = [tokens.chat(request.messages) for request in requests]

    def bare(size: int, count: int, full: bool = False, hot: bool = False) -> int:
        written = 0
        for start in range(0, count, size):
            part = ids[start : start + size]
            width = max(map(len, part))
            given = torch.tensor([[engine._pad] * (width - len(row)) + row for row in part], device=model.device)
            mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in part], device=model.device)
            shortest = {"min_new_tokens": new} if full else {}
            draw = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 0} if hot else {"do_sample": False}
            with torch.inference_mode():
                out = model.generate(
                    given,
                    attention_mask=mask,
                    max_new_tokens=new,
                    pad_token_id=engine._pad,
                    **shortest,
                    **draw,
                )
            for row in out[:, width:].tolist():
                ends = [] if full else [i for i, token in enumerate(row) if token in engine._ends]
                written += ends[0] + 1 if ends else len(row)
        return written

    def ours_full() -> int:
        order = sorted(range(rows), key=lambda i: -len(ids[i]))
        for start in range(0, rows, batch):
            part = [Row(ids[i], requests[i].sampling, new) for i in order[start : start + batch]]
            decode(model, part, ends=frozenset(), pad=engine._pad, stopped=lambda row: False, done=lambda row: None)
        return rows * new

    def ours(asked: list[Request]) -> int:
        return sum(reply.completion_tokens for reply in engine.generate(asked))

    works: dict[str, Callable[[], int]] = {
        "ours": lambda: ours(requests),
        "generate": lambda: bare(batch, rows),
        "one by one": lambda: bare(1, max(8, rows // 8)),
        "ours, sampled": lambda: ours(hot),
        "generate, sampled": lambda: bare(batch, rows, hot=True),
        "ours, full": ours_full,
        "generate, full": lambda: bare(batch, rows, full=True),
    }
    engine.generate(requests[:4])
    bare(4, 4)
    best: dict[str, float] = dict.fromkeys(works, 0.0)
    for _ in range(3):
        for name, work in works.items():
            best[name] = max(best[name], _rate(work))
    print(
        f"transformers, sprout, {rows} prompts, {new} new tokens at most, batch {batch}, {model.device}, best of 3, tokens/s:"
    )
    print(
        f"  as written:  ours {best['ours']:.0f}, generate {best['generate']:.0f}, ratio {best['ours'] / best['generate']:.2f}"
    )
    print(f"  full length: ours {best['ours, full']:.0f}, generate {best['generate, full']:.0f}, "
          f"ratio {best['ours, full'] / best['generate, full']:.2f}")  # fmt: skip
    print(f"  one by one:  generate {best['one by one']:.0f}, ratio {best['ours'] / best['one by one']:.2f}")
    print(f"  sampled:     ours {best['ours, sampled']:.0f}, generate {best['generate, sampled']:.0f}, "
          f"ratio {best['ours, sampled'] / best['generate, sampled']:.2f} (temperature 0.8, top-p 0.95)")  # fmt: skip


def _rate(work: Callable[[], int]) -> float:
    began = time.perf_counter()
    count = work()
    return count / (time.perf_counter() - began)


def openai(quick: bool) -> None:
    """Requests per second: bare httpx with a semaphore, our client, and our client with the durable cache."""
    count, concurrency = (500, 32) if quick else (3000, 64)
    requests = [Request.ask(f"prompt number {i}") for i in range(count)]

    async def bare(url: str) -> None:
        import httpx

        places = asyncio.Semaphore(concurrency)
        limits = httpx.Limits(max_connections=concurrency)
        async with httpx.AsyncClient(trust_env=False, limits=limits) as http:

            async def one(i: int) -> None:
                async with places:
                    messages = [{"role": "user", "content": f"prompt number {i}"}]
                    body = {"model": "fake", "messages": messages}
                    (await http.post(f"{url}/chat/completions", json=body)).json()

            await asyncio.gather(*(one(i) for i in range(count)))

    with Server() as server:
        began = time.perf_counter()
        asyncio.run(bare(server.url))
        plain = count / (time.perf_counter() - began)
    with Server() as server:
        engine = OpenAI(model="fake", base_url=server.url, concurrency=concurrency).open()
        ours = _rate(lambda: len(engine.generate(requests)))
        engine.close()
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        cache = CallCache(Path(folder) / "calls.sqlite")
        engine = OpenAI(model="fake", base_url=server.url, concurrency=concurrency).open()
        llm = CachedLLM(engine, cache, cache.budget("run", "generate", max_tokens=10**9))
        cached = _rate(lambda: len(llm.generate(requests)))
        again = _rate(lambda: len(llm.generate(requests)))
        cache.close()
        engine.close()
    print(f"openai client, {count} requests of 20 to 50 ms, {concurrency} at once (ideal {concurrency / 0.035:.0f}/s):")
    print(f"  bare httpx:                      {plain:7.0f} requests/s")
    print(f"  ours:                            {ours:7.0f} requests/s   ours / bare = {ours / plain:.2f}")
    print(f"  ours, durable cache and budget:  {cached:7.0f} requests/s   ours / bare = {cached / plain:.2f}")
    print(f"  the same again, from the cache:  {again:7.0f} requests/s")


def main() -> None:
    """Run what was chosen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    parser.add_argument("--only", choices=("transformers", "openai"))
    chosen = parser.parse_args()
    for part in (transformers, openai):
        if chosen.only in (None, part.__name__):
            part(chosen.quick)


if __name__ == "__main__":
    main()
