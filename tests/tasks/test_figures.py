"""Figures of a set: words, estimated tokens and composition, the same whether it came in one piece or in two."""

import polars as pl

from schemas.examples import EXAMPLES, turns
from tasks.figures import Figures, figures_of


def examples(*texts: tuple[str, str]) -> pl.DataFrame:
    rows = [
        {"messages": turns(("user", ask), ("assistant", answer)), "source": "a", "license": "MIT", "synthetic_depth": 0}
        for ask, answer in texts
    ]
    return pl.DataFrame(rows, schema={name: EXAMPLES[name] for name in rows[0]})


def test_tokens_are_estimated_as_a_budget_does() -> None:
    """12 bytes / 4 + 2 turns of 4 each are 11; é is two bytes: 13 bytes are 4 more whole tokens, 12 in all."""
    assert figures_of(examples(("two words", "yes")))["estimated_tokens"] == 11
    assert figures_of(examples(("two words", "yés")))["estimated_tokens"] == 12


def test_pieces_add_up_to_the_whole() -> None:
    whole = examples(("two words", "yes"), ("three more words", "no no"))
    parts = Figures()
    parts.add(whole[:1])
    parts.add(whole[1:])
    parts.add(whole.clear())
    assert parts.summary() == figures_of(whole)
    assert parts.summary()["words"] == {"prompt_words": 5, "answer_words": 3}
