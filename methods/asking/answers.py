"""The final answer of a solution: where it is stated, and whether two answers are the same."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from methods.texts.metrics import exact_match

#: Where an answer was found, from the surest marker to the weakest.
Where = Literal["hashes", "boxed", "stated", "labelled", "last-number", "whole"]


@dataclass(frozen=True)
class FinalAnswer:
    """The answer as the solution has it, and by which marker it was found."""

    text: str
    where: Where

    @property
    def number(self) -> float | None:
        """Its value where it is one number, units and currency signs aside."""
        return number_of(self.text)


def final_answer(text: str, *, guess: bool = True) -> FinalAnswer | None:
    r"""The answer a solution settles on, or None where it states none.

    Read in this order: after ``####`` (the first, for what follows it is another problem), inside the last
    ``\boxed{…}``, after the last "the answer is", after the last ``A:`` or ``Answer:`` that begins a line. With
    ``guess``, a solution without any of these answers with its last number, and one of at most eight words that derives
    nothing (has no ``=`` between numbers) with itself.

    >>> final_answer("48 + 24 = 72\n#### 72"), final_answer("So \\boxed{\\frac{1}{2}} it is.").text
    (FinalAnswer(text='72', where='hashes'), '\\frac{1}{2}')
    >>> final_answer("Hence the answer is **blue**."), final_answer("We add 3 and 4, which makes 7 apples in all today.")
    (FinalAnswer(text='blue', where='stated'), FinalAnswer(text='7', where='last-number'))
    """
    marked: tuple[tuple[Where, str], ...] = (
        ("hashes", _after_hashes(text)),
        ("boxed", _boxed(text)),
        ("stated", _stated(text, _STATED)),
        ("labelled", _stated(text, _LABELLED)),
    )
    for where, found in marked:
        if found:
            return FinalAnswer(found, where)
    if not guess:
        return None
    words = text.split()
    numbers = _NUMBER.findall(text)
    derived = "=" in text and len(numbers) > 1
    if 0 < len(words) <= _SHORT and "\n" not in text.strip() and not derived:
        return FinalAnswer(text.strip(), "whole")
    return FinalAnswer(numbers[-1].rstrip(".,"), "last-number") if numbers else None


def official_rft_answer(text: str) -> str | None:
    """What follows the first ``#### `` as the published RFT code reads it: commas removed, a float or nothing.

    >>> official_rft_answer("#### 1,234"), official_rft_answer("#### 72."), official_rft_answer("#### $5")
    ('1234', '72.', None)
    """
    found = re.search(r"#### (-?[0-9.,]+)", text.split("\x00", 1)[0])
    if found is None:
        return None
    bare = found[1].replace(",", "")
    try:
        float(bare)
    except ValueError:
        return None
    return bare


def number_of(text: str) -> float | None:
    """The value of a text that holds one number (with currency, unit, commas, words) or one fraction; else None.

    >>> number_of("$1,234.50"), number_of("it is 12 apples"), number_of("3/4"), number_of("3 or 4"), number_of("-2,5,7")
    (1234.5, 12.0, 0.75, None, None)
    """
    bare = text.strip().strip("*$€£ ").rstrip(".")
    numbers = _NUMBER.findall(bare)
    if len(numbers) == 1 and re.fullmatch(_SIGNED, numbers[0]):
        value = float(numbers[0].replace(",", ""))
        return value if math.isfinite(value) else None
    fraction = re.fullmatch(r"(-?\d{1,15})\s?/\s?(\d{1,15})", bare) or re.fullmatch(
        r"(-?)\\d?frac\{(-?\d{1,15})\}\{(\d{1,15})\}", bare
    )
    if fraction is None or int(fraction.groups()[-1]) == 0:
        return None
    top = fraction.groups()[:-1]
    return int("".join(top)) / int(fraction.groups()[-1]) if "--" not in "".join(top) else None


def same_answer(ours: str, theirs: str, *, tolerance: float = 1e-4) -> bool:
    """Whether two answers are the same: as numbers within ``tolerance`` (strictly less), else as words.

    >>> same_answer("72.0", "$72"), same_answer("Blue.", "blue"), same_answer("72", "73")
    (True, True, False)
    """
    one, other = number_of(ours), number_of(theirs)
    if (one is None) != (other is None):  # one is a number; the other may end with it: "between 3 and 4, so 4"
        one, other = (_last_number(ours), other) if one is None else (one, _last_number(theirs))
    if one is not None and other is not None:
        return one == other or abs(one - other) < tolerance
    return exact_match(ours, theirs)


def same_final_answer(text: str, reference: str, *, tolerance: float = 1e-4) -> bool | None:
    """Whether a solution ends with the reference's answer; None where either states none.

    A reference that is prose without a stated answer is compared as words with the whole text.
    """
    wanted = final_answer(reference)
    if wanted is None:
        return exact_match(text, reference) if reference.strip() else None
    found = final_answer(text)
    return None if found is None else same_answer(found.text, wanted.text, tolerance=tolerance)


def vote_key(text: str) -> str | None:
    """A text's final answer in the form in which votes are counted; None is an abstention.

    >>> vote_key("so #### 1,012.50"), vote_key("The answer is 1012.5."), vote_key("The answer is Blue!")
    ('1012.5', '1012.5', 'blue')
    """
    found = final_answer(text)
    if found is None:
        return None
    number = found.number
    if number is not None:
        return f"{number:.10g}"
    return " ".join(found.text.lower().strip(" .!?*\"'").split()) or None


def _last_number(text: str) -> float | None:
    numbers = _NUMBER.findall(text)
    return number_of(numbers[-1].rstrip(".,")) if numbers else None


_SHORT = 8
_SIGNED = r"-?(?:\d{1,3}(?:,\d{3})+|\d{1,300})(?:\.\d{1,300})?"
_NUMBER = re.compile(r"(?<![\d.,])-?\d[\d,]*(?:\.\d+)?")
_STATED = re.compile(r"\b(?:final\s+)?answer\s+(?:is\b|=|would be\b)\s*:?", re.IGNORECASE)
_LABELLED = re.compile(r"(?:(?m:^)[^\S\n]*+\**A|\bAnswer)\**\s*:", re.IGNORECASE)


def _after_hashes(text: str) -> str:
    _, mark, tail = text.partition("####")
    return tail.strip().split("\n", 1)[0].strip() if mark else ""


def _boxed(text: str) -> str:
    r"""Contents of the last ``\boxed{…}``, braces balanced."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return ""
    depth = 0
    for place in range(start + 6, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start + 7 : place].strip()
    return ""


def _stated(text: str, pattern: re.Pattern[str]) -> str:
    """The sentence after the last marker, less its full stop and emphasis."""
    markers = list(pattern.finditer(text))
    if not markers:
        return ""
    line = text[markers[-1].end() :].strip().split("\n", 1)[0]
    sentence = re.split(r"(?<=[^\W\d])[.!?](?:\s|$)|(?<=\d)\.(?:\s|$)", line, maxsplit=1)[0]
    return sentence.strip().rstrip(".").strip("*`\"' ").rstrip(".").strip()
