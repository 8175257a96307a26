"""Which language a text is in, or that it cannot be told."""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

import polars as pl

from schemas.errors import MissingExtra

#: Scripts in which one language is written, or nearly one: no identifier is needed, and short texts suffice.
_ONE_LANGUAGE = {
    "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "THAI": "th", "GREEK": "el", "HEBREW": "he", "ARMENIAN": "hy",
    "GEORGIAN": "ka", "TAMIL": "ta", "TELUGU": "te", "BENGALI": "bn", "GUJARATI": "gu", "KANNADA": "kn",
    "MALAYALAM": "ml", "SINHALA": "si", "KHMER": "km", "LAO": "lo", "MYANMAR": "my",
}  # fmt: skip
_CODE_OR_LINK = re.compile(r"```.*?(```|\Z)|`[^`\n]*`|https?://\S+|<[^<>\n]{1,200}>", re.DOTALL)

#: Characters of a text that are looked at: more changes no answer and costs time.
LOOKED_AT = 2000


@dataclass(frozen=True)
class Told:
    """A language as an ISO 639-1 code and its probability; an empty code where it cannot be told."""

    code: str
    probability: float


def languages_of(texts: pl.Series, min_letters: int = 20, min_probability: float = 0.8) -> list[Told]:
    """One ``Told`` per text, nulls undecided. Fenced code, links and markup are left out of the text first.

    Raises ``MissingExtra`` without the package py3langid.
    """
    seen: dict[str, Told] = {}
    found: list[Told] = []
    for text in texts.fill_null("").to_list():
        start = text[: 2 * LOOKED_AT]
        if start not in seen:
            seen[start] = _told(start, min_letters, min_probability)
        found.append(seen[start])
    return found


def known_languages() -> frozenset[str]:
    """Every code that `languages_of` may give. Raises as it does."""
    return frozenset({*map(str, _identifier().nb_classes), *_ONE_LANGUAGE.values(), "ja", "zh"})


def _told(text: str, min_letters: int, min_probability: float) -> Told:
    plain = _CODE_OR_LINK.sub(" ", text)[:LOOKED_AT]
    letters = [c for c in plain if c.isalpha()]
    if not letters:
        return Told("", 0.0)
    scripts = Counter(unicodedata.name(c, "UNKNOWN").split(" ")[0] for c in letters[:400])
    kana = scripts["HIRAGANA"] + scripts["KATAKANA"]
    if kana > 0.1 * sum(scripts.values()):
        return Told("ja", 1.0)
    script, count = scripts.most_common(1)[0]
    if script in _ONE_LANGUAGE and count > 0.5 * sum(scripts.values()):
        return Told(_ONE_LANGUAGE[script], count / sum(scripts.values()))
    if script == "CJK" and count > 0.5 * sum(scripts.values()):
        return Told("zh", count / sum(scripts.values()))
    if len(letters) < min_letters:
        return Told("", 0.0)
    code, probability = _identifier().classify(plain)
    return Told(str(code), float(probability)) if probability >= min_probability else Told("", float(probability))


@cache
def _identifier() -> Any:
    try:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier
    except ImportError:
        raise MissingExtra("the language filter needs py3langid: pip install 'provender[clean]'") from None
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
