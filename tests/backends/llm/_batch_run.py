"""A generation through the batch endpoint in a process of its own, to be killed."""

import sys
from pathlib import Path

from backends.llm.openai import OpenAI
from backends.protocols import Request, Sampling
from storage.calls.cached_llm import CachedLLM, CallCache
from storage.calls.stopping import stop_on_signals


def main(url: str, path: str, count: int) -> None:
    """Ask ``count`` prompts; the last line says how many are right and what the account holds."""
    engine = OpenAI(model="fake", base_url=url, batch=True, batch_poll_seconds=0.05, batch_requests=25).open()
    cache = CallCache(Path(path))
    budget = cache.budget("run", "generate", max_tokens=10_000_000)
    with stop_on_signals():
        requests = [Request.ask(f"prompt number {i}", Sampling(max_tokens=64)) for i in range(count)]
        replies = CachedLLM(engine, cache, budget).generate(requests)
    print("ok", sum(reply.ok for reply in replies), "lost", budget.spent().lost_tokens, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
