"""RFT: the published paths, given pools, references, official slips, distinct keys."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.protocols import Request
from methods.generate.rejection_sampling import RejectionSampling
from schemas.errors import EmptyStage
from schemas.method import Using
from tests.methods._pools import example_id, pool_of, rng
from tests.methods.generate._candidates import answers_in, evidence_in, pool_with, reasons_in
from tests.methods.llm_doubles import AnswersBy, failed

VECTORS = json.loads(Path(__file__).with_name("rft_vectors.json").read_text("utf-8"))
PATHS = [text for text, _, _ in VECTORS["paths"]]
GOLD = "It is seventy-two: 36*2=<<36*2=72>>72\n#### 72"


def by_index(texts: list[str]):
    def answer(request: Request) -> str:
        return texts[request.sampling.index]

    return AnswersBy(answer)


def sampled(texts: list[str], gold: str = GOLD, **fields):
    llm = by_index(texts)
    method = RejectionSampling(samples=len(texts), **fields)
    return method.generate(pool_of(("How many?", gold)), using=Using(_llm=llm), rng=rng()), llm


@pytest.mark.parametrize("compat", ["fixed", "official"])
def test_of_the_published_paths_exactly_the_published_ones_stay(compat: str):
    """Official never reads the last sample, so one more is written."""
    made, _ = sampled([*PATHS, "never read #### 72"], candidates="sampled", compat=compat)
    kept = [text[0] for text in answers_in(made) if text != "never read #### 72"]
    assert kept == VECTORS["kept_in_order"]
    reasons = reasons_in(made)
    assert reasons[PATHS[1]] == "same-path"
    assert reasons[PATHS[5]] == "invalid-equation"
    assert reasons[PATHS[7]] == ("same-path" if compat == "official" else "invalid-equation")


def test_official_never_reads_the_last_sample():
    made, _ = sampled(["a <<1+71=72>>\n#### 72", "b <<2+70=72>>\n#### 72"], candidates="sampled", compat="official")
    assert answers_in(made) == ["a <<1+71=72>>\n#### 72"]
    assert set(reasons_in(made).values()) == {"never-read"}


def test_the_reference_comes_first_and_a_sample_that_reasons_like_it_is_a_repeat():
    same, other = "Twice 36 <<36*2=72>>\n#### 72", "<<70+2=72>>\n#### 72"
    made, _ = sampled([same, other])
    assert answers_in(made) == [GOLD, other]
    assert reasons_in(made) == {same: "same-path"}
    evidence = evidence_in(made.refused)[0]
    assert evidence["same_as"] == {"origin": "given", "sample": None}
    official, _ = sampled([same, other, "unread"], compat="official")
    assert answers_in(official) == [GOLD, same, other]


def test_every_way_to_be_refused_has_its_reason():
    texts = [
        "<<36+36=72>>\n#### 73",
        "<<36+36=73>> #### 72",
        "I have no idea how anybody could ever count all of this up",
        "",
    ]
    made, llm = sampled(texts)
    assert list(reasons_in(made).values()) == ["empty", "wrong-answer", "invalid-equation", "no-final-answer"]
    assert [e.get("why") for e in evidence_in(made.refused)][2] == "36+36 is 72, not 73"
    assert made.examples["calls"].to_list() == [[]]
    assert made.refused["parents"].to_list() == [[example_id(0)]] * 4
    assert len(llm.asked) == 4


def test_a_failed_call_costs_only_itself():
    llm = AnswersBy(lambda r: failed("timeout") if r.sampling.index == 0 else "<<70+2=72>>\n#### 72")
    made = RejectionSampling(samples=2).generate(pool_of(("How many?", GOLD)), using=Using(_llm=llm), rng=rng())
    assert len(answers_in(made)) == 2
    assert made.refused["reason"].to_list() == ["call-timeout"]


def test_given_solutions_of_many_models_are_checked_against_a_field_and_nothing_is_asked():
    pool = pool_with(
        ("How many?", "<<70+2=72>>\nA: 72", {"truth": "A: 72", "model": "a"}),
        ("How many?", "<<36*2=72>>\nA: 72", {"truth": "A: 72", "model": "b"}),
        ("How many?", "<<36*2=72>>, you see\nA: 72", {"truth": "A: 72"}),
        ("How many?", "<<36*3=108>>\nA: 108", {"truth": "A: 72"}),
        ("How few?", "A: 1", {}),
    )
    made = RejectionSampling(candidates="given", reference="truth").generate(pool, using=Using(), rng=rng())
    assert sorted(answers_in(made)) == ["<<36*2=72>>\nA: 72", "<<70+2=72>>\nA: 72"] or len(answers_in(made)) == 2
    assert sorted(reasons_in(made).values()) == ["no-reference", "same-path", "wrong-answer"]
    assert made.notes["paths_per_question"] == 1.0  # two of the first question, none of the second
    assert made.notes["questions_without_a_path"] == 1


def test_references_that_contradict_each_other_choose_nothing():
    pool = pool_of(("How many?", "#### 1"), ("How many?", "#### 2"))
    made = RejectionSampling(candidates="given").generate(pool, using=Using(), rng=rng())
    assert made.examples.height == 0
    assert made.refused["reason"].to_list() == ["conflicting-references"] * 2


def test_fewer_paths_by_set_by_answer_and_by_limit():
    texts = ["<<1+1=2>> <<2+70=72>>\n#### 72", "<<2+70=72>> <<1+1=2>>\n#### 72", "<<60+12=72>>\n#### 72"]
    count = {}
    for key in ("ordered", "set", "answer"):
        made, _ = sampled(texts, candidates="sampled", key=key)
        count[key] = made.examples.height
    assert count == {"ordered": 3, "set": 2, "answer": 1}
    made, _ = sampled(texts, candidates="sampled", max_paths=1)
    assert answers_in(made) == texts[:1]
    assert set(reasons_in(made).values()) == {"over-max-paths"}


def test_equations_of_plain_text_tell_paths_apart_too():
    texts = [
        "4 x $18 = $72. The answer is 72.",
        "4 * 18 = 72, see. The answer is $72.",
        "70 + 2 = 72. The answer is 72.",
    ]
    made, _ = sampled(texts, candidates="sampled")
    assert answers_in(made) == [texts[0], texts[2]]
    made, _ = sampled(texts, candidates="sampled", equations="annotations")
    assert answers_in(made) == [texts[0]]


def test_nothing_to_work_on_is_an_error_that_says_why():
    with pytest.raises(EmptyStage, match="no-answer 1"):
        RejectionSampling(candidates="given").generate(pool_of([("user", "How many?")]), using=Using(), rng=rng())


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(PATHS), min_size=1, max_size=8), st.sampled_from(["first", "farthest"]))
def test_keys_are_unique_right_and_never_fewer_with_more_samples(texts: list[str], keep: str):
    made, _ = sampled(texts, candidates="sampled", keep=keep)
    paths = [e["path"] for e in evidence_in(made.examples)]
    assert len(set(paths)) == len(paths)
    assert all(e["answer"] == "72" for e in evidence_in(made.examples))
    fewer, _ = sampled(texts[:-1], candidates="sampled", keep=keep) if len(texts) > 1 else (None, None)
    assert fewer is None or fewer.examples.height <= made.examples.height
    assert made.examples.height + made.refused.height == len(texts)


def test_arithmetic_is_never_evaluated_by_the_host_language():
    text = "<<__import__('os').getcwd()=72>>\n#### 72"
    made, _ = sampled([text], candidates="sampled")
    assert reasons_in(made) == {text: "invalid-equation"}
