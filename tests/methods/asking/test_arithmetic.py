"""Arithmetic written by a model: the published vectors, exactness, limits, hostile text."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from methods.asking.arithmetic import annotations, check_equation, equations_in, evaluate, path_key, plain_notation
from methods.asking.parsing import Unparsed

VECTORS = json.loads((Path(__file__).parents[1] / "generate" / "rft_vectors.json").read_text("utf-8"))


@pytest.mark.parametrize(("text", "holds"), VECTORS["check_equation"].items())
def test_equations_are_judged_as_the_published_code_judges_them(text: str, holds: bool):
    assert check_equation(text, compat="official").holds is holds


def test_fixed_checks_every_side_of_a_chain_and_agrees_on_all_other_vectors():
    different = [t for t, holds in VECTORS["check_equation"].items() if check_equation(t).holds is not holds]
    assert different == ["1+1=2=3"]
    assert check_equation("1+1=2=3").why == "2 is 2, not 3"


@pytest.mark.parametrize(("text", "key"), [(text, key) for text, key, _ in VECTORS["paths"]])
def test_keys_of_the_published_paths(text: str, key: str):
    assert path_key(annotations(text, "official")) == key


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1 + 0.2", Fraction(3, 10)),  # not 0.30000000000000004
        ("2 + 3 * 4", 14),
        ("2 ** 3 ** 2", 512),  # powers bind to the right
        ("-2 ** 2", -4),  # and more than signs
        ("2 ** -2", Fraction(1, 4)),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("-7 % 3", 2),
        ("6 / 4 / 2", Fraction(3, 4)),
        ("((1))", 1),
        (".5 + 5.", Fraction(11, 2)),
        ("4 ** 0.5", 2),
        ("--3", 3),
    ],
)
def test_expressions_have_the_value_that_python_gives_them(text: str, value: Fraction | int):
    assert evaluate(text) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("1 +", "ends too early"),
        ("(1", "unclosed parenthesis"),
        ("1)", "unexpected ')'"),
        ("1 2", "unexpected '2'"),
        ("1/0", "division by zero"),
        ("1 % 0", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("007", "leading zero in 007"),
        ("9**9**9", "too large"),
        ("2**65", "too large"),
        ("10**60*10**60*10**60*10**60*10**60*10**60*10**60*10**60*10**60*10**60*10**60", "too large"),
        ("(-8)**0.5", "root of a negative number"),
        ("(" * 60 + "1" + ")" * 60, "too deep"),
        ("-" * 60 + "1", "too deep"),
        ("2**" * 60 + "1", "too deep"),
        ("1+" * 300 + "1", "too long"),
        ("1e9", "unexpected 'e'"),
        ("__import__('os').system('true')", "unexpected '_'"),
        ("٣+1", "unexpected '\\u0663'"),
        ("1,000", "unexpected ','"),
        ("$5", "unexpected '$'"),
    ],
)
def test_what_cannot_be_evaluated_says_why(text: str, why: str):
    assert evaluate(text) == Unparsed(why)


numbers = st.integers(0, 10**6).map(str) | st.decimals(0, 1000, places=2).map(str)
expressions = st.recursive(
    numbers,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "/"]), inner)
        | st.builds("-{}".format, inner)
    ),
    max_leaves=8,
)


def by_python(text: str) -> Fraction | None:
    """The same expression over fractions, by Python itself: the text is ours, so it may be evaluated."""
    import re

    try:
        return eval(re.sub(r"\d+(?:\.\d+)?", r"Fraction('\g<0>')", text))
    except ZeroDivisionError:
        return None


@given(expressions)
def test_any_expression_has_the_value_that_python_gives_it_over_fractions(text: str):
    value = evaluate(text)
    assert (None if isinstance(value, Unparsed) else value) == by_python(text)


@given(st.text(max_size=60) | st.text("0123456789+-*/%().=<> ,$", max_size=60))
def test_any_text_gives_a_value_or_a_reason_and_never_an_error(text: str):
    assert isinstance(evaluate(text), Fraction | Unparsed)
    assert isinstance(check_equation(text).holds, bool)
    for equation in (*equations_in(f"<<{text}>>"), *equations_in(text, "text")):
        assert check_equation(equation).text == equation


def test_an_annotation_ends_at_two_brackets_and_an_official_one_is_hidden_by_a_lone_one():
    text = "so <<a>b=1>> and <<1+1=2>>"
    assert annotations(text) == ["a>b=1", "1+1=2"]
    assert annotations(text, "official") == ["1+1=2"]


def test_equations_of_running_text_are_read_in_the_notations_people_use():
    text = (
        "Each costs $2.50, so 4 x $2.50 = $10.\nHe has 1,000 - 10 = 990 left; let x = 5.\n"
        "Of these 20% × 50 = 10, and (2 + 3) * 4 = 20.\nA ratio of 3 : 4 = 0.75 is not read."
    )
    assert equations_in(text, "text") == ["4*2.50=10", "1000-10=990", "20/100*50=10", "(2+3)*4=20"]


def test_text_is_read_only_where_nothing_is_annotated():
    assert equations_in("1 + 1 = 2 <<2+2=4>>") == ["2+2=4"]
    assert equations_in("1 + 1 = 2") == ["1+1=2"]
    assert equations_in("1 + 1 = 2", "annotations") == []


def test_a_path_is_ordered_or_a_set():
    assert path_key(["2+2=4", "1 + 1=2"]) == "2+2=4|1+1=2"
    assert path_key(["2+2=4", "1 + 1=2", "2+2=4"], "set") == "1+1=2|2+2=4"
    assert path_key([]) == ""


def test_plain_notation_keeps_a_modulo_and_reads_a_percentage():
    assert plain_notation("7 % 3 = 1") == "7%3=1"
    assert plain_notation("15% × $1,200.00 = $180") == "15/100*1200.00=180"
