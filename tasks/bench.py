"""The bench a run works at: plain frozen data that may cross any task boundary, and what it opens once per process."""

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from backends.protocols import LLM
from schemas.errors import UsageError
from schemas.identity import canonical_json
from schemas.method import Method, Progress, Using
from schemas.recipe import BackendChoices, Budget, Recipe
from schemas.recipe_run import SHARD_ROWS
from storage.calls.cached_llm import CachedLLM, CallCache
from storage.calls.vectors import CachedEmbedder
from storage.files.places import local_folder
from storage.measured import Measured
from storage.runs import account_of, new_run_id
from storage.store import Store
from tasks.engines import LazyEmbedder, LazyLLM, LazyNLI, LazySandbox, StoredTuner


class Bench(BaseModel):
    """Where a run works, with what, and within which ceilings. Refs and configs only: no handle, no engine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Path
    run_id: str = "ad-hoc"
    account: str = ""  # the budget's account, kept over resumes; empty = the run's own
    rng_seed: int = 0
    backends: BackendChoices = BackendChoices()
    budget: Budget = Budget()
    shard_rows: int = SHARD_ROWS
    dry: bool = False  # plan only: steps are named, nothing is computed

    def identities(self, needs: frozenset[str]) -> dict[str, Any]:
        """Identity of each backend that a method needs, without opening it."""
        return {need: dict(self.config(need).identity()) for need in sorted(needs)}

    def config(self, need: str) -> Any:
        """The config behind a name in ``needs``; ``UsageError`` where there is none, which `check` finds in a recipe."""
        config = self.backends.named(need)
        if config is None:
            raise UsageError(f"a method needs an engine that was not named; add `backends: {{{need}: …}}`")
        return config

    def rng(self, method: Mapping[str, Any]) -> np.random.Generator:
        """A generator that depends on the recipe's seed and the method, not on the data: growth elsewhere changes nothing."""
        words = hashlib.sha256(canonical_json([self.rng_seed, method]).encode()).digest()
        return np.random.default_rng(np.frombuffer(words, dtype=np.uint32))


_lock = threading.RLock()
_stores: dict[Path, Store] = {}
_caches: dict[Path, CallCache] = {}


def open_store(bench: Bench) -> Store:
    """The bench's store, opened once per process."""
    with _lock:
        root = local_folder(bench.store)
        if root not in _stores:
            _stores[root] = Store.open(bench.store)
        return _stores[root]


def call_cache(bench: Bench) -> CallCache:
    """The durable call cache and budget ledger of the bench's store."""
    with _lock:
        path = local_folder(bench.store) / "calls.sqlite"
        if path not in _caches:
            _caches[path] = CallCache(path)
        return _caches[path]


def using(
    bench: Bench, method: Method, stage: str, progress: Progress, step: str = ""
) -> tuple[Using, list[CachedLLM]]:
    """The engines this method named, cached and within budget; the second value holds the calls it will have made.

    What they meet is counted for ``step``, the ref that is being made.
    """
    made: list[CachedLLM] = []
    by_config: dict[str, CachedLLM] = {}

    def cached(engine: LLM) -> CachedLLM:
        cache, told = call_cache(bench), getattr(progress, "calls", progress)
        budget = cache.budget(bench.account or bench.run_id, stage, **bench.budget.model_dump())
        made.append(CachedLLM(engine, cache, budget=budget, on_progress=told, run=bench.run_id, step=step))
        return made[-1]

    def model(need: str) -> LLM | None:
        if need not in method.needs:
            return None
        config = bench.config(need)
        key = canonical_json([type(config).__name__, config.model_dump(mode="json")])
        if key not in by_config:  # a judge that is the teacher keeps one list of calls
            by_config[key] = cached(LazyLLM(config))
        return by_config[key]

    def one(need: str, make: Callable[[Any], Any]) -> Any:
        return make(bench.config(need)) if need in method.needs else None

    root = local_folder(bench.store)
    tools = Using(
        _llm=model("llm"),
        _judge=model("judge"),
        _student=model("student"),
        _embed=one("embed", lambda config: CachedEmbedder(LazyEmbedder(config), root / "vectors")),
        _nli=one("nli", LazyNLI),
        _tune=one("tune", lambda config: StoredTuner(config, root / "proxies", cached)),
        _sandbox=one("sandbox", LazySandbox),
        once=Measured(open_store(bench).disk, bench.identities(method.needs)),
        progress=progress,
    )
    return tools, made


def calls_of(llms: Sequence[CachedLLM]) -> pl.DataFrame:
    """The calls that these models have answered since they were last asked, each once: CALLS columns."""
    return pl.concat([llm.taken() for llm in llms]).unique("key", keep="first", maintain_order=True)


def bench_of(recipe: Recipe, store: Path, run_id: str | None = None, *, dry: bool = False) -> Bench:
    """The bench of a recipe's run; a resumed run goes on with the budget of the one that was stopped."""
    run_id, store = run_id or new_run_id(), Path(store)
    return Bench(
        store=store,
        run_id=run_id,
        account="" if dry else account_of(local_folder(store), recipe.name, run_id),
        rng_seed=recipe.rng_seed,
        backends=recipe.backends,
        budget=recipe.budget,
        shard_rows=recipe.run.shard_rows,
        dry=dry,
    )
