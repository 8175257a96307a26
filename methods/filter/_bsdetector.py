"""BSDetector's arithmetic: how far a model's own samples and second thoughts support a given answer.

Paper: Chen & Mueller 2024, https://aclanthology.org/2024.acl-long.283, sections 3.1-3.3.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from methods.asking.agreement import mean_of_present, weighted

#: What a chosen option says about the proposed answer: (A) correct, (B) incorrect, (C) not certain.
LETTER_SCORES: Mapping[str, float] = {"A": 1.0, "B": 0.0, "C": 0.5}

_DIGITS = 12


def noncontradiction(forward: float, backward: float) -> float:
    """Agreement of two texts, 0-1, from the contradiction probabilities of both directions; symmetric.

    >>> round(noncontradiction(0.1, 0.2), 12)
    0.85
    """
    return ((1 - forward) + (1 - backward)) / 2


def observed_consistency(agreements: Sequence[tuple[float, bool]], alpha: float) -> float | None:
    """O: mean over samples of ``alpha * agreement + (1 - alpha) * [sample equals answer]``; None without samples."""
    return mean_of_present([alpha * agreement + (1 - alpha) * equal for agreement, equal in agreements])


def reflected_certainty(values: Sequence[float | None]) -> float | None:
    """S: mean over the reflections that could be read; None when none could."""
    return mean_of_present(values)


def combined(observed: float | None, reflected: float | None, beta: float) -> float | None:
    """C = beta * O + (1 - beta) * S, in 0-1; the other part alone where one is absent, None where both are.

    Rounded to single precision, as scores are stored: what is read back compares with the threshold as it did here, and
    rows whose parts are equal tie whatever the order of summation.
    """
    confidence = weighted([(beta, observed), (1 - beta, reflected)])
    if confidence is None:  # a weight of 0 must not hide the only part there is
        confidence = observed if observed is not None else reflected
    return None if confidence is None else float(np.float32(confidence))


def chances_of(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Probability of each letter (or verdict) given that the model writes one of its replies.

    ``sums`` holds the log-probability (nats) of every complete reply, by the letter it states.

    >>> chances_of({"A": [math.log(0.3)], "B": [math.log(0.05), math.log(0.05)]})
    {'A': 0.75, 'B': 0.25}
    """
    highest = max(value for values in sums.values() for value in values)
    masses = {letter: sum(math.exp(value - highest) for value in values) for letter, values in sums.items()}
    total = sum(masses.values())
    return {letter: round(mass / total, _DIGITS) for letter, mass in masses.items()}


def expected_score(probabilities: Mapping[str, float]) -> float:
    """Expectation of the letter's score, 0-1."""
    return sum(LETTER_SCORES[letter] * probability for letter, probability in probabilities.items())
