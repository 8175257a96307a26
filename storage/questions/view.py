"""The base of every answer that pages, their JSON and the terminal show."""

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """Base of all answers: frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")
