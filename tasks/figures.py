"""Figures of a set of examples, gathered batch by batch, for the manifest's summary."""

from collections import Counter
from typing import Any

import polars as pl

from methods.select._cut import estimated_tokens
from schemas.examples import answer_text, prompt_text
from schemas.lineage import DatasetRef
from storage.store import Store

#: The columns that figures are of.
COUNTED = ("messages", "source", "license", "synthetic_depth")

_BATCH_ROWS = 32_768


class Figures:
    """Rows, words of prompts and answers, tokens as a budget estimates them, and rows by source, licence and depth."""

    def __init__(self) -> None:
        self.rows = 0
        self.words: Counter[str] = Counter()
        self.tokens = 0
        self.by: Counter[tuple[str, str, int]] = Counter()

    def add(self, examples: pl.DataFrame) -> None:
        """Count another batch (EXAMPLES columns)."""
        self.rows += examples.height
        if not examples.height:
            return
        words = examples.select(
            prompt_text().str.count_matches(r"\S+").sum().alias("prompt_words"),
            answer_text().str.count_matches(r"\S+").sum().alias("answer_words"),
            estimated_tokens().sum().alias("tokens"),
        )
        self.tokens += int(words.drop_in_place("tokens")[0] or 0)
        for name in words.columns:
            self.words[name] += int(words[name][0] or 0)
        for source, license_name, depth, rows in (
            examples.group_by("source", "license", "synthetic_depth").len().iter_rows()
        ):
            self.by[(source, license_name or "unknown", depth)] += rows

    def summary(self) -> dict[str, Any]:
        """``{"words": …, "estimated_tokens": …, "composition": [{source, license, synthetic_depth, rows}, …]}``."""
        table = [
            {"source": s, "license": name, "synthetic_depth": d, "rows": rows}
            for (s, name, d), rows in sorted(self.by.items(), key=lambda item: (-item[1], item[0]))
        ]
        return {"words": dict(self.words), "estimated_tokens": self.tokens, "composition": table}


def figures_of(examples: pl.DataFrame) -> dict[str, Any]:
    """The summary of one frame."""
    figures = Figures()
    figures.add(examples)
    return figures.summary()


def figures_of_members(store: Store, ref: DatasetRef, members: pl.DataFrame) -> dict[str, Any]:
    """The summary of some members of a version (``home`` and ``row``, repeats included), read a batch at a time."""
    figures = Figures()
    for examples in store.batches(ref, _BATCH_ROWS, COUNTED, members.sort("home", "row")):
        figures.add(examples)
    return figures.summary()
