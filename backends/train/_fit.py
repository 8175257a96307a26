"""One fine-tuning run through TRL: rows to weights, resumable, with the order it really trained in."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from backends.cpu import cpu_threads
from backends.quiet import quiet
from backends.train._attach import keep_start, save_against
from backends.train._preflight import Preflight
from backends.train._tokens import Pairs, Sequences
from schemas.errors import Stopped
from schemas.training import Training

#: How many of the first forward passes are written down with the ids they saw.
RECORDED = 50
#: The last file of a checkpoint to be written: what these passes saw so far.
_ORDER = "first_batches.json"


@dataclass(frozen=True)
class Job:
    """All that a run needs once model and tokens are there. ``ids`` are the examples' hex ids, in dataset order."""

    training: Training
    output_dir: Path
    rng_seed: int
    device: str
    bf16: bool
    micro_batch: int
    checkpointing: bool
    checkpoint_steps: int
    threads: int
    ids: Sequence[str]
    preflight: Preflight
    progress: Callable[[int, int, str], None] | None = None


@dataclass
class Outcome:
    """What happened: one history entry per logged step, and which examples the first forward passes saw."""

    history: list[Mapping[str, float]] = field(default_factory=list)
    first_batches: list[list[str]] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    resumed_from: int = 0


def fit(job: Job, model: Any, reference: Any, tokenizer: Any, made: Sequences | Pairs) -> Outcome:
    """Trains, continuing from the newest complete checkpoint in the output folder, and saves safetensors there.

    Raises ``Stopped`` on Ctrl-C; what the last checkpoint holds is kept.
    """
    start = newest_checkpoint(job.output_dir)
    begin = keep_start(model, job.training.adapter, job.output_dir)
    with quiet(), cpu_threads(job.threads):
        trainer, order = _trainer(job, model, reference, tokenizer, made)
        if start:
            order.restore(start)
        begun = time.monotonic()
        try:
            trainer.train(resume_from_checkpoint=str(start) if start else None)
        except KeyboardInterrupt as error:
            kept = newest_checkpoint(job.output_dir)
            raise Stopped(
                f"training stopped at step {trainer.state.global_step} of {trainer.state.max_steps}; run it again to go on "
                f"from {'step ' + kept.name.partition('-')[2] if kept else 'the beginning'}"
            ) from error
        seconds = time.monotonic() - begun
        trainer.save_model(str(job.output_dir))
        if begin:
            save_against(model, job.training.adapter, job.output_dir, begin)
    _tidy(job.output_dir)
    return Outcome(
        history=[entry for entry in map(_numbers, trainer.state.log_history) if "loss" in entry],
        first_batches=[[job.ids[row] for row in rows] for rows in order.batches],
        seconds=seconds,
        steps=trainer.state.global_step,
        resumed_from=int(start.name.partition("-")[2]) if start else 0,
    )


def newest_checkpoint(output_dir: Path) -> Path | None:
    """The checkpoint with the most steps whose state and order are whole; a kill while saving leaves one without."""
    found = [(int(p.name.partition("-")[2]), p) for p in output_dir.glob("checkpoint-*") if p.name[11:].isdigit()]
    for _, path in sorted(found, reverse=True):
        try:
            for name in ("trainer_state.json", _ORDER):
                json.loads((path / name).read_text())
        except (OSError, ValueError):  # torn by a kill: the one before it is used
            continue
        return path
    return None


def forget_checkpoints(output_dir: Path) -> None:
    """Removes the checkpoints of a run in this folder, and nothing else."""
    for path in output_dir.glob("checkpoint-*"):
        if path.name[11:].isdigit():
            shutil.rmtree(path)


def _tidy(output_dir: Path) -> None:
    """Checkpoints hold optimizer state that torch can only pickle, and so do the saved arguments: both go at the end."""
    forget_checkpoints(output_dir)
    shutil.rmtree(output_dir / "adapter-start", ignore_errors=True)
    shutil.rmtree(
        output_dir / "ref", ignore_errors=True
    )  # TRL's copy of the untrained adapter, which DPO compares with
    (output_dir / "training_args.bin").unlink(missing_ok=True)


def _numbers(entry: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in entry.items() if isinstance(value, int | float)}


