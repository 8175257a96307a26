"""Puts an adapter on a model, with the calibration that some kinds need, and saves it for the plain base model."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from backends.train._adapters import peft_config
from backends.train._loftq import start as loftq_start
from backends.train._tokens import Pairs, Sequences
from schemas.errors import UsageError
from schemas.training import Adapter

#: Kinds that move part of the base weights into the adapter at the start (LoftQ: what quantizing took from them). What
#: is saved is the difference to that start, an ordinary LoRA of twice the rank, because nobody else has the moved base.
MOVES_BASE = frozenset({"pissa", "olora", "corda", "loftq"})
#: The folder beside it with the adapter that LoftQ trained, which makes up for the loss of a base in 4 bits.
ON_FOUR_BITS = "on-4-bits"


def attach(model: Any, adapter: Adapter, made: Sequences | Pairs, *, max_length: int, whole: Callable[[], Any]) -> Any:
    """The PEFT model. Its random start follows the seed that was set before; ``whole`` loads the model unquantized."""
    from peft import get_peft_model, initialize_lora_eva_weights

    if adapter.targets == "all-linear" and adapter.kind not in ("ia3", "ln-tuning"):
        adapter = adapter.model_copy(update={"targets": _linear_names(model)})
    config = peft_config(adapter)

    def calibration(together: int) -> list[dict[str, Any]]:
        return list(_batches(made, adapter.calibration_examples, max_length, model.device, together))

    try:
        if adapter.kind == "corda":
            from peft.tuners.lora.corda import preprocess_corda

            preprocess_corda(model, config, run_model=lambda: _run(model, calibration(1)))
        wrapped = get_peft_model(model, config)
    except (ValueError, RuntimeError) as error:
        raise UsageError(
            f"adapter {adapter.kind!r} does not fit this model: {str(error).splitlines()[0]}; "
            "change its rank or targets, or use another kind"
        ) from error
    if adapter.kind == "eva":
        initialize_lora_eva_weights(wrapped, calibration(4), show_progress_bar=False)
    if adapter.kind == "loftq":
        loftq_start(wrapped, whole())
    return wrapped


def keep_start(model: Any, adapter: Adapter, folder: Path) -> Path | None:
    """Saves the untrained adapter of a kind that moves base weights; the trained one is expressed against it."""
    if adapter.kind not in MOVES_BASE:
        return None
    start = folder / "adapter-start"
    settings = model.peft_config["default"]
    kept, settings.init_lora_weights = settings.init_lora_weights, True  # a plain LoRA, to whoever loads it
    model.save_pretrained(start)
    settings.init_lora_weights = kept
    return start


def save_against(model: Any, adapter: Adapter, folder: Path, start: Path) -> None:
    """Saves the adapter as a LoRA for the untouched base model; LoftQ's also as it is, for the base in 4 bits."""
    if adapter.kind == "loftq":
        beside = folder / ON_FOUR_BITS
        model.save_pretrained(beside, selected_adapters=["default"])
        (beside / "README.md").unlink(missing_ok=True)  # PEFT's form without facts; our card speaks of this folder
    model.peft_config["default"].corda_config = None  # it was used up at the start
    model.save_pretrained(folder, selected_adapters=["default"], path_initial_model_for_weight_conversion=str(start))


def _linear_names(model: Any) -> tuple[str, ...]:
    """Last names of the linear layers, without the output head."""
    from torch import nn

    head = model.get_output_embeddings()
    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if module is not head and (isinstance(module, nn.Linear) or "Linear" in type(module).__name__)
    }
    return tuple(sorted(names))


def _batches(
    made: Sequences | Pairs, count: int, max_length: int, device: Any, together: int
) -> Iterator[dict[str, Any]]:
    """The first examples, ``together`` at a time, as model inputs: what EVA and CorDA look at."""
    import torch

    rows: Sequence[Any]
    if isinstance(made, Sequences):
        rows = [ids[:max_length].tolist() for ids in made.ids[:count]]
    else:
        rows = [[*p, *c][:max_length] for p, c in zip(made.prompt[:count], made.chosen[:count], strict=True)]
    rows = [row for row in rows if row]
    for k in range(0, len(rows), together):
        group = rows[k : k + together]
        width = max(map(len, group))
        yield {
            "input_ids": torch.tensor([row + [0] * (width - len(row)) for row in group], device=device),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in group], device=device),
        }


def _run(model: Any, calibration: Sequence[dict[str, Any]]) -> None:
    import torch

    model.eval()
    with torch.no_grad():
        for batch in calibration:
            model(**batch)
