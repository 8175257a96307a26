"""exact, any-ngram and idf-overlap: worked by hand, and what no rule on words may do."""

import json

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods.decontaminate._sought import looked_for
from methods.decontaminate.any_ngram import AnyNgram
from methods.decontaminate.exact import Exact
from methods.decontaminate.idf_overlap import IdfOverlap
from methods.decontaminate.ngram_coverage import NgramCoverage
from methods.decontaminate.temporal import Temporal
from methods.decontaminate.tf_idf import TfIdf
from methods.texts.matching import PairMethod
from methods.texts.words import words
from tests.methods._items import items_of
from tests.methods._pools import NOTHING, awkward_pool, pool_of, reasons, rng

ITEM = [f"w{i}" for i in range(40)]
WORD_RULES = [Exact(), AnyNgram(), NgramCoverage(), IdfOverlap()]
each_rule = pytest.mark.parametrize("method", WORD_RULES, ids=lambda m: m.name)


def judge(method: PairMethod, pool: pl.DataFrame, items: pl.DataFrame) -> pl.DataFrame:
    return method.judge(pool, {"quiz": items}, using=NOTHING, rng=rng())


def test_exact_wants_every_word_in_one_run():
    items = items_of((" ".join(ITEM), None))
    pool = pool_of(
        ("Please: " + " ".join(ITEM).upper() + "?", "no"),
        (" ".join(ITEM[:20]) + " and " + " ".join(ITEM[20:]), "no"),
        (" ".join(ITEM[:39]), "no"),
        (" ".join([*ITEM[20:], *ITEM[:20]]), "no"),
        ("no", " ".join(ITEM)),
    )
    said = judge(Exact(), pool, items)
    assert reasons(said, pool) == ["exact", None, None, None, None]
    assert said["score"].to_list() == [1, 0, 0, 0, 0]
    span = json.loads(said["evidence"][0])["spans"][0]
    assert (span["text"], span["item"]) == ([8, 8 + len(" ".join(ITEM))], [0, len(" ".join(ITEM))])


def test_exact_needs_one_run_even_where_every_8_gram_is_there():
    item = "a b c d e f g h i j"
    pool = pool_of(("a b c d e f g h x b c d e f g h i x c d e f g h i j", "no"), (f"x {item} x", "no"))
    assert reasons(judge(Exact(), pool, items_of((item, None))), pool) == [None, "exact"]


def test_exact_finds_short_items_with_their_answer_and_none_of_three_words():
    pool = pool_of(("So how many legs has a spider?", "It has eight."), ("how many legs has a spider", "Six."))
    assert reasons(judge(Exact(), pool, items_of(("How many legs has a spider?", "Eight"))), pool) == [
        "short-item",
        None,
    ]
    world = pool_of(("What is gold?", "a metal"), ("What is gold", "metal"), ("", ""))
    assert judge(Exact(), world, items_of(("What is gold?", "metal"), ("", "")))["reason"].null_count() == 3


def test_thirteen_words_in_a_row_convict_and_twelve_do_not():
    pool = pool_of((" ".join(["a", *ITEM[3:16], "b"]), "no"), (" ".join(["a", *ITEM[3:15], "b"]), "no"))
    said = judge(AnyNgram(), pool, items_of((" ".join(ITEM), None)))
    assert reasons(said, pool) == ["any-ngram", None]
    assert said["score"].to_list() == [pytest.approx(13 / 40), 0]


def test_thirteen_words_of_boilerplate_convict_nobody():
    preamble = "the following paragraphs each describe a set of five objects arranged in a fixed order"
    items = items_of(
        *[(f"{preamble} item {k} is left of thing {k} and right of box number {k}", None) for k in range(30)]
    )
    pool = pool_of((f"{preamble} now draw them", "no"), (items["prompt"][7], "no"))
    assert reasons(judge(AnyNgram(), pool, items), pool) == [None, "any-ngram"]
    assert reasons(judge(AnyNgram(max_df=30), pool, items), pool) == ["any-ngram", "any-ngram"]


def test_items_of_eight_to_twelve_words_are_looked_for_whole():
    item = "which planet of the solar system has the most moons"
    pool = pool_of(
        (f"Quiz: {item}?", "Saturn it is"), (f"Quiz: {item}?", "Mars"), (item.replace("most", "fewest"), "Saturn")
    )
    assert reasons(judge(AnyNgram(), pool, items_of((item, "Saturn"))), pool) == ["short-item", None, None]


