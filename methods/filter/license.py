"""Which licences may be in the set: by name, by use, and by the terms of the teacher that wrote a row."""

import re
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.texts.licenses import NON_COMMERCIAL, TEACHER_TERMS, parts_of
from methods.verdicts import keep_or_reject
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import FilterMethod, Using


class License(FilterMethod):
    """Drops examples whose licence does not permit the use; it has no score.

    A made example carries the licences of everything it was made from, joined by AND, and the teacher's terms where the
    recipe states them (``generate: {license: …}``); it is dropped if any of them is not permitted. The same question
    stands again before training, over the whole set (the gate's licence check).

    Paper: Longpre et al. 2023, The Data Provenance Initiative, https://arxiv.org/abs/2310.16787
    """

    method: Literal["license"] = "license"
    per_example: ClassVar[bool] = True

    commercial: bool = Field(True, description="drop what is for non-commercial use only")
    teacher_terms: Literal["keep", "drop"] = Field(
        "keep", description="drop: what a teacher wrote whose terms forbid training other models (LicenseRef-…-terms)"
    )
    unknown: Literal["keep", "drop"] = Field("keep", description="what happens to examples that state no licence")
    allow: tuple[str, ...] = Field(
        (), description="if given, only these licences stay (names as the sources state them)"
    )
    deny: tuple[str, ...] = Field((), description="licences that never stay")

    def rules(self) -> Sequence[Rule]:
        """``non-commercial-license``, ``teacher-terms``, ``unknown-license``, ``license-not-allowed``."""
        return (
            Rule(name="non-commercial-license", says="a licence forbids commercial use"),
            Rule(name="teacher-terms", says="the terms of the model that wrote it forbid training other models on it"),
            Rule(name="unknown-license", says="no licence is stated"),
            Rule(name="license-not-allowed", says="a licence is denied, or not among those allowed"),
        )

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `FilterMethod`; calls no engine and draws no number."""
        stated = pool["license"].to_list()
        verdict = {name: self._reason(name) for name in set(stated)}
        reasons = [verdict[name] for name in stated]
        evidence = [canonical_json({"license": name}) if verdict[name] else None for name in stated]
        return keep_or_reject(pool["id"], reasons, evidence=evidence)

    def _reason(self, stated: str | None) -> str | None:
        parts = parts_of(stated)
        if not parts:
            return "unknown-license" if self.unknown == "drop" else None
        if self.commercial and any(re.search(NON_COMMERCIAL, part) for part in parts):
            return "non-commercial-license"
        if self.teacher_terms == "drop" and any(re.search(TEACHER_TERMS, part) for part in parts):
            return "teacher-terms"
        denied = {name.casefold() for name in self.deny}
        allowed = {name.casefold() for name in self.allow}
        if any(part.casefold() in denied for part in parts):
            return "license-not-allowed"
        if allowed and any(part.casefold() not in allowed for part in parts):
            return "license-not-allowed"
        return None
