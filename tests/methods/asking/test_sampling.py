"""Asking many things at once: order, classes of failure, budgets, dead engines."""

import pytest

from backends.protocols import Reply, Request
from methods.asking.sampling import Draw, calls_of, failure_of, failures, sample, sample_each
from schemas.errors import BackendError, BudgetExceeded, EngineDown
from tests.methods.llm_doubles import AnswersBy, asked_text, failed


def requests(*texts: str) -> list[Request]:
    return [Request.ask(text) for text in texts]


def test_replies_stand_in_the_order_of_the_requests_whatever_the_chunk():
    model = AnswersBy(lambda r: asked_text(r).upper())
    seen = []
    replies = sample(
        model,
        requests("a", "b", "c", "d", "e"),
        chunk=2,
        progress=lambda done, total, note="": seen.append((done, total)),
    )
    assert [reply.text for reply in replies] == ["A", "B", "C", "D", "E"]
    assert model.batches == [2, 2, 1]
    assert seen == [(2, 5), (4, 5), (5, 5)]


def test_a_failed_call_is_a_reply_with_a_class_and_costs_only_itself():
    replies = sample(AnswersBy(lambda r: failed("timeout") if asked_text(r) == "b" else "x"), requests(*"abcdef"))
    assert [reply.failure for reply in replies] == [None, "timeout", None, None, None, None]
    assert failures(replies, complete=True) == {"timeout": 1}


def test_repeated_samples_are_distinct_calls_told_apart_by_index():
    model = AnswersBy(lambda r: f"{asked_text(r)}{r.sampling.index}")
    replies = sample_each(model, requests("a", "b"), 3)
    assert [[reply.text for reply in row] for row in replies] == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]
    assert len({reply.call for row in replies for reply in row}) == 6


def test_nothing_asked_nothing_answered():
    assert sample(AnswersBy(lambda r: "x"), []) == []
    assert sample_each(AnswersBy(lambda r: "x"), requests("a"), 0) == [[]]


@pytest.mark.parametrize("failure", ["timeout", "connection", "rate-limited", "server-error"])
def test_five_calls_that_all_fail_in_a_passing_way_stop_the_step(failure):
    model = AnswersBy(lambda r: failed(failure, "no route"))
    with pytest.raises(EngineDown, match=rf"all 5 calls failed \({failure} 5; last: no route\)"):
        sample(model, requests(*"abcde"))
    assert [reply.failure for reply in sample(model, requests(*"abcd"))] == [failure] * 4


def test_rows_that_can_never_succeed_do_not_blame_the_engine():
    replies = sample(AnswersBy(lambda r: failed("refused-by-server")), requests(*"abcdefg"))
    assert failures(replies, complete=False) == {"refused-by-server": 7}


def test_an_exhausted_budget_stops_before_the_next_chunk_is_paid():
    model = AnswersBy(lambda r: failed("over-budget", "spent 2 of 2") if asked_text(r) == "b" else "x")
    with pytest.raises(BudgetExceeded, match="spent 2 of 2"):
        sample(model, requests(*"abcd"), chunk=2)
    assert model.batches == [2]


def test_an_engine_that_loses_a_reply_is_an_error():
    class Forgetful(AnswersBy):
        def generate(self, requests):
            return super().generate(requests)[1:]

    with pytest.raises(BackendError, match="1 replies to 2 requests"):
        sample(Forgetful(lambda r: "x"), requests("a", "b"))


@pytest.mark.parametrize(
    ("reply", "complete", "expected"),
    [
        (Reply(text="fine"), True, None),
        (Reply(text=" \n"), False, "empty"),
        (Reply(text="half", finish_reason="length"), True, "cut-off"),
        (Reply(text="half", finish_reason="length"), False, None),
        (Reply(text="half", finish_reason="length", failure="cut-off"), True, "cut-off"),
        (Reply(text="half", finish_reason="length", failure="cut-off"), False, None),
        (Reply(text="", finish_reason="length", failure="cut-off"), False, "empty"),
        (Reply(text="x", finish_reason="content_filter"), False, "refused-by-server"),
        (failed("undecodable"), False, "undecodable"),
    ],
)
def test_what_counts_as_an_answer(reply, complete, expected):
    assert failure_of(reply, complete=complete) == expected


def test_calls_are_named_once_and_unkeyed_replies_not_at_all():
    assert calls_of([Reply(call=b"a"), Reply(), Reply(call=b"b"), Reply(call=b"a")]) == [b"a", b"b"]


def test_greedy_replies_are_the_same_call_whatever_the_seed():
    assert Draw().sampling(seed=1) == Draw().sampling(seed=2)
    assert Draw(temperature=1.0).sampling(seed=1) != Draw(temperature=1.0).sampling(seed=2)
