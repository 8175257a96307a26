"""Base of all backend configs: what decides the output is identity, what only decides the speed is not."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from schemas.union import one_of

#: Marks a field that never changes the output: ``device: str = Field("auto", json_schema_extra=SPEED)``.
#: Batch sizes, concurrency, devices, time-outs, prices, addresses and names of environment variables are such fields.
SPEED: Any = {"speed": True}


def speed(default: Any = ..., **known: Any) -> Any:
    """A pydantic ``Field`` that stays out of the identity."""
    return Field(default, json_schema_extra=SPEED, **known)


class BackendConfig(BaseModel):
    """One engine as a recipe writes it. ``open`` does the heavy import; building and hashing it costs nothing.

    A subclass adds ``backend: Literal["its-tag"] = "its-tag"`` and says in ``version`` when equal fields start to give
    different output.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: ClassVar[int] = 1
    billed: ClassVar[bool] = True  # somebody sends an invoice per token; false for what runs on the user's own machine

    def identity(self) -> dict[str, Any]:
        """Version and every field that may change the output; speed settings, keys and addresses are left out."""
        decisive = {name for name, field in type(self).model_fields.items() if not _is_speed(field)}
        return {"version": self.version, **self.model_dump(mode="json", include=decisive)}

    @abstractmethod
    def open(self) -> Any:
        """The engine. Raises ``MissingExtra`` naming the command that installs what is missing."""


def _is_speed(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, Mapping) and bool(extra.get("speed"))


def any_of(package: str) -> Any:
    """The union of a folder's backends for pydantic fields: its file names are the choices; a module without is a helper."""
    return one_of(package, BackendConfig, "backend", helpers=True)
