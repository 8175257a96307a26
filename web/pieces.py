"""What pages need beside the answers themselves: code in a text, words that changed, evidence as pairs, text made visible."""

import difflib
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from storage.questions.views import Hop
from storage.questions.words import number, parsed, setting
from web.highlight import highlighted, looks_like_code

#: Longer texts are compared whole: word by word would take longer than a page may.
MOST_WORDS = 3000


class Piece(NamedTuple):
    """A stretch of text and what it is: ``text``, ``code``; ``same``, ``old``, ``new``."""

    kind: str
    text: str
    language: str = ""


def segments(content: str) -> list[Piece]:
    """A turn's text with its fenced code blocks told apart."""
    found: list[Piece] = []
    lines: list[str] = []
    fence = ""
    language = ""
    if "```" not in content and "~~~" not in content and looks_like_code(content):
        return [Piece("code", content.strip("\n"))]
    for line in content.split("\n"):
        mark = line.lstrip()[:3]
        if not fence and mark in ("```", "~~~"):
            _put(found, "text", lines)
            fence, language = mark, line.strip().strip("`~").strip()[:20]
        elif fence and line.strip().startswith(fence):
            _put(found, "code", lines, language)
            fence = ""
        else:
            lines.append(line)
    _put(found, "code" if fence else "text", lines, language if fence else "")
    return found


def _put(found: list[Piece], kind: str, lines: list[str], language: str = "") -> None:
    text = "\n".join(lines).strip("\n")
    if text:
        found.append(Piece(kind, text, language))
    lines.clear()


def colored(piece: Piece) -> Markup:
    """Code as escaped text with its comments, strings, numbers and keywords in spans."""
    told = [
        f'<span class="t{kind}">{visible(text)}</span>' if kind else visible(text)
        for kind, text in highlighted(piece.text, piece.language)
    ]
    return Markup("".join(map(str, told)))


#: Characters that hide or turn text around: controls, zero widths, direction marks, tags. Joiners of scripts stay.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff\U000e0000-\U000e007f]"
)


def visible(text: Any) -> Markup:
    """Escaped text in which characters that cannot be seen, or that turn the reading order, stand as their numbers."""
    if isinstance(text, Markup):
        return text
    told: list[str] = []
    at = 0
    plain = str(text)
    for found in _UNSEEN.finditer(plain):
        told.append(str(escape(plain[at : found.start()])))
        char = found.group()
        name = unicodedata.name(char, "control character")
        told.append(f'<span class="ctl" title="{escape(name)}">U+{ord(char):04X}</span>')
        at = found.end()
    told.append(str(escape(plain[at:])))
    return Markup("".join(told))


def score(value: float) -> str:
    """A score for a column of scores: four decimals, so that they stand under each other; whole numbers as such."""
    if float(value).is_integer() or abs(value) >= 1000:
        return number(value)
    return f"{value:.4f}" if abs(value) >= 0.00005 else number(value)


def triples(points: Sequence[Any]) -> list[tuple[str, float, float]]:
    """Points of a mixture's law as a picture wants them."""
    return [(point.name, point.predicted, point.measured) for point in points]


class Cut(NamedTuple):
    """The beginning of a long text and how many characters are left out."""

    text: str
    left: int


def cut(text: str, whole: bool, most: int = 6000) -> Cut:
    """At most ``most`` characters unless the whole was asked for."""
    return Cut(text, 0) if whole or len(text) <= most else Cut(text[:most], len(text) - most)


def spanned(text: str, spans: Sequence[tuple[int, int]], around: int = 700) -> list[Piece]:
    """A text with its matched ranges told apart; far from any match it is shortened to ``…``."""
    if not spans:
        return [Piece("text", text[: 2 * around] + ("…" if len(text) > 2 * around else ""))]
    pieces: list[Piece] = []
    start, end = max(0, spans[0][0] - around), min(len(text), spans[-1][1] + around)
    at = start
    if start:
        pieces.append(Piece("text", "…"))
    for low, high in spans:
        low = max(low, at)
        if low < high:
            pieces += [Piece("text", text[at:low]), Piece("mark", text[low:high])]
            at = high
    pieces += [Piece("text", text[at:end]), Piece("text", "…" if end < len(text) else "")]
    return [piece for piece in pieces if piece.text]


