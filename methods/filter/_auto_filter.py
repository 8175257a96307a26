"""CLEAR's auto-filter, as both of its methods have it: the settings of a confidence, a threshold, and what is said of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from backends.protocols import FailureClass
from methods.asking.agreement import mean_of_present
from methods.asking.parsing import Unparsed, after_marker
from methods.asking.prompt_files import Prompt
from methods.asking.prompted import Prompted
from methods.asking.sampling import Draw
from methods.filter._bsdetector import LETTER_SCORES
from methods.filter._confidence import Confidence, Consistency, Likelihood
from schemas.lineage import Rule
from schemas.method import TOKENS_PER_WORD, Expected, FilterMethod

LOW = "low-confidence"
NO_CONFIDENCE = "no-confidence-"


class Quantile(BaseModel):
    """Keep what lies above this quantile of the pool's own confidences; 0.5 is their median."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    quantile: float = Field(ge=0, le=1)


class Value(BaseModel):
    """Keep what lies above this confidence."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    value: float = Field(ge=0, le=1)


class LetterReplies(BaseModel):
    """The complete replies that state each letter, as the model would write them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    A: tuple[str, ...] = Field(default=("answer: A",), min_length=1)
    B: tuple[str, ...] = Field(default=("answer: B",), min_length=1)
    C: tuple[str, ...] = Field(default=("answer: C",), min_length=1)


class AutoFilter(Prompted, FilterMethod):
    """The settings of a confidence and of its threshold."""

    speaks: ClassVar[tuple[str, ...]] = ("reflect",)
    per_example: ClassVar[bool] = False  # a quantile depends on the whole pool; `confidences` does not

    threshold: Quantile | Value = Field(Quantile(quantile=0.5), description="{quantile: q} of the pool, or {value: x}")
    keep_ties: bool = Field(False, description="whether an example exactly at the threshold is kept (the paper: no)")
    samples: int = Field(5, ge=0, le=64, description="answers drawn per example; 0: reflection only")
    reflections: int = Field(2, ge=0, le=8, description="times the model is asked whether the answer is right")
    consistency: Consistency = Field(
        "nli", description="a sample against the given answer: not contradicted in either direction, or exactly equal"
    )
    reflection: Literal["reply", "letter-probability"] = Field(
        "reply", description="the letter the model writes, or the probability of each letter"
    )
    likelihood: Likelihood = Field(
        "none",
        description="score the answer's tokens too: their mean probability, or how much the question raises it (gain)",
    )
    alpha: float = Field(0.8, ge=0, le=1, description="weight of agreement against exact equality of a sample")
    beta: float = Field(0.7, ge=0, le=1, description="weight of the samples against the reflections")
    likelihood_weight: float = Field(
        0.3, gt=0, le=1, description="with likelihood: its weight against samples and reflections together"
    )
    reason_first: str = Field(
        "", description="asks each sample for reasoning that ends with 'answer: …', which alone is compared"
    )
    letter_replies: LetterReplies = Field(LetterReplies(), description="with letter-probability: what is scored")
    draw: Draw = Field(Draw(max_tokens=512, temperature=1.0), description="how samples are drawn")
    reflect_draw: Draw = Field(Draw(max_tokens=128), description="how reflections are drawn")

    @model_validator(mode="after")
    def _is_possible(self) -> "AutoFilter":
        if not self.samples and not self.reflections and self.likelihood == "none":
            raise ValueError(
                "samples and reflections are both 0, so nothing would be asked; raise one of them, or set likelihood"
            )
        return self

    def reads(self) -> tuple[str, ...]:
        """The conversation."""
        return ("messages",)

    @property
    def scored_replies(self) -> Mapping[str, tuple[str, ...]]:
        """The replies whose probabilities are compared, by letter."""
        return {letter: getattr(self.letter_replies, letter) for letter in LETTER_SCORES}

    @property
    def reflect_prompt(self) -> Prompt:
        """The first reflection, whose wording ``again`` is every further one, in the same conversation."""
        return self.prompt("reflect")

    def sample_text(self, reply: str) -> str | Unparsed:
        """What of a sample is compared with the answer."""
        return after_marker(reply) if self.reason_first else reply.strip()

    def confidence_calls(self, rows: int, words: float) -> Expected:
        """``samples`` replies, ``reflections`` questions (all letters, where they are scored) and scorings a row."""
        scored = self.reflection == "letter-probability"
        letters = sum(len(replies) for replies in self.scored_replies.values()) if scored else 1
        asked = self.reflections * letters + {"none": 0, "probability": 1, "gain": 2}[self.likelihood]
        prompt = words * TOKENS_PER_WORD
        reply = self.samples * self.draw.max_tokens + (0 if scored else self.reflections * self.reflect_draw.max_tokens)
        return Expected(
            rows * (self.samples + asked), round(rows * ((self.samples + asked) * prompt + reply + asked * 60))
        )

    def realised_threshold(self, scores: Sequence[float | None]) -> float | None:
        """The confidence that must be exceeded; None when a quantile is wanted of no confidences at all."""
        if isinstance(self.threshold, Value):
            return self.threshold.value
        present = [score for score in scores if score is not None]
        return float(np.quantile(present, self.threshold.quantile)) if present else None

    def passes(self, confidence: float | None, limit: float | None) -> bool:
        """Whether a confidence is above the threshold (or, with ``keep_ties``, at it)."""
        if confidence is None or limit is None:
            return False
        limit = float(np.float32(limit))  # as confidences are stored, so that 0.85 ties with 0.85
        return confidence > limit or (self.keep_ties and confidence == limit)

    def low_confidence(self, limit: float | None, known: str = "") -> Rule:
        """The rule of the threshold; ``known`` is what is known after judging."""
        below = "below" if self.keep_ties else "not above"
        says = f"the model's confidence in the given answer is {below} the threshold{known}"
        return Rule(name=LOW, says=says, threshold=limit, direction="none" if limit is None else "keep-above")

    def fixed_limit(self) -> float | None:
        """The threshold where it is known before judging."""
        return self.threshold.value if isinstance(self.threshold, Value) else None

    def audit(self, pool: pl.DataFrame, verdicts: pl.DataFrame) -> Mapping[str, Any]:
        """The realised threshold and share, the mean of each signal, and the calls that could not be used."""
        scores = verdicts["score"].to_list()
        limit = self.realised_threshold(scores)
        told = [json.loads(text) for text in verdicts["evidence"].drop_nulls()]
        present = [score for score in scores if score is not None]
        passed = sum(self.passes(score, limit) for score in present)
        filtered: dict[str, Any] = {
            "threshold": _rounded(limit),
            "examples": len(scores),
            "with a confidence": len(present),
        }
        if scores:
            filtered |= {"above the threshold": passed, "share above it": round(passed / len(scores), 4)}
        signals = {
            name: _rounded(mean_of_present([one.get(key) for one in told]))
            for name, key in (("samples (O)", "O"), ("reflections (S)", "S"), ("token probabilities (L)", "L"))
        }
        signals["confidence"] = _rounded(mean_of_present(scores))
        found: dict[str, Any] = {
            "auto-filter": filtered,
            "mean of each signal": {name: value for name, value in signals.items() if value is not None},
        }
        if left := left_out(verdicts):
            found["samples and reflections left out"] = left
        return found

    def shares(self, scores: Sequence[float | None], limit: float | None) -> str:
        """The realised share above the threshold, and how many tie with it."""
        present = [score for score in scores if score is not None]
        if not present or limit is None:
            return "; there were no confidences"
        kept = sum(self.passes(score, limit) for score in present)
        ties = sum(score == float(np.float32(limit)) for score in present)
        said = f"; kept {kept} of {len(scores)} ({kept / len(scores):.1%})"
        if not ties:
            return said
        way_out = "" if kept or self.keep_ties else " (`keep_ties: true` keeps them)"
        return f"{said}, {ties} equal to the threshold are {'kept' if self.keep_ties else 'dropped'}{way_out}"


