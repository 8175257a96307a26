"""Engines as the methods get them: opened when first needed, once per process, cached, within budget."""

import os
import secrets
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from backends.config import AnyEmbed, AnyLLM, AnyNLI, AnyTune
from backends.protocols import (
    LLM,
    Meter,
    Reply,
    Request,
    Sandbox,
    ScoreRequest,
    TokenLogprobs,
    Troubles,
    Tuning,
    Turn,
)
from schemas.identity import canonical_json, fingerprint
from storage.calls.cached_llm import takes

_lock = threading.RLock()
_engines: dict[str, Any] = {}


def opened(config: Any) -> Any:
    """The engine of a config, opened once per process."""
    key = canonical_json([type(config).__name__, config.model_dump(mode="json")])
    with _lock:
        if key not in _engines:
            _engines[key] = config.open()
        return _engines[key]


class LazyLLM:
    """An engine that opens when the first call is not in the cache; its identity is known before that."""

    def __init__(self, config: AnyLLM) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """The config's identity."""
        return self.config.identity()

    @property
    def name(self) -> str:
        """What its replies call the model, where the config knows; empty where only the engine or the identity does."""
        return str(getattr(getattr(self, "config", None), "called", ""))

    def generate(self, requests: Sequence[Request], *, meter: Meter | None = None) -> list[Reply]:
        """Open, then ask; the meter goes through to the engine."""
        engine: Any = self._engine()
        return engine.generate(requests, meter=meter) if meter else engine.generate(requests)

    def logprobs(self, requests: Sequence[ScoreRequest], *, troubles: Troubles | None = None) -> list[TokenLogprobs]:
        """Open, then score; an engine that talks to a server counts what it meets."""
        engine: Any = self._engine()
        if troubles is not None and takes(engine.logprobs, "troubles"):
            return engine.logprobs(requests, troubles=troubles)
        return engine.logprobs(requests)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Open, then count."""
        return self._engine().count_tokens(texts)

    def _engine(self) -> LLM:
        return opened(self.config)


class LazyTuned(LazyLLM):
    """A fine-tuned proxy: trained (or loaded from the store's folder) when the first call is not in the cache."""

    def __init__(self, identity: Mapping[str, Any], make: Callable[[], LLM]) -> None:
        self._identity = dict(identity)
        self._make = make
        self._made: LLM | None = None
        self._making = threading.Lock()

    def identity(self) -> Mapping[str, Any]:
        """The base model, what it was tuned on, and how: known before anything is trained."""
        return self._identity

    def _engine(self) -> LLM:
        with self._making:
            if self._made is None:
                self._made = self._make()
            return self._made


class LazyEmbedder:
    """An embedder that opens when the first text is not in the cache."""

    def __init__(self, config: AnyEmbed) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """The config's identity."""
        return self.config.identity()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Open, then embed."""
        return opened(self.config).embed(texts)


class LazyNLI:
    """An entailment model that opens when it is first asked."""

    def __init__(self, config: AnyNLI) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """The config's identity."""
        return self.config.identity()

    def judge(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Open, then judge; nothing is opened for no pairs."""
        return opened(self.config).judge(pairs) if pairs else np.zeros((0, 3))


class LazySandbox:
    """A sandbox that is set up when the first program is run."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """The config's identity."""
        return self.config.identity()

    def run(self, programs: Sequence[Any]) -> list[Any]:
        """Open, then run."""
        box: Sandbox = opened(self.config)
        return box.run(programs)


class StoredTuner:
    """``using.tune``: fine-tuned proxies are kept in the store under what they were made from, their replies cached.

    ``cached`` wraps a language model with the call cache and the budget; ``folder`` is where tuned weights lie.
    """

    def __init__(self, config: AnyTune, folder: Path, cached: Callable[[LLM], LLM]) -> None:
        self.config = config
        self._folder = folder
        self._cached = cached

    def identity(self) -> Mapping[str, Any]:
        """The config's identity."""
        return self.config.identity()

    def start(self, rng_seed: int = 0) -> Tuning:
        """A fresh session; nothing of it is kept."""
        return opened(self.config).start(rng_seed)

    def untuned(self) -> LLM:
        """The base model, cached."""
        identity = {**self.identity(), "tuned": "no"}
        return self._cached(LazyTuned(identity, lambda: opened(self.config).base()))

    def tuned(self, conversations: Sequence[Sequence[Turn]], *, rng_seed: int = 0, keep_order: bool = False) -> LLM:
        """The base model fine-tuned on these conversations, cached."""
        said = [[[turn.role, turn.content] for turn in conversation] for conversation in conversations]
        identity = {
            **self.identity(),
            "tuned": {"conversations": fingerprint(said), "rng_seed": rng_seed, "keep_order": keep_order},
        }
        folder = self._folder / fingerprint(identity)

        def make() -> LLM:
            engine = opened(self.config)
            if not (folder / "config.json").is_file():
                self._train(folder, conversations, rng_seed, keep_order)
            return engine.load(folder)

        return self._cached(LazyTuned(identity, make))

    def _train(self, folder: Path, conversations: Sequence[Sequence[Turn]], rng_seed: int, keep_order: bool) -> None:
        """Train beside, then rename: a folder with this name is always whole, whoever was first."""
        beside = folder.with_name(f"{folder.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
        beside.parent.mkdir(parents=True, exist_ok=True)
        try:
            opened(self.config).train_into(beside, conversations, rng_seed=rng_seed, keep_order=keep_order)
            if not folder.exists():
                beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
