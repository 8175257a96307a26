"""Hands the dataset and a ready config to any trainer: axolotl, LLaMA-Factory, ms-swift, open-instruct, or your script."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from backends.base import BackendConfig, speed
from backends.protocols import TrainingRun
from backends.train._card import write_card
from backends.train._left import bring_up, history_in, metrics_in, weights_in
from backends.train._record import claim, dataset_digest, recorded, run_key, write_json
from backends.train._render import Rendered, render
from backends.train._rows import TrainRows, read_rows
from backends.train._run import run
from backends.train._words import divisor
from schemas.errors import BackendError, GateClosed, UsageError
from schemas.training import TrainedOn, Training

_PLACES = ("{config}", "{data}", "{output}", "{metrics}", "{folder}")


class Command(BackendConfig, Training):
    """Writes the dataset as JSONL and a config in the style of a trainer, then runs a command, without a shell.

    In ``command`` the words ``{config}``, ``{data}``, ``{output}``, ``{metrics}`` and ``{folder}`` stand for the files
    and folders that were prepared. Output is kept in ``command.log``. A command that ends with 0 has succeeded; if it
    wrote ``{metrics}``, a JSON object of numbers, they become the run's metrics, else those of the summary that
    transformers' Trainer leaves. Safetensors found in ``{output}`` are brought up, so that ``evaluate`` can open them.
    """

    backend: Literal["command"] = "command"
    command: tuple[str, ...] = Field(min_length=1, description="program and arguments, e.g. [axolotl, train, {config}]")
    style: Literal["plain", "axolotl", "llama-factory", "ms-swift", "open-instruct"] = Field(
        default="plain", description="whose config and dataset format to write"
    )
    settings: Mapping[str, Any] = Field(
        default_factory=dict,
        description="further keys of that trainer's config, or other values: {model_type: llama}, {deepspeed: ds.json} …",
    )
    micro_batch: int | None = speed(default=None, gt=0, description="examples per forward pass; None = batch_examples")
    timeout_seconds: float | None = speed(default=None, gt=0, description="stop the command after so long")

    @model_validator(mode="after")
    def _known_places(self) -> "Command":
        for word in self.command:
            for piece in word.split("{")[1:]:
                name = "{" + piece.partition("}")[0] + "}"
                if "}" in piece and name not in _PLACES:
                    raise ValueError(f"command: {name} stands for nothing; there are {', '.join(_PLACES)}")
        return self

    def identity(self) -> dict[str, Any]:
        """Every field but the time-out; the program's own version is its user's to keep."""
        return {**super().identity(), "learning_rate": self.peak_rate}

    def open(self) -> "CommandTrainer":
        """The trainer."""
        return CommandTrainer(self)


class CommandTrainer:
    """Prepares, runs, collects."""

    def __init__(self, config: Command) -> None:
        self.config = config

    def identity(self) -> dict[str, Any]:
        """The config's identity."""
        return self.config.identity()

    def train(
        self,
        dataset: Path,
        output_dir: Path,
        *,
        rng_seed: int,
        about: TrainedOn = TrainedOn(),
        progress: Callable[[int, int, str], None] | None = None,
    ) -> TrainingRun:
        """Run the command on the prepared files; a finished run of the same key is returned as it is.

        Raises ``BackendError`` with the last lines of its output when it fails, runs too long or leaves no file.
        """
        key = run_key(self.identity(), dataset, rng_seed)
        done = recorded(output_dir, key)
        if done is not None:
            return done
        rows = read_rows(dataset)
        self._check(rows)
        claim(output_dir, key)
        prepared = output_dir / "prepared"
        model = output_dir / "model"
        model.mkdir(exist_ok=True)
        rendered = render(
            self.config,
            self.config.style,
            rows,
            folder=prepared,
            output=model,
            rng_seed=rng_seed,
            micro_batch=divisor(self.config.batch_examples, self.config.micro_batch),
            settings=self.config.settings,
        )
        metrics_file = output_dir / "metrics.json"
        metrics_file.unlink(missing_ok=True)
        log = output_dir / "command.log"
        run(self._words(rendered, model, metrics_file, prepared), log, self.config.timeout_seconds, progress)
        metrics = {"examples": float(len(rows)), **metrics_in(metrics_file, model)}
        history = history_in(model)
        produced = sorted(str(p.relative_to(output_dir)) for p in model.rglob("*") if p.is_file())
        if not produced:
            raise BackendError(
                f"the command ended well but wrote nothing into {model}; pass {{output}} to it. Its output is in {log}"
            )
        weights = weights_in(model)
        if weights is not None:
            produced += bring_up(weights, output_dir)
        known: dict[str, Any] = {
            "key": key,
            "trainer": self.identity(),
            "base_model": self.config.model,
            "rng_seed": rng_seed,
            "dataset": {**about.model_dump(), "digest": about.digest or dataset_digest(dataset)},
            "sources": rows.source_counts(),
            "licenses": rows.license_counts(),
            "metrics": metrics,
            "history": history,
            "trained_by": self.config.style if self.config.style != "plain" else Path(self.config.command[0]).name,
            "has_weights": weights is not None,
            "files": [*produced, "README.md"],
        }
        write_card(output_dir, known, self.config)
        write_json(output_dir / "training.json", known)
        return TrainingRun(output_dir, metrics, tuple(history), tuple(known["files"]))

    def _check(self, rows: TrainRows) -> None:
        if not len(rows):
            raise GateClosed("the dataset has no example, so there is nothing to train on; look at `provender show`")
        if self.config.method == "dpo" and rows.pairs < len(rows):
            raise UsageError(
                f"dpo needs a worse answer in every example, and {len(rows) - rows.pairs} of {len(rows)} have none; "
                "filter them out or use `method: sft`"
            )

    def _words(self, rendered: Rendered, model: Path, metrics: Path, folder: Path) -> list[str]:
        places: Mapping[str, Path] = {
            "{config}": rendered.config,
            "{data}": rendered.data,
            "{output}": model,
            "{metrics}": metrics,
            "{folder}": folder,
        }
        words = list(self.config.command)
        for place, path in places.items():
            words = [word.replace(place, str(path.resolve())) for word in words]
        return words
