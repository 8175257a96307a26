"""For axolotl (`axolotl train config.yaml`): a chat_template dataset, or `rl: dpo` with chosen and rejected messages."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backends.train._rows import TrainRows
from backends.train._words import Target, kind_of, length_of, lora, model_name, scheduler, targets, whole_rows
from schemas.training import Training

#: Not PiSSA and OLoRA, which it could start from: what it saves then fits weights that nobody else has.
_KINDS = {"full": None, "lora": "lora", "qlora": "qlora", "dora": "lora", "rslora": "lora"}


def axolotl_rows(training: Training, rows: TrainRows) -> Iterator[dict[str, Any]]:
    """Messages; where only the last turn is learned, each says so by ``train``."""
    for row in whole_rows(training, rows):
        if training.method == "sft" and training.loss_on == "last-turn":
            last = max((k for k, m in enumerate(row["messages"]) if m["role"] == "assistant"), default=-1)
            row = {**row, "messages": [{**m, "train": k == last} for k, m in enumerate(row["messages"])]}
        yield row


def axolotl_config(training: Training, target: Target) -> dict[str, Any]:
    """The YAML. Too long rows are cut, not dropped (axolotl's default); a curriculum is neither shuffled nor repacked."""
    adapter = kind_of(training, "axolotl", _KINDS)
    model = model_name(training, "revision_of_model")
    kind, dpo, packed = training.adapter.kind, training.method == "dpo", training.packing != "none"
    sequential = training.order == "sequential"
    return {
        "base_model": model.pop("name"),
        **model,
        **({"rl": "dpo", "rl_beta": training.dpo_beta} if dpo else {}),
        "datasets": [_dataset(training, target)],
        **_template(training),
        "val_set_size": 0.0,
        "output_dir": str(target.output),
        **({"adapter": adapter} if adapter else {}),
        **(lora(training, "lora_r", "lora_alpha", "lora_dropout") if adapter else {}),
        **({"lora_target_linear": True} if adapter and not targets(training) else {}),
        **({"lora_target_modules": targets(training)} if adapter and targets(training) else {}),
        **({"peft_use_dora": True} if kind == "dora" else {}),
        **({"peft_use_rslora": True} if kind == "rslora" else {}),
        **({"load_in_4bit": True} if adapter == "qlora" else {}),
        "sequence_len": training.max_length,
        "excess_length_strategy": "truncate",
        "sample_packing": packed,
        **({"pad_to_sequence_len": True} if packed else {}),
        **({"sample_packing_sequentially": True} if packed and sequential else {}),
        "curriculum_sampling": sequential,
        "shuffle_merged_datasets": not sequential,
        "micro_batch_size": target.micro_batch,
        "gradient_accumulation_steps": training.batch_examples // target.micro_batch,
        **length_of(training, "max_steps", "num_epochs"),
        "learning_rate": training.peak_rate,
        "lr_scheduler": scheduler(training),
        "warmup_ratio": training.warmup_fraction,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "optimizer": "adamw_torch",
        "bf16": {"auto": "auto", "bf16": True, "fp32": False}[training.precision],
        "seed": target.rng_seed,
    }


def _dataset(training: Training, target: Target) -> dict[str, Any]:
    names = {"path": str(target.data), "ds_type": "json", "split": "train", "field_messages": "messages"}
    if training.method == "dpo":
        return {**names, "type": "chat_template.default", "field_chosen": "chosen", "field_rejected": "rejected"}
    learned: dict[str, Any] = {"roles_to_train": ["assistant"], "train_on_eos": "turn"}
    if training.loss_on == "last-turn":
        learned["message_field_training"] = "train"
    if training.loss_on == "all":  # every turn's words; what the template writes between turns is not learned there
        learned = {"roles_to_train": ["system", "user", "assistant", "tool"], "train_on_eos": "all"}
    return {**names, "type": "chat_template", **_template(training), **learned}


def _template(training: Training) -> dict[str, str]:
    if training.chat_template == "model":
        return {"chat_template": "tokenizer_default"}
    if training.chat_template == "chatml":
        return {"chat_template": "chatml"}
    return {"chat_template": "jinja", "chat_template_jinja": str(Path(training.chat_template).resolve())}
