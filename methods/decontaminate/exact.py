"""Does an example hold a benchmark item whole, word for word?"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl

from methods.decontaminate._index import ItemIndex, WholeItems
from methods.decontaminate._text_match import Answers, FieldMatch, short_pairs, short_rule
from methods.texts.matching import Field_, Matcher, heard, no_pairs, pair_rows
from methods.texts.ngrams import word_streams
from methods.texts.spans import matched_spans
from schemas.lineage import Rule
from schemas.method import Using

_N = 8
_RULE = "exact"


class Exact(FieldMatch):
    """Drops examples in which all of a benchmark item stands, as consecutive words of one turn.

    Equality counts as containment. Words are folded first (case, punctuation, accents, look-alike letters, invisible
    characters, white space), so that those differences do not hide a copy; anything else does: one word changed, left out
    or put in. Items of fewer than eight words need their answer in an assistant turn too (or the turn to themselves where
    they have none), and those of fewer than ``min_words`` are not looked for: three words stand everywhere. Answers of
    at least ``min_answer_words`` words are looked for by themselves. Prompts are looked for in user, system and tool
    turns, answers in assistant turns.

    Score: 1 for an example that holds an item, else 0; lower is better.

    Paper: Brown et al. 2020, GPT-3, https://arxiv.org/abs/2005.14165, appendix C (the strictest form of its overlap).
    """

    method: Literal["exact"] = "exact"

    def rules(self) -> Sequence[Rule]:
        """``exact``, and the rule of short items."""
        return (Rule(name=_RULE, says="a turn contains all of a benchmark item, word for word"), short_rule())

    def run_words(self, rule: str) -> int:
        """See `PairMethod`."""
        return self.min_words

    def matcher(self, items: pl.DataFrame, using: Using) -> Matcher:
        """See `PairMethod`; calls no engine."""
        sought: dict[Field_, pl.Series] = {field: self.sought(items, field) for field in self.fields}
        indexes: dict[Field_, ItemIndex] = {field: ItemIndex(texts, _N, self.max_df) for field, texts in sought.items()}
        short = WholeItems(sought["prompt"], self.min_words, _N) if "prompt" in sought else None

        def match(said: pl.DataFrame) -> pl.DataFrame:
            found, answers = [no_pairs()], Answers(said, items)
            for field, index in indexes.items():
                listened = heard(said, field, everywhere=self.everywhere)
                for begin, stream in word_streams(listened["content"]):
                    here = listened[begin : begin + len(stream.lengths)]
                    pairs = index.candidates(stream)
                    every = np.flatnonzero(pairs.coverage >= 1)
                    text, item = pairs.text[every], pairs.item[every]
                    whole = contained(here["content"][text], sought[field][item], index.length[item])
                    rule, score = np.full(len(text), _RULE), whole.astype(np.float64)
                    found.append(pair_rows(here, text, field, item, rule, score, whole))
                    if short is not None and field == "prompt":
                        found.append(short_pairs(here, list(short.containing(stream)), answers))
            return pl.concat(found)

        return match


def contained(texts: pl.Series, items: pl.Series, words: np.ndarray) -> np.ndarray:
    """Whether each item of ``words`` words stands in its text as one run, bool; all its n-grams are known to be there."""
    runs = matched_spans(texts, items, _N)
    longest = [max((span.words for span in spans), default=0) for spans in runs]
    return np.array(longest, dtype=np.int64) >= words