#: Every way in which there is no confidence.
NO_CONFIDENCES = tuple(f"{NO_CONFIDENCE}{name}" for name in (*get_args(FailureClass), "unparsed", "no-answer"))


def no_confidence(name: str) -> Rule:
    """The rule of one class of failure."""
    how = name.removeprefix(NO_CONFIDENCE)
    if how == "no-answer":
        return Rule(name=name, says="the example has no question, or no answer as its last turn, to be confident in")
    return Rule(name=name, says=f"no sample and no reflection could be had, most often because of: {how}")


def no_confidences_in(verdicts: pl.DataFrame) -> list[Rule]:
    """The rules of the classes that occurred."""
    given = [name for name in verdicts["reason"].unique() if name and name.startswith(NO_CONFIDENCE)]
    return [no_confidence(name) for name in sorted(given)]


def fate(one: Confidence, passed: bool) -> dict[str, Any]:
    """Columns ``fate``, ``reason`` and ``score`` of the auto-filter."""
    if one.confidence is None:
        return {"fate": "quarantine", "reason": f"{NO_CONFIDENCE}{one.failure}", "score": None}
    return {"fate": "keep" if passed else "reject", "reason": None if passed else LOW, "score": one.confidence}


def left_out(verdicts: pl.DataFrame) -> dict[str, int]:
    """How many calls could not be used, by class, over all examples."""
    counts: dict[str, int] = {}
    for text in verdicts["evidence"].drop_nulls():
        for name, count in json.loads(text).get("failures", {}).items():
            counts[name] = counts.get(name, 0) + count
    return dict(sorted(counts.items()))


def unusable(verdicts: pl.DataFrame) -> str:
    """The same in words, empty where all could be used."""
    said = ", ".join(f"{name} {count}" for name, count in left_out(verdicts).items())
    return f"; samples and reflections left out: {said}" if said else ""


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
