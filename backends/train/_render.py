"""The same training in other trainers' words: the dataset as they read it and a config as they take it.

Written against axolotl 0.19, LLaMA-Factory 0.9.5, ms-swift 4.6 and open-instruct's `finetune.py` and `dpo_tune_cache.py`;
`make test-trainers` holds the first three to it: their own classes read these files, and the two that can train on a CPU do.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from backends.train._render_axolotl import axolotl_config, axolotl_rows
from backends.train._render_llama_factory import dataset_info, llama_factory_config, llama_factory_rows
from backends.train._render_open_instruct import open_instruct_config, open_instruct_rows
from backends.train._render_swift import swift_config, swift_rows
from backends.train._rows import TrainRows
from backends.train._words import Target, whole_rows
from schemas.training import Training


@dataclass(frozen=True)
class Rendered:
    """Where the dataset and the config were written."""

    data: Path
    config: Path


def render(
    training: Training,
    style: str,
    rows: TrainRows,
    *,
    folder: Path,
    output: Path,
    rng_seed: int,
    micro_batch: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Rendered:
    """Writes both files into ``folder``; ``settings`` are further keys of the config, and win.

    Raises ``UsageError`` for what that trainer cannot do or would silently leave out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "train.jsonl"
    shape, configure = _STYLES[style]
    with open(data, "w", encoding="utf-8") as stream:
        for row in shape(training, rows):
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
    target = Target(data.resolve(), output.resolve(), rng_seed, micro_batch or training.batch_examples)
    written = {**configure(training, target), **(settings or {})}
    if style == "llama-factory":
        info = {"provender": dataset_info(training, rows, data.name)}
        (folder / "dataset_info.json").write_text(json.dumps(info, indent=1), encoding="utf-8")
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(written, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return Rendered(data, config)


def _plain_config(training: Training, target: Target) -> dict[str, Any]:
    fields = Training.model_fields
    known = {name: value for name, value in training.model_dump(mode="json").items() if name in fields}
    places = {"data": str(target.data), "output": str(target.output), "seed": target.rng_seed}
    return {**known, "learning_rate": training.peak_rate, **places}


_Shape = Callable[[Training, TrainRows], Iterator[dict[str, Any]]]
_STYLES: Mapping[str, tuple[_Shape, Callable[[Training, Target], dict[str, Any]]]] = {
    "plain": (whole_rows, _plain_config),
    "axolotl": (axolotl_rows, axolotl_config),
    "llama-factory": (llama_factory_rows, llama_factory_config),
    "ms-swift": (swift_rows, swift_config),
    "open-instruct": (open_instruct_rows, open_instruct_config),
}
