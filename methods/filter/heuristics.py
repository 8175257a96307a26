"""Rules of thumb for instruction data: examples that are broken, not examples that are unlike a web page.

Web-page filters throw away "The answer is 42.", code and lists; none of these rules does. Each rejected example names
one rule and what was found where; the other rules it also breaks stand beside it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import polars as pl
from pydantic import Field

from methods.filter import _signs as signs
from methods.filter._repetition import Repetition, repetition_of
from methods.texts.ngrams import word_streams
from methods.verdicts import keep_or_reject
from schemas.identity import canonical_json
from schemas.lineage import Rule
from schemas.method import FilterMethod, Using

Sign = Literal[
    "bad-turn-order", "empty-answer", "empty-prompt", "empty-turn", "control-characters", "hidden-characters",
    "template-leftover", "placeholder", "lorem-ipsum", "url-only", "prompt-echo", "same-as-worse", "boilerplate-opener",
    "ngram-loop", "repeated-ngrams", "truncated-ending",
    "prompt-too-short", "prompt-too-long", "answer-too-short", "answer-too-long",
]  # fmt: skip

_LENGTHS = ("prompt-too-short", "prompt-too-long", "answer-too-short", "answer-too-long")


class Heuristics(FilterMethod):
    """Drops examples that are visibly broken: empty, garbled, cut off, looping, echoing, full of leftovers.

    Score: the share that repeats, for the two repetition rules; words, for the length rules; else none.

    Paper: none, baseline. The repetition rules follow Rae et al. 2021, Gopher (https://arxiv.org/abs/2112.11446), table
    A1, but only in answers of ``min_repetition_words`` words or more; code is exempt, and may loop four times as often.
    """

    method: Literal["heuristics"] = "heuristics"
    version: ClassVar[int] = 2
    per_example: ClassVar[bool] = True

    skip: tuple[Sign, ...] = Field((), description="rules not to apply")
    placeholders: tuple[str, ...] = Field(signs.PLACEHOLDERS, description="leftovers that nobody filled in, any case")
    template_tokens: tuple[str, ...] = Field(signs.TEMPLATE_TOKENS, description="markup of chat templates, any case")
    openers: tuple[str, ...] = Field(signs.OPENERS, description="words an answer must not begin with, any case")
    min_echo_words: int = Field(5, ge=1, description="an answer may repeat a question shorter than this")
    min_repetition_words: int = Field(50, ge=1, description="repetition is judged in answers of at least this length")
    max_repeated_fraction: float = Field(
        0.6, ge=0, le=1, description="largest share of an answer's 5-grams that occurred earlier in it"
    )
    max_loop_fraction: float = Field(
        0.3,
        ge=0,
        le=1,
        description="largest share of an answer's words (of its characters, where it has hardly any words) in one unit said "
        "over and over",
    )
    min_loop_times: int = Field(8, ge=3, description="how often in a row a unit is said before it counts as a loop")
    min_unmarked_words: int = Field(
        100, ge=1, description="prose of this length that ends without any end mark counts as broken off"
    )
    min_prompt_words: int | None = Field(None, ge=0, description="shorter prompts are dropped; off by default")
    max_prompt_words: int | None = Field(None, ge=0, description="longer prompts are dropped; off by default")
    min_answer_words: int | None = Field(None, ge=0, description="shorter answers are dropped; off by default")
    max_answer_words: int | None = Field(None, ge=0, description="longer answers are dropped; off by default")

    def rules(self) -> Sequence[Rule]:
        """The rules in force, in the order in which the first one that applies is named."""
        thresholds: Mapping[str, tuple[float | None, Literal["keep-above", "keep-below"]]] = {
            "repeated-ngrams": (self.max_repeated_fraction, "keep-below"),
            "ngram-loop": (self.max_loop_fraction, "keep-below"),
            "prompt-too-short": (self.min_prompt_words, "keep-above"),
            "prompt-too-long": (self.max_prompt_words, "keep-below"),
            "answer-too-short": (self.min_answer_words, "keep-above"),
            "answer-too-long": (self.max_answer_words, "keep-below"),
        }
        found: list[Rule] = []
        for name in get_args(Sign):
            threshold, direction = thresholds.get(name, (None, "none"))
            if name in self.skip or (name in _LENGTHS and threshold is None):
                continue
            found.append(Rule(name=name, says=_SAYS[name], threshold=threshold, direction=direction))
        return found

    def judge(self, pool: pl.DataFrame, *, using: Using, rng: np.random.Generator) -> pl.DataFrame:
        """See `FilterMethod`; calls no engine and draws no number."""
        seen = signs.view(pool)
        hits, scores, loops = self._hits(seen)
        names = np.array([rule.name for rule in self.rules()], dtype=object)
        table = np.stack([hits[name] for name in names]) if len(names) else np.zeros((0, pool.height), dtype=bool)
        broken: np.ndarray = np.asarray(table.any(axis=0))
        reason = np.full(pool.height, None, dtype=object)
        if len(names):
            reason[broken] = names[table.argmax(axis=0)[broken]]
        score = np.full(pool.height, np.nan)
        for name, values in scores.items():
            named = reason == name
            score[named] = values[named]
        evidence: list[str | None] = [None] * pool.height
        for row, values in zip(
            np.flatnonzero(broken), seen.filter(pl.Series(broken)).iter_rows(named=True), strict=True
        ):
            also = [str(name) for name in names[table[:, row]] if name != reason[row]]
            found = self._evidence(str(reason[row]), values, loops, int(row))
            evidence[int(row)] = canonical_json(found | ({"also": also} if also else {}))
        return keep_or_reject(pool["id"], reason.tolist(), score=score, evidence=evidence)

    def _hits(self, seen: pl.DataFrame) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Repetition]:
        """Which rules apply to which rows, the scores of those that have one, and where answers loop."""
        flags = seen.select(
            signs.bad_turn_order().alias("bad-turn-order"),
            signs.empty_answer().alias("empty-answer"),
            signs.empty_prompt().alias("empty-prompt"),
            signs.empty_turn().alias("empty-turn"),
            signs.control_characters().alias("control-characters"),
            signs.hidden_characters().alias("hidden-characters"),
            signs.contains_phrase("text", self.template_tokens).alias("template-leftover"),
            signs.contains_phrase("text", self.placeholders).alias("placeholder"),
            signs.lorem_ipsum().alias("lorem-ipsum"),
            signs.urls_only().alias("url-only"),
            signs.opens_with(self.openers).alias("boilerplate-opener"),
        )
        hits = {name: flags[name].to_numpy() for name in flags.columns}
        hits["prompt-echo"] = _where(seen, signs.may_echo(), signs.echoes(self.min_echo_words))
        hits["same-as-worse"] = _where(seen, pl.col("worse_answer").is_not_null(), signs.same_as_worse())
        hits["truncated-ending"] = _where(seen, signs.may_be_truncated(), signs.truncated(self.min_unmarked_words))
        repeats = repetition_of(seen["answer"])
        long = repeats.words >= self.min_repetition_words
        scores = {"repeated-ngrams": repeats.duplicate_fraction, "ngram-loop": repeats.loop_fraction}
        hits["repeated-ngrams"] = long & (repeats.duplicate_fraction > self.max_repeated_fraction)
        hits["ngram-loop"] = (
            (repeats.loop_times >= self.min_loop_times)
            & (repeats.loop_fraction > self.max_loop_fraction)
            & (repeats.spelled | (repeats.words >= 2 * self.min_loop_times))
        )
        code = _where(seen, pl.Series(hits["ngram-loop"] | hits["repeated-ngrams"]), signs.code())
        hits["repeated-ngrams"] &= ~code
        for row in np.flatnonzero(hits["ngram-loop"]):
            said = seen["answer"][int(row)][int(repeats.loop_start[row]) : int(repeats.loop_end[row])]
            patience = 4 if code[row] or not any(c.isalpha() for c in said) else 1  # programs and matrices repeat
            hits["ngram-loop"][row] = repeats.loop_times[row] >= patience * self.min_loop_times
        prompt = _words(seen["prompt"]) if self.min_prompt_words or self.max_prompt_words is not None else None
        for name, count, least, most in (
            ("prompt", prompt, self.min_prompt_words, self.max_prompt_words),
            ("answer", repeats.words, self.min_answer_words, self.max_answer_words),
        ):
            size = np.zeros(seen.height) if count is None else count
            hits[f"{name}-too-short"], scores[f"{name}-too-short"] = size < (least or 0), size
            hits[f"{name}-too-long"], scores[f"{name}-too-long"] = size > (np.inf if most is None else most), size
        return hits, scores, repeats

    def _evidence(self, reason: str, row: Mapping[str, Any], loops: Repetition, at: int) -> dict[str, Any]:
        """What was found where, in words and raw character offsets."""
        answer = str(row["answer"])
        if reason == "bad-turn-order":
            return {"roles": row["roles"][:200]}
        if reason == "control-characters":
            return _character(str(row["text"]), signs.CONTROL)
        if reason == "hidden-characters":
            return _character(str(row["text"]), signs.DIRECTION_OR_TAG)
        if reason in ("template-leftover", "placeholder"):
            return _phrase(str(row["text"]), self.placeholders if reason == "placeholder" else self.template_tokens)
        if reason == "lorem-ipsum":
            return _phrase(answer, ["lorem ipsum"])
        if reason == "boilerplate-opener":
            return {"found": answer.strip()[:80]}
        if reason == "url-only":
            return {"found": (answer if re.match(r"\s*<?(https?:|www\.)", answer) else str(row["asked"])).strip()[:200]}
        if reason == "prompt-echo":
            return {"found": str(row["asked"])[:200], "whole": len(answer.strip()) <= len(str(row["asked"]).strip())}
        if reason == "ngram-loop":
            start, end = int(loops.loop_start[at]), int(loops.loop_end[at])
            return {"found": answer[start:end][:200], "at": [start, end], "times": int(loops.loop_times[at])}
        if reason == "truncated-ending":
            return {"found": answer.rstrip()[-80:], "open_fence": answer.count("```") % 2 == 1}
        if reason in ("empty-answer", "empty-prompt", "empty-turn"):
            return {"characters": len(answer if reason == "empty-answer" else str(row["users"]))}
        return {"words": int(loops.words[at])} if reason.startswith("answer") or "gram" in reason else {}


_SAYS: Mapping[str, str] = {
    "bad-turn-order": "the turns are not a system turn at most, then user and assistant in turn, the assistant last",
    "empty-answer": "the last turn says nothing and calls no tool",
    "empty-prompt": "no user turn says anything",
    "empty-turn": "a turn in the middle says nothing",
    "control-characters": "the text holds control characters or the mark of undecodable bytes",
    "hidden-characters": "the text holds characters that hide or reorder it",
    "template-leftover": "the text holds the markup of a chat template",
    "placeholder": "the text holds a placeholder that nobody filled in",
    "lorem-ipsum": "the answer is filler text that nobody asked for",
    "url-only": "the question or the answer is nothing but links",
    "prompt-echo": "the answer repeats the whole question",
    "same-as-worse": "the chosen and the other answer are the same",
    "boilerplate-opener": "the answer begins with a phrase of an assistant speaking about itself",
    "ngram-loop": "the answer says one thing over and over",
    "repeated-ngrams": "most of the answer's 5-grams occurred earlier in it",
    "truncated-ending": "the answer breaks off",
    "prompt-too-short": "the prompt has fewer words than asked for",
    "prompt-too-long": "the prompt has more words than allowed",
    "answer-too-short": "the answer has fewer words than asked for",
    "answer-too-long": "the answer has more words than allowed",
}


def _where(seen: pl.DataFrame, candidates: pl.Expr | pl.Series, rule: pl.Expr) -> np.ndarray:
    """The rule, computed only where the cheaper test that it implies holds."""
    hit = np.zeros(seen.height, dtype=bool)
    rows = np.flatnonzero(seen.select(candidates.fill_null(False).alias("may"))["may"].to_numpy())
    hit[rows] = seen[rows].select(rule.fill_null(False).alias("hit"))["hit"].to_numpy()
    return hit


def _words(texts: pl.Series) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype=np.int64), *[stream.lengths for _, stream in word_streams(texts)]])


def _character(text: str, pattern: str) -> dict[str, Any]:
    """Name and place of the first character of a class (the patterns are single character classes: linear)."""
    found = re.search(pattern, text)
    return {"character": f"U+{ord(found[0]):04X}", "at": found.start()} if found else {}


def _phrase(text: str, phrases: Sequence[str]) -> dict[str, Any]:
    low = text.lower()
    at, phrase = min(((low.find(p.lower()), p) for p in phrases if p.lower() in low), default=(0, ""))
    return {"found": phrase, "at": at, "around": text[max(0, at - 30) : at + len(phrase) + 30]}
