"""What the tests of CLEAR share: pools, word vectors, a planted NLI model, a tuner whose models are functions."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from backends.protocols import LLM, Request, Turn
from schemas.examples import EXAMPLES, turns
from schemas.identity import digest16
from tests.methods.llm_doubles import AnswersBy, asked_text


class WordVectors:
    """Unit vectors of word counts, hashed into 64 places: texts of equal words are parallel."""

    def __init__(self):
        self.embedded: list[str] = []

    def identity(self):
        return {"backend": "word-vectors"}

    def embed(self, texts):
        self.embedded += texts
        vectors = np.zeros((len(texts), 64), dtype=np.float32)
        for i, text in enumerate(texts):
            for word in text.lower().split():
                vectors[i, digest16(word.encode())[0] % 64] += 1
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(norms, 1e-9)


class Doubts:
    """An NLI model with planted contradiction probabilities by (premise, hypothesis); remembers what it was asked."""

    def __init__(self, contradiction: Mapping[tuple[str, str], float]):
        self.contradiction = contradiction
        self.asked: list[tuple[str, str]] = []

    def identity(self):
        return {"backend": "planted-nli"}

    def judge(self, pairs):
        self.asked += pairs
        return np.array([[c := self.contradiction[pair], 0, 1 - c] for pair in pairs])


@dataclass
class TunesTo:
    """``answer(request, learned)`` writes for the model that was tuned on ``learned``; every tuning is remembered."""

    answer: Callable[[Request, Sequence[Sequence[Turn]]], Any]
    learned: list[list[tuple[Turn, ...]]] = field(default_factory=list)
    models: list[AnswersBy] = field(default_factory=list)

    def identity(self):
        return {"backend": "tunes-to"}

    def start(self, rng_seed: int = 0) -> Any:
        raise AssertionError("nothing here opens a session")

    def tuned(self, conversations: Sequence[Sequence[Turn]], *, rng_seed: int = 0, keep_order: bool = False) -> LLM:
        said = [tuple(conversation) for conversation in conversations]
        self.learned.append(said)
        self.models.append(AnswersBy(lambda request: self.answer(request, said)))
        return self.models[-1]

    def untuned(self) -> LLM:
        raise AssertionError("nothing here asks the base model")


def pool_of(*pairs: tuple[str, str]) -> pl.DataFrame:
    rows = [
        {"id": digest16(f"{i}".encode()), "source": "s", "messages": turns(("user", q), ("assistant", a))}
        for i, (q, a) in enumerate(pairs)
    ]
    return pl.DataFrame(rows, schema_overrides=dict(EXAMPLES))


def evidence(verdicts: pl.DataFrame, row: int = 0) -> dict[str, Any]:
    return json.loads(verdicts["evidence"][row])


def is_reflection(request: Request) -> bool:
    return "(A) Correct" in asked_text(request)
