"""Does the model already know the answer? SliCK's four categories, and what to do with each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import Reply, Request, Turn
from methods.asking.sampling import Draw, calls_of, failure_of, sample
from methods.conversation import content_at
from methods.keyed import keyed_hashes
from methods.texts.metrics import exact_match
from schemas.examples import VERDICTS, answer_text, conform
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import TOKENS_PER_WORD, Expected, FilterMethod, Using

Label = Literal["HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown"]
LABELS: tuple[Label, ...] = ("HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown")

_RULES = {
    "Unknown": "unknown-to-the-student",
    "WeaklyKnown": "weakly-known",
    "HighlyKnown": "highly-known",
    "MaybeKnown": "maybe-known",
}
_FAILED = "knowledge-not-measured"


class Knowledge(FilterMethod):
    """Sorts short factual answers by how well the student knows them, and drops the categories that are listed.

    Each question is asked in ``prompts`` random few-shot prompts whose examples come from the same source: one greedy
    answer and ``samples`` sampled ones each, compared by exact match. The score is the share of all answers that were
    right, in 0-1. Facts that are unknown to a model are learned late and push it to invent (keep MaybeKnown first).
    Answers of more than ``max_answer_words`` words are no facts to match and are kept without a category.

    Paper: Gekhman et al. 2024, https://arxiv.org/abs/2405.05904
    """

    method: Literal["knowledge"] = "knowledge"
    needs: ClassVar[frozenset[str]] = frozenset({"student"})

    drop: tuple[Label, ...] = Field(("Unknown",), description="categories that go")
    prompts: int = Field(10, ge=1, le=100, description="few-shot prompts per question")
    shots: int = Field(4, ge=0, le=32, description="examples in each prompt")
    samples: int = Field(16, ge=0, le=100, description="sampled answers per prompt, beside the greedy one")
    draw: Draw = Field(Draw(max_tokens=32, temperature=0.5, top_k=40), description="how the sampled answers are drawn")
    max_answer_words: int = Field(8, ge=1, description="longer answers are not asked about")

    def rules(self) -> Sequence[Rule]:
        """One rule per category, and one for questions that could not be asked."""
        return (
            *(Rule(name=_RULES[label], says=f"the student's knowledge of this answer is {label}") for label in LABELS),
            Rule(name=_FAILED, says="no question about it was answered, so nothing is known about it"),
        )

    def expected_calls(self, rows: int, words: float) -> Expected:
        """Every answer counted as short."""
        calls = rows * self.prompts * (1 + self.samples)
        return Expected(calls, int(calls * ((self.shots + 1) * words * TOKENS_PER_WORD + self.draw.max_tokens)))

    def reads(self) -> tuple[str, ...]:
        """The conversation."""
        return ("messages",)

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `FilterMethod`; the few-shot examples of a question depend on the seed and the ids of its source only."""
        texts = pool.select(
            "id", "source", asked=content_at(-2), answer=answer_text().fill_null("").str.strip_chars()
        ).with_columns(words=pl.col("answer").str.count_matches(r"\S+"))
        short = texts.with_row_index("at").filter((pl.col("words") > 0) & (pl.col("words") <= self.max_answer_words))
        seed = int(rng.integers(2**31))
        requests: list[Request] = []
        for rows in short.partition_by("source", maintain_order=True):
            requests += self._requests(rows, seed)
        order = pl.concat(short.partition_by("source", maintain_order=True)) if short.height else short
        replies = sample(using.student, requests, progress=using.progress, note="questions")
        each = self.prompts * (1 + self.samples)
        verdicts: dict[int, tuple[str, str | None, float | None, str]] = {}
        for n, row in enumerate(order.iter_rows(named=True)):
            verdicts[row["at"]] = self._verdict(replies[n * each : (n + 1) * each], row["answer"])
        rest = ("keep", None, None, None)
        columns = [verdicts.get(at, rest) for at in range(pool.height)]
        return conform(
            pl.DataFrame(
                {
                    "id": pool["id"],
                    "fate": [c[0] for c in columns],
                    "reason": pl.Series([c[1] for c in columns], dtype=pl.String),
                    "score": pl.Series([c[2] for c in columns], dtype=pl.Float64),
                    "evidence": pl.Series([c[3] for c in columns], dtype=pl.String),
                }
            ),
            VERDICTS,
            "filter/knowledge",
        )

    def audit(self, pool: pl.DataFrame, verdicts: pl.DataFrame) -> Mapping[str, Any]:
        """Share of each category among the examples that were asked about."""
        labels = [json.loads(text).get("category", "not measured") for text in verdicts["evidence"].drop_nulls()]
        return {
            "knowledge of the student": {
                n: labels.count(n) / len(labels) for n in (*LABELS, "not measured") if n in labels
            }
        }

    def _requests(self, rows: pl.DataFrame, seed: int) -> list[Request]:
        greedy = Draw(max_tokens=self.draw.max_tokens).sampling()
        requests: list[Request] = []
        said = rows.select("asked", "answer").rows()
        rings = [np.argsort(keyed_hashes(rows["id"], seed + prompt), kind="stable") for prompt in range(self.prompts)]
        places = [np.argsort(ring) for ring in rings]
        for i, (asked, _) in enumerate(said):
            for ring, place in zip(rings, places, strict=True):
                # The next ones after this example on a ring that the seed and the ids decide.
                after = (int(place[i]) + 1 + np.arange(min(self.shots, len(said) - 1))) % len(said)
                shots = [int(j) for j in ring[after]]
                turns: list[Turn] = []
                for j in shots:
                    turns += [Turn("user", said[j][0]), Turn("assistant", said[j][1])]
                messages = (*turns, Turn("user", asked))
                requests.append(Request(messages=messages, sampling=greedy))
                drawn = self.draw.sampling(seed=seed)
                requests += [Request(messages=messages, sampling=replace(drawn, index=k)) for k in range(self.samples)]
        return requests

    def _verdict(self, replies: Sequence[Reply], answer: str) -> tuple[str, str | None, float | None, str]:
        per = 1 + self.samples
        right = [
            None if failure_of(reply, complete=False) else bool(exact_match(reply.text.strip().splitlines()[0], answer))
            for reply in replies
        ]
        greedy = [r for i, r in enumerate(right) if i % per == 0 and r is not None]
        sampled = [r for i, r in enumerate(right) if i % per and r is not None]
        calls = [call.hex() for call in calls_of(replies[:8])]
        if not greedy:
            return "quarantine", _FAILED, None, canonical_json({"failed": len(right), "calls": calls})
        label = category(sum(greedy), len(greedy), sum(sampled))
        known = {"category": label, "greedy": [sum(greedy), len(greedy)], "sampled": [sum(sampled), len(sampled)]}
        score = (sum(greedy) + sum(sampled)) / (len(greedy) + len(sampled))
        goes = label in self.drop
        return (
            "reject" if goes else "keep",
            _RULES[label] if goes else None,
            score,
            canonical_json(known | {"calls": calls}),
        )


def category(greedy_correct: int, greedy_total: int, sampled_correct: int) -> Label:
    """SliCK's category of one answer.

    >>> category(10, 10, 0), category(1, 10, 0), category(0, 10, 1), category(0, 10, 0)
    ('HighlyKnown', 'MaybeKnown', 'WeaklyKnown', 'Unknown')
    """
    if greedy_correct == greedy_total:
        return "HighlyKnown"
    if greedy_correct:
        return "MaybeKnown"
    return "WeaklyKnown" if sampled_correct else "Unknown"
