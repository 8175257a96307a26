"""Any OpenAI-compatible server: chat, completions and, where the server can, teacher-forced log-probabilities."""

import asyncio
import os
import re
import threading
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from backends.base import BackendConfig, speed
from backends.llm._openai_wire import Structured, estimated_tokens
from backends.llm._prices import ModelPrice, price_of_model
from backends.protocols import Meter, Reply, Request, Scored, ScoreRequest, TokenLogprobs, Troubles, Turn
from schemas.errors import CannotScore, EngineDown, UsageError

T = TypeVar("T")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_LOOKS_LIKE_A_KEY = re.compile(r"(sk|hf|ghp|pk|key)[-_][A-Za-z0-9]")


class Fallback(BaseModel):
    """Another endpoint that answers when the first does not; which one answered stands with every call."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    model: str = Field(min_length=1, description="the model's name on that server")
    revision: str | None = Field(None, description="what that server has under the name")
    base_url: str = Field(description="address up to and with /v1")
    api_key_env: str | None = Field(None, description="NAME of the environment variable that holds its key")
    after_failures: int = Field(
        8, ge=1, description="failures in a row (429 not counted) after which all calls go there"
    )
    retry_seconds: float = Field(30.0, gt=0, description="after so long one call tries the first endpoint again")

    _names_a_variable = field_validator("api_key_env")(lambda value: names_a_variable(value))
    _is_plain_address = field_validator("base_url")(lambda value: plain_address(value))


class OpenAI(BackendConfig):
    """A model behind an OpenAI-compatible HTTP interface. The key comes from the environment and is never stored.

    What fails in passing (429, 5xx, resets, time-outs, broken bodies) is sent again with growing pauses within
    ``deadline_seconds``; what no repetition heals fails alone; a refused key or an unknown model stops the run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    backend: Literal["openai"] = "openai"
    model: str = Field(min_length=1, description="the model's name on the server")
    revision: str | None = Field(
        None, description="what the server has under that name; change it when the server's weights change"
    )
    base_url: str = speed("https://api.openai.com/v1", description="address up to and with /v1")
    api_key_env: str | None = speed(None, description="NAME of the environment variable that holds the key")
    extra_body: dict[str, Any] = Field(default_factory=dict, description="further fields of every request's body")
    accept_cut_off: bool = Field(True, description="take replies that end at max_tokens (finish_reason says so)")
    neutralize_control_tokens: bool = Field(
        True, description="write control tokens of chat formats that stand in a user's text apart"
    )
    repairs: int = Field(1, ge=0, le=5, description="how often a reply of the wrong shape is asked for again")
    max_prompt_tokens: int = Field(100_000, ge=1, description="longer prompts (by estimate) are refused unsent")
    scoring: Literal["none", "vllm", "echo"] = speed(
        "none", description="how the server scores a text: vLLM's prompt_logprobs, or completions with echo"
    )
    chat_template: str | None = Field(
        None, description="scoring with echo: Jinja text that renders `messages` up to the assistant's turn"
    )
    start_of_text: str = Field(
        "", description="scoring without a prompt: the token that a text starts with, where the tokenizer adds none"
    )
    end_of_turn: str = Field("", description="scoring with echo: text that ends an assistant's turn")
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = speed(
        "max_tokens", description="what the server calls the longest reply"
    )
    concurrency: int = speed(32, ge=1, le=4096, description="most requests in flight; fewer when the server balks")
    timeout_seconds: float = speed(120.0, gt=0, description="one attempt, to the last byte")
    deadline_seconds: float = speed(900.0, gt=0, description="one request with all its attempts")
    outage_seconds: float = speed(120.0, gt=0, description="no answer at all for so long means that the server is gone")
    max_attempts: int = speed(8, ge=1, description="attempts that failed otherwise than by 429")
    max_reply_bytes: int = speed(10_000_000, ge=1000, description="a larger body is no answer")
    fallback: Fallback | None = Field(None, description="another endpoint for what this one cannot answer")
    structured_output: Structured = Field(
        "json_schema",
        description="how the server is made to write JSON: by json_schema, by json_object, or by the prompt alone; "
        "checked and asked again in any case",
    )
    continue_as: Literal["completion", "chat"] = Field(
        "completion",
        description="how a text is sent that the model should go on from; `chat` for servers that only chat",
    )
    requests_per_minute: float | None = speed(None, gt=0, description="the provider's limit, kept by this process")
    tokens_per_minute: float | None = speed(None, gt=0, description="the same for tokens of prompts and replies")
    batch: bool = speed(False, description="use the server's batch endpoint: cheaper, and answers come within a day")
    batch_requests: int = speed(20_000, ge=1, le=50_000, description="most requests in one batch")
    batch_poll_seconds: float = speed(30.0, gt=0, description="how often to ask whether a batch is done")
    prices: dict[str, ModelPrice] = speed(
        default_factory=dict,
        description="USD per million tokens by `model` or `model@host`: input, output, cached_input, "
        "batch; the file that PROVENDER_PRICES names is asked next",
    )
    input_usd_per_million: float | None = speed(None, ge=0, description="price of prompt tokens; unknown = null")
    output_usd_per_million: float | None = speed(None, ge=0, description="price of reply tokens; unknown = null")

    _names_a_variable = field_validator("api_key_env")(lambda value: names_a_variable(value))
    _is_plain_address = field_validator("base_url")(lambda value: plain_address(value))

    @model_validator(mode="after")
    def _both_prices(self) -> "OpenAI":
        if (self.input_usd_per_million is None) != (self.output_usd_per_million is None):
            raise ValueError("give both input_usd_per_million and output_usd_per_million, or neither")
        return self

    def identity(self) -> dict[str, Any]:
        """What decides a reply; what was added to this backend later counts only where it is used."""
        known = super().identity()
        if self.structured_output == "json_schema":
            del known["structured_output"]
        if self.continue_as == "completion":
            del known["continue_as"]
        del known["fallback"]
        if self.fallback is not None:
            known["fallback"] = {"model": self.fallback.model, "revision": self.fallback.revision}
        return known

    @property
    def model_price(self) -> ModelPrice | None:
        """What the model costs here: of these fields, of `prices`, or of the environment's table; None is unknown."""
        if self.input_usd_per_million is not None and self.output_usd_per_million is not None:
            found: ModelPrice | None = ModelPrice(input=self.input_usd_per_million, output=self.output_usd_per_million)
        else:
            found = price_of_model(self.model, self.base_url, self.prices)
        return found.batched() if found is not None and self.batch else found

    @property
    def price(self) -> tuple[float, float] | None:
        """USD per million prompt and reply tokens at worst (the dearer endpoint, no cached prompt); None is unknown."""
        first = self.model_price
        if first is None or self.fallback is None:
            return None if first is None else (first.input, first.output)
        other = price_of_model(self.fallback.model, self.fallback.base_url, self.prices)
        return None if other is None else (max(first.input, other.input), max(first.output, other.output))

    def open(self) -> "OpenAIEngine":
        """The client; nothing is sent yet. ``UsageError`` when the variable that should hold the key is not set."""
        return OpenAIEngine(self, key=key_from(self.api_key_env))


