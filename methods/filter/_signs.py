"""Signs of a broken example as polars expressions over the columns that `view` makes; no Python runs per row.

All patterns run in a linear-time engine: user-given phrases are literals, never patterns.
"""

import re
from collections.abc import Sequence

import polars as pl

from methods.conversation import content_at, roles_of, texts_before_last, texts_of
from methods.texts.words import spacing_normalized

CONTROL = r"[\x00-\x08\x0b\x0e-\x1f\x7f\u0080-\u0084\u0086-\u009f\ufdd0-\ufdef\ufffd-\uffff]"
DIRECTION_OR_TAG = r"[\u202d\u202e\U000e0020-\U000e007f]"
_TAGGED_FLAG = r"\U0001f3f4[\U000e0020-\U000e007f]+"  # the flags of England, Scotland and Wales
URLS_ONLY = r"^(\s*<?(https?://|www\.)\S+\s*)+$"

PLACEHOLDERS = ("<noinput>", "<no input>", "<nooutput>", "[insert ", "<insert ", "[placeholder", "<placeholder>")
TEMPLATE_TOKENS = (
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>", "<|end_of_text|>", "[/inst]",
    "<<sys>>", "<start_of_turn>", "<end_of_turn>", "### instruction:", "### response:",
)  # fmt: skip
OPENERS = (
    "as an ai", "as an artificial intelligence", "as a language model", "as a large language model",
    "i am an ai", "i'm an ai", "i am just an ai", "i'm just an ai",
    "i'm sorry, but as an ai", "i am sorry, but as an ai", "sorry, but as an ai", "sorry, as an ai",
    "i'm sorry, as an ai", "i apologize, but as an ai", "unfortunately, as an ai", "well, as an ai",
)  # fmt: skip


def view(pool: pl.DataFrame) -> pl.DataFrame:
    """``id``, ``roles``, ``asked`` (the turn before the last), ``prompt``, ``answer``, ``text`` (all turns), and more."""
    last, before = pl.col("messages").list.last(), content_at(-2)
    calls = last.struct.field("extra").str.contains_any(["tool_calls", "function_call"]).fill_null(False)
    contents = pl.col("messages").list.eval(_is_blank(pl.element().struct.field("content").fill_null("")))
    has_calls = pl.col("messages").list.eval(
        pl.element().struct.field("extra").str.contains_any(["tool_calls", "function_call"]).fill_null(False)
    )
    user_text = pl.col("messages").list.eval(
        pl.when(pl.element().struct.field("role") == "user")
        .then(pl.element().struct.field("content").fill_null(""))
        .otherwise(pl.lit(""))
    )
    return pool.select(
        "id",
        roles_of().fill_null("").alias("roles"),
        before.fill_null("").alias("asked"),
        texts_before_last().fill_null("").alias("prompt"),
        last.struct.field("content").fill_null("").alias("answer"),
        texts_of().fill_null("").alias("text"),
        calls.fill_null(False).alias("calls_tool"),
        contents.list.sum().fill_null(0).cast(pl.Int64).alias("blank_turns"),
        has_calls.list.sum().fill_null(0).cast(pl.Int64).alias("tool_turns"),
        user_text.list.join("").fill_null("").alias("users"),
        pl.col("worse").list.last().struct.field("content").alias("worse_answer"),
    )


def _is_blank(text: pl.Expr) -> pl.Expr:
    """Nothing but spaces and invisible characters."""
    return ~text.str.contains(r"[^\s\p{Cf}\p{Cc}]")


def bad_turn_order() -> pl.Expr:
    """Not ``system? user …`` with user and assistant taking turns, the assistant last; or a role of another name."""
    roles = pl.col("roles")
    return ~roles.str.contains(r"^s?u[uat]*a$") | roles.str.contains(r"uu|aa|\?")


def empty_answer() -> pl.Expr:
    """A blank last turn that calls no tool either."""
    return _is_blank(pl.col("answer")) & ~pl.col("calls_tool")


def empty_prompt() -> pl.Expr:
    """No user turn says anything."""
    return _is_blank(pl.col("users"))


def empty_turn() -> pl.Expr:
    """Another turn than the last is blank and calls no tool, though someone asks something."""
    return (pl.col("blank_turns") > pl.col("tool_turns")) & ~empty_answer() & ~empty_prompt()


def control_characters() -> pl.Expr:
    """Control characters (tab and line breaks aside), the mark of undecodable bytes, or code points that are none."""
    return pl.col("text").str.contains(CONTROL)


def hidden_characters() -> pl.Expr:
    """Characters that reorder or hide text: direction overrides, and tags outside a flag."""
    return pl.col("text").str.replace_all(_TAGGED_FLAG, "").str.contains(DIRECTION_OR_TAG)


