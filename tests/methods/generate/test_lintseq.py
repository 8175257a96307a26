"""Answers with programs become edit sequences; the others are refused with the reason."""

import pytest

from methods.generate.lintseq import LintSeq
from methods.texts.edit_sequences import SEPARATOR, applied
from schemas.errors import EmptyStage
from schemas.method import Using
from tests.methods._pools import pool_of, rng
from tests.methods.generate._candidates import answers_in, evidence_in, reasons_in

SOURCE = "def double(x):\n    twice = 2 * x\n    return twice\n\n\nprint(double(4))"
POOL = pool_of(
    ("double", f"Here it is:\n```python\n{SOURCE}\n```\nGood luck."),
    ("words", "I would rather not."),
    ("broken", "```python\ndef f(:\n```"),
    ("plain", "a = 1\nb = 2\nc = a + b"),
)


def made_of(pool=POOL, **fields):
    return LintSeq(**fields).generate(pool, using=Using(), rng=rng())


def test_the_diffs_of_a_row_write_its_program():
    made = made_of()
    programs = {applied(answer.split(SEPARATOR)) for answer in answers_in(made)}
    assert programs == {SOURCE, "a = 1\nb = 2\nc = a + b"}
    assert [m[0]["content"] for m in made.examples["messages"]] == [
        {SOURCE: "double"}.get(applied(a.split(SEPARATOR)), "plain") for a in answers_in(made)
    ]
    assert all(
        e["edits"] == len(a.split(SEPARATOR)) for e, a in zip(evidence_in(made.examples), answers_in(made), strict=True)
    )


def test_answers_without_a_program_are_refused():
    assert sorted(reasons_in(made_of()).values()) == ["no-code", "syntax-error"]
    assert set(reasons_in(made_of(max_lines=3)).values()) == {"no-code", "syntax-error", "too-long"}


def test_equal_paths_are_one_example():
    made = made_of(pool_of(("one", "a = 1")), paths=3)
    assert len(answers_in(made)) == 1
    assert made.notes["refused"] == {"repeats-path": 2}


def test_neither_order_nor_company_changes_a_sequence():
    whole = {m[0]["content"]: m[-1]["content"] for m in made_of().examples["messages"]}
    for part in (POOL.reverse(), POOL.head(1), POOL.tail(1)):
        for messages in made_of(part).examples["messages"]:
            assert whole[messages[0]["content"]] == messages[-1]["content"]


def test_code_that_holds_the_separator_is_refused():
    made = made_of(pool_of(("sep", f"x = '{SEPARATOR}'")))
    assert set(made.refused["reason"]) == {"holds-the-separator"}


def test_an_empty_pool_says_so():
    with pytest.raises(EmptyStage, match="lintseq"):
        made_of(POOL.head(0))


def test_a_word_is_no_program():
    assert set(made_of(pool_of(("capital?", "Paris"), ("six by seven?", "42"))).refused["reason"]) == {"no-code"}
