"""RAFT: of each question's answers, the one with the highest reward."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from methods.asking.choice import best, top_share
from methods.asking.projection import answered
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw
from methods.asking.structured import Asking
from methods.generate._account import Account
from methods.generate._candidates import Candidate, FromCandidates, Question, parents_of
from methods.generate._ledger import Pedigree
from methods.generate._scoring import Scored, agreements, likelihoods, rated
from schemas.method import TOKENS_PER_WORD, Expected, Using

Scorer = Literal["judge", "student", "agreement"]


class BestOfN(Prompted, FromCandidates):
    """Keeps the best of each question's answers (``local``), or the best share of those over all questions (``top``).

    The reward is a judge's rating (0 to 10), the student's log-likelihood per token (nats, at most 0), or the share of
    the answers that agree on the final answer (0 to 1); higher is better. ``top`` with ``samples: 1`` is RAFT's own, which
    favours easy questions. Equal rewards go to the earlier answer: the pool's own by id, then samples in order. An answer
    that could not be scored is refused with the class of the failure. The notes say the mean reward of all and of the
    kept.

    Departs from the published code, whose ``top`` strategy stops at an undefined variable: here it runs.

    Paper: Dong et al. 2023, https://arxiv.org/abs/2304.06767, algorithm 1.
    """

    method: Literal["best-of-n"] = "best-of-n"
    speaks: ClassVar[tuple[str, ...]] = ("rate-answer",)

    strategy: Literal["local", "top"] = Field("local", description="the best of each question, or the top share of all")
    share: float = Field(0.2, gt=0, le=1, description="with top: share of the questions whose best answer is kept")
    scorer: Scorer = Field("judge", description="where the reward comes from")
    min_score: float | None = Field(None, description="a best answer below this reward is refused too")
    draw: Draw = Field(Draw(max_tokens=512, temperature=0.85), description="how answers are sampled")
    judging: Asking = Field(Asking(), description="with scorer: judge, how a rating is asked for")
    votes: int = Field(1, ge=1, le=16, description="with scorer: judge, ratings of each answer, their mean counts")

    @model_validator(mode="after")
    def _votes_differ(self) -> "BestOfN":
        if self.votes > 1 and self.judging.draw.temperature == 0:
            raise ValueError(
                "several votes of a greedy judge are one vote; raise judging.draw.temperature or set votes: 1"
            )
        return self

    def asks(self) -> set[str]:
        """The writer where answers are sampled, and the scorer where it is a model."""
        return super().asks() | ({self.scorer} if self.scorer != "agreement" else set())

    def expected_calls(self, rows: int, words: float) -> Expected:
        """The samples, and one call per answer and vote where a model scores them."""
        written = super().expected_calls(rows, words)
        if self.scorer == "agreement":
            return written
        each = self.votes * self.judging.tries if self.scorer == "judge" else 1
        calls = self.answers_of(rows) * each
        reply = self.judging.draw.max_tokens if self.scorer == "judge" else 0
        asked = words * TOKENS_PER_WORD + (0 if self.candidates == "given" else self.draw.max_tokens) + reply
        return Expected(written.calls + calls, round(written.tokens + calls * asked))

    def choose(self, questions: Sequence[Question], account: Account, *, using: Using) -> None:
        """The best of each question; with ``top`` it is held until all are known."""
        for question, scores in zip(questions, self._scored(questions, using), strict=True):
            winner = best([one.score for one in scores])
            for score in scores:
                if score.score is not None:
                    account.note("all", score.score)
            for i, (one, score) in enumerate(zip(question.candidates, scores, strict=True)):
                if i != winner:
                    reason = f"unscored-{score.failure}" if score.failure else "outscored"
                    account.refuse(one.text, reason, _seen(one, score, score.detail))
            if winner is not None:
                held = (question, question.candidates[winner], scores[winner], len(scores))
                account.held.append(held)
        if self.strategy == "local":
            self._settle(account, set(range(len(account.held))))

    def finish(self, account: Account) -> None:
        """With ``top``, what lies in the top share of all questions."""
        if self.strategy == "top":
            self._settle(account, top_share([held[2].score for held in account.held], self.share))

    def notes(self, account: Account) -> Mapping[str, Any]:
        """Mean reward of all scored answers and of those that were kept."""
        return {"mean_score_all": account.mean("all"), "mean_score_kept": account.mean("kept")}

    def _scored(self, questions: Sequence[Question], using: Using) -> list[list[Scored]]:
        match self.scorer:
            case "judge":
                prompt = self.prompt("rate-answer")
                return rated(questions, prompt, using.judge, self.judging, self.votes, seed=0)
            case "student":
                return likelihoods(questions, using.student, per_token=True)
            case "agreement":
                return agreements(questions)

    def _settle(self, account: Account, kept: set[int]) -> None:
        for i, (question, one, score, count) in enumerate(account.held):
            seen = _seen(one, score, {**score.detail, "candidates": count})
            if i not in kept:
                account.refuse(one.text, "below-top-share", seen)
            elif self.min_score is not None and score.score < self.min_score:
                account.refuse(one.text, "below-min-score", seen)
            else:
                account.note("kept", score.score)
                pedigree = Pedigree(parents_of(one, question), seen.calls, seen.evidence)
                account.create(answered(one.before, one.text), pedigree, tools=one.tools)
        account.held.clear()


def _seen(one: Candidate, score: Scored, detail: Mapping[str, Any]) -> Pedigree:
    """Where a candidate came from, with its score."""
    value = None if score.score is None else round(score.score, 6)
    return one.pedigree(score=value, **detail).and_then(score.calls)
