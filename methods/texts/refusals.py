"""What a refusal sounds like, and the sixteen kinds of it: a taxonomy kept as data beside this file."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from backends.protocols import Embedder


@dataclass(frozen=True)
class Category:
    """One kind of refusal. ``axis``: the model cannot, or should not."""

    id: str
    axis: Literal["cannot", "should-not"]
    says: str
    examples: tuple[str, ...]


_DATA = json.loads((Path(__file__).parent / "refusal_taxonomy.json").read_text(encoding="utf-8"))

CATEGORIES: tuple[Category, ...] = tuple(
    Category(row["id"], row["axis"], row["says"], tuple(row["examples"])) for row in _DATA["categories"]
)
CATEGORY_IDS: tuple[str, ...] = tuple(category.id for category in CATEGORIES)

#: Phrases of a refusal within its first two sentences; a straight apostrophe in them stands for any.
_PHRASES = re.compile(rf"\b(?:{'|'.join(_DATA['phrases'])})".replace("'", "['’]"), re.IGNORECASE)
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+")


def refusal_phrase(answer: str) -> str | None:
    """The words that make the first two sentences of an answer sound like a refusal, or None.

    >>> refusal_phrase("I'm sorry, but I can't help with that."), refusal_phrase("Sorry for the delay, here it is.")
    ("I'm sorry", None)
    """
    start = answer.strip()[:1200]
    opening = " ".join(_SENTENCES.split(start)[:2])[:600]
    found = _PHRASES.search(opening)
    return found[0] if found else None


def categories_of(texts: Sequence[str], embed: Embedder) -> tuple[list[str], np.ndarray]:
    """For each refused prompt with its answer, the nearest category and its cosine: the mean over the nearest two.

    A category's vectors are those of its definition and examples.
    """
    anchors, owner = _anchors()
    near = embed.embed(list(texts)) @ embed.embed(list(anchors)).T
    scores = np.full((len(texts), len(CATEGORIES)), -1.0)
    for index in range(len(CATEGORIES)):
        own = np.sort(near[:, owner == index], axis=1)[:, -2:]
        scores[:, index] = own.mean(axis=1)
    best = scores.argmax(axis=1)
    return [CATEGORY_IDS[i] for i in best], scores[np.arange(len(texts)), best]


@cache
def _anchors() -> tuple[tuple[str, ...], np.ndarray]:
    texts: list[str] = []
    owner: list[int] = []
    for index, category in enumerate(CATEGORIES):
        texts += [category.says, *category.examples]
        owner += [index] * (1 + len(category.examples))
    return tuple(texts), np.array(owner)
