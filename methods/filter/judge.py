"""Keep what a judge rates well, with the hygiene that makes a judge's number worth something."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import Reply, Request, Turn
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw, calls_of, failure_of, sample
from methods.filter._rating import Rating, cut_ratings, rating_of
from methods.keyed import keyed_hashes
from methods.measuring.calibration import calibration, judge_called, own_family
from methods.stats import spearman
from schemas.examples import VERDICTS, answer_text, conform, prompt_text
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import TOKENS_PER_WORD, Expected, FilterMethod, Using

_LOW, _UNPARSED, _FAILED = "low-rating", "rating-unparsed", "rating-call-failed"


class Judge(Prompted, FilterMethod):
    """Keeps examples that a judge rates at ``min_rating`` or more, from 0 to 5: the lowest mean over the aspects.

    Each aspect is rated apart, so that style does not stand in for truth. A reply without a number, and a call that
    failed, are classes of their own: the example is quarantined, never given a default. The step's audit reports what a
    reader needs to trust it: whether judge and writer are of one family, how often it failed to parse, the rank
    correlation of rating and length, canaries (the same question with another example's answer must rate lower), and,
    where ``label_field`` names human labels, true positive and negative rates, kappa and the corrected share.

    Paper: Chen et al. 2024, AlpaGasus, https://arxiv.org/abs/2307.08701; hygiene after Panickssery et al. 2024,
    https://arxiv.org/abs/2404.13076, and Rogan & Gladen 1978, https://doi.org/10.1093/oxfordjournals.aje.a112510
    """

    method: Literal["judge"] = "judge"
    version: ClassVar[int] = 2
    needs: ClassVar[frozenset[str]] = frozenset({"judge"})
    speaks: ClassVar[tuple[str, ...]] = ("rate",)

    aspects: tuple[str, ...] = Field(("accuracy",), min_length=1, description="what is rated, one call each")
    min_rating: float = Field(4.5, ge=0, le=5, description="keep examples at or above this")
    votes: int = Field(1, ge=1, le=15, description="replies per aspect; more than one needs a temperature")
    canaries: int = Field(8, ge=0, description="examples asked about again with another example's answer")
    written_by: tuple[str, ...] = Field(
        (),
        description="models that wrote the answers: the audit says whether the judge is of their family, by the names",
    )
    label_field: str | None = Field(
        None, description="field of the original rows with a human label (true = good), to calibrate against"
    )
    max_characters: int = Field(6000, ge=100, description="longer prompts and answers are shown by their beginning")
    draw: Draw = Field(Draw(max_tokens=96), description="how ratings are drawn")

    def rules(self) -> Sequence[Rule]:
        """``low-rating``, and the two ways of not knowing."""
        return (
            Rule(name=_LOW, says="a judge rates it low", threshold=self.min_rating, direction="keep-above"),
            Rule(name=_UNPARSED, says="the judge gave no number on the first line"),
            Rule(name=_FAILED, says="the judge could not be asked"),
        )

    def expected_calls(self, rows: int, words: float) -> Expected:
        """One call per vote and aspect, and the canaries."""
        calls = (rows + min(self.canaries, rows)) * self.votes * len(self.aspects)
        return Expected(calls, int(calls * (words * TOKENS_PER_WORD + 90 + self.draw.max_tokens)))

    def reads(self) -> tuple[str, ...]:
        """The conversation, and the field that holds a human label."""
        return ("messages", "extra")

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `FilterMethod`; which examples are canaries follows from the seed and their ids."""
        texts = pool.select(
            prompt=prompt_text().fill_null("").str.head(self.max_characters),
            answer=answer_text().fill_null("").str.head(self.max_characters),
        )
        prompts, answers = texts["prompt"].to_list(), texts["answer"].to_list()
        birds = canary_rows(pool["id"], answers, self.canaries, int(rng.integers(2**31)))
        pairs = list(zip(prompts, answers, strict=True)) + [(prompts[i], answers[j]) for i, j in birds]
        each = len(self.aspects) * self.votes
        replies = sample(using.judge, self._requests(pairs), progress=using.progress, note="ratings")
        rated = [self._rated(replies[i * each : (i + 1) * each]) for i in range(len(pairs))]
        swapped = {i: rated[pool.height + n].value for n, (i, _) in enumerate(birds)}
        judge = judge_called(using.judge.identity(), replies)
        rows = []
        for i, id_ in enumerate(pool["id"]):
            one = rated[i]
            fate, reason = "keep", None
            if one.value is None:
                fate, reason = "quarantine", _UNPARSED if one.heard else _FAILED
            elif one.value < self.min_rating:
                fate, reason = "reject", _LOW
            evidence: dict[str, Any] = {"ratings": one.by_aspect, "calls": one.calls, "judge": judge}
            if i in swapped:
                evidence["canary"] = swapped[i]
            rows.append((id_, fate, reason, one.value, canonical_json(evidence)))
        return conform(
            pl.DataFrame(rows, {n: VERDICTS[n] for n in ("id", "fate", "reason", "score", "evidence")}, orient="row"),
            VERDICTS,
            "filter/judge",
        )

    def audit(self, pool: pl.DataFrame, verdicts: pl.DataFrame) -> Mapping[str, Any]:
        """What speaks for and against trusting these ratings."""
        aligned = pool.select("id", "extra", chars=answer_text().str.len_chars()).join(verdicts, on="id", how="left")
        found = [json.loads(text) for text in aligned["evidence"].to_list()]
        judge = str(found[0]["judge"]) if found else ""
        table: dict[str, Any] = {
            "judge": judge or "unknown",
            "judge of the writers' own family": own_family(judge, self.written_by),
            "ratings": cut_ratings(aligned["score"]),
            "not rated": int(aligned["score"].null_count()),
        }
        scored = aligned.filter(pl.col("score").is_not_null())
        if scored.height > 2 and scored["score"].n_unique() > 1 and scored["chars"].n_unique() > 1:
            table["rank correlation of rating and answer length"] = round(
                spearman(scored["score"].to_numpy(), scored["chars"].to_numpy()), 4
            )
        birds = [
            (score, one["canary"])
            for score, one in zip(aligned["score"].to_list(), found, strict=True)
            if one.get("canary") is not None and score is not None
        ]
        if birds:
            lower = sum(other < own for own, other in birds)
            table["canaries: another answer rated lower"] = {"yes": lower, "no": len(birds) - lower}
        if self.label_field:
            table["against human labels"] = calibration(
                [_label(text, self.label_field) for text in aligned["extra"].to_list()],
                [None if s is None else s >= self.min_rating for s in aligned["score"].to_list()],
            )
        return table

    def _requests(self, pairs: Sequence[tuple[str, str]]) -> list[Request]:
        prompt = self.prompt("rate")
        return [
            Request(
                messages=(Turn("user", prompt.render(prompt=asked, answer=said, aspect=aspect)),),
                sampling=self.draw.sampling(index=vote),
            )
            for asked, said in pairs
            for aspect in self.aspects
            for vote in range(self.votes)
        ]

    def _rated(self, replies: Sequence[Reply]) -> Rating:
        by_aspect: dict[str, float | None] = {}
        heard = 0
        for n, aspect in enumerate(self.aspects):
            own = replies[n * self.votes : (n + 1) * self.votes]
            usable = [reply for reply in own if failure_of(reply, complete=False) is None]
            heard += len(usable)
            values = [value for reply in usable if (value := rating_of(reply.text)) is not None]
            by_aspect[aspect] = sum(values) / len(values) if values else None
        known = [value for value in by_aspect.values() if value is not None]
        whole = min(known) if len(known) == len(self.aspects) else None
        return Rating(whole, by_aspect, heard, [call.hex() for call in calls_of(replies)])


def canary_rows(ids: pl.Series, answers: Sequence[str], count: int, seed: int) -> list[tuple[int, int]]:
    """Pairs of rows: the question of one with the answer of the next in keyed order, answers being different."""
    order = [int(i) for i in np.argsort(keyed_hashes(ids, seed), kind="stable")]
    pairs = [(a, b) for a, b in pairwise(order) if answers[a] != answers[b]]
    return pairs[:count]


def _label(extra: str | None, name: str) -> bool | None:
    value = json.loads(extra).get(name) if extra else None
    return value if isinstance(value, bool) else None
