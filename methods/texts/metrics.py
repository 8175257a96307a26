"""How close is a text to a reference? Exact match, final numbers, ROUGE, and the nearest text of a growing pool.

Paper: Lin 2004, ROUGE (https://aclanthology.org/W04-1013). `rouge_tokens` and the F-measures equal those of the package
rouge-score without stemming; other scripts, which score 0 there, need `methods.texts.words.similarity_tokens`.
"""

import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import LCSseq

from methods.texts.words import normalized


@dataclass(frozen=True)
class Overlap:
    """Precision, recall and their harmonic mean, each 0 to 1."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Neighbor:
    """The most similar member of a pool: its position, in the order of adding, and the ROUGE-L F1 to it."""

    position: int
    score: float


def exact_match(prediction: str, reference: str) -> bool:
    """Whether both are the same words in the same order, case, punctuation and diacritics aside.

    Texts without any word ("+", "→") are compared as they are, outer whitespace aside.
    """
    ours, theirs = normalized(prediction), normalized(reference)
    return ours == theirs if ours or theirs else prediction.strip() == reference.strip()


def final_number(text: str) -> float | None:
    r"""The number an answer ends with, or the one after the last ``####`` where there is one (GSM8K); else None.

    >>> final_number("5 + 7 is 12.\n#### 1,012.50")
    1012.5
    """
    _, mark, tail = text.rpartition("####")
    found = _NUMBER.findall(tail if mark else text)
    if not found:
        return None
    value = float(found[-1].replace(",", ""))
    return value if math.isfinite(value) else None


def same_final_number(prediction: str, reference: str) -> bool:
    """Whether both end with the same number; False where either has none."""
    ours, theirs = final_number(prediction), final_number(reference)
    return ours is not None and theirs is not None and math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-9)


def rouge_tokens(text: str) -> list[str]:
    """Lower-case runs of ``a-z0-9``: the published tokens, which other scripts do not have."""
    return _LATIN.findall(text.lower())


def rouge_n(prediction: Sequence[str], reference: Sequence[str], n: int) -> Overlap:
    """Shared n-grams, counted as often as both have them, over each side's n-grams."""
    ours, theirs = _grams(prediction, n), _grams(reference, n)
    return _overlap((ours & theirs).total(), ours.total(), theirs.total())


def rouge_l(prediction: Sequence[str], reference: Sequence[str]) -> Overlap:
    """Longest common subsequence of tokens over each side's length."""
    return _overlap(LCSseq.similarity(prediction, reference), len(prediction), len(reference))


def rouge_l_f1(a_tokens: Sequence[str], b_tokens: Sequence[str]) -> float:
    """ROUGE-L F1, 0 to 1, as the correctly rounded ``2 * LCS / (len(a) + len(b))``; 0 where both are empty."""
    total = len(a_tokens) + len(b_tokens)
    return 2 * LCSseq.similarity(a_tokens, b_tokens) / total if total else 0.0


