"""Which items of a benchmark a rule looks for: three words stand everywhere, so short ones are left out, and counted here."""

import numpy as np
import polars as pl

from methods.decontaminate._text_match import FieldMatch, long_enough
from methods.texts.ngrams import word_stream
from schemas.method import DecontaminateMethod


def looked_for(method: DecontaminateMethod, items: pl.DataFrame) -> int:
    """How many of the items (``prompt``, ``answer``) the method can find at all, by its fields on numbers of words.

    A method without such fields (`temporal`, `min-k`) is taken to look at all of them.
    """
    least = getattr(method, "min_words", None)
    if least is None:
        return items.height
    found = np.zeros(items.height, dtype=bool)
    fields = method.fields if isinstance(method, FieldMatch) else ("prompt",)
    if "prompt" in fields:
        found |= word_stream(items["prompt"]).lengths >= least
    if isinstance(method, FieldMatch) and "answer" in fields:
        found |= (long_enough(items["answer"], method.min_answer_words).fill_null("") != "").to_numpy()
    return int(found.sum())
