"""Arithmetic that a model wrote: read by a small parser of its own, exactly, with limits, and never by ``eval``.

Numbers are fractions, so that ``0.1 + 0.2 = 0.3`` holds. Two notations are read: a calculator annotation as it stands
(``<<48/2=24>>``: no currency signs, no thousands separators), and equations in running text (``$5 x 2 = $10``), which
`plain_notation` turns into the first.
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from methods.asking.parsing import Unparsed

#: Longest expression, deepest nesting, largest exponent, and bits of the largest numerator or denominator.
MAX_CHARACTERS = 400
MAX_DEPTH = 40
MAX_EXPONENT = 64
MAX_BITS = 2048

#: How far both sides of an equation may be apart (strictly less), as published: results are rounded.
TOLERANCE = 1e-3

#: ``official`` reads annotations as the published code does, see `check_equation` and `annotations`.
Compat = Literal["fixed", "official"]


def evaluate(text: str) -> Fraction | Unparsed:
    """The value of an expression of decimal numbers, ``+ - * / // % **``, signs and parentheses, by Python's precedence.

    >>> evaluate("(3 + 4) * 2 ** 3 / 5")
    Fraction(56, 5)
    >>> evaluate("1/0"), evaluate("9**9**9"), evaluate("__import__('os')")
    (Unparsed(why='division by zero'), Unparsed(why='too large'), Unparsed(why="unexpected '_'"))
    """
    if len(text) > MAX_CHARACTERS:
        return Unparsed("too long")
    try:
        tokens = _tokens(text)
        reader = _Reader(tokens)
        value = reader.sum(0)
        reader.end()
    except _Wrong as wrong:
        return Unparsed(str(wrong))
    return value


@dataclass(frozen=True)
class Equation:
    """One equation as the text has it, and whether its sides are equal; ``why`` says why not, empty when they are."""

    text: str
    holds: bool
    why: str = ""


def check_equation(text: str, *, tolerance: float = TOLERANCE, compat: Compat = "fixed") -> Equation:
    """Whether an equation's sides differ by less than ``tolerance``; one that cannot be read does not hold.

    In a chain (``a=b=c``) every side must equal the next; ``official`` compares the first two sides only.

    >>> check_equation("10/3=3.333").holds, check_equation("2*3=7").why, check_equation("5").why
    (True, '2*3 is 6, not 7', 'no equals sign')
    """
    sides = text.split("=")
    if len(sides) < 2:
        return Equation(text, False, "no equals sign")
    if compat == "official":
        sides = sides[:2]
    values: list[Fraction] = []
    for side in sides:
        value = evaluate(side)
        if isinstance(value, Unparsed):
            return Equation(text, False, f"{side.strip()[:40]!a}: {value.why}")
        values.append(value)
    for left, right, one, other in zip(sides, sides[1:], values, values[1:], strict=False):
        if abs(one - other) >= Fraction(tolerance):
            return Equation(text, False, f"{left.strip()[:80]} is {_shown(one)}, not {right.strip()[:80]}")
    return Equation(text, True)


def annotations(text: str, compat: Compat = "fixed") -> list[str]:
    """The calculator annotations of a solution, in order, without their brackets.

    An annotation ends at ``>>``; in ``official`` a lone ``>`` inside it hides it.

    >>> annotations("48/2=<<48/2=24>>24, then <<a>b=1>>"), annotations("<<a>b=1>>", "official")
    (['48/2=24', 'a>b=1'], [])
    """
    found: list[str] = []
    start = text.find("<<")
    while start >= 0:
        # By `find`, not by a pattern: that would look for the end of each of a million "<<" anew.
        end = text.find(">>" if compat == "fixed" else ">", start + 2)
        if end < 0:
            break
        whole = text.startswith(">>", end)
        if whole:
            found.append(text[start + 2 : end])
        start = text.find("<<", end + 1 + whole)
    return found


def equations_in(text: str, source: Literal["annotations", "text", "either"] = "either") -> list[str]:
    """The equations of a solution: its annotations, those of its running text, or these only where it has no annotation.

    Equations of running text are given in plain notation, and only those both of whose sides are arithmetic, at least
    one of them an operation: ``x = 5`` is no equation of numbers.

    >>> equations_in("Each costs $2.50, so 4 x $2.50 = $10. He has 1,000 - 10 = 990 left, x = 5.")
    ['4*2.50=10', '1000-10=990']
    """
    found = [] if source == "text" else annotations(text)
    if found or source == "annotations":
        return found
    lines = [_simplified(line[:_LINE_CHARACTERS]) for line in text.splitlines()]
    written = [plain_notation(equation) for line in lines for equation in _IN_TEXT.findall(line)]
    return [equation for equation in written if _is_arithmetic(equation)]


def plain_notation(text: str) -> str:
    """An equation of running text without spaces, currency signs and thousands separators, ``×`` as ``*``, ``%`` as /100.

    >>> plain_notation("20% × $1,500 = $300")
    '20/100*1500=300'
    """
    return re.sub(r"\s+", "", _simplified(text))


def path_key(equations: list[str], kind: Literal["ordered", "set"] = "ordered") -> str:
    """What makes two reasoning paths the same: their equations without spaces, in order or as a set.

    >>> path_key(["48 / 2=24", "48+24=72"])
    '48/2=24|48+24=72'
    """
    bare = [equation.replace(" ", "") for equation in equations]
    return "|".join(bare if kind == "ordered" else sorted(set(bare)))


_LINE_CHARACTERS = 2000  # of a line that is searched; the search takes quadratic time in the worst case
_NUMBER = r"\d+(?:\.\d+)?"
_SIDE = rf"\(*-?{_NUMBER}\)*(?:\s*[-+*/]\s*\(*-?{_NUMBER}\)*)*"
_IN_TEXT = re.compile(rf"(?<![\w.])({_SIDE}(?:\s*=\s*{_SIDE})+)(?![\w*/])")


def _simplified(text: str) -> str:
    """Signs of running text as ASCII operators, spaces kept."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"[$€£]\s?(?=[\d.(])", "", text)
    text = re.sub(r"(?<=\d)\s?%(?!\s*\d)", "/100", text)
    text = text.replace("÷", "/").replace("−", "-").replace("–", "-")
    return re.sub(r"(?<=[\d)])\s*[x×·⋅∗]\s*(?=[\d(-])", "*", text)


def _is_arithmetic(equation: str) -> bool:
    """Whether every side can be read and one of them is more than a number."""
    sides = equation.split("=")
    readable = not any(isinstance(evaluate(side), Unparsed) for side in sides)
    return readable and any(re.search(r"[\d)][-+*/]", side) for side in sides)


def _shown(value: Fraction) -> str:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 200:
        return "a very long number"
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.6g}"


