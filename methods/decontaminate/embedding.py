"""Does an example ask what a benchmark item asks, in other words? Cosine of embeddings."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.decontaminate._candidates import closest_items, comparable, cosine_blocks
from methods.texts.matching import Matcher, PairMethod, heard, no_pairs, pair_rows
from schemas.lineage import Rule
from schemas.method import Using

_RULE = "embedding"
_SPAN = 3  # words: shorter runs are no evidence for a reader
_TURNS = 4096  # embedded at once


class Embedding(PairMethod):
    """Drops examples of which a turn lies close to a benchmark item in embedding space.

    Every user, system and tool turn is compared with every item's prompt; the cosine must reach ``threshold``. It sees
    rephrasings that share no run of words, and also questions of the same kind about something else: as a decision by
    itself it is weak (see docs/benchmarks.md for recall and false flags of the embedded model), as a source of candidates
    for `llm-judge` it is good. Texts of fewer than ``min_words`` words are not compared.

    Score: the largest cosine with any item, 0 to 1, lower is better. Evidence lists the ``nearest`` items.

    Paper: Yang et al. 2023, Rethinking benchmark and contamination for language models with rephrased samples,
    https://arxiv.org/abs/2311.04850, section 4 (its embedding baseline).
    """

    method: Literal["embedding"] = "embedding"
    needs: ClassVar[frozenset[str]] = frozenset({"embed"})
    closeness: ClassVar[str] = "cosine"
    nearest: ClassVar[int] = 5

    threshold: float = Field(0.9, gt=0, le=1, description="an example at or above this cosine is dropped")
    min_words: int = Field(8, ge=1, description="shorter turns and items are not compared")

    def rules(self) -> Sequence[Rule]:
        """``embedding``."""
        says = "a turn means nearly the same as a benchmark item, by the cosine of their embeddings"
        return (Rule(name=_RULE, says=says, threshold=self.threshold, direction="keep-below"),)

    def run_words(self, rule: str) -> int:
        """See `PairMethod`."""
        return _SPAN

    def matcher(self, items: pl.DataFrame, using: Using) -> Matcher:
        """See `PairMethod`."""
        entry = comparable(items["prompt"], self.min_words)
        vectors = using.embed.embed(items["prompt"][entry].to_list()) if len(entry) else np.zeros((0, 1), np.float32)

        def match(said: pl.DataFrame) -> pl.DataFrame:
            listened = heard(said, "prompt")
            listened = listened[comparable(listened["content"], self.min_words)]
            found = [no_pairs()]
            for here in listened.iter_slices(_TURNS):
                if not len(entry) or not here.height:
                    continue
                blocks = cosine_blocks(using.embed.embed(here["content"].to_list()), vectors)
                place, cosine = closest_items(blocks, here.height, self.nearest)
                text = np.repeat(np.arange(here.height), place.shape[1])
                # In the precision that scores are stored in, so that a threshold decides the same of stored ones.
                near = cosine.ravel().astype(np.float64)
                rule, flagged = np.full(len(text), _RULE), near >= self.threshold
                found.append(pair_rows(here, text, "prompt", entry[place.ravel()], rule, near, flagged))
            return pl.concat(found)

        return match
