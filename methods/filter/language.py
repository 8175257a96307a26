"""Keep the languages that are wanted: identified by script and n-grams, undecided where the text is too short to tell."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from methods.texts.languages import Told, known_languages, languages_of
from methods.verdicts import keep_or_reject
from schemas.errors import UsageError
from schemas.examples import answer_text, prompt_text
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import FilterMethod, Using

_OTHER, _UNSURE, _MIXED = "other-language", "undecided-language", "answer-in-another-language"


class Language(FilterMethod):
    """Drops examples that are not in the languages asked for, or that answer in another language than they were asked.

    The score is the identifier's probability for the language it names, in 0-1. Code, numbers and texts of fewer than
    ``min_letters`` letters are undecided, which is no reason to drop them unless ``undecided: drop`` says so. A prompt
    that asks for a translation, or names a language, may be answered in another one.

    Paper: Lui & Baldwin 2012, langid.py, https://aclanthology.org/P12-3005 (the identifier, as packaged in py3langid).
    """

    method: Literal["language"] = "language"
    per_example: ClassVar[bool] = True

    allow: tuple[str, ...] = Field(("en",), min_length=1, description="ISO 639-1 codes of the languages that stay")
    of: Literal["prompt", "answer", "both"] = Field("both", description="which text must be in an allowed language")
    min_probability: float = Field(0.8, ge=0, le=1, description="below this the identifier counts as undecided")
    min_letters: int = Field(20, ge=1, description="texts with fewer letters are undecided")
    undecided: Literal["keep", "drop"] = Field(
        "keep", description="what happens to texts that could be in any language"
    )
    same_language: bool = Field(True, description="drop answers in another language than the prompt's")

    @field_validator("allow")
    @classmethod
    def _are_codes(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        odd = [code for code in allow if not re.fullmatch("[a-z]{2,3}", code)]
        if odd:
            raise ValueError(f"{odd[0]!r} is no language code; codes are written as in en, de or zh")
        return allow

    def rules(self) -> Sequence[Rule]:
        """``other-language``, ``answer-in-another-language``, ``undecided-language``."""
        allowed = ", ".join(self.allow)
        return (
            Rule(
                name=_OTHER,
                says=f"the text is in a language other than {allowed}",
                threshold=self.min_probability,
                direction="none",
            ),
            Rule(name=_MIXED, says="the answer is in another language than the prompt, which did not ask for that"),
            Rule(name=_UNSURE, says="no language could be told with enough certainty"),
        )

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `FilterMethod`; calls no engine and draws no number. ``UsageError`` for a code that is never told."""
        if unknown := sorted(set(self.allow) - (known := known_languages())):
            raise UsageError(
                f"allow: {unknown[0]!r} is no language that can be told; there are {', '.join(sorted(known))}"
            )
        texts = pool.select(prompt=prompt_text(), answer=answer_text())
        told = {
            side: languages_of(texts[side], self.min_letters, self.min_probability) for side in ("prompt", "answer")
        }
        asks = texts.select(
            pl.col("prompt").fill_null("").str.head(2000).str.contains(_ASKS_FOR_ANOTHER).alias("asks")
        )["asks"]
        reasons: list[str | None] = []
        scores: list[float] = []
        evidence: list[str | None] = []
        for prompt, answer, may_differ in zip(told["prompt"], told["answer"], asks, strict=True):
            reason, score, found = self._verdict(prompt, answer, bool(may_differ))
            reasons.append(reason)
            scores.append(score)
            evidence.append(canonical_json(found) if reason else None)
        return keep_or_reject(pool["id"], reasons, score=np.array(scores), evidence=evidence)

    def _verdict(self, prompt: Told, answer: Told, may_differ: bool) -> tuple[str | None, float, dict[str, Any]]:
        found = {"prompt": prompt.code or "undecided", "answer": answer.code or "undecided"}
        looked = {"prompt": [prompt], "answer": [answer], "both": [prompt, answer]}[self.of]
        for side in looked:
            if side.code and side.code not in self.allow:
                return _OTHER, side.probability, found
        decided = [side for side in looked if side.code]
        score = min((side.probability for side in decided), default=float("nan"))
        if self.same_language and prompt.code and answer.code and prompt.code != answer.code and not may_differ:
            return _MIXED, score, found
        if self.undecided == "drop" and not decided:
            return _UNSURE, score, found
        return None, score, found

    def audit(self, pool: pl.DataFrame, verdicts: pl.DataFrame) -> Mapping[str, Any]:
        """Examples per language of the answer."""
        told = languages_of(pool.select(text=answer_text())["text"], self.min_letters, self.min_probability)
        counts: dict[str, int] = {}
        for one in told:
            counts[one.code or "undecided"] = counts.get(one.code or "undecided", 0) + 1
        return {"answers by language": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))}


#: A prompt with one of these may be answered in another language.
_ASKS_FOR_ANOTHER = (
    r"(?i)\b(translat\w*|übersetz\w*|tradu\w+|перевед\w*|翻译|翻訳|in (english|spanish|french|german|italian|portuguese|"
    r"chinese|japanese|korean|russian|arabic|hindi|latin)|(english|spanish|french|german|italian|portuguese|chinese|"
    r"japanese|korean|russian|arabic|hindi|latin|persian|language)\b)|翻译|翻訳|번역"
)
