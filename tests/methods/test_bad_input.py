"""Every filter, dedup and decontaminate method on what has broken such tools: no crash, one sensible verdict for each row."""

import json
from typing import Any

import polars as pl
import pytest

from schemas.examples import FATES, VERDICTS, conform, turns
from tests.methods._pools import pool_of, rng
from tests.methods.test_unions import METHODS, applied, made, using

CLEANERS = [name for name in METHODS if name.split("/")[0] in ("filter", "dedup", "decontaminate")]
#: Those that compare texts; the other compares dates.
COMPARES = [name for name in CLEANERS if name.startswith("decontaminate/") and name != "decontaminate/temporal"]
each_cleaner = pytest.mark.parametrize("name", CLEANERS)

#: Answers by what is unpleasant about them.
STRANGE = {
    "empty": "",
    "blank": " \u2003\n\t",
    "megabyte of a letter": "a" * 1_000_000,
    "megabyte of words": "word and " * 115_000,
    "megabyte on one line of another script": "漢" * 350_000,
    "right to left": "מה שלומך היום? שלום עולם",
    "right to left, marked": "\u202eabc\u202c \u2067def\u2069",
    "emoji": "👨‍👩‍👧‍👦🇫🇷👍🏽" * 50,
    "zero width": "\u200b\u200c\u200d\ufeff\u2060",
    "zero width inside": "z\u200be\u200dr\u00ado w\u2060idth",
    "combining": "e" + "\u0301" * 3000,
    "code": "```python\ndef f(x):\n    return {'a': x[0] if x else None}\n```",
    "table": "| a | b |\n|---|---|\n| 1 | 2 |\n" * 30,
    "controls": "\x00\x01\x1b[31mred\x7f",
    "not characters": "\ufffe\uffff\U0010ffff",
    "markup": "<script>alert(1)</script>{{ x }} {0} %s ${y} <|im_end|> </text>",
    "digits": "1" * 5000,
    "spaces only inside": "a" + " " * 100_000 + "b",
}


def strange_pool() -> pl.DataFrame:
    """A conversation for each, every third a preference example with the next strange answer beside it."""
    texts = list(STRANGE.values())
    worse = [turns(("assistant", texts[(i + 1) % len(texts)])) if i % 3 == 0 else None for i in range(len(texts))]
    return pool_of(
        *((f"Say something strange, number {i}, and nothing else", text) for i, text in enumerate(texts)), worse=worse
    )


def verdicts_of(name: str, pool: pl.DataFrame) -> pl.DataFrame:
    """One verdict for each example, with a fate that exists, a reason that is declared and evidence that is JSON."""
    method = made(name)
    said = conform(applied(method, pool), VERDICTS, name)
    assert sorted(said["id"]) == sorted(pool["id"])
    assert set(said["fate"]) <= set(FATES)
    declared = {rule.name for rule in method.settled_rules(said)} | {rule.name for rule in method.rules()}
    assert set(said["reason"].drop_nulls()) <= declared
    assert said.filter((pl.col("fate") != "keep") & pl.col("reason").is_null()).height == 0
    for text in said["evidence"].drop_nulls():
        json.loads(text)
    assert not said["score"].is_nan().any()
    if hasattr(method, "audit"):
        json.dumps(dict(method.audit(pool, said)), allow_nan=False)
    return said


@each_cleaner
def test_strange_answers_of_any_size_get_a_verdict(name: str) -> None:
    verdicts_of(name, strange_pool())


def test_the_rules_of_thumb_say_what_is_wrong_with_each_strange_answer() -> None:
    wrong = {
        "empty": "empty-answer", "blank": "empty-answer", "zero width": "empty-answer",
        "megabyte of a letter": "ngram-loop", "megabyte of words": "ngram-loop",
        "megabyte on one line of another script": "ngram-loop", "emoji": "ngram-loop", "combining": "ngram-loop",
        "table": "ngram-loop", "digits": "ngram-loop", "spaces only inside": "ngram-loop",
        "right to left, marked": "hidden-characters", "controls": "control-characters",
        "not characters": "control-characters", "markup": "template-leftover",
    }  # fmt: skip
    pool = pool_of(*((f"Say something strange, number {i}", text) for i, text in enumerate(STRANGE.values())))
    said = pool.select("id").join(verdicts_of("filter/heuristics", pool), on="id", maintain_order="left")
    assert dict(zip(STRANGE, said["reason"], strict=True)) == {name: wrong.get(name) for name in STRANGE}


@each_cleaner
def test_data_of_one_row_said_a_hundred_times(name: str) -> None:
    pool = pool_of(*[("What is the capital of France?", "The capital of France is Paris.")] * 100)
    said = verdicts_of(name, pool)
    if name.startswith("dedup/"):
        stays = said.filter(fate="keep")
        assert stays["id"].to_list() == [min(pool["id"])], "the one with the lowest id"
        homes = {json.loads(text)["repeats"] for text in said.filter(fate="reject")["evidence"]}
        assert homes == {min(pool["id"]).hex()}
    elif METHODS[name].per_example:
        assert said["fate"].n_unique() == 1, "what is judged alone is judged alike"


@each_cleaner
def test_one_example_and_none(name: str) -> None:
    one = pool_of(("What is the capital of France?", "Paris."))
    assert verdicts_of(name, one).height == 1
    assert verdicts_of(name, one.clear()).height == 0


@pytest.mark.parametrize("name", COMPARES)
def test_a_pack_of_empty_and_tiny_items_flags_nothing(name: str) -> None:
    pool = pool_of(
        *((f"Tell me what this is about and the answer, number {i}", text) for i, text in enumerate(STRANGE.values())),
        ("the answer is", "the answer is"), ("", ""), ("What is this?", "7"),
    )  # fmt: skip
    items = pl.DataFrame(
        {
            "item": [str(i) for i in range(6)],
            "prompt": ["", " ", "the answer is", "\u200b", "What is this?", "7"],
            "answer": [None, "", "is", "the answer is", "7", "7"],
        }
    )
    method: Any = made(name)
    said = method.judge(pool, {"tiny": items}, using=using(), rng=rng())
    assert set(said["fate"]) == {"keep"}
