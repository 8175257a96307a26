"""SELF-GUIDE's outputs: samples of one input to one output by a vote, or the likeliest label; or the reason for neither."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from backends.protocols import LLM, Reply, ScoreRequest
from methods.asking.parsing import Unparsed
from methods.asking.sampling import calls_of, failure_of
from methods.generate._bootstrap import refusal_name
from methods.generate._guide_filters import LengthBounds, agreed, label_in, noise_in
from methods.generate._guide_tasks import Asking, GuideTask, annotation_turns

#: An input that says nothing: how likely a label is after it is how much the model likes the label as such.
NO_INPUT = "N/A"


@dataclass(frozen=True)
class Annotation:
    """The output of one input, or why it has none; ``evidence`` says how sure it is, ``calls`` who said so."""

    output: str | None
    reason: str | None
    calls: tuple[bytes, ...]
    evidence: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Votes:
    """How samples are counted."""

    min_frequency: float
    min_votes: int
    bounds: LengthBounds | None
    noise: tuple[str, ...]
    official: bool


def by_vote(task: GuideTask, replies: Sequence[Reply], how: Votes) -> Annotation:
    """The output that most samples give, those left out that are empty, too long or short, or noisy.

    Labels are read before the vote, so that "entails" and "Entails." agree. Official: the vote is over whole texts, and
    one that is not exactly a label is refused, since the published mapping changes nothing.
    """
    lost: Counter[str] = Counter()
    valid: list[str] = []
    for reply in replies:
        read = _read(task, reply, how)
        if isinstance(read, Unparsed):
            lost[read.why] += 1
        else:
            valid.append(read)
    calls = tuple(calls_of(replies))
    evidence: dict[str, Any] = {"samples": len(replies), "valid": len(valid), **({"lost": dict(lost)} if lost else {})}
    if not valid:
        why = min(lost, key=lambda name: (-lost[name], name)) if lost else "no-output"
        return Annotation(None, why, calls, evidence)
    vote = agreed(valid, how.min_frequency, how.min_votes)
    if vote is None:
        return Annotation(None, "no-agreement", calls, evidence)
    evidence |= {"votes": round(vote.share * vote.votes), "share": round(vote.share, 4)}
    if task.labels and vote.winner not in task.labels:
        return Annotation(None, "no-label", calls, evidence)
    return Annotation(vote.winner, None, calls, evidence)


def _read(task: GuideTask, reply: Reply, how: Votes) -> str | Unparsed:
    failure = failure_of(reply, complete=not how.official)
    if failure:
        return Unparsed(refusal_name(failure))
    text = reply.text.strip()
    if how.bounds and not how.bounds.holds(text):
        return Unparsed("output-length")
    if task.labels and not how.official:
        return label_in(text, task.labels)
    return Unparsed("output-noise") if noise_in(text, how.noise) else text


def by_likelihood(
    task: GuideTask, inputs: Sequence[str], llm: LLM, asking: Asking, *, calibrated: bool, min_margin: float
) -> list[Annotation]:
    """The likeliest label of each input as a reply to the annotation chat, end of turn included.

    ``calibrated`` divides each label's probability by its probability after an input that says nothing (Zhao et al.
    2021, https://arxiv.org/abs/2102.09690). The margin is that of the two best labels' probabilities, normalised.
    """
    asked = [*inputs, *([NO_INPUT] if calibrated else [])]
    requests = [
        ScoreRequest(completion=label, messages=annotation_turns(task, task.gold, given, asking.prompt_of))
        for given in asked
        for label in task.labels
    ]
    scored = llm.logprobs(requests)
    width = len(task.labels)
    rows = [scored[i : i + width] for i in range(0, len(scored), width)]
    prior = rows.pop() if calibrated else None
    found: list[Annotation] = []
    for row in rows:
        # Scorings are no calls of the step (its call table holds replies), so they are named in the evidence.
        scorings = {"scorings": [key.hex() for key in calls_of(row)]}
        failure = next((one.failure for one in [*row, *(prior or [])] if one.failure), None)
        if failure or any(not one.n_tokens for one in row):
            found.append(Annotation(None, refusal_name(failure or "empty"), (), scorings))
            continue
        logs = [one.sum_logprob - (prior[k].sum_logprob if prior else 0.0) for k, one in enumerate(row)]
        most = max(logs)
        weights = [math.exp(value - most) for value in logs]
        shares = sorted(weights, reverse=True)
        margin = (shares[0] - (shares[1] if width > 1 else 0.0)) / sum(weights)
        label = task.labels[logs.index(most)]
        evidence = {
            **scorings,
            "margin": round(margin, 4),
            "logprobs": {k: round(v, 4) for k, v in zip(task.labels, logs, strict=True)},
        }
        sure = margin >= min_margin
        found.append(Annotation(label if sure else None, None if sure else "unsure", (), evidence))
    return found