def test_idf_overlap_of_a_long_question_by_hand():
    """36 5-grams, each of one item of one: all weigh the same; 60 answer words put the threshold at 0.8."""
    items = items_of((" ".join(ITEM), " ".join(f"s{i}" for i in range(60))))
    pool = pool_of((" ".join(ITEM[:33]), "no"), (" ".join(ITEM[:32]), "no"), (" ".join(ITEM), "own words"))
    said = judge(IdfOverlap(), pool, items)
    assert reasons(said, pool) == ["idf-overlap", None, "idf-overlap"]
    assert said["score"].to_list() == [pytest.approx(29 / 36), 0, 1]


def test_idf_overlap_of_a_short_question_needs_its_answer():
    """Ten words are six 5-grams: sure = 0.5 + 0.5 · 6/20 = 0.65; eleven words in all must score 1."""
    items = items_of((" ".join(ITEM[:10]), "Saturn"))
    pool = pool_of((" ".join(ITEM[:10]), "It is Saturn."), (" ".join(ITEM[:10]), "It is Mars."))
    said = judge(IdfOverlap(), pool, items)
    assert reasons(said, pool) == ["idf-overlap", None]
    assert said["score"].to_list() == [1.0, 0.65]


def test_idf_overlap_weighs_long_answers_by_their_trigrams():
    """Nine words of question (0.625 sure) and fifty of answer: all of the question and half of the 48 answer trigrams."""
    answer = [f"s{i}" for i in range(50)]
    items = items_of((" ".join(ITEM[:9]), " ".join(answer)))
    pool = pool_of((" ".join(ITEM[:9]), " ".join(answer[:26])), (" ".join(ITEM[:9]), " ".join(answer[:25])))
    said = judge(IdfOverlap(), pool, items)
    assert said["score"].to_list() == [pytest.approx(0.625 + 0.375 * 24 / 48), pytest.approx(0.625 + 0.375 * 23 / 48)]
    assert reasons(said, pool) == ["idf-overlap", "idf-overlap"]


def test_rare_words_count_more_than_the_preamble():
    preamble = " ".join(f"p{i}" for i in range(30))
    items = items_of(*[(f"{preamble} {' '.join(f'x{k}n{i}' for i in range(20))}", None) for k in range(40)])
    pool = pool_of((preamble, "no"), (items["prompt"][3], "no"), (items["prompt"][3].removeprefix(preamble), "no"))
    said = judge(IdfOverlap(), pool, items)
    assert reasons(said, pool) == [None, "idf-overlap", None]
    assert json.loads(said["evidence"][1])["items"] == 1


@each_rule
def test_an_empty_or_three_word_item_does_not_flag_the_world(method: PairMethod):
    items = items_of(("", None), ("What is gold?", "metal"), ("   ", ""), ("...", "."), ("\u200b", None), ("a", "a"))
    world = pl.concat([awkward_pool(), pool_of(("What is gold?", "a metal"), ("What is gold", "metal"), ("a", "a"))])
    assert judge(method, world, items)["reason"].null_count() == world.height


@each_rule
def test_ten_thousand_equal_examples_and_items_are_judged_alike(method: PairMethod):
    text = " ".join(ITEM)
    items = items_of(*[(text, None)] * 50)
    said = judge(method, pool_of(*[(text, "no")] * 200, ("other words stand here for once", "no")), items)
    assert said["reason"].null_count() == 1
    assert json.loads(said["evidence"][0])["item"] == "i0"


@each_rule
def test_evidence_leads_to_equal_words_in_both_raw_texts(method: PairMethod):
    item = (
        "Ａ train leaves the old station at noon, and it travels 60 miles — how far is it by three o’clock sharp today?"
    )
    leak = "Q:  a TRAIN leaves the\u200b old statiоn at noon; and it travels 60 miles. How far is it by three o'clock sharp TODAY"
    found = json.loads(judge(method, pool_of((leak, "x")), items_of((item, None)))["evidence"][0])
    assert (found["benchmark"], found["item"], found["field"], found["in"], found["turn"]) == (
        "quiz", "i0", "prompt", "messages", 0,
    )  # fmt: skip
    (span,) = found["spans"]
    assert words(leak[slice(*span["text"])]) == words(item[slice(*span["item"])]) == words(item)


HIDDEN = {
    "homoglyph": lambda t: t.translate(str.maketrans("aeopc", "аеорс")),
    "zero-width": "\u200b".join,
    "fullwidth": lambda t: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in t),
    "nbsp-and-tag": lambda t: t.replace(" ", "\u00a0\U000e0020"),
}


