"""Finds personal data that has a form; each candidate of a pattern is then checked by the rules of its kind."""

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from schemas.errors import MissingExtra, UsageError

Kind = Literal[
    "email", "phone", "credit-card", "iban", "ip-address", "mac-address", "us-ssn", "crypto-wallet", "secret"
]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: Longer texts are looked at in pieces of this many characters, cut at white space.
_PIECE = 100_000


@dataclass(frozen=True, order=True)
class Found:
    """A span of personal data: its kind and character offsets, end exclusive."""

    kind: Kind
    start: int
    end: int


_PATTERNS: dict[Kind, re.Pattern[str]] = {
    "email": re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])"),
    "credit-card": re.compile(r"(?<![\w.+-])\d(?:[ -]?\d){11,18}(?![\w-])"),
    "iban": re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])"),
    "ip-address": re.compile(
        r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}|(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4})(?![\w:]|\.\d)"
    ),
    "mac-address": re.compile(r"(?<![\w:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![\w:-])"),
    "us-ssn": re.compile(r"(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])"),
    "crypto-wallet": re.compile(r"(?<!\w)(?:[13][1-9A-HJ-NP-Za-km-z]{25,34}|bc1[ac-hj-np-z02-9]{11,71}|0x[0-9a-fA-F]{40})(?!\w)"),
    "secret": re.compile(
        r"(?<!\w)(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|sk-[A-Za-z0-9_-]{20,}|xox[abp]-[A-Za-z0-9-]{10,}|"
        r"AIza[0-9A-Za-z_-]{35})(?!\w)|-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----"
    ),
}  # fmt: skip


def found_in(
    text: str, kinds: Sequence[Kind] = KINDS, region: str = "US", phones: Literal["valid", "possible"] = "valid"
) -> list[Found]:
    """Spans in order, none inside another; of two that overlap the one whose kind has a checksum stays.

    ``phones``: numbers that could have been given out by the rules of a country, or any with a possible length.

    Raises ``MissingExtra`` without phonenumbers or python-stdnum where their kinds are asked for.
    """
    taken: list[Found] = []
    for start, piece in _pieces(text):
        here: list[Found] = []
        for kind in _ORDER:
            if kind not in kinds:
                continue
            spans = _phones(piece, region, phones) if kind == "phone" else _matches(piece, kind)
            here += [
                Found(kind, a, b) for a, b in spans if not any(a < other.end and other.start < b for other in here)
            ]
        taken += [Found(hit.kind, hit.start + start, hit.end + start) for hit in here]
    return sorted(taken, key=lambda hit: hit.start)


#: The kinds that can be checked come first: a card number is not a telephone number.
_ORDER: tuple[Kind, ...] = (
    "secret", "email", "crypto-wallet", "iban", "credit-card", "mac-address", "ip-address", "us-ssn", "phone",
)  # fmt: skip


def _pieces(text: str) -> list[tuple[int, str]]:
    pieces: list[tuple[int, str]] = []
    start = 0
    while len(text) - start > _PIECE:
        cut = max(text.rfind(" ", start, start + _PIECE), text.rfind("\n", start, start + _PIECE))
        end = cut if cut > start else start + _PIECE
        pieces.append((start, text[start:end]))
        start = end
    return [*pieces, (start, text[start:])]


def _matches(text: str, kind: Kind) -> list[tuple[int, int]]:
    holds = _CHECKS.get(kind, lambda said: True)
    return [match.span() for match in _PATTERNS[kind].finditer(text) if holds(match[0])]


def _phones(text: str, region: str, phones: str) -> list[tuple[int, int]]:
    if not re.search(r"\d(?:\D{0,3}\d){6}", text):  # fewer than seven digits near each other: no number to find
        return []
    try:
        from phonenumbers import SUPPORTED_REGIONS, Leniency, PhoneNumberMatcher
    except ImportError:
        raise MissingExtra("telephone numbers need phonenumbers: pip install 'provender[clean]'") from None
    if region not in SUPPORTED_REGIONS:
        raise UsageError(
            f"region: {region!r} has no telephone numbers of its own; give an ISO 3166 code, as in US, GB or DE"
        )
    leniency = Leniency.VALID if phones == "valid" else Leniency.POSSIBLE
    return [(match.start, match.end) for match in PhoneNumberMatcher(text, region, leniency=leniency)]


def _stdnum(name: str) -> Any:
    try:
        from stdnum import iban, luhn
        from stdnum.us import ssn
    except ImportError:
        raise MissingExtra("check digits need python-stdnum: pip install 'provender[clean]'") from None
    return {"iban": iban, "luhn": luhn, "ssn": ssn}[name]


#: Lengths of the numbers that the card schemes give out, by how they begin.
_CARDS = re.compile(
    r"4\d{12}(\d{3}){0,2}|(5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(0|[689])\d{12}|35\d{14}|6\d{15}|(5[0678]|6\d)\d{10,17}"
)


def _is_card(said: str) -> bool:
    digits = re.sub(r"\D", "", said)
    return len(set(digits)) > 1 and bool(_CARDS.fullmatch(digits)) and bool(_stdnum("luhn").is_valid(digits))


def _is_ip(said: str) -> bool:
    try:
        ipaddress.ip_address(said)
    except ValueError:
        return False
    return said.count(":") >= 3 or "." in said


_CHECKS: dict[Kind, Callable[[str], bool]] = {
    "iban": lambda said: bool(_stdnum("iban").is_valid(said)),
    "credit-card": _is_card,
    "ip-address": _is_ip,
    "us-ssn": lambda said: bool(_stdnum("ssn").is_valid(said)),
}
