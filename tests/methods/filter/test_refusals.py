"""Refusals: told by their opening, sorted by the nearest category, and reported as a partition."""

import numpy as np
import pytest
from pydantic import ValidationError

from methods.filter.refusals import Refusals
from methods.texts.refusals import CATEGORIES, categories_of, refusal_phrase
from schemas.method import Using
from tests.methods._engines import Hashed
from tests.methods.filter._rows import AWKWARD, pool


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I cannot assist with this request.",
        "As an AI language model, I do not have personal opinions.",
        "Thank you for asking. Unfortunately, I am unable to provide legal advice.",
        "I must decline.",
        "It is not appropriate to make such jokes.",
        "No text was provided.",
        "My apologies, this goes against my guidelines.",
    ],
)
def test_planted_refusals_are_found(answer: str) -> None:
    assert refusal_phrase(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Sorry for the delay, here is the list.",
        "I can't wait to see you!",
        "I'm sorry to hear that you are ill. Rest, and drink a lot.",
        "Paris is the capital of France.",
        "Here is a story. It is long. In the end he said: I cannot help you.",
        "",
    ],
)
def test_what_only_sounds_like_one_is_not(answer: str) -> None:
    assert refusal_phrase(answer) is None


def test_there_are_sixteen_categories_on_two_axes_each_with_examples() -> None:
    assert len(CATEGORIES) == 16
    assert {c.axis for c in CATEGORIES} == {"cannot", "should-not"}
    assert all(c.says and c.examples for c in CATEGORIES)


def test_a_categorys_own_example_lands_in_it() -> None:
    texts = [c.examples[0] for c in CATEGORIES]
    names, cosines = categories_of(texts, Hashed())
    assert sum(name == c.id for name, c in zip(names, CATEGORIES, strict=True)) >= 12, "its own text is an anchor"
    assert (cosines <= 1.0001).all()


def test_policy_decides_what_goes_and_a_contradiction_always_goes() -> None:
    rows = pool(
        ("Describe the attached picture", "I can't view images."),
        ("Name a colour", "Blue."),
        ("Name a  COLOUR!", "I'm sorry, I can't do that."),
        ("Summarize the text", "No text was provided."),
        source=["a", "a", "b", "b"],
    )
    using = Using(_embed=Hashed())
    none = Refusals(drop="none").judge(rows, using=using, rng=np.random.default_rng(0))
    assert none["reason"].to_list() == [None, None, "refused-and-answered", None]
    everything = Refusals(drop="all", contradictions=False).judge(rows, using=using, rng=np.random.default_rng(0))
    assert everything["fate"].to_list() == ["reject", "keep", "reject", "reject"]
    assert everything["score"].is_null().to_list() == [False, True, False, False]
    audit = Refusals().audit(rows, everything)
    for shares in audit.values():
        assert sum(shares.values()) == pytest.approx(1.0), "a partition, none included"
    assert audit["refusals by category"]["none"] == 0.25
    with pytest.raises(ValidationError, match="rudeness: no such category; there are chain-of-command"):
        Refusals(drop_categories=("privacy", "rudeness"))


def test_awkward_texts_get_a_verdict() -> None:
    rows = pool(*((text, text) for text in AWKWARD))
    assert Refusals().judge(rows, using=Using(_embed=Hashed()), rng=np.random.default_rng(0)).height == len(AWKWARD)
