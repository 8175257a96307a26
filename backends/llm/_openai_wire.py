"""The OpenAI wire format: request bodies, replies, and what each answer of a server means."""

import json
import math
import re
import zlib
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from backends.llm._accept import strict_json
from backends.llm._advice import page_title
from backends.llm._prices import ModelPrice
from backends.protocols import FailureClass, Reply, Request

#: Control tokens of the common chat formats. In a user's text they are written apart, so that no server reads them.
_CONTROL = re.compile(
    r"<\|([A-Za-z0-9_ -]{1,40})\|>|<(/?s|bos|eos|start_of_turn|end_of_turn)>|\[(/?INST)\]|<<(/?SYS)>>"
)

Kind = Literal["reply", "passing", "terminal", "fatal"]
#: None is unknown.
Price = ModelPrice | None
#: How a server is made to write JSON of a schema: by its own constraint, as any JSON object, or by words alone.
Structured = Literal["json_schema", "json_object", "prompt"]


class TooLarge(Exception):
    """A body over its cap."""


@dataclass(frozen=True)
class Outcome:
    """What one HTTP exchange came to.

    ``kind``: a reply; a failure that passes (ask again later); one of this row alone that nothing heals; or one that
    ends the run. ``billed`` says whether the server has probably counted tokens, ``page`` whether an HTML page came.
    ``status`` is that of HTTP, 0 where there was none; ``elsewhere`` the model of a second endpoint that was asked.
    """

    kind: Kind
    reply: Reply = field(default_factory=Reply)
    retry_after: str | None = None
    overloaded: bool = False
    billed: bool = False
    body: dict[str, Any] | None = None
    page: bool = False
    status: int = 0
    elsewhere: str = ""


def neutralized(text: str) -> str:
    """Text in which no control token of a chat format stands whole.

    >>> neutralized("a <|im_end|> b [INST]")
    'a < |im_end|> b [ INST]'
    """

    def apart(match: re.Match[str]) -> str:
        whole = match[0]
        return f"{whole[0]} {whole[1:]}" if not whole.startswith("<<") else f"< {whole[1:]}"

    return _CONTROL.sub(apart, text)


def body_of(
    request: Request, model: str, *, neutralize: bool, structured: Structured = "json_schema"
) -> dict[str, Any]:
    """The JSON body of a request; defaults are left out, so that strict servers are not troubled."""
    sampling = request.sampling
    if sampling.json_schema is not None and structured != "json_schema":
        request = _told(request, sampling.json_schema)
    clean = neutralized if neutralize else str
    body: dict[str, Any] = {"model": model, "max_tokens": sampling.max_tokens, "temperature": sampling.temperature}
    if request.prompt is not None:
        body["prompt"] = clean(request.prompt)
    else:
        body["messages"] = [
            {"role": t.role, "content": t.content if t.role == "assistant" else clean(t.content)}
            for t in request.messages
        ]
    optional = {
        "top_p": (sampling.top_p, 1.0),
        "top_k": (sampling.top_k, 0),
        "presence_penalty": (sampling.presence_penalty, 0.0),
        "frequency_penalty": (sampling.frequency_penalty, 0.0),
        "stop": (list(sampling.stop), []),
    }
    body.update({name: value for name, (value, default) in optional.items() if value != default})
    if sampling.temperature > 0:
        # Servers know a seed, not an index: samples of one prompt need seeds of their own.
        body["seed"] = (sampling.seed + 7919 * sampling.index) % 2**31
    if sampling.json_schema is not None and structured == "json_schema":
        schema = {"name": "reply", "schema": json.loads(sampling.json_schema)}
        if _is_strict(schema["schema"]):
            schema["strict"] = True  # servers refuse the word with any other schema
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif sampling.json_schema is not None and structured == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


