"""Which of two answers does a judge prefer? Each pair is asked in both orders; how often, how sure, and what speaks against.

Orders, verdicts, rates and the figures by which a reader sees whether to trust them. Whoever compares answers uses this.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from backends.protocols import Reply, Request, Sampling, Turn
from methods.asking.parsing import Unparsed, verdict_of
from methods.asking.prompt_files import Prompt
from methods.asking.sampling import failure_of
from methods.stats import Interval, bootstrap, spearman, wilson

Outcome = Literal["win", "loss", "tie", "inconsistent", "unread"]

#: What an outcome is worth to ours. An inconsistent judge has said nothing either way; unread pairs are left out.
POINTS: dict[str, float] = {"win": 1.0, "tie": 0.5, "inconsistent": 0.5, "loss": 0.0}

#: A reply without a verdict, beside the failure classes of calls.
UNPARSED = "unparsed"


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt. The verdict is told from the side of ``ours``."""

    prompt: str
    ours: str
    theirs: str


@dataclass(frozen=True)
class Said:
    """What the judge said of one order: ``A`` (the answer shown first), ``B``, ``tie``; or None with the failure class."""

    verdict: str | None
    failure: str | None = None


def both_orders(pairs: Sequence[Pair], prompt: Prompt, sampling: Sampling = Sampling()) -> list[Request]:
    """Two requests per pair, side by side: ours first, then theirs first. The prompt has prompt, first and second."""
    shown = [
        order
        for pair in pairs
        for order in ((pair.prompt, pair.ours, pair.theirs), (pair.prompt, pair.theirs, pair.ours))
    ]
    return [
        Request(messages=(Turn("user", prompt.render(prompt=asked, first=first, second=second)),), sampling=sampling)
        for asked, first, second in shown
    ]


def said_of(reply: Reply) -> Said:
    """The verdict in a reply; a call that failed and a reply without a verdict are classes, never a tie.

    >>> said_of(Reply(text="reason: shorter, verdict: B")), said_of(Reply(text="Both are fine."))
    (Said(verdict='B', failure=None), Said(verdict=None, failure='unparsed'))
    """
    failure = failure_of(reply, complete=False)
    if failure:
        return Said(None, failure)
    verdict = verdict_of(reply.text)
    return Said(None, UNPARSED) if isinstance(verdict, Unparsed) else Said(verdict)


def verdict(first: str | None, swapped: str | None) -> Outcome:
    """What two orders say of ours together, each in its own words: ``A`` is the answer that was shown first.

    Only an answer that is preferred in both orders wins. A preference in one order and a tie in the other is
    inconsistent, as is a preference for a place; None in either is unread.

    >>> verdict("A", "B"), verdict("B", "A"), verdict("tie", "tie"), verdict("A", "A"), verdict("A", "tie")
    ('win', 'loss', 'tie', 'inconsistent', 'inconsistent')
    >>> verdict("A", None)
    'unread'
    """
    if first is None or swapped is None:
        return "unread"
    if first == swapped == "tie":
        return "tie"
    return {("A", "B"): "win", ("B", "A"): "loss"}.get((first, swapped), "inconsistent")  # type: ignore[return-value]


@dataclass(frozen=True)
class Tally:
    """Counts over pairs, and what they come to.

    ``rate``: mean of `POINTS` over the pairs that were read, with its bootstrap interval over pairs; None where none
    was. ``flips``: of the pairs read in both orders, the share whose verdict stayed with the place instead of the
    answer (Wilson interval); ``first`` and ``second`` say which place how often.
    """

    counts: dict[str, int]  # every outcome, 0 too
    unread: dict[str, int]  # failure class → pairs; the first failure of the two orders counts
    rate: Interval | None
    flips: Interval | None
    first: int
    second: int

    @property
    def read(self) -> int:
        """Pairs with a verdict in both orders."""
        return sum(count for outcome, count in self.counts.items() if outcome != "unread")


def tally(orders: Sequence[tuple[Said, Said]], rng: np.random.Generator) -> Tally:
    """Counts and rates over pairs, each with what was said of it in both orders."""
    outcomes = [verdict(first.verdict, swapped.verdict) for first, swapped in orders]
    counted = Counter(outcomes)
    unread = Counter(
        (first.failure if first.verdict is None else swapped.failure) or UNPARSED
        for (first, swapped), outcome in zip(orders, outcomes, strict=True)
        if outcome == "unread"
    )
    points = [POINTS[outcome] for outcome in outcomes if outcome != "unread"]
    places = Counter(first.verdict for first, swapped in orders if first.verdict == swapped.verdict)
    return Tally(
        counts={name: counted[name] for name in ("win", "loss", "tie", "inconsistent", "unread")},
        unread=dict(sorted(unread.items())),
        rate=bootstrap(points, rng=rng) if points else None,
        flips=wilson(places["A"] + places["B"], len(points)) if points else None,
        first=places["A"],
        second=places["B"],
    )


def length_figures(pairs: Sequence[Pair], outcomes: Sequence[str]) -> dict[str, Any]:
    """Whether it may have been length that won: characters of both sides, and how wins go with being longer.

    ``longer_won``: of the decided pairs of unequal length, how many the longer answer won. ``correlation``: rank
    correlation of points and difference of length over the pairs that were read; absent where either is constant.
    """
    read = [(pair, outcome) for pair, outcome in zip(pairs, outcomes, strict=True) if outcome != "unread"]
    gaps = [len(pair.ours) - len(pair.theirs) for pair, _ in read]
    decided = [
        (gap > 0) == (outcome == "win")
        for gap, (_, outcome) in zip(gaps, read, strict=True)
        if gap and outcome in ("win", "loss")
    ]
    figures: dict[str, Any] = {
        "ours_characters": _mean([len(pair.ours) for pair, _ in read]),
        "theirs_characters": _mean([len(pair.theirs) for pair, _ in read]),
        "decided": len(decided),
        "longer_won": sum(decided),
    }
    if len(read) > 2:
        correlation = spearman([POINTS[outcome] for _, outcome in read], gaps)
        if np.isfinite(correlation):
            figures["correlation"] = round(correlation, 4)
    return figures


def _mean(values: Sequence[int]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None
