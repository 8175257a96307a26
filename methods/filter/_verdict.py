"""Which of two answers is better, and how sure is the judge? Asked in both orders; BSDetector's confidence of the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from backends.protocols import LLM, Request, ScoreRequest, Turn
from methods.asking.agreement import agree_in_both_orders
from methods.asking.parsing import Unparsed, verdict_of
from methods.asking.prompt_files import Prompt
from methods.asking.sampling import Draw, calls_of, failure_of, sample
from methods.filter._bsdetector import chances_of, combined
from methods.filter._confidence import Asked, Confidence, Consistency, confidences_of
from methods.filter._likelihood import Likelihood
from schemas.method import Progress

Reading = Literal["reply", "probability"]


@dataclass(frozen=True)
class Comparing:
    """How a judge is asked. As `_confidence.Settings` it says how the judge's own verdict is doubted."""

    compare_prompt: Prompt
    reflect_prompt: Prompt
    reading: Reading
    verdict_replies: Mapping[str, tuple[str, ...]]  # complete replies by verdict, for probability
    draw: Draw  # of further verdicts
    verdict_draw: Draw  # of the verdict itself
    reflect_draw: Draw
    samples: int
    reflections: int
    reflection: Literal["reply", "letter-probability"]
    scored_replies: Mapping[str, tuple[str, ...]]
    beta: float
    alpha: float = 0.0  # verdicts are equal or not
    reason_first: str = ""
    consistency: Consistency = "exact"
    likelihood: Likelihood = "none"
    likelihood_weight: float = 0.0

    def sample_text(self, reply: str) -> str | Unparsed:
        """Of a further verdict only the verdict is compared."""
        return verdict_of(reply)


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt."""

    prompt: str
    given: str
    candidate: str


@dataclass
class Ruling:
    """What the judge says of a pair over both orders.

    ``winner`` is None where it cannot be said: ``failure`` is then the class. ``confidence`` is that of the less sure
    order, None where no order has one.
    """

    winner: Literal["given", "candidate", "tie"] | None
    agreed: bool
    confidence: float | None
    failure: str | None
    orders: list[dict[str, Any]]
    calls: list[bytes] = field(default_factory=list)  # that wrote something
    scorings: list[bytes] = field(default_factory=list)


def rulings(pairs: Sequence[Pair], how: Comparing, judge: LLM, *, seed: int, progress: Progress) -> list[Ruling]:
    """One ruling per pair: each is asked about twice, the second time with the answers exchanged."""
    asked = [text for pair in pairs for text in _orders(pair, how.compare_prompt)]
    said = _verdicts(asked, how, judge, progress)
    doubted = _doubted(asked, said, how, judge, seed, progress)
    return [_ruling(said[i : i + 2], doubted[i : i + 2], how) for i in range(0, len(said), 2)]


@dataclass
class _Said:
    """One order's verdict: ``A``, ``B``, ``tie``, or None with the class of the failure."""

    verdict: str | None
    failure: str | None
    chances: Mapping[str, float] | None
    calls: list[bytes]
    scorings: list[bytes]


def _orders(pair: Pair, prompt: Prompt) -> tuple[str, str]:
    return (
        prompt.render(prompt=pair.prompt, first=pair.given, second=pair.candidate),
        prompt.render(prompt=pair.prompt, first=pair.candidate, second=pair.given),
    )


def _verdicts(asked: Sequence[str], how: Comparing, judge: LLM, progress: Progress) -> list[_Said]:
    turns = [(Turn("user", text),) for text in asked]
    if how.reading == "probability":
        return _scored_verdicts(turns, how.verdict_replies, judge)
    requests = [Request(one, None, how.verdict_draw.sampling()) for one in turns]
    found: list[_Said] = []
    for reply in sample(judge, requests, progress=progress, note="verdicts"):
        failure = failure_of(reply, complete=False)
        verdict = None if failure else verdict_of(reply.text)
        if isinstance(verdict, Unparsed):
            verdict, failure = None, "unparsed"
        found.append(_Said(verdict, failure, None, calls_of([reply]), []))
    return found


def _scored_verdicts(
    turns: Sequence[tuple[Turn, ...]], replies: Mapping[str, tuple[str, ...]], judge: LLM
) -> list[_Said]:
    forms = [(verdict, text) for verdict in sorted(replies) for text in replies[verdict]]
    scored = judge.logprobs([ScoreRequest(text, one) for one in turns for _, text in forms])
    found: list[_Said] = []
    for place in range(len(turns)):
        mine = scored[place * len(forms) : (place + 1) * len(forms)]
        failure = next((s.failure or "cut-off" for s in mine if s.failure or s.truncated or not s.logprobs), None)
        if failure:
            found.append(_Said(None, failure, None, [], calls_of(mine)))
            continue
        sums: dict[str, list[float]] = {}
        for (verdict, _), one in zip(forms, mine, strict=True):
            sums.setdefault(verdict, []).append(one.sum_logprob)
        chances = chances_of(sums)
        best = max(chances.values())
        likeliest = [verdict for verdict, chance in chances.items() if chance == best]
        found.append(_Said(likeliest[0] if len(likeliest) == 1 else "tie", None, chances, [], calls_of(mine)))
    return found


def _doubted(
    asked: Sequence[str], said: Sequence[_Said], how: Comparing, judge: LLM, seed: int, progress: Progress
) -> list[Confidence]:
    """BSDetector on the judge's own verdicts; a verdict that could not be had is not asked about."""
    own = [Asked(b"", (Turn("user", text),), text, one.verdict or "") for text, one in zip(asked, said, strict=True)]
    return confidences_of(own, how, llm=judge, nli=None, seed=seed, progress=progress)


def _ruling(said: Sequence[_Said], doubted: Sequence[Confidence], how: Comparing) -> Ruling:
    orders: list[dict[str, Any]] = []
    sure: list[float | None] = []
    calls: list[bytes] = []
    scorings: list[bytes] = []
    for one, doubt in zip(said, doubted, strict=True):
        observed = one.chances[one.verdict] if one.chances and one.verdict else doubt.observed
        confidence = combined(observed, doubt.reflected, how.beta) if one.verdict else None
        sure.append(confidence)
        told: dict[str, Any] = {"verdict": one.verdict, "confidence": _rounded(confidence)}
        if one.chances:
            told["chances"] = {verdict: round(chance, 4) for verdict, chance in one.chances.items()}
        if one.failure:
            told["failure"] = one.failure
        told |= {key: doubt.evidence[key] for key in ("letters", "failures") if key in doubt.evidence}
        orders.append(told)
        calls += [*one.calls, *(bytes.fromhex(key) for key in doubt.evidence["calls"])]
        scorings += [*one.scorings, *(bytes.fromhex(key) for key in doubt.evidence.get("scorings", ()))]
    first, swapped = said
    if first.verdict is None or swapped.verdict is None:
        return Ruling(None, False, None, first.failure or swapped.failure, orders, calls, scorings)
    verdict = agree_in_both_orders(first.verdict, swapped.verdict)
    agreed = verdict != "tie" or first.verdict == swapped.verdict == "tie"
    winner = {"A": "given", "B": "candidate"}.get(verdict, "tie")
    both = [value for value in sure if value is not None]
    lowest = min(both) if len(both) == len(sure) else None
    return Ruling(winner, agreed, lowest, None, orders, calls, scorings)  # type: ignore[arg-type]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
