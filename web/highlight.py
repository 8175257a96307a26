"""Colours for code, language by language only where it matters: comments, strings, numbers, keywords. Nothing is run."""

import re
from collections.abc import Iterator
from functools import lru_cache

#: Longer code is shown plain: colours are not worth the time of a page.
MOST = 20_000

_HASH = frozenset(
    ("py", "python", "bash", "sh", "shell", "zsh", "rb", "ruby", "r", "yaml", "yml", "toml", "perl", "pl")
)
_DASH = frozenset(("sql", "lua", "haskell", "hs", "ada"))
_WORDS = frozenset(
    re.findall(
        r"\w+",
        "and as assert async await begin bool boolean break case catch char class const continue def default del delete "
        "do double elif else elsif end enum except export extends false final finally float fn for foreach from func "
        "function global go if impl implements import in include int interface is lambda let long loop match mod module "
        "mut namespace new nil None none not null nonlocal of or package pass private protected pub public raise range "
        "return self short static string struct super switch then this throw throws trait true True False try type "
        "typedef typeof undefined union unless unsigned until use using val var virtual void when where while with yield "
        "SELECT FROM WHERE GROUP BY ORDER HAVING JOIN LEFT RIGHT INNER OUTER ON INSERT INTO VALUES UPDATE SET DELETE "
        "CREATE TABLE ALTER DROP LIMIT DISTINCT UNION NULL AND OR NOT AS COUNT SUM AVG PRIMARY KEY",
    )
)


def highlighted(code: str, language: str = "") -> Iterator[tuple[str, str]]:
    """Stretches of code as (kind, text): ``c`` comment, ``s`` string, ``n`` number, ``k`` keyword, ``f`` call, "" rest."""
    if len(code) > MOST:
        yield "", code
        return
    at = 0
    for found in _pattern(_family(language.lower())).finditer(code):
        if found.start() > at:
            yield "", code[at : found.start()]
        kind = found.lastgroup or ""
        word = found.group()
        if kind == "w":
            kind = "k" if word in _WORDS else "f" if code[found.end() : found.end() + 1] == "(" else ""
        yield kind, word
        at = found.end()
    if at < len(code):
        yield "", code[at:]


def _family(language: str) -> str:
    return "hash" if language in _HASH else "dash" if language in _DASH else "slash" if language else "any"


@lru_cache(maxsize=8)
def _pattern(family: str) -> re.Pattern[str]:
    comments = {
        "hash": r"\#[^\n]*",
        "dash": r"--[^\n]*|/\*.*?\*/",
        "slash": r"//[^\n]*|/\*.*?\*/|<!--.*?-->",
        "any": r"(?:(?<=\s)|^)(?:\#(?!include|define)|//)[^\n]*|/\*.*?\*/",
    }[family]
    strings = (
        r"\"\"\".*?\"\"\"|'''.*?'''|\"(?:\\.|[^\"\\\n]){0,2000}\"|'(?:\\.|[^'\\\n]){0,2000}'|`(?:\\.|[^`\\]){0,2000}`"
    )
    return re.compile(
        rf"(?P<c>{comments})|(?P<s>{strings})|(?P<n>\b(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\b)"
        r"|(?P<w>[A-Za-z_]\w*)",
        re.DOTALL | re.MULTILINE,
    )


_CODEY = re.compile(
    r"^(?:\s{2,}\S|\t\S|[}\])];?$|(?:def|class|import|from|return|if|for|while|else|elif|try|except|with|print|public|private"
    r"|function|const|let|var|int|void|\#include|using|package|SELECT|CREATE|INSERT)\b.*)|[;{}:]\s*$"
)


def looks_like_code(text: str) -> bool:
    """Whether a turn without any fence reads as code throughout: most of at least three lines are shaped like code."""
    lines = [line for line in text.split("\n")[:200] if line.strip()]
    return len(lines) >= 3 and sum(1 for line in lines if _CODEY.search(line)) >= 0.7 * len(lines)
