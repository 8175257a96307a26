"""The recipe's ``evaluate`` section: what a trained model is measured on, and how."""

import re
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from backends.harness import Harness
from methods.measuring.preferred import PairwiseJudge


class Evaluation(BaseModel):
    """What the trained model is measured on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str | None = Field(default=None, description="the source (role: target) to evaluate on")
    metrics: tuple[Literal["loss", "exact-match", "rouge-l", "pass@k", "pairwise"], ...] = Field(
        default=("loss",), description="pairwise asks the recipe's judge (`backends: judge`, or `llm`)"
    )
    slices: tuple[str, ...] = Field(
        default=(),
        description="further fields of the original rows, such as category: each value gets figures of its own, "
        "beside those of every source and task",
    )
    k: int = Field(default=1, ge=1, description="of pass@k: how many programs may be tried")
    samples: int | None = Field(
        default=None, ge=1, description="of pass@k: replies drawn per example; by default 1, or 2 k"
    )
    max_examples: int = Field(default=500, gt=0)
    max_new_tokens: int = Field(default=64, gt=0)
    pairwise: PairwiseJudge = Field(default=PairwiseJudge(), description="of pairwise: how the judge is asked")
    harness: Harness | None = Field(default=None, description="benchmarks of lm-evaluation-harness (extra: eval)")

    @field_validator("slices")
    @classmethod
    def _plain(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        """A field's name is looked up as it is, never as a path into the row."""
        if odd := [name for name in names if not re.fullmatch(r"\w[\w -]*", name) or name in ("source", "task")]:
            raise ValueError(
                f"{', '.join(map(repr, odd))}: a slice is a field of the original rows by its plain name; "
                "source and task are sliced by anyway"
            )
        return tuple(dict.fromkeys(names))

    @model_validator(mode="after")
    def _something(self) -> "Evaluation":
        if self.target is None and self.harness is None:
            raise ValueError("name a source with role 'target' in `target:`, or benchmarks in `harness: {tasks: […]}`")
        if self.target is not None and not self.metrics and self.harness is None:
            raise ValueError("`metrics` is empty, so nothing would be measured; name loss, rouge-l, pairwise, …")
        return self


def rebase_evaluation(section: Any, rebased: Callable[[str], str]) -> None:
    """Give the harness's task files and its environment, as a parsed document has them, the paths of ``rebased``."""
    harness = section.get("harness") if isinstance(section, dict) else None
    if not isinstance(harness, dict):
        return
    if isinstance(harness.get("tasks"), list):
        harness["tasks"] = [
            rebased(task) if isinstance(task, str) and task.endswith((".yaml", ".yml")) else task
            for task in harness["tasks"]
        ]
    if isinstance(harness.get("environment"), str):
        harness["environment"] = rebased(harness["environment"])