class _Wrong(Exception):
    """What is wrong with an expression; never leaves this file."""


_TOKEN = re.compile(r"\s*(?:(\d+\.\d*|\.\d+|\d+)|(\*\*|//|[-+*/%()]))", re.ASCII)


def _tokens(text: str) -> list[str]:
    found: list[str] = []
    place = 0
    text = text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _Wrong(f"unexpected {text[place:].lstrip()[:1]!a}")
        number = match[1]
        if number and re.match(r"0\d*[1-9]", number) and "." not in number:
            raise _Wrong(f"leading zero in {number[:12]}")
        found.append(match[0].strip())
        place = match.end()
    return found


class _Reader:
    """Recursive descent over tokens; every level counts its depth, every result its size."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.place = 0

    def end(self) -> None:
        if self.place < len(self.tokens):
            raise _Wrong(f"unexpected {self.tokens[self.place]!a}")

    def sum(self, depth: int) -> Fraction:
        value = self.product(depth)
        while (sign := self._next("+", "-")) is not None:
            other = self.product(depth)
            value = _sized(value + other if sign == "+" else value - other)
        return value

    def product(self, depth: int) -> Fraction:
        value = self.signed(depth)
        while (sign := self._next("*", "/", "//", "%")) is not None:
            other = self.signed(depth)
            if sign != "*" and other == 0:
                raise _Wrong("division by zero")
            if sign == "*":
                value = value * other
            elif sign == "/":
                value = value / other
            else:
                value = Fraction(value // other) if sign == "//" else value % other
            value = _sized(value)
        return value

    def signed(self, depth: int) -> Fraction:
        """Signs bind less than a power: ``-2**2`` is -4."""
        if depth > MAX_DEPTH:
            raise _Wrong("too deep")
        sign = self._next("+", "-")
        if sign is not None:
            value = self.signed(depth + 1)
            return -value if sign == "-" else value
        return self.power(depth)

    def power(self, depth: int) -> Fraction:
        base = self.atom(depth)
        if self._next("**") is None:
            return base
        return _sized(_raised(base, self.signed(depth + 1)))

    def atom(self, depth: int) -> Fraction:
        if self.place >= len(self.tokens):
            raise _Wrong("ends too early" if self.tokens else "empty")
        token = self.tokens[self.place]
        self.place += 1
        if token == "(":
            value = self.sum(depth + 1)
            if self._next(")") is None:
                raise _Wrong("unclosed parenthesis")
            return value
        if not (token[0].isdigit() or token[0] == "."):
            raise _Wrong(f"unexpected {token!a}")
        return _sized(Fraction(token if token[-1] != "." else token[:-1]))

    def _next(self, *signs: str) -> str | None:
        if self.place < len(self.tokens) and self.tokens[self.place] in signs:
            self.place += 1
            return self.tokens[self.place - 1]
        return None


def _raised(base: Fraction, exponent: Fraction) -> Fraction:
    """A power by a whole exponent exactly, by any other in double precision."""
    if abs(exponent) > MAX_EXPONENT:
        raise _Wrong("too large")
    if base == 0 and exponent < 0:
        raise _Wrong("division by zero")
    if exponent.denominator == 1:
        if max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent) > MAX_BITS:
            raise _Wrong("too large")
        return base ** int(exponent)
    if base < 0:
        raise _Wrong("root of a negative number")
    try:
        value = math.pow(float(base), float(exponent))
    except OverflowError:
        raise _Wrong("too large") from None
    return Fraction(value)


def _sized(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _Wrong("too large")
    return value