class _Order:
    """Stands before the data collator and writes down which rows each forward pass saw."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], Any], per_step: int) -> None:
        self._collate = collate
        self._per_step = per_step
        self.batches: list[list[int]] = []

    def __call__(self, examples: list[dict[str, Any]]) -> Any:
        rows = [example.pop("row") for example in examples]
        if len(self.batches) < RECORDED:
            seen = [row for entry in rows for row in (entry if isinstance(entry, list | np.ndarray) else [entry])]
            self.batches.append([int(row) for row in dict.fromkeys(seen)])
        return self._collate(examples)

    def keep(self, checkpoint: Path, steps: int) -> None:
        """What was trained so far; the loader has already fetched one batch more."""
        done = self.batches[: steps * self._per_step]
        (checkpoint / _ORDER).write_text(json.dumps(done))

    def restore(self, checkpoint: Path) -> None:
        """Goes on after what the checkpoint had seen."""
        self.batches = json.loads((checkpoint / _ORDER).read_text())


def _trainer(job: Job, model: Any, reference: Any, tokenizer: Any, made: Sequences | Pairs) -> tuple[Any, _Order]:
    from transformers import PrinterCallback, TrainerCallback

    whole = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    trainer = (
        _sft(job, model, tokenizer, made)
        if isinstance(made, Sequences)
        else _dpo(job, model, reference, tokenizer, made)
    )
    for name, parameter in model.named_parameters():
        if name in whole and parameter.dtype != whole[name].dtype:
            # TRL rounds adapters over 4-bit weights to bf16, where small updates are lost
            parameter.data = whole[name].to(parameter.device)
    trainer.create_model_card = lambda *_args, **_kwargs: None  # ours is written at the end, with the dataset in it
    trainer.remove_callback(PrinterCallback)
    trainer._set_signature_columns_if_needed()
    trainer._signature_columns = [*trainer._signature_columns, "row"]
    order = _Order(trainer.data_collator, per_step=job.training.batch_examples // job.micro_batch)
    trainer.data_collator = order

    class Watch(TrainerCallback):
        """Tells the progress and keeps the order beside each checkpoint."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if job.progress and logs and "loss" in logs:
                job.progress(state.global_step, state.max_steps, f"loss {float(logs['loss']):.3f}")

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            order.keep(job.output_dir / f"checkpoint-{state.global_step}", state.global_step)

    trainer.add_callback(Watch())
    return trainer, order


def _sft(job: Job, model: Any, tokenizer: Any, made: Sequences) -> Any:
    from trl import SFTConfig, SFTTrainer

    training, cut = job.training, job.training.max_length
    packed = training.packing != "none"
    data = _sft_data(made, cut=None if packed else cut, per_token_rows=packed)
    if packed:
        from trl import pack_dataset

        if training.order == "shuffled":
            data = data.shuffle(seed=job.rng_seed % 2**32)
        data = pack_dataset(data, cut, training.packing)
    args = SFTConfig(
        **_common(job),
        max_length=cut,
        packing=packed,
        packing_strategy=training.packing if packed else "bfd",
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    return SFTTrainer(model=model, args=_one_device(args), train_dataset=data, processing_class=tokenizer)


def _sft_data(made: Sequences, *, cut: int | None, per_token_rows: bool) -> Any:
    """Rows that still have something to learn after the cut; ``row`` is the position in the dataset."""
    from datasets import Dataset

    columns: dict[str, list[Any]] = {"input_ids": [], "labels": [], "row": []}
    for i, (ids, mask) in enumerate(zip(made.ids, made.mask, strict=True)):
        if not mask[1:cut].any():
            continue
        columns["input_ids"].append(ids[:cut])
        columns["labels"].append(np.where(mask[:cut] == 1, ids[:cut], -100))
        columns["row"].append(np.full(len(ids), i) if per_token_rows else i)
    return Dataset.from_dict(columns)


def _dpo(job: Job, model: Any, reference: Any, tokenizer: Any, made: Pairs) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class TokenizedDPO(DPOTrainer):
        """Takes rows that are tokenized already: the ones that the pre-flight report looked at."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    cut = job.training.max_length
    fits = [i for i, prompt in enumerate(made.prompt) if len(prompt) < cut]
    data = Dataset.from_dict(
        {
            "prompt_ids": [made.prompt[i] for i in fits],
            "chosen_ids": [made.chosen[i] for i in fits],
            "rejected_ids": [made.worse[i] for i in fits],
            "row": fits,
        }
    )
    args = DPOConfig(**_common(job), max_length=cut, beta=job.training.dpo_beta)
    return TokenizedDPO(
        model=model, ref_model=reference, args=_one_device(args), train_dataset=data, processing_class=tokenizer
    )


def _common(job: Job) -> dict[str, Any]:
    training, steps = job.training, job.preflight.steps
    return {
        "output_dir": str(job.output_dir),
        "num_train_epochs": training.epochs,
        "max_steps": training.max_steps or -1,
        "per_device_train_batch_size": job.micro_batch,
        "gradient_accumulation_steps": training.batch_examples // job.micro_batch,
        "learning_rate": training.peak_rate,
        "lr_scheduler_type": training.schedule if training.schedule != "constant" else "constant_with_warmup",
        "warmup_steps": round(training.warmup_fraction * steps),
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "train_sampling_strategy": "sequential" if training.order == "sequential" else "random",
        "seed": job.rng_seed % 2**32,
        "data_seed": job.rng_seed % 2**32,
        "bf16": job.bf16,
        "use_cpu": job.device == "cpu",
        "gradient_checkpointing": job.checkpointing,
        "dataloader_pin_memory": job.device != "cpu",
        "logging_steps": max(1, steps // 200),
        "logging_first_step": True,
        "save_strategy": "steps" if job.checkpoint_steps else "no",
        "save_steps": job.checkpoint_steps or 500,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        "push_to_hub": False,
    }


def _one_device(args: Any) -> Any:
    """With several GPUs in sight and no launcher TRL refuses; one process trains on one device."""
    if args.n_gpu > 1:
        args._n_gpu = 1
    return args
