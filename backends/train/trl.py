"""Fine-tunes through TRL and PEFT: SFT or DPO, full or with an adapter, on a GPU or a laptop's CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from backends.base import BackendConfig, speed
from backends.protocols import TrainingRun
from backends.quiet import quiet_loading
from backends.train._record import claim, identity_of, record, recorded, run_key
from backends.train._rows import TrainRows, read_rows
from backends.train._words import divisor
from backends.weights import resolve
from schemas.errors import MissingExtra, Stopped
from schemas.training import TrainedOn, Training

if TYPE_CHECKING:
    from backends.train._fit import Outcome
    from backends.train._preflight import Preflight
    from backends.train._prepare import Work

_EXTRA = "training needs torch, transformers, TRL and PEFT: pip install 'provender[local]'"


class Trl(BackendConfig, Training):
    """TRL's SFTTrainer and DPOTrainer on rows that are tokenized, checked and reported on before the first step.

    The output folder receives safetensors (an adapter, or the whole model for ``adapter: full``), the tokenizer, a
    model card and ``training.json``. A run that was killed goes on from its newest checkpoint and ends with the same
    weights; checkpoints, which hold pickled optimizer state, are removed at the end.

    Paper: Hu et al. 2021, LoRA (https://arxiv.org/abs/2106.09685); Rafailov et al. 2023, DPO
    (https://arxiv.org/abs/2305.18290).
    """

    backend: Literal["trl"] = "trl"
    device: str = speed(default="auto", description="auto, cpu, cuda, cuda:1 …")
    micro_batch: int | None = speed(default=None, gt=0, description="examples per forward pass; None = batch_examples")
    gradient_checkpointing: bool | None = speed(
        default=None, description="less memory, more time; None = on an accelerator only"
    )
    checkpoint_steps: int = speed(default=200, ge=0, description="steps between checkpoints; 0 = none")
    threads: int | None = speed(default=None, gt=0, description="CPU threads; None = 1 for models under 10 M weights")
    download: bool = speed(default=False, description="fetch a hub model that is not in the local cache")

    def identity(self) -> dict[str, Any]:
        """Every decisive field; weights and templates stand by their digest, the learning rate is settled."""
        return identity_of(self, super().identity())

    def lacking(self) -> str:
        """A package that this adapter needs beside the extra ``local`` and that is not here; empty where there is none."""
        from backends.train._four_bits import lacking

        return lacking(self)

    def open(self) -> "TrlTrainer":
        """The trainer; torch and TRL are imported when it trains."""
        return TrlTrainer(self)


class TrlTrainer:
    """Trains in this process."""

    def __init__(self, config: Trl) -> None:
        self.config = config

    def identity(self) -> dict[str, Any]:
        """The config's identity."""
        return self.config.identity()

    def preflight(self, dataset: Path) -> "Preflight":
        """What a run would do, without loading weights. Raises ``GateClosed`` as training would."""
        return self._prepared(read_rows(dataset)).report

    def train(
        self,
        dataset: Path,
        output_dir: Path,
        *,
        rng_seed: int,
        about: TrainedOn = TrainedOn(),
        progress: Callable[[int, int, str], None] | None = None,
    ) -> TrainingRun:
        """Train on a published Parquet file.

        ``progress`` is told (0, steps, warning) for each warning of the pre-flight report, then how far the steps are.
        A finished run of the same config, dataset and seed in ``output_dir`` is returned as it is; checkpoints of an
        unfinished one are used, those of any other run are removed. Raises ``GateClosed`` where the pre-flight report
        forbids training, ``Stopped`` on Ctrl-C, ``MissingExtra``, ``UsageError`` and ``BackendError``.
        """
        key = run_key(self.identity(), dataset, rng_seed)
        done = recorded(output_dir, key)
        if done is not None:
            return done
        self._possible()
        rows = read_rows(dataset)
        work = self._prepared(rows)
        claim(output_dir, key)
        _warn(work.report, progress)
        try:
            outcome = self._fit(work, rows, output_dir, rng_seed, progress)
        except ImportError as error:
            raise MissingExtra(_EXTRA) from error
        return record(
            output_dir,
            key=key,
            trainer=self.identity(),
            training=self.config,
            rng_seed=rng_seed,
            about=about,
            dataset=dataset,
            rows=rows,
            report=work.report,
            outcome=outcome,
        )

    def _possible(self) -> None:
        """Raises what this machine lacks, before any text is tokenized."""
        from backends.train._four_bits import require

        try:
            from backends.train._model import chosen_device

            require(self.config, chosen_device(self.config.device))
        except ImportError as error:
            raise MissingExtra(_EXTRA) from error

    def _prepared(self, rows: TrainRows) -> "Work":
        try:
            from backends.train._model import device_on_paper, is_bf16
            from backends.train._prepare import prepare

            device = device_on_paper(self.config.device)
            return prepare(
                self.config,
                rows,
                micro_batch=self._micro_batch(),
                checkpointing=self._checkpointing(device),
                download=self.config.download,
                device=device,
                bf16=is_bf16(self.config, device),
            )
        except ImportError as error:
            raise MissingExtra(_EXTRA) from error

    def _fit(
        self,
        work: "Work",
        rows: TrainRows,
        output_dir: Path,
        rng_seed: int,
        progress: Callable[[int, int, str], None] | None,
    ) -> "Outcome":
        from transformers import set_seed

        from backends.train._attach import attach
        from backends.train._fit import Job, fit
        from backends.train._model import chosen_device, is_bf16, load_model, load_whole

        training = self.config
        device = chosen_device(training.device)
        place = resolve(training.model)
        set_seed(rng_seed % 2**32)  # before the adapter's own random start
        model = load_model(place, training, device=device, download=training.download)
        reference = None
        if training.adapter.kind == "full":
            if training.method == "dpo":
                reference = load_model(place, training, device=device, download=training.download)
        else:
            with quiet_loading():
                model = attach(
                    model,
                    training.adapter,
                    work.made,
                    max_length=training.max_length,
                    whole=lambda: load_whole(place, download=training.download),
                )
        job = Job(
            training=training,
            output_dir=output_dir,
            rng_seed=rng_seed,
            device=device,
            bf16=is_bf16(training, device),
            micro_batch=self._micro_batch(),
            checkpointing=self._checkpointing(device),
            checkpoint_steps=training.checkpoint_steps,
            threads=training.threads or _threads(model.num_parameters()),
            ids=rows.ids,
            preflight=work.report,
            progress=progress,
        )
        return fit(job, model, reference, work.tokenizer, work.made)

    def _checkpointing(self, device: str) -> bool:
        wanted = self.config.gradient_checkpointing
        return device != "cpu" if wanted is None else wanted

    def _micro_batch(self) -> int:
        return divisor(self.config.batch_examples, self.config.micro_batch)


def _warn(report: "Preflight", progress: Callable[[int, int, str], None] | None) -> None:
    try:
        for warning in report.warnings if progress else ():
            progress(0, report.steps, warning)
    except KeyboardInterrupt as error:
        raise Stopped("training stopped before its first step; run it again to begin") from error


def _threads(parameters: int) -> int:
    """One thread for small models: two gain nothing there, and on a busy machine their waiting made a step 12x slower."""
    import torch

    return 1 if parameters < 10_000_000 else torch.get_num_threads()
