"""For ms-swift (`swift sft config.yaml`, or `swift rlhf config.yaml` for preference pairs)."""

from collections.abc import Iterator
from typing import Any

from backends.train._rows import TrainRows
from backends.train._words import (
    Target,
    kind_of,
    length_of,
    lora,
    model_name,
    no_template_file,
    refuse_rows,
    scheduler,
    targets,
    whole_rows,
)
from schemas.training import Training

_KINDS = {kind: "lora" for kind in ("lora", "qlora", "dora", "rslora", "pissa", "olora")} | {
    "full": "full",
    "vera": "vera",
}
_LOSS = {"assistant": "default", "last-turn": "last_round", "all": "all"}


def swift_rows(training: Training, rows: TrainRows) -> Iterator[dict[str, Any]]:
    """Messages; of a pair the conversation with the better answer, and the other as ``rejected_response``."""
    if training.method == "dpo":
        same = [
            rows.ids[i]
            for i, (messages, worse) in enumerate(zip(rows.messages, rows.worse, strict=True))
            if worse and messages and messages[-1]["content"] == worse[-1]["content"]
        ]
        refuse_rows(same, "ms-swift", "whose two answers are the same", "filter them out before")
    for row in whole_rows(training, rows):
        if training.method == "dpo":
            pair = {"messages": [*row["messages"], row["chosen"]], "rejected_response": row["rejected"]["content"]}
            row = {**pair, **({"tools": row["tools"]} if "tools" in row else {})}
        yield row


def swift_config(training: Training, target: Target) -> dict[str, Any]:
    """The YAML. Its chat templates belong to model types; where it cannot tell one, set ``model_type`` in ``settings``."""
    kind = kind_of(training, "ms-swift", _KINDS)
    no_template_file(training, "ms-swift")
    named, dpo, packed = training.adapter.kind, training.method == "dpo", training.packing != "none"
    sequential = training.order == "sequential"
    model = model_name(training, "model_revision")
    return {
        **({"rlhf_type": "dpo", "beta": training.dpo_beta} if dpo else {}),
        "model": model.pop("name"),
        **model,
        **({"template": "chatml"} if training.chat_template == "chatml" else {}),
        "tuner_type": kind,
        **(lora(training, "lora_rank", "lora_alpha", "lora_dropout") if kind == "lora" else {}),
        **({"vera_rank": training.adapter.rank, "vera_dropout": training.adapter.dropout} if kind == "vera" else {}),
        **({"target_modules": targets(training) or ["all-linear"]} if kind != "full" else {}),
        **({"use_dora": True} if named == "dora" else {}),
        **({"use_rslora": True} if named == "rslora" else {}),
        **({"init_weights": named} if named in ("pissa", "olora") else {}),
        **({"quant_method": "bnb", "quant_bits": 4} if named == "qlora" else {}),
        "dataset": [str(target.data)],
        "split_dataset_ratio": 0.0,
        "strict": True,  # a row it cannot read stops it instead of being left out
        "max_length": training.max_length,
        "truncation_strategy": "right",
        **({} if dpo else {"loss_scale": _LOSS[training.loss_on]}),  # a pair is compared on its last answer
        **({"packing": True, "packing_strategy": "sequential" if sequential else "binpack"} if packed else {}),
        "dataset_shuffle": not sequential,
        "train_dataloader_shuffle": not sequential,
        "output_dir": str(target.output),
        "add_version": False,
        "per_device_train_batch_size": target.micro_batch,
        "gradient_accumulation_steps": training.batch_examples // target.micro_batch,
        "learning_rate": training.peak_rate,
        **length_of(training, "max_steps", "num_train_epochs"),
        "lr_scheduler_type": scheduler(training),
        "warmup_ratio": training.warmup_fraction,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        **({} if training.precision == "auto" else {"torch_dtype": _DTYPES[training.precision]}),
        "seed": target.rng_seed,
        "data_seed": target.rng_seed,
        "report_to": ["none"],
        "use_hf": True,
    }


_DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