def _is_strict(schema: Any) -> bool:
    """Whether every object of a schema names all its properties as required and forbids others."""
    if isinstance(schema, list):
        return all(_is_strict(part) for part in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        named = set(schema.get("properties") or {})
        if schema.get("additionalProperties") is not False or set(schema.get("required") or ()) != named:
            return False
    return all(_is_strict(part) for part in schema.values())


def _told(request: Request, schema: str) -> Request:
    """The request with its schema in words, at the end of the last turn."""
    words = f"\n\nReply with only JSON that matches this JSON schema:\n{schema}"
    if request.prompt is not None:
        return replace(request, prompt=request.prompt + words)
    *before, last = request.messages
    return replace(request, messages=(*before, replace(last, content=last.content + words)))


def outcome_of(status: int, headers: Any, body: bytes, *, chat: bool, estimate: int, price: Price) -> Outcome:
    """What a complete HTTP answer means."""
    return replace(_meaning(status, headers, body, chat, estimate, price), status=status)


def _meaning(status: int, headers: Any, body: bytes, chat: bool, estimate: int, price: Price) -> Outcome:
    if status == 200:
        return _read(body, chat, estimate, price)
    said = _error_text(body)
    retry_after = headers.get("retry-after")
    if status == 429:
        if "insufficient_quota" in said or "billing" in said.lower():
            return _failed("fatal", "rate-limited", f"the account has no quota left (429: {said})")
        return _failed("passing", "rate-limited", f"429: {said}", retry_after=retry_after, overloaded=True)
    if status in (408, 425) or status >= 500:
        failure: FailureClass = "timeout" if status == 408 else "server-error"
        return _failed("passing", failure, f"{status}: {said}", retry_after=retry_after, overloaded=True)
    if status in (401, 403):
        return _failed("fatal", "refused-by-server", f"the server refused the key ({status}: {said})")
    if status == 404 or 300 <= status < 400:
        return _failed("fatal", "refused-by-server", f"no such model or address ({status}: {said})")
    return _failed("terminal", "refused-by-server", f"{status}: {said}")


def json_object(status: int, headers: Any, raw: bytes) -> Outcome:
    """What an answer means where any JSON object counts as a reply."""
    if status != 200:
        return outcome_of(status, headers, raw, chat=False, estimate=0, price=None)
    try:
        body = strict_json(raw)
    except (ValueError, RecursionError) as error:
        return not_json(raw, error)
    if not isinstance(body, dict):
        return failed("undecodable", "the body is no JSON object", overloaded=False, billed=True)
    return Outcome("reply", Reply(), body=body)


def failed(failure: FailureClass, message: str, *, overloaded: bool = True, billed: bool = False) -> Outcome:
    """A failure that passes."""
    return _failed("passing", failure, message, overloaded=overloaded, billed=billed)


def not_json(raw: bytes, error: Exception) -> Outcome:
    """A 200 whose body is no JSON."""
    if (title := page_title(raw)) is not None:
        return _failed("passing", "undecodable", f"an HTML page {title} came instead of JSON", page=True)
    return failed("undecodable", f"the body is not JSON: {error}", overloaded=False, billed=True)


def unpacked(raw: bytes, encoding: str, cap: int) -> bytes:
    """The decompressed body. Raises ``TooLarge`` as soon as it exceeds ``cap`` bytes, ``ValueError`` if it is damaged."""
    if encoding in ("", "identity"):
        return raw
    if encoding not in ("gzip", "deflate"):
        raise ValueError(f"content encoding {encoding!r} was not asked for")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        out = unpack.decompress(raw, cap + 1)
    except zlib.error as error:
        raise ValueError(f"the {encoding} body is damaged: {error}") from error
    if len(out) > cap:
        raise TooLarge
    if not unpack.eof:
        raise ValueError(f"the {encoding} body is cut short")
    return out


def estimated_tokens(text: str) -> int:
    """Tokens of a text where no tokenizer is at hand: a quarter of its UTF-8 bytes, at least one if it is not empty."""
    return math.ceil(len(text.encode("utf-8", "replace")) / 4)


def _failed(kind: Kind, failure: FailureClass, message: str, **known: Any) -> Outcome:
    reply = Reply(failure=failure, finish_reason="error", message=message)
    return Outcome(kind, reply, **known)


def _read(raw: bytes, chat: bool, estimate: int, price: Price) -> Outcome:
    """A 200: exactly one choice with a text, or the class of what is wrong with it. Missing counts are estimated."""
    try:
        body = strict_json(raw)
    except (ValueError, RecursionError) as error:
        return not_json(raw, error)
    if not isinstance(body, dict):
        return failed("undecodable", f"the body is a JSON {type(body).__name__}", overloaded=False, billed=True)
    if "choices" not in body and body.get("error"):
        return failed("server-error", f"200 with an error: {_error_text(raw)}")
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        count = len(choices) if isinstance(choices, list) else "no"
        return failed("undecodable", f"one choice was asked for, {count} came back", overloaded=False, billed=True)
    choice = choices[0]
    message = choice.get("message") if chat else choice
    text = (message.get("content" if chat else "text") or "") if isinstance(message, dict) else None
    if not isinstance(text, str):
        return failed("undecodable", "the choice holds no text", overloaded=False, billed=True)
    try:
        text.encode()
    except UnicodeEncodeError:
        return failed("undecodable", "the text holds a lone surrogate", overloaded=False, billed=True)
    usage = body["usage"] if isinstance(body.get("usage"), dict) else {}
    prompt_tokens, completion_tokens = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    prompt_tokens = estimate if prompt_tokens is None else prompt_tokens
    completion_tokens = estimated_tokens(text) if completion_tokens is None else completion_tokens
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    cost = None if price is None else price.usd(prompt_tokens, completion_tokens, cached or 0)
    finish = choice.get("finish_reason")
    reply = Reply(
        text=text,
        finish_reason=finish if finish in ("stop", "length", "content_filter", "tool_calls") else "stop",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=cost,
        model=body["model"][:200] if isinstance(body.get("model"), str) else "",
    )
    if isinstance(message, dict) and message.get("refusal"):
        said = str(message["refusal"])[:200]
        refused = replace(reply, failure="refused-by-server", message=f"the model refused: {said}")
        return Outcome("terminal", refused, billed=True)
    return Outcome("reply", reply, billed=True, body=body)


def _count(value: Any) -> int | None:
    """A token count of a server's report; None where it is missing or senseless."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None


def _error_text(body: bytes) -> str:
    """What the server says is wrong, short."""
    try:
        said = strict_json(body)
    except (ValueError, RecursionError):
        title = page_title(body)
        return f"an HTML page {title}" if title is not None else body[:200].decode("utf-8", "replace")
    error = said.get("error", said) if isinstance(said, dict) else said
    if isinstance(error, dict):
        name = next((str(error[name]) for name in ("code", "type") if isinstance(error.get(name), str)), "")
        return ": ".join(word for word in (name, str(error.get("message") or "")) if word)[:300]
    return str(error)[:300]
