"""The model card: what the weights are, what they were trained on, how to load them. Facts only."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backends.train._attach import ON_FOUR_BITS
from backends.train._four_bits import AS_TRAINED
from schemas.training import Training

_LOAD_ADAPTER = """\
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

folder = "."  # the folder that holds this card
model = AutoPeftModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
chat = tokenizer.apply_chat_template(
    [{"role": "user", "content": "Name a color."}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
reply = model.generate(**chat, max_new_tokens=32, do_sample=False)
print(tokenizer.decode(reply[0, chat["input_ids"].shape[1]:], skip_special_tokens=True))
"""

_LOAD_FULL = (
    _LOAD_ADAPTER.replace("from peft import AutoPeftModelForCausalLM\n", "")
    .replace("from transformers import AutoTokenizer", "from transformers import AutoModelForCausalLM, AutoTokenizer")
    .replace("AutoPeftModelForCausalLM", "AutoModelForCausalLM")
)


#: For whoever has no memory for the whole base: ``at`` is the folder with the adapter that was trained on 4 bits.
_LOAD_PACKED = """\
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

base = "{base}"  # the base model, as a folder or its name on the hub
packed = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, quantization_config=packed), "{at}")
"""


def write_card(output_dir: Path, known: Mapping[str, Any], training: Training) -> None:
    """Writes ``README.md`` from what ``training.json`` will say (see `_record.record`)."""
    (output_dir / "README.md").write_text(card(known, training, base_license(training.model)), encoding="utf-8")


def base_license(model: str) -> str | None:
    """The licence that the base model's own card states in its front matter; None where it states none."""
    readme = Path(model) / "README.md"
    if model == "sprout":
        readme = Path(__file__).resolve().parents[2] / "models" / "sprout" / "README.md"
    if not readme.is_file():
        return None
    lines = readme.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        if line.strip() == "---":
            return None
        if line.startswith("license:"):
            return line.partition(":")[2].strip().strip("'\"") or None
    return None


def card(known: Mapping[str, Any], training: Training, license_of_base: str | None) -> str:
    """The card as Markdown with the hub's front matter. Names from data stand in code spans, so that they stay text."""
    full = training.adapter.kind == "full"
    base = _public_name(training.model)
    front = {
        "library_name": "transformers" if full else "peft",
        "pipeline_tag": "text-generation",
        "tags": ["provender", known.get("trained_by", "trl"), training.method, training.adapter.kind],
    }
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in front.items()), "---", ""]
    lines += [f"# {'Model' if full else 'Adapter'} fine-tuned from {_code(base)}", ""]
    lines += ["## Trained on", "", *_table(_dataset_facts(known)), ""]
    lines += ["Examples per source and per licence, as the dataset states them:", ""]
    lines += [*_table(known["sources"].items(), ("source", "examples")), ""]
    lines += [*_table(known["licenses"].items(), ("licence", "examples")), ""]
    lines += [f"Base model: {_code(base)}, licence {_code(license_of_base or 'not stated')}.", ""]
    lines += ["## How", "", *_table(_method_facts(training, known)), ""]
    lines += ["## Figures of the run", "", *_table(_figures(known["metrics"])), ""]
    lines += [
        "These are figures on the training data. They say nothing about other data; see `provender evaluate`.",
        "",
    ]
    warnings = known.get("preflight", {}).get("warnings", [])
    if warnings:
        lines += ["Noted before training:", "", *(f"- {warning}" for warning in warnings), ""]
    if known.get("has_weights", True):
        lines += ["## Load it", "", "```python", (_LOAD_FULL if full else _LOAD_ADAPTER).rstrip(), "```", ""]
        if "base_held_in" in known:
            lines += _packed(training)
    held = "the loss curve, the ids of the first batches and all settings"
    if "first_batches" not in known:  # another program trained: which examples it saw when, it did not say
        held = "the losses that were found and all settings; `prepared/` what the trainer was given"
    lines += [f"`training.json` beside this card holds {held}.", ""]
    return "\n".join(lines)


def _packed(training: Training) -> list[str]:
    """How the base was held while the adapter was trained, what that means for who loads it, and how to load it so."""
    said = (
        f"The base was held in {AS_TRAINED} while this adapter was trained. The lines above lay it over the base in the "
        "precision of its files, as `provender evaluate` does; its figures are of that model."
    )
    at = "."
    if training.adapter.kind == "loftq":
        at = ON_FOUR_BITS
        said += (
            " LoftQ starts from what makes up for quantizing, so the adapter that was trained is only right over the base in "
            f"4 bits; it lies in `{at}`. The one beside this card is its difference to that start, of twice the rank."
        )
    base = "".join(c for c in _public_name(training.model).partition("@")[0] if c.isalnum() or c in "._-/")
    return [
        said,
        "",
        "Over the base in 4 bits:",
        "",
        "```python",
        _LOAD_PACKED.format(base=base, at=at).rstrip(),
        "```",
        "",
    ]


def _dataset_facts(known: Mapping[str, Any]) -> list[tuple[str, Any]]:
    about = known["dataset"]
    facts = [
        ("dataset", about["dataset"] or "a loose file"),
        ("tag", about["tag"] or "none"),
        ("digest (SHA-256)", about["digest"]),
        ("recipe", about["recipe"] or "none"),
        ("gate", about["gate"]),
    ]
    if about["gate_reason"]:
        facts.append(("reason given for overriding the gate", about["gate_reason"]))
    if "preflight" not in known:  # another program tokenized
        return [*facts, ("examples", int(known["metrics"]["examples"]))]
    return [*facts, ("examples", known["preflight"]["examples"]), ("tokens", known["preflight"]["tokens"])]


def _method_facts(training: Training, known: Mapping[str, Any]) -> list[tuple[str, Any]]:
    adapter = training.adapter
    kind = adapter.kind if adapter.kind == "full" else f"{adapter.kind}, rank {adapter.rank}, alpha {adapter.alpha:g}"
    return [
        ("method", training.method),
        ("weights trained", kind),
        *([("base held in", known["base_held_in"])] if "base_held_in" in known else []),
        ("learned tokens", training.loss_on if training.method == "sft" else "both answers"),
        ("examples per step", training.batch_examples),
        ("peak learning rate", f"{training.peak_rate:g}, {training.schedule}"),
        ("order", training.order),
        ("packing", training.packing),
        ("max_length", training.max_length),
        ("rng_seed", known["rng_seed"]),
        *([("trained by", known["trained_by"])] if "trained_by" in known else []),
        *([("versions", ", ".join(f"{n} {v}" for n, v in known["versions"].items()))] if "versions" in known else []),
    ]


def _figures(metrics: Mapping[str, float]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), f"{value:.6g}") for name, value in metrics.items()]


def _public_name(model: str) -> str:
    """A path of this machine is nobody else's business: a folder goes by its last name."""
    return Path(model).name if Path(model).is_dir() else model


def _table(rows: Any, head: tuple[str, str] = ("", "")) -> list[str]:
    return [f"| {head[0]} | {head[1]} |", "|---|---|", *(f"| {_cell(k)} | {_code(v)} |" for k, v in rows)]


def _cell(value: Any) -> str:
    """Words of ours go as they are, names from data in a code span."""
    return _code(value) if not str(value).replace(" ", "").replace("(", "").replace(")", "").isalnum() else str(value)


def _code(value: Any) -> str:
    """A code span that nothing in the text can leave: no back-ticks, pipes, brackets' partners or line ends."""
    text = " ".join(str(value).split())[:200].replace("`", "'").replace("|", "/")
    return f"`{text or ' '}`"
