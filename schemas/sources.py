"""Where rows come from: the path or hub id of a source, how it is read, and what a reader accepts before it refuses."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

Format = Literal["auto", "jsonl", "json", "csv", "parquet", "hf"]

Shape = Literal["messages", "sharegpt", "alpaca", "prompt-completion", "preference", "self-instruct-seed"]

#: What a shape may call its parts in ``fields``: part → column. The first ones are required.
PARTS: Mapping[Shape, tuple[str, ...]] = {
    "messages": ("messages", "role", "content", "tools", "system"),
    "sharegpt": ("messages", "role", "content", "tools", "system"),
    "alpaca": ("instruction", "output", "input", "system", "history"),
    "prompt-completion": ("prompt", "completion", "system"),
    "preference": ("chosen", "rejected", "prompt", "input", "system", "role", "content"),
    "self-instruct-seed": ("instruction", "instances"),
}

_HUB = re.compile(
    r"hub:(?P<owner>[A-Za-z0-9][A-Za-z0-9._-]{0,95})/(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,95})"
    r"@(?P<revision>[0-9a-f]{7,40})(?::(?P<config>[A-Za-z0-9._-]{1,96})(?:/(?P<split>[A-Za-z0-9._-]{1,96}))?)?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_RESERVED = {"con", "prn", "aux", "nul", *(f"{p}{i}" for p in ("com", "lpt") for i in range(1, 10))}


class HubId(BaseModel):
    """``hub:owner/name@revision[:config[/split]]``, taken apart."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    owner: str
    name: str
    revision: str
    config: str | None = None
    split: str | None = None

    @property
    def repo(self) -> str:
        """``owner/name``."""
        return f"{self.owner}/{self.name}"


class Limits(BaseModel):
    """What a reader accepts from an untrusted file. Speed and safety only: they never change an accepted row."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_line_bytes: int = Field(default=16 << 20, gt=0, description="longest JSONL or CSV row")
    max_depth: int = Field(default=100, gt=0, description="deepest nesting of a JSON value")
    max_columns: int = Field(default=1000, gt=0, description="most columns of a table, or keys of a row")
    max_name_bytes: int = Field(default=1024, gt=0, description="longest column name")
    max_rows: int = Field(default=1_000_000_000, gt=0, description="most rows of one file")
    max_json_bytes: int = Field(
        default=512 << 20, gt=0, description="largest plain JSON file (JSONL has no such limit)"
    )
    free_bytes: int = Field(
        default=512 << 20, gt=0, description="decoded size up to which no ratio is held against a file"
    )
    max_expansion: float = Field(
        default=200.0, gt=1, description="decoded size / file size that a larger file may reach"
    )
    max_decoded_bytes: int = Field(default=1 << 40, gt=0, description="largest decoded size of one file")
    vet_memory_bytes: int = Field(
        default=1 << 30, gt=0, description="address space of the process that first opens Parquet"
    )
    vet_seconds: float = Field(
        default=4.0, gt=0, description="processor time for the first opening, plus one second per 50 MB of file"
    )
    batch_bytes: int = Field(default=8 << 20, gt=0, description="decoded bytes that are turned into examples at a time")

    def allowed_bytes(self, file_bytes: int) -> int:
        """Decoded bytes that a file of this size may have before it counts as a bomb."""
        return min(self.max_decoded_bytes, max(self.free_bytes, int(file_bytes * self.max_expansion)))


class SourceSpec(BaseModel):
    """One source of rows. In YAML a plain string stands for ``{path: …}``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(
        min_length=1,
        description="a file, a folder (all its data files in name order), or hub:owner/name@revision[:config[/split]]",
    )
    format: Format = Field(default="auto", description="auto looks at the bytes, then at the name")
    shape: Literal["auto"] | Shape = Field(default="auto", description="auto looks at the columns of the first rows")
    fields: Mapping[str, str] = Field(
        default_factory=dict, description="which column is which part, as in {prompt: question, completion: solution}"
    )
    split: str | None = Field(
        default=None, description="split of a Hugging Face dataset, or a word in the names of files"
    )
    limit: int | None = Field(default=None, gt=0, description="read only the first so many examples")
    license: str | None = Field(default=None, description="SPDX-like name of the licence of all rows")
    synthetic: bool = Field(
        default=False, description="whether a model wrote the rows (synthetic depth 1 instead of 0)"
    )
    max_malformed_fraction: float = Field(
        default=0.01, ge=0, le=1, description="share of malformed rows above which the source is refused as a whole"
    )

    @field_validator("path")
    @classmethod
    def _checked_path(cls, path: str) -> str:
        return checked_path(path)

    @model_validator(mode="after")
    def _known_parts(self) -> "SourceSpec":
        if not self.fields:
            return self
        known = {part for parts in PARTS.values() for part in parts} if self.shape == "auto" else set(PARTS[self.shape])
        for part in self.fields:
            if part not in known:
                raise ValueError(
                    f"fields: {part!r} is no part of shape {self.shape}; it has {', '.join(sorted(known))}"
                )
        return self

    @property
    def hub(self) -> HubId | None:
        """The hub id, or None for a path."""
        match = _HUB.fullmatch(self.path)
        return HubId(**match.groupdict()) if match else None

    def identity(self) -> dict[str, Any]:
        """What decides the examples beside the bytes; never the path. The malformed share only decides whether to stop."""
        return {
            "format": self.format,
            "shape": self.shape,
            "fields": dict(self.fields),
            "split": self.split,
            "limit": self.limit,
            "license": self.license,
            "synthetic": self.synthetic,
        }


def checked_path(path: str) -> str:
    """The path if it can name a file on any system; ``ValueError`` with the reason otherwise.

    Nothing in it is decoded (``%2e`` is three characters) and ``..`` is an ordinary parent folder: the recipe is trusted.
    """
    shown = ascii(path if len(path) <= 80 else path[:77] + "...")
    if path.startswith("hub:"):
        if _HUB.fullmatch(path) is None:
            raise ValueError(
                f"{shown} is not hub:owner/name@revision[:config[/split]]; the revision is required and is a commit "
                "(7 to 40 hex digits), so that the same recipe reads the same rows"
            )
        return path
    if found := _CONTROL.search(path):
        raise ValueError(f"{shown} has the control character {found.group()!a}; rename the file")
    if "\\" in path:
        raise ValueError(f"{shown} has a backslash; separate folders with '/'")
    for component in path.split("/"):
        if len(component.encode()) > 255:
            raise ValueError(f"{shown} has a name of {len(component.encode())} bytes; file systems allow 255")
        if component in ("", ".", ".."):
            continue
        if component.endswith((".", " ")):
            raise ValueError(f"{shown}: the name {component!r} ends with a dot or space; rename the file")
        if component.split(".")[0].lower() in _RESERVED:
            raise ValueError(f"{shown}: the name {component!r} is reserved on Windows; rename the file")
    return path


def _from_text(value: Any) -> Any:
    """A plain string is short for a path."""
    return {"path": value} if isinstance(value, str) else value


#: A source in YAML: a string or a mapping.
AnySource = Annotated[SourceSpec, BeforeValidator(_from_text)]
