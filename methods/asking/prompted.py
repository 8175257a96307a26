"""Methods that speak through prompt files: the words enter the identity, and a recipe may bring its own."""

from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from methods.asking.prompt_files import Prompt, parse_prompt, shipped
from schemas.errors import UsageError
from schemas.method import Method


class Prompted(Method):
    """A method that speaks through prompt files, which a recipe may replace one by one; all enter its identity."""

    speaks: ClassVar[tuple[str, ...]] = ()

    prompts: dict[str, str] = Field(
        default_factory=dict,
        description="prompt files of your own (path), by the name of the shipped one that each replaces",
    )

    @field_validator("prompts")
    @classmethod
    def _read(cls, given: dict[str, str]) -> dict[str, str]:
        """Contents instead of paths: they may not change between `check` and `run`."""
        return {name: _replacement(name, value, cls.speaks) for name, value in given.items()}

    def prompt(self, name: str) -> Prompt:
        """The recipe's own prompt of this name, else the shipped one."""
        own = self.prompts.get(name)
        return parse_prompt(own, name) if own is not None else shipped(name)

    def identity(self) -> dict[str, Any]:
        """With what each prompt says instead of where it came from."""
        return {**super().identity(), "prompts": {name: self.prompt(name).identity() for name in self.speaks}}


def _replacement(name: str, value: str, speaks: tuple[str, ...]) -> str:
    """The text of a prompt file given by path or whole; ``ValueError`` where it does not fit."""
    if name not in speaks:
        raise ValueError(f"this method has no prompt {name!r}; it has {', '.join(speaks)}")
    text = value
    if not value.startswith("---\n"):
        try:
            text = Path(value).read_text("utf-8").replace("\r\n", "\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{name}: {value} cannot be read as a prompt file: {error}") from None
    try:
        own = parse_prompt(text, name)
    except UsageError as error:
        raise ValueError(str(error)) from None
    theirs = shipped(name)
    if unknown := sorted(own.variables.keys() ^ theirs.variables.keys()):
        raise ValueError(
            f"{name}: a replacement declares the same variables, {', '.join(theirs.variables)}; "
            f"{', '.join(unknown)} stands in one of them only"
        )
    if unknown := sorted(theirs.wording.keys() - own.wording.keys()):
        raise ValueError(f"{name}: the wording {', '.join(unknown)} is missing from its front matter")
    return text
