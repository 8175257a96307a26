"""Total parsers from a reply to a value: what cannot be read is ``Unparsed`` with a reason, never a default value."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from schemas.identity import canonical_json

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Unparsed:
    """A reply that does not say what was asked, and in what way it does not."""

    why: str


def letter_of(text: str, letters: str = "ABC") -> str | Unparsed:
    """The option a multiple-choice reply settles on.

    Read in this order: the last ``answer: X``, a reply that is nothing but the letter, the one letter in parentheses.

    >>> letter_of("explanation: 2 and 2 is 4, answer: A"), letter_of("(b)"), letter_of("It is (C), I cannot tell.")
    ('A', 'B', 'C')
    >>> letter_of("A cat sat on the mat."), letter_of("either (A) or (B)")
    (Unparsed(why='no letter'), Unparsed(why='several letters'))
    """
    option = f"[{letters}{letters.lower()}]"
    # Possessive, here and below: a long run of spaces is walked through once, not in every way to divide it.
    stated = re.findall(rf"\banswer\s*+(?:is)?+\s*+[:=]?+\s*+\(?+({option})\b(?!')", text, flags=re.IGNORECASE)
    if stated:
        return stated[-1].upper()
    alone = re.fullmatch(rf"\W*({option})\W*", text)
    if alone:
        return alone[1].upper()
    bracketed = {found.upper() for found in re.findall(rf"\(({option})\)", text)}
    if len(bracketed) == 1:
        return bracketed.pop()
    return Unparsed("several letters" if bracketed else "no letter")


def verdict_of(text: str) -> str | Unparsed:
    """The verdict of a pairwise judgement: ``A``, ``B`` or ``tie``.

    Read in this order: the last ``verdict: X``, a reply that is nothing but the verdict.

    >>> verdict_of("reason: B is longer, verdict: B"), verdict_of("[[A]]"), verdict_of("Verdict: Tie.")
    ('B', 'A', 'tie')
    >>> verdict_of("verdict: a tie"), verdict_of("verdict: b"), verdict_of("verdict: A is better")
    ('tie', 'B', 'A')
    >>> verdict_of("Answer A is better."), verdict_of("verdict: a better one")
    (Unparsed(why='no verdict'), Unparsed(why='no verdict'))
    """
    option = r"((?i:(?:a\s+)?tie)\b|[AB]\b(?!')|[ab](?=\W*\Z))"  # "a better one" is no verdict, "a" is
    stated = re.findall(rf"(?i:\bverdict\s*+(?:is)?+\W*+){option}", text)
    alone = re.fullmatch(rf"\W*{option}\W*", text)
    said = stated[-1] if stated else alone[1] if alone else None
    if said is None:
        return Unparsed("no verdict")
    return "tie" if said.lower().endswith("tie") else said.upper()


def yes_or_no(text: str) -> bool | Unparsed:
    r"""A yes/no reply by its first word, whatever case and punctuation.

    >>> yes_or_no(" Yes\n"), yes_or_no("No, it is open-ended."), yes_or_no("Perhaps")
    (True, False, Unparsed(why='neither yes nor no'))
    """
    first = re.match(r"\W*(\w+)", text)
    word = first[1].lower() if first else ""
    if word in ("yes", "no"):
        return word == "yes"
    return Unparsed("neither yes nor no" if word else "empty")


def after_marker(text: str, marker: str = "answer:") -> str | Unparsed:
    """What follows the last ``marker`` (any case): the final answer of a reply that reasons first.

    >>> after_marker("Two and two. Answer: 4")
    '4'
    """
    place = text.lower().rfind(marker.lower())
    if place < 0:
        return Unparsed(f"no {marker!r}")
    found = text[place + len(marker) :].strip()
    return found if found else Unparsed(f"nothing after {marker!r}")


def score_of(text: str, low: float, high: float, marker: str = "score") -> float | Unparsed:
    """The number after the last ``score:``, or a reply that is a number; outside ``low`` … ``high`` it is no score.

    >>> score_of("reason: short, score: 7/10", 0, 10), score_of(" 8.5 ", 0, 10), score_of("score: 11", 0, 10)
    (7.0, 8.5, Unparsed(why='11 is not between 0 and 10'))
    """
    found = re.findall(rf"\b{marker}\b[\s:=*]{{0,5}}(-?\d{{1,9}}(?:\.\d{{1,9}})?)", text, flags=re.IGNORECASE)
    alone = re.fullmatch(r"\s*\**(-?\d{1,9}(?:\.\d{1,9})?)\**(?:\s*/\s*\d+)?\.?\s*", text)
    said = found[-1] if found else alone[1] if alone else None
    if said is None:
        return Unparsed(f"no {marker}")
    value = float(said)
    return value if low <= value <= high else Unparsed(f"{said} is not between {low:g} and {high:g}")


def model_from(text: str, shape: type[M]) -> M | Unparsed:
    r"""The one JSON object of a reply as a pydantic model; words and code fences around it are let pass, NaN is not.

    >>> class Point(BaseModel):
    ...     x: float
    >>> model_from('Here it is:\n```json\n{"x": 1.5}\n```', Point), model_from('{"x": "up"}', Point).why[:8]
    (Point(x=1.5), 'x: Input')
    """
    place = text.find("{")
    if place < 0:
        return Unparsed("no JSON object")
    try:
        value, end = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text, place)
    except (ValueError, RecursionError) as error:
        return Unparsed(f"no JSON: {str(error)[:120]}")
    if "{" in text[end:]:
        return Unparsed("several JSON objects")
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        return Unparsed(f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"[:200])


def schema_of(shape: type[BaseModel]) -> str:
    """A pydantic model as the canonical text of its JSON schema, as `Sampling.json_schema` wants it."""
    return canonical_json(shape.model_json_schema())


def checked_schema(value: str | Mapping[str, Any]) -> str:
    """A JSON schema as canonical text; ``ValueError`` for what is none."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        schema = json.loads(value, parse_constant=_no_constant) if isinstance(value, str) else dict(value)
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"it is not a JSON schema: {error.message[:200]}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"it is not a JSON schema: {error}") from None
    return canonical_json(schema)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def parsed(values: Sequence[T | Unparsed]) -> list[T]:
    """Those that could be read."""
    return [value for value in values if not isinstance(value, Unparsed)]
