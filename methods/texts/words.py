"""Text as words: one folding rule for all matching, words for any script, and which script a text is in.

Folding makes texts equal that look equal: NFKD, invisible characters and diacritics dropped, look-alike letters of
other alphabets mapped to Latin, case folded, digits of any script as ASCII, everything that is neither letter nor digit
a space. It is a map from one character to zero or more, so a folded text can always be led back to raw offsets
(`methods.texts.ngrams.word_stream`). Scripts written without spaces (Han, kana, Thai, Khmer …) give one word per character.

>>> words("Don't re-do C++ — naïve ３.14")
['don', 't', 're', 'do', 'c', 'naive', '3', '14']
>>> words("写一首诗")
['写', '一', '首', '诗']
"""

import unicodedata

import polars as pl

#: Rises when a text folds to something else than before: every method that matches on words depends on it.
FOLDING_VERSION = 1


class _Fold(dict[int, str]):
    """``str.translate`` table that computes each code point's folding once."""

    def __missing__(self, code: int) -> str:
        folded = _fold(chr(code))
        self[code] = folded
        return folded


def fold_character(code: int) -> str:
    """What one code point becomes: ``""`` (invisible), ``" "`` (separator), or its letters, spaces around lone ones."""
    return _FOLD[code]


def fold(text: str) -> str:
    """The folded text, unbroken runs of spaces included: ``fold("Ａ-B") == "a b"``."""
    return text.translate(_FOLD)


def words(text: str) -> list[str]:
    """Folded words in order; empty for a text without letters or digits."""
    return text.translate(_FOLD).split()


def normalized(text: str) -> str:
    """Folded words joined by single spaces: equal for texts that a reader would call the same words."""
    return " ".join(words(text))


def similarity_tokens(text: str) -> list[str]:
    """Words, or the single characters of a text that has none (emoji, operators), so that it still resembles itself."""
    return words(text) or [character for character in unicodedata.normalize("NFKC", text) if not character.isspace()]


def spacing_normalized(text: pl.Expr) -> pl.Expr:
    """Milder than folding, for exact duplicates: NFKC, invisible characters dropped, lower case, whitespace collapsed.

    Punctuation, operators and diacritics stay: ``3 + 4`` and ``3 - 4`` are not the same prompt.
    """
    return (
        text.str.normalize("NFKC")
        .str.replace_all(r"[\p{Cf}\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u{FE00}-\u{FE0F}]", "")
        .str.to_lowercase()
        .str.replace_all(r"\s+", " ")
        .str.strip_chars()
    )


#: Scripts that are told apart, by the name Unicode gives them; the first wins a tie.
SCRIPTS = (
    "Latin", "Han", "Cyrillic", "Arabic", "Devanagari", "Hiragana", "Katakana", "Hangul", "Greek", "Hebrew", "Thai",
    "Bengali", "Tamil", "Telugu", "Gujarati", "Gurmukhi", "Kannada", "Malayalam", "Armenian", "Georgian", "Ethiopic",
    "Khmer", "Lao", "Myanmar", "Sinhala", "Tibetan",
)  # fmt: skip


def dominant_script(text: pl.Expr) -> pl.Expr:
    """Lower-case name of the script most letters belong to, null for a text without any; column ``script``."""
    counts = [text.str.count_matches(rf"\p{{{name}}}") for name in SCRIPTS]
    most = pl.max_horizontal(*counts)
    choice = pl.when(pl.lit(False)).then(pl.lit(None, dtype=pl.String))
    for name, count in zip(SCRIPTS, counts, strict=True):
        choice = choice.when((count == most) & (most > 0)).then(pl.lit(name.lower()))
    return choice.otherwise(pl.lit(None, dtype=pl.String)).alias("script")


def _fold(character: str) -> str:
    folded = "".join(_kept(part) for part in unicodedata.normalize("NFKD", character))
    folded = "".join(_kept(part) for part in unicodedata.normalize("NFKD", folded.casefold()))
    return "".join(_spaced(_LOOKALIKES.get(character, _LOOKALIKES.get(part, part))) for part in folded)


def _kept(part: str) -> str:
    """The part of a decomposition itself, a space for a separator, or nothing for an invisible one."""
    kind, code = unicodedata.category(part), ord(part)
    if part.isspace() or kind.startswith("Z"):
        return " "
    if kind in ("Cf", "Cc", "Co", "Cn", "Cs") or part in _INVISIBLE_LETTERS:
        return ""
    if kind in ("Mn", "Me") and _is_diacritic(code):
        return ""
    if kind in ("Nd", "No", "Nl"):
        digit = unicodedata.digit(part, None)
        return part if digit is None else str(digit)
    return part if kind[0] in "LM" else " "


def _is_diacritic(code: int) -> bool:
    """Marks that a matcher may drop; vowel signs of Indic and South-East Asian scripts are letters to their readers."""
    return code < 0x0780 or any(low <= code <= high for low, high in _DIACRITICS)


def _spaced(part: str) -> str:
    code = ord(part) if len(part) == 1 else 0
    return f" {part} " if any(low <= code <= high for low, high in _UNSPACED) else part


_DIACRITICS = ((0x180B, 0x180F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE00, 0xFE0F),
               (0xFE20, 0xFE2F), (0xE0100, 0xE01EF))  # fmt: skip

#: Scripts without spaces between words: Thai, Lao, Myanmar, Khmer, Tai; Han, kana, Bopomofo, Yi.
_UNSPACED = ((0x0E01, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19DF), (0x2E80, 0x2FDF),
             (0x3005, 0x3007), (0x3021, 0x3029), (0x3038, 0x303B), (0x3041, 0x312F), (0x31A0, 0x31FF),
             (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xA000, 0xA4CF), (0xF900, 0xFAFF), (0x1B000, 0x1B16F),
             (0x20000, 0x323AF))  # fmt: skip

#: Fillers and the Arabic stretching sign: letters by category, nothing to the eye.
_INVISIBLE_LETTERS = "\u0640\u115f\u1160\u3164\uffa0"


def _pairs(foreign: str, latin: str) -> dict[str, str]:
    return dict(zip(foreign, latin, strict=True))


#: Letters that pass for Latin ones. Lower-case forms are looked up after case folding; a capital whose small letter
#: looks like something else (Η is H, η is n) is looked up first.
_LOOKALIKES = {
    **_pairs("аеорсухіјѕԁԛԝһӏкмтнвгѵґє", "aeopcyxijsdqwhlkmthbrvre"),
    **_pairs("αβγεζηικμνορτυχω", "abyezhikmvoptuxw"),
    **_pairs("ΗΝΥ", "hny"),
    **_pairs("օսհոռցԁա", "ouhnngdw"),
    **_pairs("ıȷɑɡɩʟɪʀɴʙʏʜᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢꜰꜱɢ", "ijagilirnbyhacdejkmoptuvwzfsg"),
    "ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ŧ": "t", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d",
    "η": "n",
}  # fmt: skip

_FOLD = _Fold()
