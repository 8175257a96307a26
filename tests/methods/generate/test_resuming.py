"""A killed generation goes on from its cached replies and ends where it would have ended."""

import numpy as np
import pytest

from backends.protocols import Request
from methods.generate.self_instruct import SelfInstruct
from schemas.method import Using
from storage.calls.cached_llm import CachedLLM, CallCache
from tests.methods.generate.test_self_instruct import seed_file, teacher
from tests.methods.llm_doubles import AnswersBy


class Killed(Exception):
    """The process dies here."""


def generate(engine, path, examples=15):
    cache = CallCache(path)
    try:
        llm = CachedLLM(engine, cache, chunk=4)
        method = SelfInstruct(examples=examples)
        return method.generate(seed_file(), using=Using(llm), rng=np.random.default_rng(0))
    finally:
        cache.close()


@pytest.mark.parametrize("deadline", [1, 6, 20])
def test_a_killed_run_pays_only_for_what_was_in_flight(tmp_path, deadline):
    undisturbed = AnswersBy(teacher)
    expected = generate(undisturbed, tmp_path / "whole.sqlite")

    def dying(request: Request) -> str:
        if len(model.asked) > deadline:
            raise Killed
        return teacher(request)

    model = AnswersBy(dying)
    with pytest.raises(Killed):
        generate(model, tmp_path / "calls.sqlite")
    again = AnswersBy(teacher)
    found = generate(again, tmp_path / "calls.sqlite")
    assert found.examples.equals(expected.examples)
    assert found.refused.equals(expected.refused)
    paid = len(model.asked) + len(again.asked)
    assert len(undisturbed.asked) <= paid <= len(undisturbed.asked) + 4, "a chunk of four was in flight"
    third = AnswersBy(teacher)
    generate(third, tmp_path / "calls.sqlite")
    assert third.asked == []


def test_a_larger_target_goes_on_from_the_same_replies(tmp_path):
    few, more = AnswersBy(teacher), AnswersBy(teacher)
    first = generate(few, tmp_path / "calls.sqlite", examples=5)
    second = generate(more, tmp_path / "calls.sqlite", examples=15)
    assert second.examples.head(5)["messages"].equals(first.examples["messages"])
    assert not {repr(r) for r in few.asked} & {repr(r) for r in more.asked}
