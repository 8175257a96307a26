"""What names a call, and how a call lies in the cache: keys, the request as JSON, packed log-probabilities."""

import array
import json
from collections.abc import Mapping
from typing import Any, cast, get_args

from backends.protocols import FailureClass, Reply, Request, Sampling, ScoreRequest, TokenLogprobs
from schemas.identity import digest16
from storage.calls.cache import Stored


def identity_text(identity: Mapping[str, Any]) -> str:
    """An engine's identity as canonical text."""
    return _ascii(identity)


def call_key(identity: str, request: Request) -> bytes:
    """16 bytes that name a call: engine identity, messages or prompt, sampling. No address, no key, no speed setting.

    The texts count as they are (no Unicode normalisation): a model reads them as they are.
    """
    return digest16(f"generate\x1f{identity}\x1f{_ascii(_request_dict(request))}".encode())


def score_key(identity: str, request: ScoreRequest) -> bytes:
    """16 bytes that name a scoring."""
    turns = [[turn.role, turn.content] for turn in request.messages]
    return digest16(f"score\x1f{identity}\x1f{_ascii([turns, request.completion])}".encode())


def request_json(request: Request) -> str:
    """The request as the lineage shows it; what has its default is left out."""
    value = _request_dict(request)
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if is_utf8(text) else _ascii(value)


def worst_tokens(request: Request) -> tuple[int, int]:
    """Most prompt tokens (two bytes each) and most reply tokens that a call is expected to cost."""
    texts = [turn.content for turn in request.messages] if request.prompt is None else [request.prompt]
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    return size // 2 + 8 * len(texts) + 8, request.sampling.max_tokens


def price_of(engine: Any) -> tuple[float, float] | None:
    """USD per million prompt and reply tokens, of an engine or of the config it was opened from; None is unknown."""
    for place in (engine, getattr(engine, "config", None)):
        if (price := getattr(place, "price", None)) is not None:
            return price
    return None


def is_billed(engine: Any) -> bool:
    """Whether somebody sends an invoice for this engine's tokens; so it is, unless the engine or its config says no."""
    return all(getattr(place, "billed", True) for place in (engine, getattr(engine, "config", None)))


def model_name(identity: Mapping[str, Any]) -> str:
    """What people call the model: its name, else the backend's."""
    return str(identity.get("model") or identity.get("backend") or "unnamed")


_ALWAYS = ("max_tokens", "temperature")
_DEFAULTS = dict(vars(Sampling()))


def _request_dict(request: Request) -> dict[str, Any]:
    drawn = vars(request.sampling)
    sampling = {name: value for name, value in drawn.items() if name in _ALWAYS or value != _DEFAULTS[name]}
    if request.prompt is not None:
        return {"prompt": request.prompt, "sampling": sampling}
    return {"messages": [[turn.role, turn.content] for turn in request.messages], "sampling": sampling}


def as_request(request: ScoreRequest) -> Request:
    """A scoring as a call, for its worst case: everything is prompt, one token is drawn."""
    return Request(prompt=request.completion + "".join(t.content for t in request.messages), sampling=Sampling(1))


def _ascii(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False)


def is_utf8(text: str) -> bool:
    """Whether the text can be stored: no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def reply_of(stored: Stored, *, cached: bool) -> Reply:
    """A stored call as the reply it was."""
    failure = stored.failure if stored.failure in get_args(FailureClass) else None
    return Reply(
        text=stored.reply,
        finish_reason=cast(Any, stored.finish_reason),
        prompt_tokens=stored.prompt_tokens,
        completion_tokens=stored.completion_tokens,
        cost_usd=stored.cost_usd,
        attempts=stored.attempts,
        cached=cached,
        call=stored.key,
        failure=cast(Any, failure),
        message=stored.message,
        model=stored.model,
    )


def call_row(stored: Stored, cached: bool) -> tuple[Any, ...]:
    """A stored call as a row of a version's ``calls`` part; a scoring wrote nothing, so it has no reply."""
    wrote = stored.kind != "score"
    return (
        *(stored.key, stored.kind, stored.model, stored.request, stored.reply if wrote else None),
        *(stored.finish_reason if wrote else None, stored.prompt_tokens),
        *(stored.completion_tokens, stored.cost_usd, stored.attempts, cached, stored.failure),
    )


def pack(result: TokenLogprobs) -> bytes:
    """Log-probabilities as bytes: 4 each where that loses nothing, else 8, after a byte for form and truncation."""
    exact = array.array("d", result.logprobs)
    short = array.array("f", result.logprobs)
    small = list(short) == list(exact)
    return bytes([2 * result.truncated + small]) + (short if small else exact).tobytes()


def scores_of(stored: Stored) -> TokenLogprobs:
    """A stored scoring as it was."""
    if stored.payload is None:
        return TokenLogprobs(failure=cast(Any, stored.failure))
    form = stored.payload[0]
    values = array.array("f" if form & 1 else "d")
    values.frombytes(stored.payload[1:])
    return TokenLogprobs(
        tuple(values),
        truncated=bool(form & 2),
        failure=cast(Any, stored.failure),
        prompt_tokens=max(0, stored.prompt_tokens - len(values)),
    )
