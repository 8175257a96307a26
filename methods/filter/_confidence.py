"""Asking for BSDetector's evidence: samples and reflections for many examples in few large batches.

What an example gets depends on the example alone, so a pool may be asked about in any parts.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import polars as pl

from backends.protocols import LLM, NLI, Reply, Request, ScoreRequest, Turn
from methods.asking.parsing import Unparsed, letter_of
from methods.asking.prompt_files import Prompt
from methods.asking.sampling import Draw, calls_of, failure_of, is_cut_off, sample
from methods.conversation import as_turns
from methods.filter import _bsdetector as bsdetector
from methods.filter._likelihood import Likelihood, likelihoods
from schemas.method import Progress, Using

Consistency = Literal["nli", "exact"]

#: Texts are compared up to here, as in the implementation that the authors' weights were taken from.
COMPARED_CHARACTERS = 2000
_SHOWN_CHARACTERS = 160
_ROWS_AT_ONCE = 1024


class Settings(Protocol):
    """What asking wants to know of its method."""

    @property
    def samples(self) -> int: ...
    @property
    def reflections(self) -> int: ...
    @property
    def consistency(self) -> Consistency: ...
    @property
    def reflection(self) -> Literal["reply", "letter-probability"]: ...
    @property
    def likelihood(self) -> Likelihood: ...
    @property
    def likelihood_weight(self) -> float: ...
    @property
    def alpha(self) -> float: ...
    @property
    def beta(self) -> float: ...
    @property
    def reason_first(self) -> str: ...
    @property
    def reflect_prompt(self) -> Prompt: ...
    @property
    def scored_replies(self) -> Mapping[str, tuple[str, ...]]: ...
    @property
    def draw(self) -> Draw: ...
    @property
    def reflect_draw(self) -> Draw: ...
    def sample_text(self, reply: str) -> str | Unparsed: ...


@dataclass
class Asked:
    """One example: the turns before its answer, the answer, and what the model said about it."""

    id: bytes
    before: tuple[Turn, ...]
    prompt: str
    target: str
    samples: list[str | None] = field(default_factory=list)  # None: could not be used
    agreements: list[tuple[float, bool]] = field(default_factory=list)  # of the usable samples, in order
    reflected: list[float | None] = field(default_factory=list)
    letters: list[Any] = field(default_factory=list)  # a letter, letter probabilities, or null
    likelihood: float | None = None
    failures: Counter[str] = field(default_factory=Counter)
    cut_off: int = 0
    calls: list[bytes] = field(default_factory=list)
    scorings: list[bytes] = field(default_factory=list)  # calls that wrote nothing: probabilities of given texts
    said: list[Turn] = field(default_factory=list)  # the reflection's conversation so far

    @property
    def can_be_asked(self) -> bool:
        """Whether there is both a question and an answer."""
        return bool(self.before) and bool(self.target.strip())

    def mark(self, letter: Any, score: float | None) -> None:
        """Note one reflection; without a score it could not be used."""
        self.letters.append(letter)
        self.reflected.append(score)


@dataclass(frozen=True)
class Confidence:
    """The confidence of one example with its parts (0-1, None where absent) and the evidence a person can read."""

    id: bytes
    confidence: float | None
    observed: float | None
    reflected: float | None
    failure: str | None  # the commonest failure where there is no confidence
    evidence: Mapping[str, Any]
    likelihood: float | None = None


def confidences(pool: pl.DataFrame, settings: Settings, *, using: Using, seed: int) -> list[Confidence]:
    """The confidence of each example (EXAMPLES columns), in order. ``seed`` makes the samples repeatable."""
    found: list[Confidence] = []
    for start in range(0, pool.height, _ROWS_AT_ONCE):
        part = [asked_of(row) for row in pool[start : start + _ROWS_AT_ONCE].iter_rows(named=True)]
        nli = using.nli if settings.samples and settings.consistency == "nli" else None
        found += confidences_of(part, settings, llm=using.llm, nli=nli, seed=seed, progress=using.progress)
        using.progress(len(found), pool.height, "confidence")
    return found


def confidences_of(
    asked: Sequence[Asked], settings: Settings, *, llm: LLM, nli: NLI | None, seed: int, progress: Progress
) -> list[Confidence]:
    """The confidence of the model in each answer, in order; ``nli`` is None where samples are compared exactly."""
    able = [one for one in asked if one.can_be_asked]
    _ask(able, settings, llm=llm, seed=seed, progress=progress)
    if settings.samples:
        _compare(able, nli)
    if settings.likelihood != "none":
        _score_answers(able, settings.likelihood, llm)
    by = "exact" if nli is None else str(nli.identity().get("backend", "nli"))
    return [_settled(one, settings, by) for one in asked]


def asked_of(row: Mapping[str, Any]) -> Asked:
    """An example (EXAMPLES columns) as it is asked about; what has no answer as its last turn cannot be."""
    messages = row["messages"] or []
    answered = bool(messages) and messages[-1]["role"] == "assistant"
    before = tuple(as_turns(messages[:-1])) if answered else ()
    prompt = "\n\n".join(turn.content for turn in before)
    return Asked(row["id"], before, prompt, (messages[-1]["content"] or "") if answered else "")


def _ask(asked: Sequence[Asked], settings: Settings, *, llm: LLM, seed: int, progress: Progress) -> None:
    """Samples and first reflections in one list, then each further reflection in a list of its own."""
    sampling = settings.draw.sampling(seed)
    requests = [
        Request(_with_reasoning(one.before, settings.reason_first), None, replace(sampling, index=index))
        for one in asked
        for index in range(settings.samples)
    ]
    n_samples = len(requests)
    by_reply = settings.reflection == "reply"
    for number in range(settings.reflections):
        for one in asked:
            again = settings.reflect_prompt.wording["again"] if number else None
            question = again or ""
            if not one.said:  # the first, or every earlier one failed: the question must bring the answer with it
                question = settings.reflect_prompt.render(prompt=one.prompt, answer=one.target, ask=again)
            one.said.append(Turn("user", question))
        if not by_reply:
            _reflect_by_probability(asked, settings.scored_replies, llm)
            continue
        requests += [Request(tuple(one.said), None, settings.reflect_draw.sampling(seed)) for one in asked]
        replies = _sampled(requests, llm, progress)
        _note_samples(asked, replies[:n_samples], settings)
        for one, reply in zip(asked, replies[n_samples:], strict=True):
            _note_reflection(one, reply)
        requests, n_samples = [], 0
    if requests:
        _note_samples(asked, _sampled(requests, llm, progress), settings)


def _sampled(requests: Sequence[Request], llm: LLM, progress: Progress) -> list[Reply]:
    return sample(llm, requests, progress=progress, note="confidence: calls")


def _with_reasoning(before: tuple[Turn, ...], reason_first: str) -> tuple[Turn, ...]:
    return (
        (*before[:-1], replace(before[-1], content=f"{before[-1].content}\n\n{reason_first}"))
        if reason_first
        else before
    )


def _note_samples(asked: Sequence[Asked], replies: Sequence[Reply], settings: Settings) -> None:
    for place, reply in enumerate(replies):
        one = asked[place // settings.samples]
        one.calls += calls_of([reply])
        failure = failure_of(reply, complete=False)
        one.cut_off += is_cut_off(reply)
        text = "" if failure else settings.sample_text(reply.text)
        if failure or isinstance(text, Unparsed):
            one.failures[failure or "unparsed"] += 1
            one.samples.append(None)
        else:
            one.samples.append(text)


def _note_reflection(one: Asked, reply: Reply) -> None:
    """A failed call takes its question back; an unreadable reply stays said, since the next question refers to it."""
    one.calls += calls_of([reply])
    failure = failure_of(reply, complete=False)
    if failure:
        one.failures[failure] += 1
        one.said.pop()
        one.mark(None, None)
        return
    one.said.append(Turn("assistant", reply.text.strip()))
    letter = letter_of(reply.text)
    if isinstance(letter, Unparsed):
        one.failures["unparsed"] += 1
        one.mark(None, None)
    else:
        one.mark(letter, bsdetector.LETTER_SCORES[letter])


def _reflect_by_probability(asked: Sequence[Asked], replies: Mapping[str, tuple[str, ...]], llm: LLM) -> None:
    """Scores every reply form under the model instead of letting it write; the likeliest form counts as said."""
    forms = [(letter, text) for letter in sorted(replies) for text in replies[letter]]
    scored = llm.logprobs([ScoreRequest(text, tuple(one.said)) for one in asked for _, text in forms])
    for place, one in enumerate(asked):
        mine = scored[place * len(forms) : (place + 1) * len(forms)]
        one.scorings += calls_of(mine)
        failure = next((s.failure or "cut-off" for s in mine if s.failure or s.truncated or not s.logprobs), None)
        if failure:
            one.failures[failure] += 1
            one.said.pop()
            one.mark(None, None)
            continue
        sums: dict[str, list[float]] = {}
        for (letter, _), s in zip(forms, mine, strict=True):
            sums.setdefault(letter, []).append(s.sum_logprob)
        probabilities = bsdetector.chances_of(sums)
        likeliest = max(range(len(forms)), key=lambda i: mine[i].sum_logprob)
        one.said.append(Turn("assistant", forms[likeliest][1]))
        one.mark({k: round(p, 4) for k, p in probabilities.items()}, bsdetector.expected_score(probabilities))


def _compare(asked: Sequence[Asked], nli: NLI | None) -> None:
    """Fills in each usable sample's agreement with the answer; identical texts agree fully without being compared."""
    pairs = [(one, text, one.target.strip()) for one in asked for text in one.samples if text is not None]
    if nli is None:
        agreements = [float(text == target) for _, text, target in pairs]
    else:
        different = iter(noncontradictions([(text, target) for _, text, target in pairs if text != target], nli))
        agreements = [1.0 if text == target else next(different) for _, text, target in pairs]
    for (one, text, target), agreement in zip(pairs, agreements, strict=True):
        one.agreements.append((agreement, text == target))


