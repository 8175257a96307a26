"""Asking for a value: schemas reach the engine, unread replies are asked again a bounded number of times, then counted."""

import json

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from backends.llm.scripted import ReplyRule, Scripted
from backends.protocols import Reply, Request, Sampling
from methods.asking.parsing import Unparsed, model_from, schema_of, score_of, yes_or_no
from methods.asking.sampling import Draw
from methods.asking.structured import ask_for, ask_for_model, unheard
from tests.methods.llm_doubles import AnswersBy, asked_text, failed


class Opinion(BaseModel):
    """A value with a bound that a JSON schema has, too."""

    model_config = ConfigDict(extra="forbid")

    why: str
    score: int = Field(ge=0, le=10)


GOOD = '{"why": "clear", "score": 7}'


def test_a_model_is_asked_for_by_words_and_by_schema():
    llm = AnswersBy(lambda _: GOOD)
    (heard,) = ask_for_model(llm, [Request.ask("How good?")], Opinion)
    assert heard.value == Opinion(why="clear", score=7)
    sent = llm.asked[0]
    assert json.loads(sent.sampling.json_schema or "") == Opinion.model_json_schema()
    assert asked_text(sent).startswith("How good?\n\nReply with one JSON object")
    assert schema_of(Opinion) in asked_text(sent)
    assert len(heard.calls) == 1


def test_a_reply_that_cannot_be_read_is_shown_back_with_the_reason():
    answers = iter(["seven", GOOD])
    llm = AnswersBy(lambda _: next(answers))
    (heard,) = ask_for_model(llm, [Request.ask("How good?")], Opinion)
    assert heard.value is not None
    assert heard.failure is None
    assert len(heard.calls) == 2
    roles = [turn.role for turn in llm.asked[1].messages]
    assert roles == ["user", "assistant", "user"]
    assert llm.asked[1].messages[1].content == "seven"
    assert "no JSON object" in llm.asked[1].messages[2].content


@pytest.mark.parametrize("tries", [1, 2, 4])
def test_asking_again_is_bounded_and_what_stays_unread_is_a_class_without_a_value(tries: int):
    llm = AnswersBy(lambda _: '{"why": "clear", "score": 70}')
    (heard,) = ask_for_model(llm, [Request.ask("How good?")], Opinion, tries=tries)
    assert heard.value is None
    assert heard.failure == "unparsed"
    assert "less than or equal to 10" in heard.why
    assert len(llm.asked) == tries
    assert unheard([heard]) == {"unparsed": 1}


def test_only_those_that_failed_are_asked_again_and_order_is_kept():
    seen: list[str] = []

    def answer(request: Request) -> str:
        seen.append(request.messages[0].content)
        return "yes" if len(request.messages) > 1 or "easy" in request.messages[0].content else "hm"

    heard = ask_for(AnswersBy(answer), [Request.ask(t) for t in ("hard 1", "easy", "hard 2")], yes_or_no)
    assert [one.value for one in heard] == [True, True, True]
    assert seen == ["hard 1", "easy", "hard 2", "hard 1", "hard 2"]


@pytest.mark.parametrize("failure", ["timeout", "refused-by-server", "server-error"])
def test_a_failed_call_keeps_its_class_and_is_not_asked_again(failure: str):
    llm = AnswersBy(lambda _: failed(failure, "no luck"))
    (heard,) = ask_for(llm, [Request.ask("x")], yes_or_no, tries=3)
    assert (heard.value, heard.failure, heard.why) == (None, failure, "no luck")
    assert len(llm.asked) == 1


def test_a_cut_off_reply_is_drawn_anew_only_where_the_draw_has_chance_in_it():
    cut = Reply(text="ye", finish_reason="length")
    for temperature, calls in ((0.0, 1), (0.8, 2)):
        llm = AnswersBy(lambda _: cut)
        request = Request.ask("x", Sampling(temperature=temperature, seed=3))
        (heard,) = ask_for(llm, [request], yes_or_no, tries=2)
        assert heard.failure == "cut-off"
        assert len(llm.asked) == calls
        assert len({one.sampling.seed for one in llm.asked}) == calls


def test_the_engine_checks_the_schema_itself_and_its_class_is_kept():
    engine = Scripted(rules=(ReplyRule(when="How good", reply='{"why": 3}'),), default="none").open()
    (heard,) = ask_for_model(engine, [Request.ask("How good?")], Opinion, tries=1)
    assert heard.failure == "wrong-schema"
    assert "schema" in heard.why


def test_words_and_fences_around_one_object_are_let_pass_and_nothing_else():
    assert model_from(f"Sure!\n```json\n{GOOD}\n```\nAnything else?", Opinion) == Opinion(why="clear", score=7)
    assert model_from(f"{GOOD} {GOOD}", Opinion) == Unparsed("several JSON objects")
    assert model_from("[1, 2]", Opinion) == Unparsed("no JSON object")
    assert model_from('{"why": "x", "score": NaN}', Opinion) == Unparsed("no JSON: NaN is not JSON")
    assert model_from('{"why": "x"', Opinion).why.startswith("no JSON")  # type: ignore[union-attr]
    assert model_from('{"why": "x", "score": 1, "more": 2}', Opinion).why.startswith("more:")  # type: ignore[union-attr]
    assert model_from('{"a":' * 5000, Opinion).why.startswith("no JSON")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "value"),
    [("score: 7", 7.0), ("**Score:** 8.5/10", 8.5), ("9", 9.0), ("10/10", 10.0), ("score: 3, no: score: 4", 4.0)],
)
def test_a_score_is_read_in_the_ways_models_write_it(text: str, value: float):
    assert score_of(text, 0, 10) == value


@pytest.mark.parametrize("text", ["", "great", "score: eleven", "score: 11", "score: -1"])
def test_what_is_no_score_is_unparsed(text: str):
    assert isinstance(score_of(text, 0, 10), Unparsed)


def test_a_recipe_may_give_any_draw_a_schema_as_a_mapping():
    draw = Draw.model_validate({"json_schema": {"type": "object", "required": ["a"]}})
    assert draw.sampling().json_schema == '{"required":["a"],"type":"object"}'
    assert Draw.model_validate(draw.model_dump(mode="json")) == draw
    with pytest.raises(ValidationError, match="not a JSON schema: 'objekt'"):
        Draw.model_validate({"json_schema": {"type": "objekt"}})


def test_a_draw_without_a_schema_keeps_the_identity_it_had():
    assert "json_schema" not in Draw().model_dump(mode="json")
