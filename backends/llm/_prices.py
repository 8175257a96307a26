"""What tokens cost: a price per model from the recipe or from the file that ``PROVENDER_PRICES`` names.

The file is JSON: ``{"gpt-x": {"input": 2.5, "output": 10, "cached_input": 1.25, "batch": 0.5}}``, in USD per million
tokens; ``batch`` is the factor of a batch endpoint. The key ``model@host`` is for a model on one server only and goes
before ``model``. A price that nobody gave is unknown, never 0.
"""

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from schemas.errors import UsageError

VARIABLE = "PROVENDER_PRICES"


class ModelPrice(BaseModel):
    """USD per million tokens of one model."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    input: float = Field(ge=0, description="prompt tokens")
    output: float = Field(ge=0, description="reply tokens")
    cached_input: float | None = Field(
        default=None,
        ge=0,
        description="prompt tokens that the server found in its prompt cache; as `input` where not given",
    )
    batch: float = Field(default=1.0, gt=0, le=1, description="factor on everything that goes through a batch endpoint")

    def usd(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """What one call costs; ``cached_tokens`` are among the prompt's."""
        cached = min(cached_tokens, prompt_tokens)
        known = self.input if self.cached_input is None else self.cached_input
        return ((prompt_tokens - cached) * self.input + cached * known + completion_tokens * self.output) / 1e6

    def batched(self) -> "ModelPrice":
        """The price of the same call through a batch endpoint."""
        known = None if self.cached_input is None else self.cached_input * self.batch
        return ModelPrice(input=self.input * self.batch, output=self.output * self.batch, cached_input=known)


_TABLE = TypeAdapter(dict[str, ModelPrice])


def price_of_model(model: str, base_url: str, given: Mapping[str, ModelPrice]) -> ModelPrice | None:
    """The price of a model on a server: from ``given``, else from the environment's file; None is unknown."""
    host = urlsplit(base_url).hostname or ""
    for table in (given, prices_of_environment()):
        for name in (f"{model}@{host}", model):
            if name in table:
                return table[name]
    return None


def prices_of_environment() -> Mapping[str, ModelPrice]:
    """The table in the file that ``PROVENDER_PRICES`` names; empty without one. Raises ``UsageError`` for a bad file."""
    named = os.environ.get(VARIABLE, "").strip()
    if not named:
        return {}
    try:
        changed = Path(named).stat().st_mtime_ns
        return _read(named, changed)
    except OSError as error:
        raise UsageError(
            f"{VARIABLE} names {named}, which cannot be read ({error.strerror}); mend or unset it"
        ) from error


@lru_cache(maxsize=4)
def _read(path: str, changed: int) -> Mapping[str, ModelPrice]:
    try:
        return _TABLE.validate_python(json.loads(Path(path).read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}, {place}: {first['msg']}; {VARIABLE} names a table of prices") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON ({error}); {VARIABLE} names a table of prices") from error
