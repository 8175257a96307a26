"""What a person can do about what a server says: the line to change, beside the server's own words."""

import html
import re

_TITLE = re.compile(rb"<title[^>]*>(.{1,120}?)</title>", re.IGNORECASE | re.DOTALL)
_PAGE = re.compile(rb"\s*(?:<!--.*?-->\s*)?<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)

#: What a server's words show, and what helps; the first that fits.
_SIGNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"max_completion_tokens"), "set `max_tokens_field: max_completion_tokens` in the backend"),
    (
        re.compile(r"context.?length|context.?window|maximum context|max_model_len|too many tokens", re.IGNORECASE),
        "give the method shorter draws (`max_tokens`) or inputs, or take a model with a longer context",
    ),
    (
        re.compile(r"response_format|json_schema|structured", re.IGNORECASE),
        "set `structured_output: json_object` or `prompt` in the backend",
    ),
    (
        re.compile(r"chat/completions|\bchat model|completion operation", re.IGNORECASE),
        "set `continue_as: chat` in the backend, for it serves chats only",
    ),
    (re.compile(r"logprobs|echo", re.IGNORECASE), "set `scoring: none` and score with the transformers backend"),
)


def page_title(body: bytes) -> str | None:
    """The title of an HTML page, "without a title" if it has none; None for what is no HTML page.

    >>> page_title(b"<!DOCTYPE html><html><title>Sign in</title>"), page_title(b'{"error": 1}')
    ("titled 'Sign in'", None)
    """
    if not _PAGE.match(body[:2000]):
        return None
    found = _TITLE.search(body[:20_000])
    title = " ".join(html.unescape(found[1].decode("utf-8", "replace")).split()) if found else ""
    return f"titled {title[:80]!r}" if title else "without a title"


def about_refusals(said: str) -> str:
    """What to do when a server refuses every request with these words.

    >>> about_refusals("Use 'max_completion_tokens' instead.")
    'set `max_tokens_field: max_completion_tokens` in the backend'
    """
    return next((help for sign, help in _SIGNS if sign.search(said)), "mend what it names")


def about_key(name: str | None) -> str:
    """What to do when a server refuses the key that variable ``name`` holds; None: it was given none."""
    if name is None:
        return "name the environment variable that holds its key in `api_key_env`"
    return f"check the key in the environment variable {name}"


def about_models(wanted: str, known: list[str], continuation: bool) -> str:
    """What to do when a server does not have the model or the address; ``known`` are the models it says it has.

    >>> about_models("c", ["a", "b"], False)
    'it has a, b: correct `model`'
    """
    chats = "set `continue_as: chat` in the backend if it serves chats only, " if continuation else ""
    if not known:
        return f"{chats}check `model`, and `base_url`, which ends with /v1,"
    if wanted in known:
        where = "" if continuation else "check `base_url`, which ends with /v1, and "
        return f"it lists this model: {chats}{where}check what the key may use,"
    more = f" and {len(known) - 8:,} more" if len(known) > 8 else ""
    return f"it has {', '.join(name[:100] for name in known[:8])}{more}: correct `model`"
