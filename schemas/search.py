"""A search for the configuration that serves every task: the YAML of `provender search`, validated whole."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from methods.generate import AnyGenerate
from methods.generate.self_guide import SelfGuide
from schemas.errors import BadName, RecipeError
from schemas.lineage import checked_name
from schemas.recipe import BackendChoices, Budget, Strict, mistakes_of, override, rebase_prompts
from schemas.safe_yaml import load_yaml
from schemas.sources import SourceSpec


def _source(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


Source = Annotated[SourceSpec, BeforeValidator(_source)]


class Measuring(Strict):
    """How a model is measured on a task before and after it was tuned on what it wrote."""

    max_examples: int = Field(default=400, gt=0, description="rows measured of each task, at most")
    max_new_tokens: int = Field(default=64, gt=0, description="longest reply")
    shots: int = Field(
        default=0, ge=0, description="the task's examples before each question, as turns; also while tuning"
    )
    classification_metric: Literal["exact-match", "rouge-l"] = Field(
        default="exact-match", description="of tasks with labels"
    )
    generation_metric: Literal["exact-match", "rouge-l"] = Field(default="rouge-l", description="of the other tasks")


class ConfigurationSearch(Strict):
    """One configuration for all tasks: the one whose smallest gain over the untuned model is the largest."""

    name: str
    rng_seed: int = 0
    tasks: Source = Field(description="a few examples of each task: what self-guide works from")
    dev: Source = Field(description="other examples of the same tasks, to measure on")
    base: dict[str, Any] = Field(description="the method and the fields that all configurations share")
    configurations: dict[str, dict[str, Any]] = Field(min_length=1, description="by name: the fields that differ")
    epochs: tuple[float, ...] = Field(
        (), description="passes over the rows to try with each; those of the tuner if none"
    )
    measure: Measuring = Measuring()
    budget: Budget = Budget()
    backends: BackendChoices = BackendChoices()

    @model_validator(mode="after")
    def _belongs_together(self) -> "ConfigurationSearch":
        mistakes: list[str] = []
        for place, name in [("name", self.name), *((f"configurations.{n}", n) for n in self.configurations)]:
            try:
                checked_name(name, place)
            except BadName as error:
                mistakes.append(str(error))
        for need in ("llm", "tune"):
            if getattr(self.backends, need) is None:
                mistakes.append(f"a search needs a backend; add `backends: {{{need}: …}}`")
        for name, fields in self.configurations.items():
            try:
                SelfGuide.model_validate({**self.base, **fields})
            except ValidationError as error:
                mistakes += [f"configurations.{name}: {mistake}" for mistake in mistakes_of(error)]
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return self

    def methods(self) -> dict[str, AnyGenerate]:
        """The generating method of each configuration."""
        return {name: SelfGuide.model_validate({**self.base, **fields}) for name, fields in self.configurations.items()}


def load_search(path: Path, overrides: list[str] | None = None) -> ConfigurationSearch:
    """The search in a YAML file; paths are relative to it. ``RecipeError`` with every mistake and its YAML path."""
    document, line_of = load_yaml(path)
    if not isinstance(document, dict):
        raise RecipeError(str(path), [f"a search is a mapping of keys, this is a {type(document).__name__}"])
    for text in overrides or []:
        override(document, text)
    rebase_prompts(document, path.parent)
    for key in ("tasks", "dev"):
        source = _source(document.get(key))
        if isinstance(source, dict) and isinstance(source.get("path"), str) and not source["path"].startswith("hub:"):
            document[key] = {**source, "path": os.path.normpath(path.parent / source["path"])}
    try:
        return ConfigurationSearch.model_validate(document)
    except ValidationError as error:
        raise RecipeError(str(path), mistakes_of(error, line_of)) from None
