"""What the configs of all foreign trainers have in common: places, batches, model and adapter in their words."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backends.train._rows import TrainRows
from schemas.errors import UsageError
from schemas.training import Training

#: One of these is there where an NVIDIA or AMD accelerator is.
_ACCELERATORS = ("/dev/nvidia0", "/dev/kfd")


@dataclass(frozen=True)
class Target:
    """Where a config points to, and what of it is no part of the training's settings."""

    data: Path
    output: Path
    rng_seed: int
    micro_batch: int


def divisor(whole: int, limit: int | None) -> int:
    """The largest divisor of ``whole`` that is no larger than ``limit``.

    >>> divisor(8, 3), divisor(8, None)
    (2, 8)
    """
    limit = min(whole, limit or whole)
    return next(size for size in range(limit, 0, -1) if whole % size == 0)


def whole_rows(training: Training, rows: TrainRows) -> Iterator[dict[str, Any]]:
    """``messages`` (and ``tools`` as JSON); in preference data ``chosen`` and ``rejected``, each the last message.

    Where one row has tools, each has the key: readers take the columns from the first rows.
    """
    some_tools = any(rows.tools)
    for messages, worse, tools in zip(rows.messages, rows.worse, rows.tools, strict=True):
        row: dict[str, Any] = {"messages": messages}
        if training.method == "dpo":
            assert worse, "checked before"
            row = {"messages": messages[:-1], "chosen": messages[-1], "rejected": worse[-1]}
        yield row | ({"tools": json.dumps(tools) if tools else ""} if some_tools else {})


def model_name(training: Training, revision_key: str) -> dict[str, str]:
    """The model's name for a trainer, and its pinned revision under that trainer's key; folders by their full path."""
    if training.model == "sprout" or Path(training.model).is_dir():
        from backends.weights import resolve

        return {"name": resolve(training.model).source}
    name, _, revision = training.model.partition("@")
    return {"name": name, **({revision_key: revision} if revision else {})}


def kind_of(training: Training, style: str, known: Mapping[str, str | None]) -> str | None:
    """The trainer's word for the adapter; ``UsageError`` where it has none."""
    kind = training.adapter.kind
    if kind not in known:
        raise UsageError(
            f"{style} cannot train the adapter {kind!r}; it takes {', '.join(known)}. Choose one of them, or `backend: trl`"
        )
    if training.adapter.options:
        raise UsageError(
            f"adapter.options are fields of PEFT's configs, which {style} does not take; "
            "write that trainer's own keys under `settings`"
        )
    return known[kind]


def lora(training: Training, rank: str, alpha: str, dropout: str) -> dict[str, Any]:
    """The three sizes of LoRA under the trainer's names."""
    adapter = training.adapter
    return {
        rank: adapter.rank,
        alpha: int(adapter.alpha) if adapter.alpha.is_integer() else adapter.alpha,
        dropout: adapter.dropout,
    }


def targets(training: Training) -> list[str]:
    """Names of the modules with an adapter; empty for all linear ones."""
    wanted = training.adapter.targets
    return [] if wanted == "all-linear" else [wanted] if isinstance(wanted, str) else list(wanted)


def scheduler(training: Training) -> str:
    """The learning rate's schedule as transformers calls it."""
    return "constant_with_warmup" if training.schedule == "constant" else training.schedule


def length_of(training: Training, steps: str, epochs: str) -> dict[str, Any]:
    """Steps where they are bounded, else passes."""
    return {steps: training.max_steps} if training.max_steps else {epochs: training.epochs}


def bf16(training: Training) -> bool:
    """Whether to train in bfloat16, for a trainer that does not find out by itself. It runs on this machine."""
    if training.precision == "auto":
        return any(Path(place).exists() for place in _ACCELERATORS)
    return training.precision == "bf16"


def no_template_file(training: Training, style: str) -> None:
    """``UsageError`` for a template file, where the trainer only knows templates by name."""
    if training.chat_template not in ("model", "chatml"):
        raise UsageError(
            f"{style} takes chat templates by name, not the file {training.chat_template!r}; put it into the model's "
            "tokenizer, or name one under `settings`, or use `style: axolotl` or `backend: trl`"
        )


def refuse_rows(bad: list[str], style: str, why: str, way_out: str) -> None:
    """``UsageError`` where the trainer would leave examples out without stopping."""
    if bad:
        raise UsageError(f"{style} would leave out {len(bad)} examples, {why}, the first {bad[0]}; {way_out}")