def names_a_variable(value: str | None) -> str | None:
    """The name of an environment variable; what looks like a key is refused."""
    if value is not None and (not _ENV_NAME.fullmatch(value) or _LOOKS_LIKE_A_KEY.match(value)):
        raise ValueError("api_key_env is the NAME of an environment variable, such as OPENAI_API_KEY, never the key")
    return value


def plain_address(value: str) -> str:
    """An address without user, password and query."""
    if not re.fullmatch(r"https?://[^\s@?#]+", value):
        raise ValueError("base_url is http(s)://host/v1, without user, password or query")
    return value.rstrip("/")


def key_from(name: str | None) -> SecretStr | None:
    """The key that the environment holds under this name."""
    if name is None:
        return None
    value = os.environ.get(name, "").strip()
    if not value:
        raise UsageError(f"environment variable {name} is not set; export it with the key of the server")
    return SecretStr(value)


class OpenAIEngine:
    """The client with its own event loop in a thread, so that it works inside any other. Close it, or let it go."""

    def __init__(
        self, config: OpenAI, *, key: SecretStr | None = None, identity: Mapping[str, Any] | None = None
    ) -> None:
        from backends.llm._openai_client import Client
        from backends.llm._openai_settings import Settings

        self.config = config
        self.price = config.price
        self._identity = dict(identity or config.identity())
        settings = Settings(
            base_url=config.base_url,
            model=config.model,
            key=key.get_secret_value() if key else None,
            key_name=config.api_key_env,
            timeout_seconds=config.timeout_seconds,
            deadline_seconds=config.deadline_seconds,
            outage_seconds=config.outage_seconds,
            max_attempts=config.max_attempts,
            repairs=config.repairs,
            concurrency=config.concurrency,
            max_reply_bytes=config.max_reply_bytes,
            max_prompt_tokens=config.max_prompt_tokens,
            accept_cut_off=config.accept_cut_off,
            neutralize=config.neutralize_control_tokens,
            structured=config.structured_output,
            price=config.model_price,
            extra_body=dict(config.extra_body),
            max_tokens_name=config.max_tokens_field,
            requests_per_minute=config.requests_per_minute,
            tokens_per_minute=config.tokens_per_minute,
        )
        there = _fallback_of(config, settings)
        if config.fallback is not None:
            settings = replace(
                settings,
                breaker_failures=config.fallback.after_failures,
                breaker_rest_seconds=config.fallback.retry_seconds,
            )
        self._loop = _LoopThread()
        self._client = self._loop.make(lambda: Client(settings, Client(there) if there is not None else None))
        self._close = weakref.finalize(self, _shut, self._loop, self._client)

    def identity(self) -> dict[str, Any]:
        """The config's."""
        return self._identity

    def generate(self, requests: Sequence[Request], meter: Meter | None = None) -> list[Reply]:
        """One reply per request. Raises ``EngineDown`` when the server refuses the key, the model, or every call."""
        if not requests:
            return []
        if self.config.continue_as == "chat":
            requests = [_as_chat(request) for request in requests]
        if self.config.batch:
            from backends.llm._openai_batch import Batches

            config = self.config
            batches = Batches(self._client, most=config.batch_requests, poll_seconds=config.batch_poll_seconds)
            return self._loop.run(batches.generate(requests, meter))
        return self._loop.run(self._client.generate(requests, meter))

    def logprobs(
        self, requests: Sequence[ScoreRequest], troubles: Troubles | None = None, deliver: Scored | None = None
    ) -> list[TokenLogprobs]:
        """Teacher-forced scores; ``CannotScore`` unless ``scoring`` says how this server does it."""
        if self.config.scoring == "none":
            raise CannotScore(
                f"model {self.config.model} gives no log-probabilities of given text; set `scoring: vllm` or "
                "`scoring: echo` if its server can, or score with the transformers backend"
            )
        from backends.llm._openai_scoring import score

        return self._loop.run(score(self._client, self.config, requests, troubles, deliver)) if requests else []

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """An estimate: a quarter of the bytes."""
        return [estimated_tokens(text) for text in texts]

    def patient(self) -> None:
        """The server is ours and is being mended when it refuses connections: wait for it."""
        self._client.patient = True

    def give_up(self, error: EngineDown) -> None:
        """The server cannot be mended: calls that are going on end with this error."""
        self._client.broken = error

    def close(self) -> None:
        """Close connections and stop the loop."""
        self._close()


def _as_chat(request: Request) -> Request:
    """A text to go on from as the turn of a user."""
    if request.prompt is None:
        return request
    return Request(messages=(Turn("user", request.prompt),), sampling=request.sampling)


def _fallback_of(config: OpenAI, settings: Any) -> Any:
    """The settings of the second endpoint, if there is one: as those of the first, without its limits per minute."""
    other = config.fallback
    if other is None:
        return None
    key = key_from(other.api_key_env)
    return replace(
        settings,
        base_url=other.base_url,
        model=other.model,
        key=key.get_secret_value() if key else None,
        key_name=other.api_key_env,
        price=price_of_model(other.model, other.base_url, config.prices),
        requests_per_minute=None,
        tokens_per_minute=None,
    )


class _LoopThread:
    """An event loop that runs in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="provender-openai", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The coroutine's result; an interrupt cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def make(self, factory: Any) -> Any:
        """What the factory makes, made on the loop."""

        async def made() -> Any:
            return factory()

        return self.run(made())

    def stop(self) -> None:
        """End the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


def _shut(loop: _LoopThread, client: Any) -> None:
    loop.run(client.close())
    loop.stop()
