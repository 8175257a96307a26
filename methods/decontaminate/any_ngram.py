"""Does an example share any n words in a row with a benchmark item?"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field

from methods.decontaminate._index import ItemIndex, WholeItems
from methods.decontaminate._text_match import SHORT, Answers, FieldMatch, short_pairs, short_rule
from methods.texts.matching import Field_, Matcher, heard, no_pairs, pair_rows
from methods.texts.ngrams import word_streams
from schemas.lineage import Rule
from schemas.method import Using

_RULE = "any-ngram"


class AnyNgram(FieldMatch):
    """Drops examples that share one n-gram of 13 words with a benchmark item.

    The rule of GPT-3, of lm-evaluation-harness and of NeMo Curator: strict, and blind to any leak without 13 words in a
    row. Words are folded first (case, punctuation, accents, look-alike letters, invisible characters). An n-gram that
    stands in more than ``max_df`` items of different text is boilerplate and convicts nobody. Items of fewer than n words
    must be contained whole, with their answer in an assistant turn (or alone in a turn where they have none); those of
    fewer than ``min_words`` are not looked for.

    Score: the share of the closest item's words inside shared n-grams, 0 to 1, lower is better.

    Paper: Brown et al. 2020, GPT-3, https://arxiv.org/abs/2005.14165, appendix C. Departures: the boilerplate cap counts
    items instead of training documents (GPT-3 ignores n-grams that more than ten documents share), so that an example's
    verdict does not depend on the others; short items need their answer; whole examples are dropped, not passages.
    """

    method: Literal["any-ngram"] = "any-ngram"

    n: int = Field(13, ge=2, le=64, description="words of the n-grams")
    min_words: int = Field(8, ge=1, description="items whose prompt has fewer words cannot be found")

    def rules(self) -> Sequence[Rule]:
        """``any-ngram``, and the rule of short items."""
        return (Rule(name=_RULE, says=f"{self.n} words in a row are those of a benchmark item"), short_rule())

    def run_words(self, rule: str) -> int:
        """See `PairMethod`."""
        return min(self.min_words, self.n) if rule == SHORT else self.n

    def matcher(self, items: pl.DataFrame, using: Using) -> Matcher:
        """See `PairMethod`; calls no engine."""
        sought: dict[Field_, pl.Series] = {field: self.sought(items, field) for field in self.fields}
        indexes: dict[Field_, ItemIndex] = {
            field: ItemIndex(texts, self.n, self.max_df) for field, texts in sought.items()
        }
        short = WholeItems(sought["prompt"], self.min_words, self.n) if "prompt" in sought else None

        def match(said: pl.DataFrame) -> pl.DataFrame:
            found, answers = [no_pairs()], Answers(said, items)
            for field, index in indexes.items():
                listened = heard(said, field, everywhere=self.everywhere)
                for begin, stream in word_streams(listened["content"]):
                    here = listened[begin : begin + len(stream.lengths)]
                    pairs = index.candidates(stream)
                    rule = np.full(len(pairs.text), _RULE)
                    flagged = pairs.distinctive > 0
                    found.append(pair_rows(here, pairs.text, field, pairs.item, rule, pairs.coverage, flagged))
                    if short is not None and field == "prompt":
                        found.append(short_pairs(here, list(short.containing(stream)), answers))
            return pl.concat(found)

        return match
