"""Does an example hold most of a benchmark item's words, in runs of n?"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from methods.decontaminate._index import ItemIndex, Pairs, WholeItems
from methods.decontaminate._text_match import SHORT, Answers, FieldMatch, short_pairs, short_rule
from methods.texts.matching import Field_, Matcher, heard, no_pairs, pair_rows
from methods.texts.ngrams import word_streams
from schemas.lineage import Rule
from schemas.method import Using


class NgramCoverage(FieldMatch):
    """Drops examples in which more than half of a benchmark item's words lie in shared runs of eight.

    Prompts of items are looked for in user, system and tool turns, answers of items in assistant turns, each turn by
    itself. Words are folded first (case, punctuation, accents, look-alike letters, invisible characters), so that a leak
    cannot hide behind them. An n-gram of more than ``max_df`` items is boilerplate: words that stand only in such ones
    count neither as leaked nor as missing, and an item made of nothing else must be contained whole. Items of fewer than
    n words must be contained whole too, with their answer in an assistant turn (or alone in a turn where they have none).
    One run of common words does not convict a short item either, see ``min_covered_words``.

    Score: the largest coverage of any item, 0 to 1, lower is better. It certifies the absence of verbatim and
    near-verbatim leaks, and nothing about rephrased ones.

    Paper: Lambert et al. 2024, Tülu 3, https://arxiv.org/abs/2411.15124, section 3.2 (8-grams, more than half of the
    item's tokens). Departures: words instead of spaCy tokens, no limit on hits per n-gram, boilerplate, short items,
    answers. ``any_n``: Brown et al. 2020, GPT-3, https://arxiv.org/abs/2005.14165, appendix C (13-grams).
    """

    method: Literal["ngram-coverage"] = "ngram-coverage"

    n: int = Field(8, ge=2, le=64, description="words of the n-grams")
    threshold: float = Field(
        0.5, ge=0, lt=1, description="an item is leaked when more than this share of it is covered"
    )
    min_covered_words: int = Field(
        13, ge=0, description="fewer covered words are a common phrase, unless they are the whole item; 0 = as Tülu 3"
    )
    any_n: int | None = Field(
        None, ge=2, le=64, description="also drop on any single shared n-gram of this many words that is no boilerplate"
    )

    @model_validator(mode="after")
    def _longer(self) -> "NgramCoverage":
        if self.any_n is not None and self.any_n <= self.n:
            raise ValueError(f"any_n ({self.any_n}) drops on one n-gram; it must be longer than n ({self.n})")
        return self

    def rules(self) -> Sequence[Rule]:
        """The rules in force, strongest first."""
        found = [
            Rule(
                name="ngram-coverage",
                says=f"runs of {self.n} words shared with a benchmark item cover most of the item",
                threshold=self.threshold,
                direction="keep-below",
            ),
            Rule(name="whole-item", says="a turn contains all of a benchmark item, which is made of common phrases"),
            short_rule(),
        ]
        if self.any_n is not None:
            found.append(Rule(name="any-ngram", says=f"{self.any_n} words in a row are those of a benchmark item"))
        return found

    def run_words(self, rule: str) -> int:
        """See `PairMethod`."""
        return {SHORT: self.min_words, "any-ngram": self.any_n or self.n}.get(rule, self.n)

    def matcher(self, items: pl.DataFrame, using: Using) -> Matcher:
        """See `PairMethod`; calls no engine."""
        indexes: dict[Field_, _Indexes] = {f: _Indexes(self, self.sought(items, f), f) for f in self.fields}

        def match(said: pl.DataFrame) -> pl.DataFrame:
            found, answers = [no_pairs()], Answers(said, items)
            for field, index in indexes.items():
                listened = heard(said, field, everywhere=self.everywhere)
                for begin, stream in word_streams(listened["content"]):
                    here = listened[begin : begin + len(stream.lengths)]
                    found.append(self._covered(here, field, index.covered.candidates(stream)))
                    if index.long is not None:
                        found.append(any_pairs(here, field, index.long.candidates(stream)))
                    if index.short is not None:
                        found.append(short_pairs(here, list(index.short.containing(stream)), answers))
            return pl.concat(found)

        return match

    def _covered(self, said: pl.DataFrame, field: str, pairs: Pairs) -> pl.DataFrame:
        """Candidates of the coverage rule and, for items made of boilerplate, of the whole-item rule."""
        plain = np.isnan(pairs.distinctive)
        enough = (pairs.words >= self.min_covered_words) | (pairs.coverage >= 1)
        over = (pairs.coverage > self.threshold) & (pairs.distinctive > self.threshold)
        leaked = np.where(plain, pairs.coverage >= 1, over & enough)
        rule = np.where(plain, "whole-item", "ngram-coverage")
        return pair_rows(said, pairs.text, field, pairs.item, rule, pairs.coverage, leaked)


class _Indexes:
    """The indexes of one field of the items."""

    def __init__(self, method: NgramCoverage, texts: pl.Series, field: str) -> None:
        self.covered = ItemIndex(texts, method.n, method.max_df)
        self.long = ItemIndex(texts, method.any_n, method.max_df) if method.any_n is not None else None
        self.short = WholeItems(texts, method.min_words, method.n) if field == "prompt" else None


def any_pairs(said: pl.DataFrame, field: str, pairs: Pairs) -> pl.DataFrame:
    """Pairs that share a long n-gram which is no boilerplate."""
    rule = np.full(len(pairs.text), "any-ngram")
    return pair_rows(said, pairs.text, field, pairs.item, rule, pairs.coverage, pairs.distinctive > 0)
