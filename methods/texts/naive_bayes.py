"""Two classes of texts told apart by which words they have: Bernoulli naive Bayes, of a sample or while texts come in."""

from collections import Counter
from collections.abc import Collection, Sequence
from math import log

import numpy as np


class BernoulliBayes:
    """Log-odds that a text belongs to the first class, from words seen or not seen; Laplace-smoothed by 1.

    Words of fewer than ``min_texts`` texts are left out. Where all texts are of one class nothing can be told: 0 for any.
    Paper: McCallum and Nigam 1998, A comparison of event models for naive Bayes text classification,
    https://aaai.org/papers/041-ws98-05-007/
    """

    def __init__(self, texts: Sequence[Collection[str]], first: Sequence[bool], min_texts: int = 2) -> None:
        groups = [
            [t for t, f in zip(texts, first, strict=True) if f],
            [t for t, f in zip(texts, first, strict=True) if not f],
        ]
        counts = [Counter(word for text in group for word in set(text)) for group in groups]
        vocabulary = sorted(word for word, n in (counts[0] + counts[1]).items() if n >= min_texts)
        self._base, self._gain = 0.0, dict[str, float]()
        if not all(groups):
            return
        sizes = [len(group) for group in groups]
        self._base = log(sizes[0] / sizes[1])
        for word in vocabulary:
            here, there = ((counts[k][word] + 1) / (sizes[k] + 2) for k in (0, 1))
            self._base += log((1 - here) / (1 - there))
            self._gain[word] = log(here / there) - log((1 - here) / (1 - there))

    def __call__(self, text: Collection[str]) -> float:
        """Log-odds of the first class for a text given as its words, in nats."""
        return self._base + sum(self._gain.get(word, 0.0) for word in sorted(set(text)))


class GrowingBayes:
    """As `BernoulliBayes` over a known vocabulary, learning one text at a time; texts are arrays of numbers below ``words``."""

    def __init__(self, words: int) -> None:
        self._counts, self._sizes = np.zeros((2, words)), np.zeros(2)

    def learn(self, text: np.ndarray, first: bool) -> None:
        """One more text of the first class, or of the other."""
        self._counts[0 if first else 1, text] += 1
        self._sizes[0 if first else 1] += 1

    def odds(self, texts: Sequence[np.ndarray]) -> np.ndarray:
        """Log-odds of the first class for each text, float64, in nats; 0 as long as only one class has been seen."""
        if not self._sizes.all():
            return np.zeros(len(texts))
        here, there = (self._counts + 1) / (self._sizes[:, None] + 2)
        absent = np.log((1 - here) / (1 - there))
        base, gain = np.log(self._sizes[0] / self._sizes[1]) + absent.sum(), np.log(here / there) - absent
        return np.array([base + gain[text].sum() for text in texts])