class RougePool:
    """Token sequences that can be asked for the one nearest to a new sequence; grows by `add`.

    Before any subsequence is computed, an inverted index finds the members that share enough tokens with the candidate.
    What is shared bounds the LCS from above, so no member above the threshold is missed.
    """

    def __init__(self, members: Iterable[Sequence[str]] = ()) -> None:
        self._symbols: dict[str, str] = {}
        self._postings: dict[tuple[str, int], array[int]] = {}
        self._encoded: list[str] = []
        self._lengths = array("q")
        self._hits = np.zeros(0, dtype=np.uint16)
        for member in members:
            self.add(member)

    def __len__(self) -> int:
        return len(self._encoded)

    def add(self, tokens: Sequence[str]) -> None:
        """Adds one sequence, at position ``len(pool)``."""
        position = len(self._encoded)
        self._encoded.append("".join(self._symbol(token) for token in tokens))
        self._lengths.append(len(tokens))
        for key in _occurrences(tokens):
            self._postings.setdefault(key, array("q")).append(position)

    def nearest_above(self, tokens: Sequence[str], threshold: float) -> Neighbor | None:
        """The member with the highest ROUGE-L F1, if that is strictly above ``threshold``; the earliest of equals."""
        if not self._encoded or not tokens:
            return None
        hopeful = self._above(tokens, threshold)
        if not len(hopeful):
            return None
        scores = self._scores(tokens, hopeful)
        best = int(np.argmax(scores))
        return Neighbor(int(hopeful[best]), float(scores[best])) if scores[best] > threshold else None

    def nearest(self, tokens: Sequence[str], count: int) -> list[Neighbor]:
        """The ``count`` most similar members, best first, earlier ones first among equals."""
        if not self._encoded or count < 1:
            return []
        bounds = self._bounds(tokens)
        places = np.arange(len(bounds))
        if len(bounds) > 8 * count:
            likely = np.argpartition(-bounds, 4 * count)[: 4 * count]
            reached = np.sort(self._scores(tokens, likely))[-count]  # the best `count` are at least this similar
            places = np.flatnonzero(bounds >= reached)
        scores = self._scores(tokens, places)
        order = np.argsort(-scores, kind="stable")[:count]
        return [Neighbor(int(places[i]), float(scores[i])) for i in order]

    def mean(self, tokens: Sequence[str]) -> float:
        """Mean ROUGE-L F1 to every member; 0 for an empty pool. Looks at those that share a token, the others add 0."""
        if not self._encoded or not tokens:
            return 0.0
        places = np.flatnonzero(self._bounds(tokens) > 0)
        return float(self._scores(tokens, places).sum()) / len(self._encoded) if len(places) else 0.0

    def _above(self, tokens: Sequence[str], threshold: float) -> np.ndarray:
        """Positions, ascending, of every member whose F1 may be above ``threshold`` and above 0.

        F1 > t needs more than ``t * n / (2 - t)`` shared tokens of the candidate's n, since a member is no shorter than
        what it shares. A member that shares s of n tokens has one of any n - s + 1 of them, two of any n - s + 2, and so
        on: the rarest are looked up, and more of them as long as they are not much commoner.
        """
        none = np.empty(0, dtype=np.int64)
        n = len(tokens)
        shared = max(1, math.ceil(threshold * n / (2 - threshold) - 1e-9))  # at least; rounding only loosens it
        keys = _occurrences(tokens)
        found = sorted((self._postings[key] for key in keys if key in self._postings), key=len)
        first = n - shared + 1 - (n - len(found))  # tokens that no member has are the rarest of all
        if shared > n or first < 1:
            return none
        taken, size = first, sum(map(len, found[:first]))
        while taken < len(found) and len(found[taken]) <= 2 * size:
            size += len(found[taken])
            taken += 1
        probes = [np.frombuffer(posting, dtype=np.int64) for posting in found[:taken]]
        if len(self._hits) < len(self._encoded):
            self._hits = np.zeros(2 * len(self._encoded), dtype=np.uint16)
        for places in probes:  # no place stands twice in one of them
            self._hits[places] += 1
        enough = [places[self._hits[places] > taken - first] for places in probes]
        for places in probes:
            self._hits[places] = 0
        places = np.unique(np.concatenate(enough))
        lengths = np.frombuffer(self._lengths, dtype=np.int64)[places]
        return places[2 * np.minimum(lengths, n) > threshold * (lengths + n) * (1 - 1e-12)]

    def _bounds(self, tokens: Sequence[str]) -> np.ndarray:
        """What each member's F1 to ``tokens`` can be at most: that of the tokens that both have, in any order."""
        shared = np.zeros(len(self._encoded), dtype=np.int64)
        for key in _occurrences(tokens):
            if key in self._postings:
                shared[np.frombuffer(self._postings[key], dtype=np.int64)] += 1
        totals = np.frombuffer(self._lengths, dtype=np.int64) + len(tokens)
        return 2 * shared / np.maximum(totals, 1)

    def _scores(self, tokens: Sequence[str], places: np.ndarray) -> np.ndarray:
        """ROUGE-L F1 of the members at ``places`` to ``tokens``."""
        candidate = "".join(self._symbols.get(token, _UNKNOWN) for token in tokens)
        choices = [self._encoded[i] for i in places]
        common = process.cdist([candidate], choices, scorer=LCSseq.similarity, dtype=np.uint32)[0].astype(np.int64)
        totals = np.frombuffer(self._lengths, dtype=np.int64)[places] + len(tokens)
        return 2 * common / np.maximum(totals, 1)

    def _symbol(self, token: str) -> str:
        """One character per distinct token, so that the bit-parallel LCS works on text."""
        if token not in self._symbols:
            code = len(self._symbols) + 1
            self._symbols[token] = chr(code if code < 0xD800 else code + 0x800)  # no surrogates
        return self._symbols[token]


def max_rouge_l_above(candidate: Sequence[str], pool: RougePool, threshold: float) -> Neighbor | None:
    """The nearest member if its ROUGE-L F1 is strictly above the threshold (Self-Instruct: 0.7), else None."""
    return pool.nearest_above(candidate, threshold)


def _occurrences(tokens: Sequence[str]) -> list[tuple[str, int]]:
    """Each token with how often it came before: the size of two such sets' intersection is the shared multiset."""
    seen: Counter[str] = Counter()
    keys: list[tuple[str, int]] = []
    for token in tokens:
        keys.append((token, seen[token]))
        seen[token] += 1
    return keys


def _grams(tokens: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _overlap(common: int, ours: int, theirs: int) -> Overlap:
    precision = common / ours if ours else 0.0
    recall = common / theirs if theirs else 0.0
    total = precision + recall
    return Overlap(precision, recall, 2 * precision * recall / total if total else 0.0)


_LATIN = re.compile(r"[a-z0-9]+")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
_UNKNOWN = chr(0x10FFFF)
