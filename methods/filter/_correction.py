"""CLEAR's auto-correct: a model tuned on what was kept answers anew, and a judge says whether its answer is better."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from backends.protocols import LLM, Request, Turn
from methods.asking.sampling import Draw, calls_of, failure_of, sample
from methods.filter._confidence import Asked
from methods.filter._verdict import Comparing, Pair, Ruling, rulings
from schemas.method import Using

#: Outcomes of a candidate, in words; a failed call is ``candidate-CLASS`` or ``verdict-CLASS``.
OUTCOMES: Mapping[str, str] = {
    "corrected": "it was judged better, in both orders and surely enough, and took the answer's place",
    "unsure": "it was judged better in both orders, but not surely enough",
    "given-better": "the answer that was there was judged better in both orders",
    "tie": "neither was judged better",
    "orders-disagree": "the verdict changed with the order in which the answers were shown",
    "same": "it is the answer that was there",
    "not-asked": "its example passed, and only those that did not are corrected",
    "not-text": "the answer calls tools, which a text cannot replace",
    "no-question": "there is no question with an answer after it",
    "nothing-learned": "no example was kept to learn from",
}

_SHOWN_CHARACTERS = 500
_CASES_AT_ONCE = 1024


@dataclass
class Case:
    """One example on its way: what was asked, what the answer is now, whether it stands, and what was tried."""

    asked: Asked
    stands: bool  # passed the auto-filter, or was corrected
    can_be_corrected: str | None  # None, or the outcome that says why not
    answer: str
    corrected: bool = False
    tried: list[dict[str, Any]] = field(default_factory=list)
    calls: list[bytes] = field(default_factory=list)
    scorings: list[bytes] = field(default_factory=list)
    written_by: list[bytes] = field(default_factory=list)

    @property
    def conversation(self) -> tuple[Turn, ...]:
        """What a model learns from it."""
        return (*self.asked.before, Turn("assistant", self.answer))

    @property
    def outcome(self) -> str:
        """``corrected`` if any round did, else the outcome of the last."""
        return "corrected" if self.corrected else self.tried[-1]["outcome"] if self.tried else "nothing-learned"

    def replace(self, candidate: "Candidate") -> None:
        """The candidate takes the answer's place."""
        self.answer, self.written_by = candidate.text, candidate.calls
        self.stands = self.corrected = True

    def note(self, number: int, outcome: str, candidate: str | None = None, ruling: Ruling | None = None) -> None:
        """Keep what came of a round."""
        told: dict[str, Any] = {"round": number, "outcome": outcome}
        if candidate is not None:
            told["candidate"] = shown(candidate)
        if ruling is not None:
            told |= {"confidence": _rounded(ruling.confidence), "orders": ruling.orders}
        self.tried.append(told)


@dataclass(frozen=True)
class Candidate:
    """Another answer, and the call that wrote it."""

    case: Case
    text: str
    calls: list[bytes]


def correct(
    cases: Sequence[Case],
    how: Comparing,
    *,
    rounds: int,
    min_confidence: float,
    draw: Draw,
    using: Using,
    seed: int,
) -> None:
    """Up to ``rounds`` rounds; ends early when one changes nothing. Cases are changed in place.

    Each round tunes a fresh model on the answers that stand then (in the order of ids), lets it answer every question
    greedily, and compares its answer with the one that stands in its place.
    """
    for number in range(1, rounds + 1):
        kept = sorted((c for c in cases if c.stands and not _unlearnable(c)), key=lambda case: case.asked.id)
        able: list[Case] = []
        for case in cases:
            why = case.can_be_corrected or (None if kept else "nothing-learned")
            case.note(number, why) if why else able.append(case)
        if not kept or not able:
            return
        using.progress(number - 1, rounds, f"correction: fine-tuning on {len(kept)} examples")
        tuned = using.tune.tuned([case.conversation for case in kept], rng_seed=seed)
        changed = 0
        for start in range(0, len(able), _CASES_AT_ONCE):
            compared = _candidates(able[start : start + _CASES_AT_ONCE], tuned, draw, number, using)
            changed += _judged(compared, how, min_confidence, number, using, seed)
            done = min(len(able), start + _CASES_AT_ONCE)
            using.progress(done, len(able), f"correction: round {number} of {rounds}, {changed} answers changed")
        if not changed:
            return


def _judged(
    compared: Sequence[Candidate], how: Comparing, min_confidence: float, number: int, using: Using, seed: int
) -> int:
    """Note what the judge says of each candidate, put the better ones in place, and say how many those were."""
    pairs = [Pair(one.case.asked.prompt, one.case.answer, one.text) for one in compared]
    found = rulings(pairs, how, using.judge, seed=seed, progress=using.progress)
    own = judges_itself(using.judge.identity(), using.tune.identity())
    changed = 0
    for one, ruling in zip(compared, found, strict=True):
        one.case.calls += ruling.calls
        one.case.scorings += ruling.scorings
        outcome = outcome_of(ruling, min_confidence)
        one.case.note(number, outcome, one.text, ruling)
        if own:
            one.case.tried[-1]["self_judge"] = True
        if outcome == "corrected":
            one.case.replace(one)
            changed += 1
    return changed


def judges_itself(judge: Mapping[str, Any], tune: Mapping[str, Any]) -> bool:
    """Whether the judge is the very model that the tuner starts from: it may favor what sounds like itself.

    >>> judges_itself({"weights": "ab", "dtype": "float32"}, {"base": {"weights": "ab"}, "epochs": 2})
    True
    """
    base = tune.get("base")
    return isinstance(base, Mapping) and bool(base) and all(judge.get(key) == value for key, value in base.items())


def outcome_of(ruling: Ruling, min_confidence: float) -> str:
    """The outcome of a candidate that was judged; strictly more than ``min_confidence`` is asked for."""
    if ruling.failure:
        return f"verdict-{ruling.failure}"
    if ruling.winner == "given":
        return "given-better"
    if ruling.winner == "tie":
        return "tie" if ruling.agreed else "orders-disagree"
    needed = float(np.float32(min_confidence))  # as confidences are stored
    return "corrected" if ruling.confidence is not None and ruling.confidence > needed else "unsure"


def shown(text: str) -> str:
    """The beginning of a text, as evidence holds it."""
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def in_words(outcome: str) -> str:
    """What an outcome means for the new answer.

    >>> in_words("same"), in_words("candidate-cut-off")
    ('it is the answer that was there', 'it could not be had or compared: candidate-cut-off')
    """
    return OUTCOMES.get(outcome, f"it could not be had or compared: {outcome}")


def outcomes_in_words(outcomes: Counter[str]) -> str:
    """``corrected 3, tie 2``."""
    return ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items()))


def _candidates(cases: Sequence[Case], tuned: LLM, draw: Draw, number: int, using: Using) -> list[Candidate]:
    """Those whose candidate is a whole text and another one than the answer; the others are noted."""
    requests = [Request(case.asked.before, None, draw.sampling()) for case in cases]
    replies = sample(tuned, requests, progress=using.progress, note="correction: candidates")
    found: list[Candidate] = []
    for case, reply in zip(cases, replies, strict=True):
        case.calls += calls_of([reply])
        failure, text = failure_of(reply, complete=True), reply.text.strip()
        if failure:
            case.note(number, f"candidate-{failure}")
        elif text == case.answer.strip():
            case.note(number, "same")
        else:
            found.append(Candidate(case, text, calls_of([reply])))
    return found


def _unlearnable(case: Case) -> bool:
    return not case.asked.before or not case.answer.strip()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
