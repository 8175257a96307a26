"""What the client of an OpenAI-compatible endpoint needs to know."""

from dataclasses import dataclass, field
from typing import Any

from backends.llm._openai_wire import Price, Structured


@dataclass(frozen=True)
class Settings:
    """What the client needs to know; times in seconds, sizes in bytes."""

    base_url: str
    model: str
    key: str | None = field(default=None, repr=False)
    key_name: str | None = None
    timeout_seconds: float = 120.0
    deadline_seconds: float = 900.0
    outage_seconds: float = 120.0
    max_attempts: int = 8
    repairs: int = 1
    concurrency: int = 32
    max_reply_bytes: int = 10_000_000
    max_prompt_tokens: int = 100_000
    accept_cut_off: bool = True
    neutralize: bool = True
    structured: Structured = "json_schema"
    price: Price = None
    extra_body: dict[str, Any] = field(default_factory=dict)
    max_tokens_name: str = "max_tokens"
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    breaker_failures: int = 8
    breaker_rest_seconds: float = 30.0
