"""From rows to checked tokens: tokenizer, template, ids, masks and the pre-flight report; no weights are loaded."""

from dataclasses import dataclass
from typing import Any

from backends.quiet import call_home_off, quiet_loading
from backends.train._four_bits import BYTES_PER_WEIGHT, FOUR_BITS, warnings_of
from backends.train._model import load_tokenizer
from backends.train._preflight import ModelSize, Preflight, report
from backends.train._rows import TrainRows
from backends.train._tokens import Pairs, Sequences, pairs, sequences, set_template
from backends.weights import ModelPlace, resolve
from schemas.errors import UsageError
from schemas.training import Adapter, Training


@dataclass(frozen=True)
class Work:
    """Everything that a run needs before weights enter."""

    tokenizer: Any
    made: Sequences | Pairs
    report: Preflight


def prepare(
    training: Training,
    rows: TrainRows,
    *,
    micro_batch: int,
    checkpointing: bool,
    download: bool,
    device: str,
    bf16: bool,
) -> Work:
    """Tokenizes and checks; raises ``UsageError`` and ``GateClosed`` before anything is spent."""
    call_home_off()
    if training.method == "dpo" and rows.pairs < len(rows):
        raise UsageError(
            f"dpo needs a worse answer in every example, and {len(rows) - rows.pairs} of {len(rows)} have none; "
            "filter them out or use `method: sft`"
        )
    place = resolve(training.model)
    tokenizer = load_tokenizer(place, download=download)
    template = set_template(tokenizer, training.chat_template)
    made = pairs(tokenizer, rows) if training.method == "dpo" else sequences(tokenizer, rows, training.loss_on)
    size = size_on_paper(
        place, training, micro_batch=micro_batch, checkpointing=checkpointing, download=download, bf16=bf16
    )
    noted = warnings_of(training, device)
    found = report(training, rows, made, tokenizer, template=template, model_size=size, noted=noted)
    return Work(tokenizer, made, found)


def size_on_paper(
    place: ModelPlace, training: Training, *, micro_batch: int, checkpointing: bool, download: bool, bf16: bool
) -> ModelSize:
    """The model's sizes from its config alone; trainable weights as LoRA counts them: rank x (in + out) per matrix."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet_loading(), torch.device("meta"):
        config = AutoConfig.from_pretrained(
            place.source,
            revision=place.revision,
            local_files_only=place.is_local or not download,
            trust_remote_code=False,
        )
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    text = config.get_text_config()
    parameters = sum(p.numel() for p in model.parameters())
    full = training.adapter.kind == "full"
    width = 2 if bf16 and not full else 4
    packed = _packed(model) if training.adapter.kind in FOUR_BITS else 0
    weight_bytes = (packed * BYTES_PER_WEIGHT + (parameters - packed) * width) / parameters
    return ModelSize(
        parameters=parameters,
        trainable=parameters if full else _adapter_weights(model, training.adapter),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocabulary=text.vocab_size,
        weight_bytes=weight_bytes,
        value_bytes=2 if bf16 else 4,
        micro_batch=micro_batch,
        checkpointing=checkpointing,
    )


def _packed(model: Any) -> int:
    """Weights that a base in 4 bits packs: those of the linear layers; embeddings, head, norms and biases stay whole."""
    from torch import nn

    head = model.get_output_embeddings()
    return sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear) and m is not head)


def _adapter_weights(model: Any, adapter: Adapter) -> int:
    from torch import nn

    head = model.get_output_embeddings()
    wanted = (adapter.targets,) if isinstance(adapter.targets, str) else adapter.targets
    return sum(
        adapter.rank * (module.in_features + module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and (wanted == ("all-linear",) or name.rpartition(".")[2] in wanted)
    )