def lorem_ipsum() -> pl.Expr:
    """Filler text that nobody asked for."""
    return contains_phrase("answer", ["lorem ipsum"]) & ~contains_phrase("prompt", ["lorem"])


def contains_phrase(column: str, phrases: Sequence[str]) -> pl.Expr:
    """Whether any of the literal phrases occurs, ASCII case aside."""
    return pl.col(column).str.contains_any(list(phrases), ascii_case_insensitive=True)


def opens_with(phrases: Sequence[str]) -> pl.Expr:
    """Whether the answer begins with one of the phrases as whole words."""
    choices = "|".join(re.escape(phrase.lower()) for phrase in phrases)
    plain = pl.col("answer").str.head(200).str.to_lowercase().str.replace_all("[’‘]", "'")
    return plain.str.contains(rf"^\W*(?:{choices})\b")


def urls_only() -> pl.Expr:
    """The last question or the answer is nothing but links."""
    return pl.col("asked").str.contains(URLS_ONLY) | pl.col("answer").str.contains(URLS_ONLY)


def may_echo() -> pl.Expr:
    """Cheap test that every echo passes: question and answer begin alike."""
    asked, answer = (spacing_normalized(pl.col(c).str.strip_chars_start().str.head(40)) for c in ("asked", "answer"))
    return asked.str.head(10) == answer.str.head(10)


def echoes(min_words: int) -> pl.Expr:
    """The answer is, or begins with, the whole last question of at least ``min_words`` words."""
    asked, answer = spacing_normalized(pl.col("asked")), spacing_normalized(pl.col("answer"))
    return answer.str.starts_with(asked) & (asked.str.count_matches(r"\S+") >= min_words)


def code() -> pl.Expr:
    """A fenced block, or two lines or more that only programs have."""
    return pl.col("answer").str.contains("```", literal=True) | (pl.col("answer").str.count_matches(_CODE_LINE) >= 2)


def same_as_worse() -> pl.Expr:
    """A preference example whose chosen and other answer do not differ."""
    return (spacing_normalized(pl.col("answer")) == spacing_normalized(pl.col("worse_answer"))).fill_null(False)


def may_be_truncated() -> pl.Expr:
    """Cheap test that every truncated answer passes: no end mark, or a code fence somewhere."""
    answer = pl.col("answer")
    last = answer.str.strip_chars_end().str.tail(1)
    return last.str.contains(r"[\p{Latin}\p{Greek}\p{Cyrillic}0-9,;:(\[–—-]") | answer.str.contains("```", literal=True)


def truncated(min_words: int) -> pl.Expr:
    """Prose that breaks off, or a code fence that is never closed.

    Prose that breaks off uses sentence punctuation, and its last line has 12 words or more, no markup and no code; it
    ends in a comma, colon, dash or opening bracket or in a word no sentence ends in (20 words or more in all), or
    merely without an end mark (``min_words`` or more). Code, lists, verse and short answers pass.
    """
    answer = pl.col("answer").str.strip_chars_end()
    line = answer.str.extract(r"([^\n]*)$")
    words = answer.str.count_matches(r"\S+")
    prose = (
        (line.str.count_matches(r"\S+") >= 12)
        & ~line.str.contains(r"[{}<>=|\\$`;@#_~^]|https?:|www\.|^\s*([-*•–·>]|\(?\d+[.):]|\(?[A-Za-z][.)])\s")
        & answer.str.contains(r"[.!?][\"'”’)]?\s")
        & ~answer.str.contains("```", literal=True)
    )
    last = answer.str.tail(1)
    unfinished = answer.str.contains(r"(\p{L}\s?[–—-]|[,;:(\[])$") | line.str.to_lowercase().str.contains(_UNFINISHED)
    unmarked = last.str.contains(r"[\p{Latin}\p{Greek}\p{Cyrillic}0-9]")
    fences = answer.str.count_matches("```", literal=True)
    return (fences % 2 == 1) | (prose & ((unfinished & (words >= 20)) | (unmarked & (words >= min_words))))


_CODE_LINE = (
    r"(?m)^\s*(def |class |import |from \w+ import|return\b|function |const |let |var |public |private |static |#include|"
    r"SELECT |INSERT |</?\w+[ >]|\}|(for|if|while|else|elif|try|with)\b.*[:{]$|.*[;{]$)"
)

#: English words that ask for another one.
_UNFINISHED = (
    r"\b(the|a|an|and|or|but|nor|of|to|for|with|from|by|at|as|into|onto|upon|between|because|although|while|which|who|"
    r"whose|that|than|if|when|where|is|are|was|were|be|has|have|had|will|would|can|could|should|may|might|must|its|their|"
    r"his|her|our|your|my|such|these|those|very|more|most|also|not|so)$"
)
