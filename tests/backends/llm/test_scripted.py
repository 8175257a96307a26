"""The scripted fake: rules, groups, planted scores; and the rules of acceptance that every engine shares."""

import pytest
from pydantic import TypeAdapter, ValidationError

from backends.config import AnyLLM
from backends.llm._accept import accepted, repaired, schema_problem
from backends.llm.scripted import ReplyRule, ScoreRule, Scripted
from backends.protocols import Reply, Request, Sampling, ScoreRequest, Turn
from schemas.errors import UsageError


def say(script: Scripted, *requests: Request) -> list[Reply]:
    return script.open().generate(requests)


def test_the_first_rule_that_matches_answers_and_the_default_otherwise() -> None:
    script = TypeAdapter(AnyLLM).validate_python(
        {
            "backend": "scripted",
            "rules": [{"when": "Paris", "reply": "France"}, {"pattern": "^Name .* fruit", "reply": "pear"}],
            "default": "none",
        }
    )
    asked = ["Name a fruit of Paris", "Name one fruit", "name one fruit"]
    assert [r.text for r in say(script, *(Request.ask(text) for text in asked))] == ["France", "pear", "none"]


def test_a_reply_may_name_groups_and_a_sample_takes_its_turn() -> None:
    script = Scripted(
        rules=(
            ReplyRule(pattern=r"(\w+) plus (\w+)", reply="$2 and $1"),
            ReplyRule(when="dice", replies=("one", "two")),
        ),
        default="",
    )
    dice = [Request.ask("dice", Sampling(index=i)) for i in range(3)]
    got = say(script, Request(prompt="two plus three"), *dice)
    assert [r.text for r in got] == ["three and two", "one", "two", "one"]


def test_stops_and_limits_cut_as_with_a_real_model() -> None:
    script = Scripted(default="one two three. four five")
    stopped, cut = say(
        script,
        Request.ask("x", Sampling(stop=(".",))),
        Request.ask("x", Sampling(max_tokens=2)),
    )
    assert (stopped.text, stopped.finish_reason) == ("one two three", "stop")
    assert (cut.text, cut.finish_reason, cut.completion_tokens) == ("one two", "length", 2)


def test_failures_can_be_planted() -> None:
    script = Scripted(rules=(ReplyRule(when="bad", failure="timeout"),), default="fine")
    assert [r.failure for r in say(script, Request.ask("bad"), Request.ask("good"))] == ["timeout", None]


def test_scores_are_planted_or_constant_or_hashed() -> None:
    planted = Scripted(default="", scores=(ScoreRule(when="Q\n\nyes", logprobs=(-0.5, -0.25)),)).open()
    got = planted.logprobs([ScoreRequest("yes", (Turn("user", "Q"),)), ScoreRequest("a b c")])
    assert got[0].sum_logprob == -0.75
    assert got[1].logprobs == (-1.0,) * 4
    hashed = Scripted(default="", default_logprob="hashed").open()
    first, again, other = hashed.logprobs([ScoreRequest("a b"), ScoreRequest("a b"), ScoreRequest("a c")])
    assert first == again != other
    assert all(-4 < value <= 0 for value in first.logprobs)


def test_hashed_scores_are_what_they_always_were_and_a_long_text_does_not_cost_its_square() -> None:
    engine = Scripted(default="", default_logprob="hashed").open()
    (short,) = engine.logprobs([ScoreRequest("a b")])
    assert [round(value, 6) for value in short.logprobs] == [-0.915108, -2.796663, -0.880666]
    (long,) = engine.logprobs([ScoreRequest("word and " * 60_000)])  # hours, if each word hashed the whole text
    assert long.n_tokens == 120_001


def test_a_script_without_a_default_or_with_a_broken_pattern_is_refused() -> None:
    with pytest.raises(ValidationError, match="default"):
        Scripted.model_validate({"rules": []})
    with pytest.raises(ValidationError, match="no regular expression"):
        Scripted.model_validate({"default": "", "rules": [{"pattern": "(", "reply": ""}]})


def test_a_slow_pattern_of_python_is_fast_here() -> None:
    """Python's `re` needs minutes for this; the Rust engine is linear."""
    script = Scripted(rules=(ReplyRule(pattern="(a+)+$", reply="yes"),), default="no")
    assert say(script, Request.ask("a" * 5000 + "b"))[0].text == "no"


def test_the_whole_script_is_its_identity() -> None:
    base = Scripted(default="a")
    assert base.identity() == Scripted(default="a").identity()
    assert base.identity() != Scripted(default="b").identity()
    assert base.identity()["backend"] == "scripted"


@pytest.mark.parametrize(
    ("reply", "schema", "accept_cut_off", "failure"),
    [
        (Reply(text="fine"), None, True, None),
        (Reply(text=" \n\t"), None, True, "empty"),
        (Reply(text="half", finish_reason="length"), None, True, None),
        (Reply(text="half", finish_reason="length"), None, False, "cut-off"),
        (Reply(text='{"a": 1}', finish_reason="length"), "{}", True, "cut-off"),
        (Reply(text="no", finish_reason="content_filter"), None, True, "refused-by-server"),
        (Reply(text='{"a": 1}'), '{"type": "object"}', True, None),
        (Reply(text="[1]"), '{"type": "object"}', True, "wrong-schema"),
        (Reply(text="{a: 1}"), "{}", True, "wrong-schema"),
        (Reply(text="NaN"), "{}", True, "wrong-schema"),
        (Reply(text="[" * 100_000), "{}", True, "wrong-schema"),
        (Reply(text="x", failure="timeout"), None, True, "timeout"),
    ],
)
def test_what_counts_as_an_answer(reply: Reply, schema: str | None, accept_cut_off: bool, failure: str | None) -> None:
    request = Request.ask("x", Sampling(json_schema=schema))
    assert accepted(reply, request, accept_cut_off=accept_cut_off).failure == failure


def test_a_wrong_schema_names_the_place() -> None:
    schema = '{"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}}}}'
    assert schema_problem('{"a": [1, "two"]}', schema) == (
        "the reply does not match its schema at $['a'][1]: 'two' is not of type 'integer'"
    )
    with pytest.raises(UsageError, match="not a JSON schema"):
        schema_problem("{}", '{"type": "nonsense"}')


def test_asking_again_only_where_it_can_help() -> None:
    cold, hot = Request.ask("x"), Request.ask("x", Sampling(temperature=1.0, seed=3))
    empty = Reply(failure="empty")
    assert repaired(cold, empty, 0) is None
    assert repaired(cold, empty, 0, repeatable=False) is not None
    again = repaired(hot, empty, 0)
    assert again is not None
    assert again.sampling.seed != 3
    assert repaired(hot, empty, 1) != again
    assert repaired(hot, Reply(failure="timeout"), 0) is None
    assert repaired(hot, Reply(text="fine"), 0) is None
