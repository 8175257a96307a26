"""TF-IDF: weights by hand and against a plain implementation, as a decision, and as the source of candidates of llm-judge."""

import json
from collections import Counter
from math import log, sqrt

import numpy as np
import polars as pl
import pytest

from backends.protocols import Reply
from methods.decontaminate._tf_idf import TfIdf as Weighted
from methods.decontaminate.llm_judge import LlmJudge
from methods.decontaminate.tf_idf import TfIdf
from methods.measuring.leaks import KINDS, recall_per_kind
from methods.texts.words import words
from schemas.method import Using
from storage.packs.shelf import load_pack
from tests.methods._items import items_of
from tests.methods._pools import NOTHING, awkward_pool, pool_of, reasons, rng
from tests.methods.llm_doubles import AnswersBy

SHEEP = "A farmer has twelve sheep and buys seven more how many are left"
BREAD = "The baker sells forty loaves of bread in the morning and nine at noon"


def cosine_of(index: Weighted, texts: list[str]) -> np.ndarray:
    found = np.full((len(texts), index.count), np.nan)
    for begin, block in index.blocks(pl.Series(texts, dtype=pl.String)):
        found[begin : begin + len(block)] = block
    return found


def plainly(items: list[str], texts: list[str]) -> np.ndarray:
    """The definition, word by word."""
    count = len(items)
    held = Counter(word for item in items for word in set(words(item)))

    def vector(text: str) -> dict[str, float]:
        counts = Counter(words(text))
        raw = {w: (1 + log(n)) * (1 + log((1 + count) / (1 + held[w]))) for w, n in counts.items()}
        size = sqrt(sum(x * x for x in raw.values())) or 1.0
        return {w: x / size for w, x in raw.items()}

    theirs = [vector(item) for item in items]
    return np.array([[sum(x * v.get(w, 0.0) for w, x in vector(t).items()) for v in theirs] for t in texts])


def test_weights_by_hand():
    # Two items: "cat" in both (idf 1 + ln(3/3) = 1), "sat" and "ran" in one (1 + ln(3/2)).
    rare = 1 + log(1.5)
    index = Weighted(pl.Series(["cat sat", "cat ran"]))
    found = cosine_of(index, ["cat sat", "sat", "dog", "cat cat ran"])
    assert found[0] == pytest.approx([1.0, 1 / (1 + rare**2)], abs=1e-6)
    assert found[1] == pytest.approx([rare / sqrt(1 + rare**2), 0.0], abs=1e-6)
    assert found[2].tolist() == [0.0, 0.0], "a word that no item holds is near nothing"
    twice = 1 + log(2)
    own = (twice + rare**2) / sqrt(twice**2 + rare**2) / sqrt(1 + rare**2)
    assert found[3][1] == pytest.approx(own, abs=1e-6)


def test_it_is_the_plain_definition_whatever_the_blocks():
    dice = np.random.default_rng(0)
    vocabulary = np.array([f"w{i}" for i in range(400)])
    chance = 1 / np.arange(1, 401)
    texts = [" ".join(dice.choice(vocabulary, dice.integers(0, 40), p=chance / chance.sum())) for _ in range(700)]
    items = texts[:90]
    index, expected = Weighted(pl.Series(items)), plainly(items, texts[:300])
    found = cosine_of(index, texts)
    assert np.allclose(found[:300], expected, atol=2e-6)
    again = np.concatenate([cosine_of(index, texts[:5]), cosine_of(index, texts[5:300]), cosine_of(index, texts[300:])])
    assert (again == found).all(), "no cosine depends on what stands beside the text"


def test_a_scrambled_copy_is_dropped_with_the_words_it_shares_and_a_question_like_it_is_not():
    scrambled = "how many are left farmer seven sheep and buys A more has twelve"
    pool = pool_of(
        (scrambled, "x"),
        (SHEEP.upper().replace("E", "Е"), "x"),
        ("How many sheep has a farmer in the valley then?", "x"),
    )
    said = TfIdf().judge(pool, {"quiz": items_of((SHEEP, None), (BREAD, None))}, using=NOTHING, rng=rng())
    assert reasons(said, pool) == ["tf-idf", "tf-idf", None]
    found = json.loads(said["evidence"][0])
    assert (found["benchmark"], found["item"], found["cosine"]) == ("quiz", "i0", 1.0)
    assert found["quote"] == "how many are left"
    for span in found["spans"]:
        theirs, ours = SHEEP[slice(*span["item"])], scrambled[slice(*span["text"])]
        assert theirs.lower() == ours.lower()
    assert [one["item"] for one in found["nearest"]] == ["i0", "i1"]
    assert 0 < said["score"][2] < 0.9


def test_it_finds_every_disguise_of_letters_and_order():
    items = load_pack("gsm8k").items.head(40)
    found = {r.kind: r for r in recall_per_kind(TfIdf(), {"gsm8k": items}, using=NOTHING, rng=rng())}
    for kind in ("verbatim", "case", "diacritics", "fullwidth", "lookalikes", "zero-width", "words-shuffled", "tags"):
        assert found[kind].caught == found[kind].planted > 0, KINDS[kind].says


def test_awkward_turns_and_items_are_near_nothing():
    world = awkward_pool()
    items = items_of(("", None), ("\u200b", None), ("三个字", None), ("one two three", None), (SHEEP, "7"))
    said = TfIdf().judge(world, {"quiz": items}, using=NOTHING, rng=rng())
    assert set(said["fate"]) == {"keep"}
    assert said["score"].is_between(0, 1).all()
    nothing = TfIdf().judge(world, {"quiz": items_of(("", None))}, using=NOTHING, rng=rng())
    assert set(nothing["fate"]) == {"keep"}


def test_candidates_by_words_need_no_embedder_and_each_measure_brings_up_its_own():
    judge = AnswersBy(lambda request: Reply(text="same: yes"))
    pool = pool_of(
        ("Twelve sheep a farmer has and buys seven more, how many left?", "x"), ("Say something nice to me", "x")
    )
    items = {"quiz": items_of((SHEEP, None), (BREAD, None))}
    by_words = LlmJudge(closest_by=("tf-idf",))
    assert by_words.needs == {"judge"}
    assert LlmJudge().needs == LlmJudge(closest_by=("tf-idf", "embedding")).needs == {"embed", "judge"}
    said = by_words.judge(pool, items, using=Using(_judge=judge), rng=rng())
    assert reasons(said, pool) == ["rephrased", None]
    assert json.loads(said["evidence"][0])["closest_by"] == "tf-idf"
    assert len(judge.asked) == 2

    class Opposite:
        """Puts everything at one point except texts on sheep."""

        def identity(self) -> dict[str, str]:
            return {}

        def embed(self, texts: list[str]) -> np.ndarray:
            return np.array([[1.0, 0.0] if "sheep" in text.lower() else [0.0, 1.0] for text in texts], dtype=np.float32)

    both = LlmJudge(closest_by=("embedding", "tf-idf"))
    using = Using(_judge=judge, _embed=Opposite())
    listed = both.candidate_pairs(pool, _entries(items), using)
    assert sorted(listed.select("row", "item", "closest_by").rows()) == [(0, "i0", "embedding"), (1, "i1", "embedding")]


def _entries(items: dict[str, pl.DataFrame]) -> pl.DataFrame:
    from methods.texts.matching import entries

    return entries(items)
