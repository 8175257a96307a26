"""For LLaMA-Factory (`llamafactory-cli train config.yaml`): a sharegpt dataset with its `dataset_info.json`, and the YAML.

Its `openai` format is not used: it would add "detailed thinking off" to every system prompt.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

from backends.train._rows import TrainRows
from backends.train._words import (
    Target,
    bf16,
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
from schemas.errors import UsageError
from schemas.training import Training

_NAME = "LLaMA-Factory"
_KINDS = {kind: "lora" for kind in ("lora", "qlora", "dora", "rslora", "pissa")} | {"full": "full", "oft": "oft"}
_ASKING, _ANSWERING = ("user", "observation"), ("assistant", "function_call")
_BETWEEN = "\n</tool_response>\n<tool_response>\n"  # how it joins the results of several calls


def llama_factory_rows(training: Training, rows: TrainRows) -> Iterator[dict[str, Any]]:
    """Its turns: role and content, in turn asking and answering. ``UsageError`` where it would skip an example."""
    made: list[dict[str, Any]] = [{**row, "messages": _turns(row["messages"])} for row in whole_rows(training, rows)]
    bad = [rows.ids[i] for i, row in enumerate(made) if not _alternate(row["messages"], training.method == "dpo")]
    refuse_rows(bad, _NAME, "whose turns do not alternate between user and assistant", "filter them out before")
    hidden = [
        rows.ids[i]
        for i, turns in enumerate(rows.messages)
        if any(turn.get("reasoning_content") or turn.get("thinking") for turn in turns)
    ]
    refuse_rows(hidden, _NAME, "rather the reasoning kept beside their answers", "write it into the answers")
    for row in made:
        yield {**row, **{side: _turns([row[side]])[0] for side in ("chosen", "rejected") if side in row}}


def dataset_info(training: Training, rows: TrainRows, file_name: str) -> dict[str, Any]:
    """The entry of ``dataset_info.json``. A column is named only where rows have it: a missing one is a KeyError there."""
    columns = {"messages": "messages"}
    if any(rows.tools):
        columns["tools"] = "tools"
    if training.method == "dpo":
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        "ranking": training.method == "dpo",
        "columns": columns,
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "observation_tag": "observation",
            "function_tag": "function_call",
            "system_tag": "system",
        },
    }


def llama_factory_config(training: Training, target: Target) -> dict[str, Any]:
    """The YAML. Without ``template`` it reads the one in the model's tokenizer."""
    kind = kind_of(training, _NAME, _KINDS)
    no_template_file(training, _NAME)
    named, dpo = training.adapter.kind, training.method == "dpo"
    if dpo and named == "pissa":
        raise UsageError("LLaMA-Factory cannot start from PiSSA in dpo; use `adapter: lora`, or `backend: trl`")
    if training.packing != "none" and training.order == "sequential":
        raise UsageError("LLaMA-Factory packs by length, which breaks a curriculum; use packing 'none'")
    model = model_name(training, "model_revision")
    modules = ",".join(targets(training)) or "all"
    return {
        "model_name_or_path": model.pop("name"),
        **model,
        "trust_remote_code": False,
        "stage": training.method,
        "do_train": True,
        "finetuning_type": kind,
        **(
            {**lora(training, "lora_rank", "lora_alpha", "lora_dropout"), "lora_target": modules}
            if kind == "lora"
            else {}
        ),
        **_oft(training, modules),
        **({"use_dora": True} if named == "dora" else {}),
        **({"use_rslora": True} if named == "rslora" else {}),
        **({"pissa_init": True, "pissa_convert": True} if named == "pissa" else {}),
        **({"quantization_bit": 4, "quantization_method": "bnb"} if named == "qlora" else {}),
        **({"pref_beta": training.dpo_beta, "pref_loss": "sigmoid"} if dpo else {}),
        "dataset": "provender",
        "dataset_dir": str(target.data.parent),
        **({"template": "chatml"} if training.chat_template == "chatml" else {}),
        "cutoff_len": training.max_length,
        **({} if dpo else _learned(training)),
        "disable_shuffling": training.order == "sequential",
        "output_dir": str(target.output),
        "per_device_train_batch_size": target.micro_batch,
        "gradient_accumulation_steps": training.batch_examples // target.micro_batch,
        "learning_rate": training.peak_rate,
        **length_of(training, "max_steps", "num_train_epochs"),
        "lr_scheduler_type": scheduler(training),
        "warmup_ratio": training.warmup_fraction,
        "weight_decay": training.weight_decay,
        "max_grad_norm": training.max_grad_norm,
        "bf16": bf16(training),
        "seed": target.rng_seed,
        "report_to": "none",
    }


def _learned(training: Training) -> dict[str, bool]:
    return {
        "train_on_prompt": training.loss_on == "all",
        "mask_history": training.loss_on == "last-turn",
        "packing": training.packing != "none",
        "neat_packing": training.packing in ("bfd", "bfd_split"),  # no example sees its neighbor
    }


def _oft(training: Training, modules: str) -> dict[str, Any]:
    """In OFT the rank is the block size, and its own rank then stays open."""
    if training.adapter.kind != "oft":
        return {}
    return {
        "oft_rank": 0,
        "oft_block_size": training.adapter.rank,
        "module_dropout": training.adapter.dropout,
        "oft_target": modules,
    }


def _turns(messages: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    turns: list[dict[str, str]] = []
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "assistant" and message.get("tool_calls"):
            role, content = "function_call", json.dumps([_call(c) for c in message["tool_calls"]], ensure_ascii=False)
        elif role == "tool":
            role = "observation"
            if turns and turns[-1]["role"] == role:
                turns[-1]["content"] += _BETWEEN + content
                continue
        turns.append({"role": role, "content": content})
    return turns


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """Name and arguments of a call; arguments as an object, also where they are JSON text."""
    function = call.get("function", call)
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        with contextlib.suppress(ValueError):  # no JSON: it stays the text it was
            arguments = json.loads(arguments)
    return {"name": function.get("name", ""), "arguments": arguments}


def _alternate(turns: Sequence[dict[str, str]], is_prompt: bool) -> bool:
    """Whether the turns after a system prompt are asking, answering, …, and end as they must: a prompt on asking."""
    roles = [turn["role"] for turn in turns]
    roles = roles[1:] if roles[:1] == ["system"] else roles
    fits = all(role in (_ANSWERING if k % 2 else _ASKING) for k, role in enumerate(roles))
    return fits and bool(roles) and len(roles) % 2 == (1 if is_prompt else 0)
