"""What the rules on shared words have in common: fields of their configs, short items, answers that must follow."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from pydantic import Field

from methods.texts.matching import Field_, PairMethod, pair_rows
from methods.texts.words import normalized
from schemas.lineage import Rule

SHORT = "short-item"


class TextMatch(PairMethod):
    """A rule on words that a turn and an item share. Words are folded first (`methods.texts.words`), so no disguise helps."""

    everywhere: bool = Field(False, description="look for prompts and answers in the turns of every role")
    max_df: int = Field(10, ge=1, description="an n-gram that stands in more items than this is boilerplate")
    min_words: int = Field(5, ge=1, description="items whose prompt has fewer words cannot be found")


class FieldMatch(TextMatch):
    """A rule that looks for prompts and answers, each by itself."""

    fields: tuple[Field_, ...] = Field(
        ("prompt", "answer"), min_length=1, description="which texts of the items are looked for"
    )
    min_answer_words: int = Field(20, ge=1, description="answers of fewer words are not looked for by themselves")

    def sought(self, items: pl.DataFrame, field: Field_) -> pl.Series:
        """The texts of a field, answers that are too short emptied."""
        return items["prompt"] if field == "prompt" else long_enough(items["answer"], self.min_answer_words)


def short_rule() -> Rule:
    """The rule of items that are too short for n-grams."""
    return Rule(name=SHORT, says="a turn contains all of a short benchmark item, and the answer follows")


class Answers:
    """Whether an assistant turn of an example holds the answer of an item, as whole words."""

    def __init__(self, said: pl.DataFrame, items: pl.DataFrame) -> None:
        self._turns, self._items = said, items
        self._said: dict[int, list[str]] | None = None
        self._normal: dict[int, str] = {}

    def follows(self, row: int, item: int) -> bool | None:
        """None where the item has no answer."""
        answer = normalized(self._items["answer"][item] or "")
        if not answer:
            return None
        if self._said is None:  # most pools contain no short item at all
            of_assistant = self._turns.filter(pl.col("role") == "a").group_by("row").agg(pl.col("content"))
            self._said = dict(of_assistant.iter_rows())
        if row not in self._normal:
            self._normal[row] = f" {' | '.join(normalized(text) for text in self._said.get(row, ()))} "
        return f" {answer} " in self._normal[row]


def short_pairs(said: pl.DataFrame, contained: Sequence[tuple[int, int, bool]], answers: Answers) -> pl.DataFrame:
    """Short items that a turn contains whole, with their answer in an assistant turn of the same example.

    An item without an answer must be the whole turn. ``contained`` is of `WholeItems.containing` on ``said``.
    """
    follows = [answers.follows(said["row"][text], item) for text, item, _ in contained]
    leaked = np.array(
        [whole if f is None else f for f, (_, _, whole) in zip(follows, contained, strict=True)], dtype=bool
    )
    text, item = (np.array([pair[side] for pair in contained], dtype=np.int64) for side in (0, 1))
    return pair_rows(said, text, "prompt", item, np.full(len(text), SHORT), leaked.astype(np.float64), leaked)


def long_enough(texts: pl.Series, words: int) -> pl.Series:
    """Texts with fewer words emptied (whitespace words: a first, cheap measure that only makes the rule stricter)."""
    return texts.to_frame("t").select(
        pl.when(pl.col("t").str.count_matches(r"[\p{L}\p{N}\p{M}]+") >= words).then(pl.col("t")).otherwise(pl.lit(""))
    ).to_series()  # fmt: skip
