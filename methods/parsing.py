"""Total parsers from a reply to a value: what cannot be read is ``Unparsed`` with a reason, never a default value."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


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
    stated = re.findall(rf"\banswer\s*(?:is)?\s*[:=]?\s*\(?({option})\b(?!')", text, flags=re.IGNORECASE)
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
    >>> verdict_of("Answer A is better."), verdict_of("verdict: Absolutely")
    (Unparsed(why='no verdict'), Unparsed(why='no verdict'))
    """
    stated = re.findall(r"\bverdict\s*(?:is)?\s*[:=]?[\s\W]*(A|B|tie)\b(?!')", text, flags=re.IGNORECASE)
    alone = re.fullmatch(r"\W*(A|B|tie)\W*", text, flags=re.IGNORECASE)
    said = stated[-1] if stated else alone[1] if alone else None
    if said is None:
        return Unparsed("no verdict")
    return "tie" if said.lower() == "tie" else said.upper()


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


def parsed(values: Sequence[T | Unparsed]) -> list[T]:
    """Those that could be read."""
    return [value for value in values if not isinstance(value, Unparsed)]