def noncontradictions(pairs: Sequence[tuple[str, str]], nli: NLI) -> list[float]:
    """How little two texts (first 2000 characters) contradict each other, 0-1: both directions, so symmetric."""
    cut = [(a[:COMPARED_CHARACTERS], b[:COMPARED_CHARACTERS]) for a, b in pairs]
    both = list(dict.fromkeys([*cut, *((b, a) for a, b in cut)]))
    chances = nli.judge(both)
    contradiction = {pair: float(row[0]) for pair, row in zip(both, chances, strict=True)}
    return [bsdetector.noncontradiction(contradiction[a, b], contradiction[b, a]) for a, b in cut]


def _score_answers(asked: Sequence[Asked], kind: Likelihood, llm: LLM) -> None:
    """Fills in the likelihood of each answer; one that could not be scored is counted and left out."""
    for one, found in zip(asked, likelihoods([(one.before, one.target) for one in asked], kind, llm), strict=True):
        one.scorings += found.calls
        if found.failure:
            one.failures[found.failure] += 1
        one.likelihood = found.value


def _settled(one: Asked, settings: Settings, by: str) -> Confidence:
    observed = bsdetector.observed_consistency(one.agreements, settings.alpha)
    reflected = bsdetector.reflected_certainty(one.reflected)
    confidence = bsdetector.combined(observed, reflected, settings.beta)
    if settings.likelihood != "none":
        confidence = bsdetector.combined(one.likelihood, confidence, settings.likelihood_weight)
    failure = None
    if confidence is None:
        failure = _commonest(one.failures) if one.can_be_asked else "no-answer"
    evidence = dict(_evidence(one, observed, reflected, by))
    if settings.likelihood != "none":
        evidence["L"] = _rounded(one.likelihood)
    return Confidence(one.id, confidence, observed, reflected, failure, evidence, one.likelihood)


def _commonest(failures: Counter[str]) -> str:
    return min(failures, key=lambda name: (-failures[name], name)) if failures else "empty"


def _evidence(one: Asked, observed: float | None, reflected: float | None, by: str) -> Iterator[tuple[str, Any]]:
    yield "O", _rounded(observed)
    yield "S", _rounded(reflected)
    if one.samples:
        agreements = iter(one.agreements)
        yield (
            "samples",
            [
                {"text": text[:_SHOWN_CHARACTERS], "s": _rounded((pair := next(agreements))[0]), "equal": pair[1]}
                if text is not None
                else None
                for text in one.samples
            ],
        )
        yield "consistency", by
    if one.letters:
        yield "letters", one.letters
    if one.cut_off:
        yield "samples_cut_off", one.cut_off
    if one.failures:
        yield "failures", dict(sorted(one.failures.items()))
    yield "calls", [call.hex() for call in one.calls]
    if one.scorings:
        yield "scorings", [call.hex() for call in one.scorings]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
