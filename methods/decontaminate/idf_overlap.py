"""How much of what is peculiar about a benchmark item does an example say, in whatever order?"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.decontaminate._index import ItemIndex
from methods.decontaminate._text_match import Answers, TextMatch
from methods.texts.matching import Matcher, heard, no_pairs, pair_rows
from methods.texts.ngrams import word_stream, word_streams
from schemas.lineage import Rule
from schemas.method import Using

_RULE = "idf-overlap"
_EXACT = 1e-9  # rounding must not keep a verbatim copy below a required score of 1
_MANY = 20  # distinct n-grams of a question that speaks for itself


class IdfOverlap(TextMatch):
    """Drops examples that share most of a benchmark item's n-grams, the rare ones counting more.

    The overlap of a question is the share of its distinct 5-grams that the turn holds, each weighted by
    ``log(1 + items / items that hold it)``: common phrases hardly count, word order beyond five words does not count.
    A question of fewer than 20 distinct n-grams does not speak for itself: up to half of the score is then that of its
    answer in the assistant turns (whole if it has up to three words, else the overlap of its 3-grams).
    An example is dropped at a score of ``threshold``, of items up to 20 words 1, linear in between (50 words).

    Score: the largest of any item, 0 to 1, lower is better.

    Paper: none; the overlap of ``decon`` (https://github.com/allenai/decon, OLMo 3). Departures: words instead of
    cl100k tokens, whole turns instead of clusters of hits, long questions convict without their answer (training data
    answers in words of its own), no passages.
    """

    method: Literal["idf-overlap"] = "idf-overlap"

    n: int = Field(5, ge=2, le=64, description="words of a question's n-grams")
    answer_n: int = Field(3, ge=1, le=64, description="words of an answer's n-grams")
    threshold: float = Field(0.8, gt=0, le=1, description="an item of 50 words or more is leaked at this score")
    max_df: int = Field(50, ge=1, description="an n-gram that stands in more items than this brings up no candidate")

    def rules(self) -> Sequence[Rule]:
        """``idf-overlap``."""
        says = f"the turn holds most of a benchmark item's {self.n}-word phrases, the rare ones counting more"
        return (Rule(name=_RULE, says=says, threshold=self.threshold, direction="keep-below"),)

    def run_words(self, rule: str) -> int:
        """See `PairMethod`."""
        return self.n

    def matcher(self, items: pl.DataFrame, using: Using) -> Matcher:
        """See `PairMethod`; calls no engine."""
        texts = items["prompt"]
        index = ItemIndex(texts, self.n, self.max_df)
        of_answers = _AnswerOverlap(items, self.answer_n)
        words = index.length + word_stream(items["answer"].fill_null("")).lengths
        needed = required(words, self.threshold)
        sure = 0.5 + 0.5 * np.minimum(index.distinct, _MANY) / _MANY
        sure[items["answer"].fill_null("").str.strip_chars().str.len_chars().to_numpy() == 0] = 1.0

        def match(said: pl.DataFrame) -> pl.DataFrame:
            found = [no_pairs()]
            for begin, stream in word_streams(
                (listened := heard(said, "prompt", everywhere=self.everywhere))["content"]
            ):
                here = listened[begin : begin + len(stream.lengths)]
                pairs = index.overlaps(stream)
                at_best = sure[pairs.item] * pairs.overlap + 1 - sure[pairs.item]
                near = (at_best >= needed[pairs.item] - _EXACT) & (index.length[pairs.item] >= self.min_words)
                text, item, overlap = pairs.text[near], pairs.item[near], pairs.overlap[near]
                rows = here["row"].to_numpy()[text]
                answered = of_answers.of(said, rows, item, sure[item] < 1)
                score = sure[item] * overlap + (1 - sure[item]) * answered
                flagged = score >= needed[item] - _EXACT
                found.append(pair_rows(here, text, "prompt", item, np.full(len(text), _RULE), score, flagged))
            return pl.concat(found)

        return match


def required(words: np.ndarray, threshold: float) -> np.ndarray:
    """The score at which an item of so many words counts as leaked: 1 up to 20, ``threshold`` from 50 on.

    >>> required(np.array([5, 20, 35, 50, 900]), 0.8).round(3).tolist()
    [1.0, 1.0, 0.9, 0.8, 0.8]
    """
    return 1 - (1 - threshold) * np.clip((words - 20) / 30, 0, 1)


class _AnswerOverlap:
    """How much of an item's answer the assistant turns of an example hold, 0 to 1."""

    def __init__(self, items: pl.DataFrame, n: int) -> None:
        self._items, self._n = items, n
        texts = items["answer"].fill_null("")
        self._index = ItemIndex(texts, n, max_df=10**9)
        self._short = word_stream(texts).lengths <= max(3, n - 1)

    def of(self, said: pl.DataFrame, rows: np.ndarray, item: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Per pair of an example (its row) and an item; 0 where it is not wanted."""
        found = np.zeros(len(item))
        whole = Answers(said, self._items)
        asked = np.flatnonzero(wanted)
        for i in asked[self._short[item[asked]]].tolist():
            found[i] = float(whole.follows(int(rows[i]), int(item[i])) or False)
        long = asked[~self._short[item[asked]]]
        if len(long):
            answers = said.filter((pl.col("role") == "a") & pl.col("row").is_in(np.unique(rows[long]).tolist()))
            overlap: dict[tuple[int, int], float] = {}
            for begin, stream in word_streams(answers["content"]):
                met = self._index.overlaps(stream)
                row = answers["row"].to_numpy()[begin + met.text]
                for place in zip(row.tolist(), met.item.tolist(), met.overlap.tolist(), strict=True):
                    overlap[place[:2]] = max(overlap.get(place[:2], 0.0), place[2])
            found[long] = [overlap.get((int(rows[i]), int(item[i])), 0.0) for i in long]
        return found
