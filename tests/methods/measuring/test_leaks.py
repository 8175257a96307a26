"""The self-test of decontamination: planted leaks are found, or reported as beyond the rule."""

import polars as pl
import pytest

from methods.decontaminate.ngram_coverage import NgramCoverage
from methods.measuring.leaks import KINDS, plant, recall_per_kind
from tests.methods._pools import NOTHING, pool_of, rng

WORDS = [f"{a}{b}" for a in ("time", "year", "way", "day", "man", "world") for b in ("ly", "ful", "ish")]


def items(count: int = 40) -> pl.DataFrame:
    texts = []
    for k in range(count):
        picked = [f"{WORDS[(k * 7 + i * (k + 3)) % len(WORDS)]}{(k * i) % 11 or ''}" for i in range(40)]
        texts.append(" ".join(picked[:22]).capitalize() + " are 12. " + " ".join(picked[22:]).capitalize() + "?")
    return pl.DataFrame({"item": [str(k) for k in range(count)], "prompt": texts, "answer": ["unknown"] * count})


def test_every_leak_that_should_be_found_is_and_the_others_are_reported_as_they_are():
    found = {r.kind: r for r in recall_per_kind(NgramCoverage(), {"quiz": items()}, using=NOTHING, rng=rng())}
    assert list(found) == list(KINDS)
    for kind, recall in found.items():
        assert recall.planted == 40, kind
        if recall.should_be_found:
            assert (recall.caught, recall.recall.low > 0.9) == (40, True), kind
    assert found["every-8th-word"].caught == 0
    assert found["words-shuffled"].caught <= 2  # an item of few different words survives a shuffle


def test_leaks_of_an_item_are_the_same_whatever_stands_beside_it():
    all_, some = plant(items(), 3), plant(items()[5:9], 3)
    assert all_.join(some, on="id", how="semi").sort("id").equals(some.sort("id"))
    assert not plant(items(), 4)["messages"].equals(all_["messages"])


def test_items_too_short_to_be_found_are_not_planted():
    short = pl.DataFrame(
        {"item": ["a"], "prompt": ["What is it?"], "answer": [None]}, schema_overrides={"answer": pl.String}
    )
    assert plant(short, 0).height == 0
    recalls = recall_per_kind(NgramCoverage(), {"quiz": short}, using=NOTHING, rng=rng())
    assert {r.planted for r in recalls} == {0}


@pytest.mark.parametrize("kind", ["case", "diacritics", "fullwidth", "lookalikes", "zero-width", "tags", "whitespace"])
def test_a_disguise_changes_the_raw_text(kind: str):
    leaks = plant(items(), 0).filter(pl.col("kind") == kind)
    assert all(m[0]["content"] not in set(items()["prompt"]) for m in leaks["messages"])


def test_leaks_stand_in_the_users_own_conversations():
    hosts = pool_of(
        [("system", "Be brief."), ("user", "Tell me about the mill by the river"), ("assistant", "It is old.")]
    )["messages"]
    leaks = plant(items(3), 0, hosts)
    verbatim, embedded = (leaks.filter(pl.col("kind") == kind)["messages"][0] for kind in ("verbatim", "embedded"))
    prompt = items(3)["prompt"][0]
    assert [t["content"] for t in verbatim] == ["Be brief.", prompt, "It is old."]
    assert embedded[1]["content"] == f"Tell me about the\n\n{prompt}\n\n mill by the river"
    found = {r.kind: r for r in recall_per_kind(NgramCoverage(), {"q": items()}, using=NOTHING, rng=rng(), hosts=hosts)}
    assert found["embedded"].caught == found["verbatim"].caught == 40


def test_rephrasings_are_a_kind_of_their_own_and_expected_of_no_rule_on_words():
    texts = pl.DataFrame({"benchmark": ["quiz", "quiz", "other"], "item": ["0", "1", "2"],
                          "text": [items()["prompt"][0], "something else entirely", "not of this benchmark"]})  # fmt: skip
    found = recall_per_kind(NgramCoverage(), {"quiz": items()}, using=NOTHING, rng=rng(), rephrased=texts)
    last = found[-1]
    assert (last.kind, last.planted, last.caught, last.should_be_found) == ("rephrased", 2, 1, False)
    assert [r.kind for r in found[:-1]] == list(KINDS)


def test_a_method_that_sees_the_whole_pool_is_shown_one_kind_at_a_time():
    seen: list[int] = []

    class Whole(NgramCoverage):
        per_example = False

        def judge(self, pool, benchmarks, *, using, rng):
            seen.append(pool.height)
            return super().judge(pool, benchmarks, using=using, rng=rng)

    recall_per_kind(Whole(), {"quiz": items(5)}, using=NOTHING, rng=rng())
    assert seen == [5] * len(KINDS)
