"""SELF-GUIDE's filters as pure functions: noise, length, agreement, labels, balance. Calling one twice changes nothing.

Paper: Zhao et al. 2024, https://arxiv.org/abs/2407.12874, section 3; the official code at commit b26dde6b differs from it
as the functions say.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import punctuation

import numpy as np
from rapidfuzz.distance import LCSseq

from methods.asking.agreement import Vote, shortest_majority
from methods.asking.parsing import Unparsed

#: How an assistant begins when it talks about the task instead of doing it. Written for this project.
OPENERS = (
    "Sure, I'd be happy to help", "Sure, here", "Sure! Here", "Of course!", "Certainly!", "Absolutely!", "I'm sorry",
    "I am sorry", "I apologize", "As an AI", "As a language model", "Here is a new", "Here's a new", "I hope this helps",
)  # fmt: skip

#: What shows that a text holds more than the one part that was asked for.
TELLTALES = ("input", "output", "\n\n", "\\_\\_", "therefore", "Therefore", "Hence")


@dataclass(frozen=True)
class LengthBounds:
    """Lengths in characters that pass: ``low <= length < high``."""

    low: int
    high: int

    def holds(self, text: str) -> bool:
        """Whether the text is neither too short nor too long."""
        return self.low <= len(text) < self.high


def length_bounds(texts: Sequence[str], *, official: bool = False) -> LengthBounds | None:
    """Mean length less and plus two standard deviations (of the population), cut to whole characters towards zero.

    None, so no bound, where there is nothing to measure a spread with: fewer than two texts, or all of one length. The
    official code then lets nothing pass.

    >>> length_bounds(["x" * 20, "x" * 30, "x" * 40])
    LengthBounds(low=13, high=46)
    """
    lengths = np.array([len(text) for text in texts], dtype=np.float64)
    if not len(lengths) or (not official and (len(lengths) < 2 or lengths.std() == 0)):
        return None
    mean, spread = float(lengths.mean()), float(lengths.std())
    return LengthBounds(math.trunc(mean - 2 * spread), math.trunc(mean + 2 * spread))


def noise_in(text: str, phrases: Sequence[str]) -> str | None:
    """The first phrase that the text contains, case as written, or None."""
    return next((phrase for phrase in phrases if phrase in text), None)


def phrases_for(gold: Sequence[str], phrases: Sequence[str]) -> tuple[str, ...]:
    """The phrases that count as noise beside these texts: what people wrote themselves is none."""
    return tuple(phrase for phrase in phrases if not any(phrase in text for text in gold))


def agreed(values: Sequence[str], min_frequency: float, min_votes: int = 1) -> Vote[str] | None:
    """The commonest text, the shortest of equals, the first of those; None below either threshold.

    ``min_votes`` departs from the official code, where one of three surviving samples already is 0.33 of them.
    """
    vote = shortest_majority(values)
    if vote is None or vote.share < min_frequency or round(vote.share * vote.votes) < min_votes:
        return None
    return vote


def label_in(text: str, labels: Sequence[str]) -> str | Unparsed:
    """The one label that a text names, any case, as whole words, the longest where one lies inside another.

    >>> label_in("It is 12.", ["1", "12"]), label_in("Yes", ["yes", "no"]), label_in("yes or no", ["yes", "no"])
    ('12', 'yes', Unparsed(why='several-labels'))
    """
    pattern = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    found = re.findall(rf"(?<!\w)(?:{pattern})(?!\w)", text, flags=re.IGNORECASE) if labels else []
    by_case = {label.lower(): label for label in reversed(labels)}
    named = {by_case[match.lower()] if match not in labels else match for match in found}
    if len(named) == 1:
        return named.pop()
    return Unparsed("several-labels" if named else "no-label")


def last_label(text: str, labels: Sequence[str]) -> str | None:
    """The label that occurs last in a text, as the official metric reads a reply (case as written); None without any.

    Of labels that begin at the same place the one earlier in the list is taken, as published.
    """
    places = [(text.rfind(label), -number, label) for number, label in enumerate(labels) if label in text]
    return max(places)[2] if places else None


def balanced(labels: Sequence[str], wanted: Mapping[str, int], rng: np.random.Generator) -> set[int]:
    """Positions of a draw without replacement of ``wanted[label]`` rows of each label (all where there are fewer)."""
    kept: set[int] = set()
    for label in sorted(wanted):
        places = [place for place, own in enumerate(labels) if own == label]
        if len(places) > wanted[label]:
            places = [places[int(i)] for i in rng.choice(len(places), size=wanted[label], replace=False)]
        kept.update(places)
    return kept


def flat_quotas(found: Counter[str], labels: Sequence[str], total: int) -> dict[str, int]:
    """How many rows of each label make the flattest set of at most ``total``.

    With enough of each, ``total`` in all and counts that differ by at most one; else as many of each as of the rarest.

    >>> flat_quotas(Counter(a=9, b=9), ["a", "b"], 5), flat_quotas(Counter(a=9, b=2), ["a", "b"], 8)
    ({'a': 3, 'b': 2}, {'a': 2, 'b': 2})
    """
    share, left = divmod(total, len(labels))
    quotas = {label: share + (place < left) for place, label in enumerate(labels)}
    if all(found[label] >= quota for label, quota in quotas.items()):
        return quotas
    fewest = min(found[label] for label in labels)
    return dict.fromkeys(labels, min(fewest, share))


def label_match(reply: str, wanted: str, labels: Sequence[str]) -> bool:
    """Whether the last label in a reply is the wanted one, case, punctuation and spacing aside: the official metric.

    A label is looked for as it is written: in "yes" there is no "Yes.", so that reply is wrong.
    """
    said = last_label(reply, labels)
    return said is not None and _plain(said) == _plain(wanted)


def char_rouge_l(prediction: str, reference: str) -> float:
    """F1 of the longest common subsequence of characters: what the official code calls ROUGE-L.

    >>> round(char_rouge_l("the cat", "the hat"), 10)
    0.8571428571
    """
    total = len(prediction) + len(reference)
    return 2 * LCSseq.similarity(prediction, reference) / total if total else 0.0


def _plain(text: str) -> str:
    return " ".join("".join(c for c in text.lower() if c not in punctuation).split())
