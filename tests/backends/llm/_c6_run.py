"""A generation in a process of its own, to be killed: prompts through the openai backend and the durable cache."""

import sys
from pathlib import Path

from backends.llm.openai import OpenAI
from backends.protocols import Request, Sampling
from storage.calls.cached_llm import CachedLLM, CallCache
from storage.calls.stopping import stop_on_signals


def main(url: str, path: str, count: int) -> None:
    """Ask ``count`` prompts; a line per reply; the last line says how many are right."""
    engine = OpenAI(model="fake", base_url=url, concurrency=20).open()
    cache = CallCache(Path(path))
    llm = CachedLLM(engine, cache, cache.budget("run", "generate", max_tokens=10_000_000))
    with stop_on_signals():
        replies = llm.generate([Request.ask(f"prompt number {i}", Sampling(max_tokens=64)) for i in range(count)])
    print("ok", sum(reply.ok for reply in replies), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
