"""GRAPE: of the answers that many models gave, the one that fits the model to be trained."""

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any, Literal

from pydantic import Field

from methods.asking.choice import by_score
from methods.asking.projection import answered
from methods.generate._account import Account
from methods.generate._candidates import FromCandidates, Question, parents_of, same_text
from methods.generate._ledger import Pedigree
from methods.generate._scoring import likelihoods
from schemas.errors import UsageError
from schemas.method import TOKENS_PER_WORD, Expected, Using


class Grape(FromCandidates):
    """Keeps the answer of each question that the student finds likeliest: log-likelihood per token, highest first.

    The score is in nats per token, at most 0, the end of the turn included; the highest is the lowest perplexity. The
    candidates are the pool's examples that share a question (answers of several models), sampled answers, or both. Let only
    right answers in (``reference``, or an earlier step such as rejection-sampling). Two known failures are guarded:
    very short answers win by their length (``min_words``), and a student that scores its own samples distils itself
    (``own_samples``).

    Paper: Zhang et al. 2025, https://arxiv.org/abs/2502.04194, section 3.
    """

    method: Literal["grape"] = "grape"

    candidates: Literal["given", "sampled", "both"] = Field(
        "given",
        description="answers to choose from: those of the pool's examples that share a question, new ones, both",
    )
    samples: int = Field(4, ge=1, le=1000, description="answers sampled per question")
    normalize: bool = Field(True, description="per token; false: the sum over the tokens, which favours short answers")
    top: int = Field(1, ge=1, description="answers kept of each question, the likeliest ones")
    min_words: int = Field(1, ge=1, description="answers of fewer words are refused")
    min_candidates: int = Field(1, ge=1, description="a question with fewer answers to choose from is refused")
    exclude_sources: tuple[str, ...] = Field(
        (), description="sources whose answers are refused: those that the student itself wrote"
    )
    own_samples: Literal["refuse", "allow"] = Field(
        "refuse", description="whether the student may be shown answers that it samples itself"
    )

    def asks(self) -> set[str]:
        """The student, and the writer where answers are sampled."""
        return super().asks() | {"student"}

    def expected_calls(self, rows: int, words: float) -> Expected:
        """One scoring per answer, and the samples."""
        written = super().expected_calls(rows, words)
        scored = self.answers_of(rows)
        each = words * TOKENS_PER_WORD + (0 if self.candidates == "given" else self.draw.max_tokens)
        return Expected(written.calls + scored, round(written.tokens + scored * each))

    def begin(self, using: Using) -> None:
        """``UsageError`` where the model that writes is the one that scores."""
        if self.candidates == "given" or self.own_samples == "allow":
            return
        writes = using.llm if self.writer == "llm" else using.student
        if writes.identity() == using.student.identity():
            raise UsageError(
                "grape: the model that samples answers is the student that scores them, which would teach it its own "
                "output; name another `backends.student` or writer, use `candidates: given`, or set `own_samples: allow`"
            )

    def check(self, question: Question, account: Account) -> None:
        """Also refuses repeats, short answers and excluded sources, and all of a question with too few."""
        super().check(question, account)
        seen: set[str] = set()
        left = []
        for one in question.candidates:
            reason = None
            if one.origin == "given" and one.source in self.exclude_sources:
                reason = "excluded-source"
            elif len(one.text.split()) < self.min_words:
                reason = "too-short"
            elif same_text(one.text) in seen:
                reason = "repeats-candidate"
            seen.add(same_text(one.text))
            if reason:
                account.refuse(one.text, reason, one.pedigree())
            else:
                left.append(one)
        if len(left) < self.min_candidates:
            for one in left:
                account.refuse(one.text, "too-few-candidates", one.pedigree(candidates=len(left)))
            left = []
        question.candidates = left

    def choose(self, questions: Sequence[Question], account: Account, *, using: Using) -> None:
        """The ``top`` likeliest of each question."""
        found = likelihoods(questions, using.student, per_token=self.normalize)
        for question, scores in zip(questions, found, strict=True):
            order = by_score([one.score for one in scores])
            if len(order) > 1:
                account.note("margin", _value(scores[order[0]].score) - _value(scores[order[1]].score))
            for i, (one, score) in enumerate(zip(question.candidates, scores, strict=True)):
                if score.score is None:
                    account.refuse(one.text, f"unscored-{score.failure}", one.pedigree(**score.detail))
                    continue
                rank = order.index(i)
                detail = {**score.detail, "rank": rank + 1, "candidates": len(scores)}
                seen = one.pedigree(perplexity=_perplexity(score.detail), **detail).and_then(score.calls)
                if rank >= self.top:
                    account.refuse(one.text, "less-likely", seen)
                    continue
                pedigree = Pedigree(parents_of(one, question), seen.calls, seen.evidence)
                account.create(answered(one.before, one.text), pedigree, tools=one.tools)

    def notes(self, account: Account) -> Mapping[str, Any]:
        """How far the likeliest answer is ahead of the next, in nats."""
        return {"mean_margin": account.mean("margin")}


def _value(score: float | None) -> float:
    assert score is not None
    return score


def _perplexity(detail: Mapping[str, Any]) -> float:
    """The perplexity, told up to 1e9."""
    return round(exp(min(20.72, -float(detail["logprob_per_token"]))), 4)