@pytest.mark.parametrize("method", [Exact(), AnyNgram(min_words=13), IdfOverlap()], ids=lambda m: m.name)
@pytest.mark.parametrize("how", HIDDEN)
def test_a_hundred_disguised_items_are_found_and_raw_13_grams_find_none(method: PairMethod, how: str):
    items = items_of(*[(" ".join(f"peach{k} cope{i}" for i in range(13)), None) for k in range(100)])
    leaks = [HIDDEN[how](prompt) for prompt in items["prompt"]]
    raw = {tuple(p.split()[i : i + 13]) for p in items["prompt"] for i in range(14)}
    assert not [t for t in leaks if any(tuple(t.split()[i : i + 13]) in raw for i in range(len(t.split())))]
    assert judge(method, pool_of(*[(t, "no") for t in leaks]), items)["reason"].null_count() == 0


TEXTS = st.lists(st.sampled_from("abc"), max_size=30).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.lists(TEXTS, min_size=1, max_size=4), st.sampled_from([2, 3, 5]))
def test_rules_are_those_of_plain_sets(texts: list[str], prompts: list[str], n: int):
    pool, items = pool_of(*[(t, "") for t in texts]), items_of(*[(p, None) for p in prompts])
    some = judge(AnyNgram(n=n, min_words=n, max_df=1000), pool, items)
    whole = judge(Exact(min_words=8, max_df=1000), pool, items)
    for row, text in enumerate(texts):
        grams = grams_of(text, n)
        assert (some["reason"][row] is not None) == any(grams & grams_of(prompt, n) for prompt in prompts)
        held = [p for p in prompts if len(p.split()) >= 8 and f" {p} " in f" {text} "]
        assert (whole["reason"][row] is not None) == bool(held)


def grams_of(text: str, n: int) -> set[tuple[str, ...]]:
    tokens = text.split()
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


@each_rule
def test_a_leak_is_found_in_a_megabyte_and_a_megabyte_without_one_is_kept(method: PairMethod):
    items = items_of((" ".join(ITEM), None))
    megabyte = " ".join(f"filler{i % 977}" for i in range(100_000))
    pool = pool_of(
        (f"{megabyte} {' '.join(ITEM)} {megabyte}", "no"), (megabyte, megabyte), ("x" * 1_000_000, "\u202e" * 1_000_000)
    )
    assert [reason is not None for reason in reasons(judge(method, pool, items), pool)] == [True, False, False]


@each_rule
def test_items_of_any_script_are_found(method: PairMethod):
    texts = [
        "写一首关于春天的短诗要有四行并且每一行都要押韵还要提到一条河和一座古老的桥以及桥边的三棵柳树和一位老渔夫的小船",
        " ".join(f"كلمة{i}" for i in range(40)),
        " ".join(f"מילה{i}" for i in range(40)),
        " ".join(f"слово{i}" for i in range(40)),
        " ".join(f"def f{i}(x):\n    return x + {i}" for i in range(12)),
        "\n".join(f"| row{i} | {i} | cell{i} |" for i in range(12)),
    ]
    pool = pool_of(*[(f"Bitte: {text} !", "no") for text in texts], ("🙂🙃" * 40, "no"), ("春天" * 3, "no"))
    said = judge(method, pool, items_of(*[(text, None) for text in texts]))
    assert [reason is not None for reason in reasons(said, pool)] == [True] * 6 + [False, False]


def test_how_many_items_a_rule_can_find_at_all() -> None:
    long = " ".join("abcdefghijklmnopqrst")
    items = pl.DataFrame(
        {
            "prompt": ["", None, "one two three", "one two three four five", "a b c d e f g h"],
            "answer": ["x", long, None, "", long],
        }
    )
    assert (
        looked_for(NgramCoverage(), items) == 3
    )  # two prompts of five words or more, one answer of twenty beside none
    assert looked_for(NgramCoverage(fields=("prompt",)), items) == 2
    assert looked_for(NgramCoverage(fields=("answer",), min_answer_words=21), items) == 0
    assert looked_for(AnyNgram(fields=("prompt",)), items) == 1
    assert looked_for(Exact(min_words=1, fields=("prompt",)), items) == 3
    assert looked_for(TfIdf(), items) == 1  # looks at prompts alone
    assert looked_for(Temporal(), items) == 5  # dates, whatever the words
    assert looked_for(NgramCoverage(), items.clear()) == 0
