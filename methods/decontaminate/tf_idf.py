"""Does an example use the rare words of a benchmark item, in whatever order? Cosine of weighted words, no model."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.decontaminate._candidates import closest_items, comparable
from methods.decontaminate._tf_idf import TfIdf as Weighted
from methods.texts.matching import Matcher, PairMethod, heard, no_pairs, pair_rows
from schemas.lineage import Rule
from schemas.method import Using

_RULE = "tf-idf"
_SPAN = 2  # words: runs of two are what a bag of words can show of itself


class TfIdf(PairMethod):
    """Drops examples of which a turn has nearly the words of a benchmark item, the rare ones counting more.

    Every user, system and tool turn is compared with every item's prompt; the cosine of their TF-IDF vectors must reach
    ``threshold``. Order and repetition hardly count, case, accents and disguises not at all (`methods.texts.words`). Scrambled and
    lightly reworded copies are found; a rephrasing scores like a question about the same thing, so as a decision this is
    weak below 0.9, while as a source of candidates for `llm-judge` (``closest_by``) it needs no model and finds nearly what
    embeddings find. Texts of fewer than ``min_words`` words are not compared.

    Score: the largest cosine with any item, 0 to 1, lower is better. Evidence lists the ``nearest`` items.

    Paper: Salton & Buckley 1988, Term-weighting approaches in automatic text retrieval,
    https://doi.org/10.1016/0306-4573(88)90021-0. Departs in taking document frequencies from the items alone.
    """

    method: Literal["tf-idf"] = "tf-idf"
    closeness: ClassVar[str] = "cosine"
    nearest: ClassVar[int] = 5

    threshold: float = Field(0.9, gt=0, le=1, description="an example at or above this cosine is dropped")
    min_words: int = Field(8, ge=1, description="shorter turns and items are not compared")

    def rules(self) -> Sequence[Rule]:
        """``tf-idf``."""
        says = "a turn has nearly the words of a benchmark item, in any order, the rare ones counting more"
        return (Rule(name=_RULE, says=says, threshold=self.threshold, direction="keep-below"),)

    def run_words(self, rule: str) -> int:
        """See `PairMethod`."""
        return _SPAN

    def matcher(self, items: pl.DataFrame, using: Using) -> Matcher:
        """See `PairMethod`; calls no engine."""
        entry = comparable(items["prompt"], self.min_words)
        index = Weighted(items["prompt"][entry])

        def match(said: pl.DataFrame) -> pl.DataFrame:
            listened = heard(said, "prompt")
            listened = listened[comparable(listened["content"], self.min_words)]
            found = [no_pairs()]
            if len(entry) and listened.height:
                for begin, block in index.blocks(listened["content"]):
                    # The closest item gives the score; the others are told where an example is dropped.
                    best = block.argmax(axis=1)[:, None]
                    near = np.take_along_axis(block, best, axis=1).ravel().astype(np.float64)
                    dropped = np.flatnonzero(near >= self.threshold)
                    place, cosine = closest_items([(0, block[dropped])], len(dropped), self.nearest)
                    kept = np.flatnonzero(near < self.threshold)
                    text = np.concatenate([kept, np.repeat(dropped, place.shape[1])])
                    item = np.concatenate([best.ravel()[kept], place.ravel()])
                    value = np.concatenate([near[kept], cosine.ravel().astype(np.float64)])
                    rule, flagged = np.full(len(text), _RULE), value >= self.threshold
                    here = listened[begin : begin + len(block)]
                    found.append(pair_rows(here, text, "prompt", entry[item], rule, value, flagged))
            return pl.concat(found)

        return match
