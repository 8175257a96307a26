"""CLEAR whole: filter by confidence, tune a model on what is kept, and put its answers where a judge finds them better."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from methods.asking.agreement import mean_of_present
from methods.asking.sampling import Draw
from methods.filter._auto_filter import (
    NO_CONFIDENCES,
    AutoFilter,
    fate,
    no_confidence,
    no_confidences_in,
    unusable,
)
from methods.filter._confidence import Confidence, asked_of, confidences
from methods.filter._correction import Case, correct, in_words, outcomes_in_words, shown
from methods.filter._verdict import Comparing, Reading
from schemas.examples import VERDICTS, answer_text, conform
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import TOKENS_PER_WORD, Expected, Using

_CORRECTED = "corrected"


class VerdictReplies(BaseModel):
    """The complete replies that state each verdict, as the judge would write them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    A: tuple[str, ...] = Field(default=("verdict: A",), min_length=1)
    B: tuple[str, ...] = Field(default=("verdict: B",), min_length=1)
    tie: tuple[str, ...] = Field(default=("verdict: tie",), min_length=1)


class ClearCorrect(AutoFilter):
    """CLEAR's auto-filter and auto-correct as one step with three outcomes: keep, edit, reject.

    The confidence in each given answer is that of ``clear``. Then, ``rounds`` times, the recipe's ``tune`` fine-tunes its
    model on the answers that stand; the tuned model answers every question anew; the recipe's ``judge`` compares that
    answer with the one that stands, in both orders, and is doubted as ``clear`` doubts an answer (further verdicts,
    reflections). Only where both orders prefer the new answer, each with a confidence above ``min_verdict_confidence``,
    is the example edited; else it is kept if its confidence is above the threshold, and rejected if not. Both texts stay
    in the lineage; every other outcome of a candidate (tie, orders that disagree, unreadable verdicts, cut-off answers
    …) is a class of its own in the evidence, counted in the rule.

    Score: the confidence in the given answer, 0-1, higher is better, also of edited examples; null where none could be
    had. Such an example is quarantined unless it is corrected (an empty answer can be).

    The corrections are as good as the tuned model: one that is too small writes nonsense, and only the judge stands
    between that and the dataset. Judge with another and better model than the one that is tuned.

    Departs from the paper: the judge is asked in both orders, and the less sure one counts; a candidate that was cut off
    or repeats the answer is not judged; further rounds compare with the answer that stands; and as in ``clear``.

    Paper: Chen & Mueller 2024, https://arxiv.org/abs/2403.12776; BSDetector, Chen & Mueller 2024,
    https://aclanthology.org/2024.acl-long.283, sections 3.1-3.3.
    """

    method: Literal["clear-correct"] = "clear-correct"
    needs: ClassVar[frozenset[str]] = frozenset({"llm", "nli", "tune", "judge"})
    speaks: ClassVar[tuple[str, ...]] = ("reflect", "compare")

    rounds: int = Field(1, ge=1, le=8, description="times a model is tuned on what stands; ends when a round is idle")
    candidates: Literal["all", "dropped"] = Field(
        "all", description="examples that get a new answer: every one (the paper), or those below the threshold"
    )
    candidate_draw: Draw = Field(Draw(max_tokens=512), description="how the tuned model answers")
    min_verdict_confidence: float = Field(
        0.8, ge=0, lt=1, description="an example is edited when both orders prefer the new answer more surely than this"
    )
    verdict: Reading = Field("reply", description="the verdict the judge writes, or the probability of each verdict")
    verdict_samples: int = Field(5, ge=0, le=64, description="further verdicts drawn per order, to doubt the first")
    verdict_reflections: int = Field(2, ge=0, le=8, description="times the judge is asked whether its verdict is right")
    verdict_draw: Draw = Field(Draw(max_tokens=128, temperature=1.0), description="how further verdicts are drawn")
    verdict_replies: VerdictReplies = Field(VerdictReplies(), description="with probability: what is scored")

    @model_validator(mode="after")
    def _can_be_sure(self) -> "ClearCorrect":
        if self.verdict == "reply" and not self.verdict_samples and not self.verdict_reflections:
            raise ValueError(
                "verdict_samples and verdict_reflections are both 0, so no verdict would have a confidence; "
                "raise one of them, or set verdict: probability"
            )
        return self

    @property
    def comparing(self) -> Comparing:
        """How the judge is asked."""
        by_reply = self.verdict == "reply"
        return Comparing(
            compare_prompt=self.prompt("compare"),
            reflect_prompt=self.reflect_prompt,
            reading=self.verdict,
            verdict_replies=self.verdict_replies.model_dump(),
            draw=self.verdict_draw,
            verdict_draw=self.verdict_draw.model_copy(update={"temperature": 0.0}),
            reflect_draw=self.reflect_draw,
            samples=self.verdict_samples if by_reply else 0,
            reflections=self.verdict_reflections,
            reflection="reply" if by_reply else "letter-probability",
            scored_replies=self.scored_replies,
            beta=self.beta,
        )

    def rules(self) -> Sequence[Rule]:
        """``low-confidence``, ``corrected``, and one rule per way in which there is no confidence."""
        return (self.low_confidence(self.fixed_limit()), self._corrected(), *map(no_confidence, NO_CONFIDENCES))

    def expected_calls(self, rows: int, words: float) -> Expected:
        """Those of the confidence, and per round one new answer and two verdicts with what doubts them."""
        first = self.confidence_calls(rows, words)
        by_reply = self.verdict == "reply"
        forms = sum(map(len, self.verdict_replies.model_dump().values()))
        letters = sum(map(len, self.scored_replies.values()))
        verdicts = 1 + self.verdict_samples if by_reply else forms
        doubts = self.verdict_reflections * (1 if by_reply else letters)
        reply = self.verdict_draw.max_tokens * verdicts + self.reflect_draw.max_tokens * doubts if by_reply else 0
        prompt = words * TOKENS_PER_WORD
        tokens = prompt + self.candidate_draw.max_tokens + 2 * ((verdicts + doubts) * (2 * prompt + 60) + reply)
        times = rows * self.rounds
        return Expected(first.calls + times * (1 + 2 * (verdicts + doubts)), first.tokens + round(times * tokens))

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """VERDICTS; ``score`` is the confidence in the given answer, ``successor`` the corrected conversation."""
        seed = int(rng.integers(2**31))
        found = confidences(pool, self, using=using, seed=seed)
        limit = self.realised_threshold([one.confidence for one in found])
        rows = list(pool.select("id", "messages").iter_rows(named=True))
        cases = [self._case(row, one, limit) for row, one in zip(rows, found, strict=True)]
        correct(
            cases,
            self.comparing,
            rounds=self.rounds,
            min_confidence=self.min_verdict_confidence,
            draw=self.candidate_draw,
            using=using,
            seed=seed,
        )
        said = [self._verdict(row, one, case, limit) for row, one, case in zip(rows, found, cases, strict=True)]
        return conform(pl.DataFrame(said, schema=dict(VERDICTS)), VERDICTS, "clear-correct's verdicts")

    def settled_rules(self, verdicts: pl.DataFrame) -> Sequence[Rule]:
        """The realised threshold and shares, what became of the candidates, and the failures that occurred."""
        scores = verdicts["score"].to_list()
        limit = self.realised_threshold(scores)
        outcomes = Counter(str(json.loads(text)["correction"]) for text in verdicts["evidence"])
        edited = verdicts.filter(pl.col("fate") == "edit").height
        share = f"; edited {edited} of {verdicts.height} ({edited / max(1, verdicts.height):.1%})"
        known = f"{share}; candidates: {outcomes_in_words(outcomes)}" if outcomes else share
        return (
            self.low_confidence(limit, self.shares(scores, limit) + unusable(verdicts)),
            self._corrected(known),
            *no_confidences_in(verdicts),
        )

    def audit(self, pool: pl.DataFrame, verdicts: pl.DataFrame) -> Mapping[str, Any]:
        """Also what became of the new answers, how often the judge changed its mind with the order, and its confidence."""
        told = [json.loads(text) for text in verdicts["evidence"]]
        tried = [one for found in told for one in found["tried"] if "orders" in one]
        both = [one["orders"] for one in tried if all(order["verdict"] for order in one["orders"])]
        flips = sum(one["outcome"] == "orders-disagree" for one in tried)
        judge: dict[str, Any] = {"pairs judged": len(tried), "read in both orders": len(both)}
        if both:
            first = Counter(order["verdict"] for orders in both for order in orders)
            judge |= {
                "verdict changed with the order": round(flips / len(both), 4),
                "share of A among verdicts": round(first["A"] / first.total(), 4),
            }
            sure = mean_of_present([one["confidence"] for one in tried])
            judge |= {"mean confidence of verdicts": round(sure, 4)} if sure is not None else {}
            judge["judge is the model that was tuned"] = any(one.get("self_judge") for one in tried)
        if (longer := length_change(pool, verdicts)) is not None:
            judge["median length of corrected against given answers"] = longer
        return {
            **super().audit(pool, verdicts),
            "new answers": dict(sorted(Counter(found["correction"] for found in told).items())),
            "fates": dict(sorted(verdicts["fate"].value_counts().iter_rows())),
            "judge": judge,
        }

    def _corrected(self, known: str = "") -> Rule:
        says = (
            "the answer of a model tuned on what was kept was judged better in both orders, each with a confidence "
            f"above {self.min_verdict_confidence:g}, and took the answer's place{known}"
        )
        return Rule(name=_CORRECTED, says=says)

    def _case(self, row: Mapping[str, Any], one: Confidence, limit: float | None) -> Case:
        asked = asked_of(row)
        passed = self.passes(one.confidence, limit)
        last = row["messages"][-1] if row["messages"] else {}
        why = None
        if not asked.before:
            why = "no-question"
        elif "tool_calls" in (last.get("extra") or ""):
            why = "not-text"
        elif passed and self.candidates == "dropped":
            why = "not-asked"
        return Case(asked, passed, why, asked.target)

    def _verdict(self, row: Mapping[str, Any], one: Confidence, case: Case, limit: float | None) -> dict[str, Any]:
        calls = _keys([*case.written_by, *case.calls], one.evidence["calls"])
        scorings = _keys(case.scorings, one.evidence.get("scorings", ()))
        evidence = {**one.evidence, "correction": case.outcome, "why": in_words(case.outcome), "tried": case.tried}
        evidence |= {"calls": calls} | ({"scorings": scorings} if scorings else {})
        successor = None
        said = fate(one, self.passes(one.confidence, limit))
        if case.corrected:
            said |= {"fate": "edit", "reason": _CORRECTED}
            evidence |= {"given": shown(case.asked.target), "answer": shown(case.answer)}
            successor = [*row["messages"][:-1], {**row["messages"][-1], "content": case.answer}]
        return {"id": row["id"], **said, "evidence": canonical_json(evidence), "successor": successor}


def length_change(pool: pl.DataFrame, verdicts: pl.DataFrame) -> float | None:
    """Median of the new answer's length over the old one's, in characters: far from 1, the judge may prefer a length.

    None where nothing was corrected; an answer that was empty counts as one character.
    """
    edited = verdicts.filter(pl.col("fate") == "edit").select("id", new=answer_text("successor").str.len_chars())
    both = edited.join(pool.select("id", old=answer_text().fill_null("").str.len_chars()), on="id")
    ratio = both.select((pl.col("new") / pl.max_horizontal("old", 1)).median()).item() if both.height else None
    return None if ratio is None else round(float(ratio), 2)


def _keys(calls: Sequence[bytes], others: Sequence[str]) -> list[str]:
    """Call keys in hex, each once."""
    return list(dict.fromkeys([*(call.hex() for call in calls), *others]))
