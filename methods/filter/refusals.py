"""Answers that refuse: found by how they begin, sorted into sixteen categories, reported as a composition."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from methods.conversation import content_at
from methods.texts.refusals import CATEGORIES, CATEGORY_IDS, categories_of, refusal_phrase
from methods.texts.words import normalized
from methods.verdicts import keep_or_reject
from schemas.examples import answer_text, prompt_text
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import FilterMethod, Using

_RULE = "refusal"
_CONTRADICTION = "refused-and-answered"


class Refusals(FilterMethod):
    """Drops answers that refuse, all of them or those of some categories; what stays is reported by category.

    A refusal is told by the phrases of its first two sentences. Its category, one of sixteen on two axes (*cannot*:
    capability, *should not*: policy), is the one whose definition and examples lie nearest to prompt and answer in
    embedding space; the score is that cosine, in [-1, 1], and is null for answers that do not refuse. People agree only
    moderately on categories, so read them as a composition, not as truths about rows.

    Paper: von Recum et al. 2024, Cannot or Should Not?, https://arxiv.org/abs/2412.16974
    """

    method: Literal["refusals"] = "refusals"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})

    drop: Literal["all", "cannot", "should-not", "none"] = Field(
        "cannot",
        description="which refusals go: those of capability do harm in a training set, those of policy may be wanted",
    )
    drop_categories: tuple[str, ...] = Field((), description="further categories that go, by id (see the report)")
    contradictions: bool = Field(
        True, description="drop a refusal whose very prompt another example of the pool answers, whatever its category"
    )

    @field_validator("drop_categories")
    @classmethod
    def _are_known(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(given) - set(CATEGORY_IDS))
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no such category; there are {', '.join(CATEGORY_IDS)}")
        return given

    def rules(self) -> Sequence[Rule]:
        """``refused-and-answered`` and one rule per category."""
        return (
            Rule(name=_CONTRADICTION, says="the answer refuses what another example of the pool answers"),
            *(
                Rule(name=f"{_RULE}-{category.id}", says=f"the answer refuses ({category.axis}: {category.says})")
                for category in CATEGORIES
            ),
        )

    def reads(self) -> tuple[str, ...]:
        """The conversation."""
        return ("messages",)

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `FilterMethod`; draws no number. Contradictions are looked for in the whole pool."""
        texts = pool.select(
            prompt=prompt_text().fill_null(""),
            asked=content_at(-2),
            answer=answer_text().fill_null(""),
        )
        asked = [normalized(text) for text in texts["asked"].to_list()]
        phrases = [refusal_phrase(text) for text in texts["answer"].to_list()]
        refused = np.array([phrase is not None for phrase in phrases], dtype=bool)
        rows = np.flatnonzero(refused)
        category = np.full(pool.height, "", dtype=object)
        score = np.full(pool.height, np.nan)
        if len(rows):
            said = [f"{texts['prompt'][int(i)][-1000:]}\n\n{texts['answer'][int(i)][:1000]}" for i in rows]
            names, cosines = categories_of(said, using.embed)
            category[rows], score[rows] = names, cosines
        answered = {text for text, no in zip(asked, refused, strict=True) if not no} - {""}
        reasons: list[str | None] = []
        evidence: list[str | None] = []
        for i in range(pool.height):
            name = str(category[i])
            clash = bool(refused[i]) and self.contradictions and asked[i] in answered
            goes = bool(refused[i]) and (clash or self._drops(name))
            reasons.append(None if not goes else _CONTRADICTION if clash else f"{_RULE}-{name}")
            evidence.append(canonical_json({"category": name, "phrase": phrases[i]}) if refused[i] else None)
        return keep_or_reject(pool["id"], reasons, score=score, evidence=evidence)

    def audit(self, pool: pl.DataFrame, verdicts: pl.DataFrame) -> Mapping[str, Any]:
        """Share of every category, ``none`` included; the shares of the pool and of each source sum to 1."""
        found = verdicts.select(
            "id",
            pl.col("evidence")
            .map_elements(lambda text: str(json.loads(text)["category"]), return_dtype=pl.String)
            .fill_null("none")
            .alias("category"),
        ).join(pool.select("id", "source"), on="id", how="left")
        table: dict[str, Any] = {"refusals by category": shares(found["category"])}
        for source in found["source"].unique().sort().to_list()[:20]:
            table[f"refusals in {source}"] = shares(found.filter(pl.col("source") == source)["category"])
        return table

    def _drops(self, category: str) -> bool:
        axis = next(c.axis for c in CATEGORIES if c.id == category)
        return self.drop == "all" or self.drop == axis or category in self.drop_categories


def shares(labels: pl.Series) -> dict[str, float]:
    """Share of each label, largest first; they sum to 1.

    >>> shares(pl.Series(["none", "none", "privacy", "none"]))
    {'none': 0.75, 'privacy': 0.25}
    """
    counts = labels.alias("label").value_counts(sort=True).sort(["count", "label"], descending=[True, False])
    return {str(label): count / labels.len() for label, count in counts.iter_rows()}
