"""Tune a model on what it wrote for each task, and measure it on that task before and after."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from backends.protocols import LLM
from methods.conversation import as_turns
from methods.generate._guide_tasks import GuideTask, shot_turns, tasks_of
from methods.generate._seeds import seeds_of
from methods.keyed import drawn_seed
from methods.measuring.evaluation import EvalResult, MetricName, evaluate
from schemas.errors import EmptyStage
from schemas.examples import turns
from schemas.identity import digest16
from schemas.method import Method, Using
from schemas.training import EvalReport, Measured


class SelfTuning(Method):
    """One model per task, tuned on the rows of that task; its metric beside the untuned model's, with intervals.

    A row belongs to the task whose instruction its first turn begins with. A task without rows is not tuned: its change
    is 0. Higher is better, 0 to 1.

    Paper: Zhao et al. 2024, https://arxiv.org/abs/2407.12874, section 3.3.
    """

    stage: ClassVar[str] = "evaluate"
    needs: ClassVar[frozenset[str]] = frozenset({"tune"})
    method: Literal["self-tuning"] = "self-tuning"

    max_examples: int = Field(400, gt=0, description="rows measured of each task, at most")
    max_new_tokens: int = Field(64, gt=0, description="longest reply")
    shots: int = Field(0, ge=0, description="the task's examples before each question, as turns; also while tuning")
    classification_metric: MetricName = Field("exact-match", description="of tasks with labels")
    generation_metric: MetricName = Field("rouge-l", description="of the other tasks")

    def measure(
        self, pool: pl.DataFrame, dev: pl.DataFrame, seeds: pl.DataFrame, *, using: Using, rng: np.random.Generator
    ) -> EvalResult:
        """A line ``task=NAME`` per task, with the metric of its kind. Raises ``EmptyStage`` if ``dev`` has no task's row."""
        tasks = tasks_of(seeds_of(seeds))
        rows, wanted = by_task(pool, tasks), by_task(dev, tasks)
        key = drawn_seed(rng)
        measured: list[Measured] = []
        frames: list[pl.DataFrame] = []
        for done, task in enumerate(tasks):
            using.progress(done, len(tasks), task.name)
            target = wanted[task.name].head(self.max_examples)
            if target.is_empty():
                continue
            target = target.with_columns(self._asked(target, task))
            model = self._tuned(rows[task.name], task, using, key)
            metric: MetricName = self.classification_metric if task.is_classification else self.generation_metric
            result = evaluate(
                model,
                target,
                rng=np.random.default_rng([key, *digest16(task.instruction.encode())[:4]]),
                metrics=(metric,),
                slices=(),
                baseline=using.tune.untuned(),
                max_new_tokens=self.max_new_tokens,
            )
            measured.append(result.report.of(metric).model_copy(update={"slice": f"task={task.name}"}))
            frames.append(result.examples)
        if not frames:
            raise EmptyStage("no row of the development set begins with the instruction of one of the tasks")
        identity: Mapping[str, Any] = using.tune.identity()
        report = EvalReport(
            model={**identity, "tuned": "per task"},
            baseline=using.tune.untuned().identity(),
            examples=sum(frame.height for frame in frames),
            measured=tuple(measured),
        )
        return EvalResult(report, pl.concat(frames, how="diagonal"))

    def _tuned(self, rows: pl.DataFrame, task: GuideTask, using: Using, rng_seed: int) -> LLM:
        if rows.is_empty():
            return using.tune.untuned()
        asked = rows.select(self._asked(rows, task))["messages"].to_list()
        conversations = [as_turns(messages) for messages in asked]
        return using.tune.tuned(conversations, rng_seed=rng_seed % 2**32)

    def _asked(self, rows: pl.DataFrame, task: GuideTask) -> pl.Series:
        """The conversations in the form in which the model is tuned and measured."""
        return pl.Series("messages", [with_shots(m, task, self.shots) for m in rows["messages"].to_list()])


def by_task(rows: pl.DataFrame, tasks: Sequence[GuideTask]) -> dict[str, pl.DataFrame]:
    """Rows of each task by its name: those whose first turn begins with its instruction, the longest that fits."""
    longest = sorted(tasks, key=lambda task: -len(task.instruction))
    first = [messages[0]["content"] or "" if messages else "" for messages in rows["messages"].to_list()]
    owner = [next((t.name for t in longest if text.startswith(t.instruction)), None) for text in first]
    named = rows.with_columns(pl.Series("_task", owner, dtype=pl.String))
    return {task.name: named.filter(pl.col("_task") == task.name).drop("_task") for task in tasks}


def with_shots(messages: Sequence[Mapping[str, Any]], task: GuideTask, shots: int) -> list[dict[str, str | None]]:
    """The last question and its answer, with the task's first examples as turns before them if any are wanted."""
    asked, answer = messages[-2]["content"] or "", messages[-1]["content"] or ""
    given = asked.removeprefix(task.instruction).strip() if asked.startswith(task.instruction) else asked
    if not shots:
        return turns(("user", f"{task.instruction}\n\n{given}" if given else task.instruction), ("assistant", answer))
    before = [(turn.role, turn.content) for turn in shot_turns(task.gold[:shots])]
    return turns(("system", task.instruction), *before, ("user", given), ("assistant", answer))