def marked(content: str, turn: int, hops: Sequence[Hop]) -> list[Piece]:
    """A turn's text with the passages marked that a verdict's evidence points at (``turn``, ``spans`` of characters)."""
    ranges: list[tuple[int, int]] = []
    for hop in hops:
        found = parsed(hop.verdict.evidence) if hop.verdict else None
        if isinstance(found, Mapping) and found.get("turn") == turn and found.get("in", "messages") == "messages":
            ranges += [one for span in found.get("spans") or () if (one := _range(span, len(content)))]
    if not ranges:
        return segments(content)
    pieces: list[Piece] = []
    at = 0
    for start, end in sorted(ranges):
        start = max(start, at)
        if start < end:
            pieces += [Piece("text", content[at:start]), Piece("mark", content[start:end])]
            at = end
    return [piece for piece in [*pieces, Piece("text", content[at:])] if piece.text]


def _range(span: Any, length: int) -> tuple[int, int] | None:
    ends = span.get("text") if isinstance(span, Mapping) else None
    if not isinstance(ends, list) or len(ends) != 2 or not all(isinstance(end, int) for end in ends):
        return None
    return (ends[0], ends[1]) if 0 <= ends[0] < ends[1] <= length else None


def word_diff(old: str, new: str) -> list[Piece]:
    """What an edit changed, word by word."""
    if old == new:
        return [Piece("same", old)]
    a, b = re.findall(r"\s+|\S+", old), re.findall(r"\s+|\S+", new)
    if len(a) + len(b) > MOST_WORDS:
        return [Piece("old", old), Piece("new", new)]
    pieces: list[Piece] = []
    for what, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if what == "equal":
            pieces.append(Piece("same", "".join(a[i1:i2])))
            continue
        if i2 > i1:
            pieces.append(Piece("old", "".join(a[i1:i2])))
        if j2 > j1:
            pieces.append(Piece("new", "".join(b[j1:j2])))
    return pieces


def evidence_pairs(evidence: str | None) -> list[tuple[str, str]]:
    """Evidence as names and values; nested values stay JSON."""
    value: Any = parsed(evidence)
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [(str(key).replace("_", " "), _told(item)) for key, item in value.items() if item is not None]
    return [("evidence", _told(value))]


#: Under these names evidence lists the calls that a verdict rests on.
_CALLS = frozenset(("calls", "scorings", "call"))
_HEX = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")


class Fact(NamedTuple):
    """One thing that evidence says: ``text``; keys of ``calls``; ids of ``examples``; or ``rows`` of names and values."""

    name: str
    kind: str
    text: str = ""
    keys: tuple[str, ...] = ()
    rows: tuple[tuple[tuple[str, str], ...], ...] = ()


def evidence_facts(evidence: str | None) -> list[Fact]:
    """Evidence as facts to show: keys of calls and ids of examples told apart, lists of mappings as rows."""
    value: Any = parsed(evidence)
    if value is None:
        return []
    if not isinstance(value, Mapping):
        return [Fact("evidence", "text", _whole(value))]
    return [_fact(str(key), item) for key, item in value.items() if item is not None]


#: Figures that evidence calls by the letter of their paper, in the words of `clear`'s own summary.
_LETTERS = {"O": "samples (O)", "S": "reflections (S)", "L": "token probabilities (L)"}


def _fact(key: str, item: Any) -> Fact:
    name = _LETTERS.get(key, key.replace("_", " "))
    items = item if isinstance(item, list) else [item]
    if items and all(isinstance(one, str) and _HEX.fullmatch(one) for one in items):
        return Fact(name, "calls" if key in _CALLS else "examples", keys=tuple(items))
    if isinstance(item, Mapping):
        items = [item]
    if items and all(isinstance(one, Mapping) for one in items):
        rows = tuple(tuple((str(k), _whole(v)) for k, v in one.items()) for one in items[:20])
        return Fact(name, "rows", rows=rows)
    return Fact(name, "text", _whole(item))


def _whole(value: Any) -> str:
    """A value as text, not cut short: pages cut by themselves."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return setting(value)


def _told(value: Any) -> str:
    return value if isinstance(value, str) else setting(value)


def request_turns(request: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The prompt of a call as (role, text): chat messages, or the plain prompt."""
    messages = request.get("messages")
    if isinstance(messages, Sequence) and not isinstance(messages, str) and messages:
        return [(str(m.get("role", "")), str(m.get("content", ""))) for m in messages if isinstance(m, Mapping)]
    text = request.get("prompt") or request.get("text")
    return [("prompt", str(text))] if text else []


def request_rest(request: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything of a call's request but its text: model, sampling."""
    found: list[tuple[str, str]] = []
    for key, value in request.items():
        if key in ("messages", "prompt", "text") or value is None:
            continue
        if isinstance(value, Mapping):
            found += [(str(k), setting(v)) for k, v in value.items() if v not in (None, "", [])]
        else:
            found.append((str(key), setting(value)))
    return found
