"""For open-instruct: `finetune.py config.yaml` for SFT, `dpo_tune_cache.py config.yaml` for preference pairs.

The two take other names for the same thing (`dataset_mixer_list` and `mixer_list`, `num_train_epochs` and `num_epochs`).
"""

from collections.abc import Iterator
from typing import Any

from backends.train._rows import TrainRows
from backends.train._words import Target, kind_of, lora, model_name, scheduler, targets, whole_rows
from schemas.errors import UsageError
from schemas.training import Training

_NAME = "open-instruct"
_TRANSFORMS = {
    "assistant": "sft_tulu_tokenize_and_truncate_v1",
    "last-turn": "last_turn_tulu_tokenize_and_truncate_v1",
}


def open_instruct_rows(training: Training, rows: TrainRows) -> Iterator[dict[str, Any]]:
    """Messages; both sides of a pair are whole conversations."""
    for row in whole_rows(training, rows):
        if training.method == "dpo":
            asked = row["messages"]
            row = {"chosen": [*asked, row["chosen"]], "rejected": [*asked, row["rejected"]]}
        yield row


def open_instruct_config(training: Training, target: Target) -> dict[str, Any]:
    """The YAML. What would leave the machine (hub, tracking, evaluation jobs of its makers) is off."""
    kind = kind_of(training, _NAME, {"full": None, "lora": "lora", "qlora": "qlora"})
    _offered(training)
    model = model_name(training, "model_revision")
    dpo, name = training.method == "dpo", model.pop("name")
    revision = {"tokenizer_revision": model["model_revision"]} if "model_revision" in model else {}
    return {
        "model_name_or_path": name,
        **model,
        "tokenizer_name_or_path": name,
        **revision,
        "chat_template_name": name,  # by default it is "tulu"; what it has no template of stands for the tokenizer's own
        **({"use_lora": True} if kind else {}),
        **({"use_qlora": True} if kind == "qlora" else {}),
        **(lora(training, "lora_rank", "lora_alpha", "lora_dropout") if kind else {}),
        **(_pairs(training, target) if dpo else _answers(training, target)),
        "max_seq_length": training.max_length,
        "packing": training.packing != "none",
        "output_dir": str(target.output),
        "do_not_randomize_output_dir": True,
        "per_device_train_batch_size": target.micro_batch,
        "gradient_accumulation_steps": training.batch_examples // target.micro_batch,
        "learning_rate": training.peak_rate,
        **({"max_train_steps": training.max_steps} if training.max_steps else {}),
        "lr_scheduler_type": scheduler(training),
        "warmup_ratio": training.warmup_fraction,
        "weight_decay": training.weight_decay,
        "seed": target.rng_seed,
        "push_to_hub": False,
        "try_launch_beaker_eval_jobs": False,  # it refuses these without the hub
        "try_auto_save_to_beaker": False,
        "with_tracking": False,
    }


def _answers(training: Training, target: Target) -> dict[str, Any]:
    return {
        "dataset_mixer_list": [str(target.data), "1.0"],
        "dataset_transform_fn": [_TRANSFORMS[training.loss_on], "sft_tulu_filter_v1"],
        "dataset_local_cache_dir": str(target.data.parent / "cache"),
        "num_train_epochs": max(1, round(training.epochs)),
        "clip_grad_norm": training.max_grad_norm,
    }


def _pairs(training: Training, target: Target) -> dict[str, Any]:
    return {
        "mixer_list": [str(target.data), "1.0"],
        "local_cache_dir": str(target.data.parent / "cache"),
        "beta": training.dpo_beta,
        "loss_type": "dpo",
        "num_epochs": max(1, round(training.epochs)),
        "max_grad_norm": training.max_grad_norm,
    }


def _offered(training: Training) -> None:
    if training.order == "sequential":
        raise UsageError("open-instruct shuffles its data; use `order: shuffled`, or `backend: trl` for a curriculum")
    if training.method == "sft" and training.loss_on not in _TRANSFORMS:
        raise UsageError(
            "open-instruct learns answers only; use `loss_on: assistant` or `last-turn`, or `backend: trl`"
        )
    if training.chat_template != "model":
        raise UsageError(
            f"open-instruct has chat templates of its own names, not {training.chat_template!r}; leave `chat_template: model`, "
            "and name one of its own by `settings: {chat_template_name: …}`"
        )
    if training.max_steps is None and training.epochs != round(training.epochs):
        raise UsageError(f"open-instruct counts whole epochs, not {training.epochs:g}; give `max_steps`")
    if targets(training) and training.adapter.kind != "full":
        raise UsageError("open-instruct chooses the adapter's modules itself; leave `targets: all-linear`")
