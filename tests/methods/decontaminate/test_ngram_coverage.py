"""N-gram decontamination against the published table, hand-made leaks and a plain set version."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from methods.decontaminate.ngram_coverage import NgramCoverage
from methods.texts.words import words
from schemas.errors import UsageError
from schemas.examples import turns
from tests.methods._items import items_of
from tests.methods._pools import NOTHING, pool_of, reasons, rng

ITEM = [f"w{i}" for i in range(40)]
TULU = NgramCoverage(min_covered_words=0)


def judge(pool: pl.DataFrame, items: pl.DataFrame, method: NgramCoverage = TULU) -> pl.DataFrame:
    return method.judge(pool, {"quiz": items}, using=NOTHING, rng=rng())


def edited(every: int) -> str:
    return " ".join("x" if (i + 1) % every == 0 else word for i, word in enumerate(ITEM))


@pytest.mark.parametrize(
    ("text", "coverage", "flagged"),
    [
        (" ".join(["a", *ITEM[:25], "b"]), 0.625, True),
        (" ".join(["a", *ITEM[5:17], "b"]), 0.3, False),
        (" ".join(["a", *ITEM[:20], "b"]), 0.5, False),
        (" ".join([*ITEM[:10], "x", *ITEM[11:21]]), 0.5, False),
        (edited(9), 0.8, True),
        (edited(8), 0.0, False),
        (" ".join(ITEM), 1.0, True),
        (" ".join(ITEM[:21]), 0.525, True),
    ],
    ids=["25", "12", "exactly-half", "two-spans", "every-9th", "every-8th", "verbatim", "just-over-half"],
)
def test_the_forty_word_item_of_tulu_3(text: str, coverage: float, flagged: bool):
    said = judge(pool_of((text, "no")), items_of((" ".join(ITEM), None)))
    assert said["score"].to_list() == [pytest.approx(coverage)]
    assert said["reason"].to_list() == ["ngram-coverage" if flagged else None]


def test_a_seven_word_item_has_no_8_gram_and_is_a_short_item_instead():
    seven = "how many legs does a spider have"
    pool = pool_of((f"Tell me, {seven}?", "It has eight legs."), (f"Tell me, {seven}?", "No idea."), (seven, "eight"))
    said = judge(pool, items_of((seven, "Eight")))
    assert reasons(said, pool) == ["short-item", None, "short-item"]


def test_a_short_item_without_an_answer_must_be_a_whole_turn():
    pool = pool_of(("What is it made of?", "Tin"), ("Now, what is it made of?", "Tin"))
    assert reasons(judge(pool, items_of(("what is it made of", None))), pool) == ["short-item", None]


def test_empty_and_three_word_items_do_not_flag_the_world():
    pool = pool_of(("", ""), ("What is gold?", "a metal"), ("...", "..."))
    items = items_of(("", None), ("What is gold?", "metal"), ("", ""), ("...", "."))
    assert reasons(judge(pool, items), pool) == [None, None, None]


def test_an_answer_must_be_long_enough_and_stand_in_an_assistant_turn():
    answer = " ".join(f"step{i}" for i in range(24))
    pool = pool_of(("q", answer), (answer, "a"), ("q", " ".join(answer.split()[:19])))
    items = items_of(("unrelated words that nobody wrote anywhere in this pool", answer))
    assert reasons(judge(pool, items), pool) == ["ngram-coverage", None, "ngram-coverage"]
    assert reasons(judge(pool, items, NgramCoverage(everywhere=True)), pool)[1] == "ngram-coverage"
    assert reasons(judge(pool, items, NgramCoverage(min_answer_words=25)), pool) == [None] * 3
    assert reasons(judge(pool, items, NgramCoverage(fields=("prompt",))), pool) == [None] * 3


def test_coverage_is_per_turn_and_the_other_answer_of_a_preference_counts_too():
    half, rest = " ".join(ITEM[:20]), " ".join(ITEM[20:])
    split = [("user", half), ("assistant", "ok"), ("user", rest), ("assistant", "ok")]
    answer = " ".join(f"step{i}" for i in range(24))
    pool = pool_of(split, ("q", "good"), worse=[None, turns(("assistant", answer))])
    said = judge(pool, items_of((" ".join(ITEM), answer)))
    assert reasons(said, pool) == [None, "ngram-coverage"]
    assert json.loads(said["evidence"][1])["in"] == "worse"


def test_evidence_names_benchmark_item_rule_and_the_span_in_both_raw_texts():
    item = "Ａ train leaves the old station at noon, and it travels 60 miles — how far is it by three o’clock?"
    leak = "Q:  a TRAIN leaves the\u200b old statiоn at noon; and it travels 60 miles. How far is it by 3?"
    said = judge(
        pool_of([("system", "s"), ("user", leak), ("assistant", "x")]), items_of(("unrelated", None), (item, None))
    )
    found = json.loads(said["evidence"][0])
    assert (found["benchmark"], found["item"], found["field"], found["turn"]) == ("quiz", "i1", "prompt", 1)
    (span,) = found["spans"]
    text, theirs = leak[slice(*span["text"])], item[slice(*span["item"])]
    assert text == leak[4:-3]
    assert theirs == item[: item.index(" three")]
    assert words(text) == words(theirs)
    assert found["quote"] == text
    assert found["coverage"] == pytest.approx(18 / 21, abs=1e-4)


HIDDEN = [
    ("homoglyph", lambda t: t.translate(str.maketrans("aeopc", "аеорс"))),
    ("zero-width", lambda t: "\u200b".join(t)),
    ("fullwidth", lambda t: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in t)),
    ("nbsp-and-tag", lambda t: t.replace(" ", "\u00a0\U000e0020")),
]


@pytest.mark.parametrize("hide", [h for _, h in HIDDEN], ids=[n for n, _ in HIDDEN])
def test_a_leak_cannot_hide_behind_unicode(hide):
    items = items_of(*[(" ".join(f"{word}c{k}" for word in ITEM[:20]), None) for k in range(100)])
    pool = pool_of(*[(hide(prompt), "no") for prompt in items["prompt"]])
    assert judge(pool, items, NgramCoverage(n=13, min_words=13))["reason"].null_count() == 0


def test_boilerplate_neither_convicts_nor_acquits():
    preamble = "the following paragraphs each describe a set of five objects arranged in a fixed order"
    items = items_of(*[(f"{preamble} item {k} is left of thing {k} and right of box {k}", None) for k in range(30)])
    pool = pool_of(
        (f"{preamble} now draw them in red ink and in blue ink", "no"),
        (items["prompt"][7], "no"),
        ("item 9 is left of thing 9 and right of box 9", "no"),
    )
    said = judge(pool, items)
    assert reasons(said, pool) == [None, "ngram-coverage", None]  # 12 of 27 words are too few of the whole
    assert json.loads(said["evidence"][1])["item"] == "i7"


def test_an_item_made_of_boilerplate_must_be_there_whole():
    common = "which of the following statements about it is true"
    items = items_of((common, None), *[(f"{common} part {k} of the exam paper here", None) for k in range(20)])
    pool = pool_of((f"Tell me {common} today", "b"), (common.replace("about", "on"), "b"))
    assert reasons(judge(pool, items), pool) == ["whole-item", None]


def test_a_common_phrase_of_a_short_item_is_not_enough_unless_it_is_all_of_it():
    items = items_of(("write a function to calculate the area of a rectangle", None))
    pool = pool_of(("write a function to calculate the area of a circle", "x"), (items["prompt"][0], "x"))
    assert reasons(judge(pool, items), pool) == ["ngram-coverage", "ngram-coverage"]
    assert reasons(judge(pool, items, NgramCoverage()), pool) == [None, "ngram-coverage"]


def test_one_long_ngram_is_enough_where_that_is_asked_for():
    items = items_of((" ".join(ITEM), None))
    pool = pool_of((" ".join(["a", *ITEM[3:16], "b"]), "no"), (" ".join(["a", *ITEM[3:15], "b"]), "no"))
    assert reasons(judge(pool, items), pool) == [None, None]
    said = judge(pool, items, NgramCoverage(any_n=13))
    assert reasons(said, pool) == ["any-ngram", None]
    assert said["score"].to_list() == [pytest.approx(13 / 40), pytest.approx(12 / 40)]


def test_numbers_of_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValidationError, match="longer than n"):
        NgramCoverage(any_n=8)
    with pytest.raises(UsageError, match="benchmarks hold no items"):
        judge(pool_of(("a", "b")), items_of())


TEXTS = st.lists(st.sampled_from("abc"), max_size=30).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.lists(TEXTS, min_size=1, max_size=4), st.sampled_from([2, 3, 5]))
def test_coverage_is_that_of_plain_sets(texts: list[str], prompts: list[str], n: int):
    method = NgramCoverage(n=n, min_covered_words=0, max_df=1000, min_words=n)
    pool, items = pool_of(*[(t, "") for t in texts]), items_of(*[(p, None) for p in prompts])
    said = judge(pool, items, method)
    for row, text in enumerate(texts):
        grams = {tuple(text.split()[i : i + n]) for i in range(len(text.split()) - n + 1)}
        best = 0.0
        for prompt in prompts:
            tokens = prompt.split()
            hit = {j for i in range(len(tokens) - n + 1) if tuple(tokens[i : i + n]) in grams for j in range(i, i + n)}
            best = max(best, len(hit) / len(tokens) if tokens else 0.0)
        assert said["score"][row] == pytest.approx(best)
        assert (said["reason"][row] is not None) == (best > 0.5)
        if best > 0.5:
            for span in json.loads(said["evidence"][row])["spans"]:
                assert text[slice(*span["text"])].split() == words(text[slice(*span["text"])])


def test_every_pair_is_in_the_table_flagged_or_not():
    items = items_of((" ".join(ITEM), None), (" ".join(reversed(ITEM)), None))
    pool = pool_of((" ".join(ITEM[:12]), "no"), (" ".join(ITEM), "no"), ("nothing of it", "no"))
    table = TULU.pairs(pool, {"quiz": items})
    assert table.select("row", "benchmark", "item", "flagged").rows() == [
        (0, "quiz", "i0", False),
        (1, "quiz", "i0", True),
    ]
