"""What do QLoRA and LoftQ give up for a base in 4 bits? Held-out loss beside LoRA's, and how near LoftQ starts to the base.

The baseline is LoRA on the plain base, trained in the same run on the same rows with the same settings and seed (the
embedded model, 8 examples a step, one thread). Losses are means per answer token over held-out rows, measured by one function over
the plain base and over the base in 4 bits. "Nearness" is the Frobenius norm of what is missing to the original matrices.

    python -m benchmarks.four_bits [--rows 600] [--steps 60]      (needs bitsandbytes: pip install 'provender[qlora]')
"""

import argparse
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl

from backends.quiet import quiet
from backends.train._four_bits import load_bitsandbytes, settings
from backends.train._rows import rows_of
from backends.train._tokens import Sequences, sequences
from backends.train.trl import Trl
from backends.weights import resolve
from benchmarks.trainer import clocked
from schemas.examples import EXAMPLES, turns

DATA = Path(__file__).resolve().parent.parent / "recipes" / "data"
RANK, ALPHA, LENGTH = 8, 16.0, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    if find_spec("bitsandbytes") is None:
        print("not run: bitsandbytes is not here, pip install 'provender[qlora]'")
        return
    from transformers import AutoTokenizer

    load_bitsandbytes()
    rows = _rows("permissive_instructions.jsonl").head(args.rows)
    place = resolve("sprout").source
    held_out = sequences(AutoTokenizer.from_pretrained(place), rows_of(_rows("target.jsonl")), "assistant")
    print(f"cores {os.cpu_count()}; {rows.height} rows, {args.steps} steps of 8, {len(held_out.ids)} rows held out")
    with quiet(), tempfile.TemporaryDirectory() as folder:
        print(f"{'untrained':10} over the plain base {_loss(_base(), held_out):.4f}  ", end="")
        print(f"over 4 bits {_loss(_base(packed=True), held_out):.4f}", flush=True)
        rows.write_parquet(f"{folder}/train.parquet")
        spent: dict[str, float] = {}
        for kind in ("lora", "qlora", "loftq"):
            spent[kind] = _trained(kind, args.steps, Path(folder), held_out)
        for kind in ("qlora", "loftq"):
            print(f"processor seconds, {kind} to lora: {spent[kind] / spent['lora']:.2f}")
        _nearness()


def _trained(kind: str, steps: int, folder: Path, held_out: Sequences) -> float:
    """Trains one kind, prints what it gave, and returns the processor seconds of its steps."""
    out = folder / kind
    how = {"max_steps": steps, "learning_rate": 1e-3, "max_length": LENGTH, "checkpoint_steps": 0, "threads": 1}
    adapter = {"kind": kind, "rank": RANK, "alpha": ALPHA}
    trainer = Trl(model="sprout", adapter=adapter, batch_examples=8, device="cpu", **how).open()  # type: ignore[arg-type]
    with clocked() as clock:
        trainer.train(folder / "train.parquet", out, rng_seed=0)
    exact = out / "on-4-bits" if kind == "loftq" else out
    print(f"{kind:10} over the plain base {_loss(_base(adapter=out), held_out):.4f}  ", end="")
    print(f"over 4 bits {_loss(_base(packed=True, adapter=exact), held_out):.4f}   ", end="")
    wall, processor = (clock[key] / steps * 1000 for key in ("seconds", "processor"))
    print(f"{wall:.0f} ms a step, {processor:.0f} ms of processor", flush=True)
    return processor


def _rows(name: str) -> pl.DataFrame:
    data = pl.read_ndjson(DATA / name)
    pairs = [
        (q + (f"\n\n{i}" if i else ""), a) for q, i, a in data.select("instruction", "input", "output").iter_rows()
    ]
    return pl.DataFrame(
        {
            "id": [i.to_bytes(16, "big") for i in range(len(pairs))],
            "messages": [turns(("user", q), ("assistant", a)) for q, a in pairs],
            "source": ["bench"] * len(pairs),
        },
        schema_overrides={"id": pl.Binary, "messages": EXAMPLES["messages"]},
    )


def _base(*, packed: bool = False, adapter: Path | None = None) -> Any:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    how: dict[str, Any] = {"quantization_config": settings(torch.float32)} if packed else {}
    model = AutoModelForCausalLM.from_pretrained(resolve("sprout").source, dtype=torch.float32, **how)
    return PeftModel.from_pretrained(model, str(adapter)) if adapter else model


def _loss(model: Any, made: Sequences) -> float:
    """Mean over all answer tokens."""
    import torch

    model.train()  # there is no dropout; in evaluation mode the layers in 4 bits would be computed in bf16
    total, count = 0.0, 0
    with torch.no_grad():
        for ids, mask in zip(made.ids, made.mask, strict=True):
            tokens = torch.tensor(ids[:LENGTH]).long()[None]
            learned = torch.tensor(mask[:LENGTH]).bool()[1:]
            if learned.any():
                scores = model(input_ids=tokens).logits[0, :-1][learned].log_softmax(-1)
                total -= float(scores.gather(1, tokens[0, 1:][learned][:, None]).sum())
                count += int(learned.sum())
    return total / count


def _nearness() -> None:
    import torch
    from bitsandbytes.functional import dequantize_4bit

    from backends.train._loftq import factors

    whole = dict(_base().named_modules())
    for rank in (8, 16, 32):
        plain = left = size = 0.0
        for name, module in _base(packed=True).named_modules():
            if hasattr(module.__dict__.get("_parameters", {}).get("weight"), "quant_state"):
                weight = whole[name].weight.detach()
                quantized = dequantize_4bit(module.weight.data, module.weight.quant_state)
                made = factors(weight, quantized, rank, ALPHA / RANK)
                plain += float(torch.linalg.norm(weight - quantized)) ** 2
                left += float(torch.linalg.norm(weight - quantized - ALPHA / RANK * made.b @ made.a)) ** 2
                size += float(torch.linalg.norm(weight)) ** 2
        shares = (plain / size) ** 0.5, (left / size) ** 0.5
        print(f"rank {rank}: missing to the base {shares[0]:.2%} with QLoRA's start, {shares[1]:.2%} with LoftQ's")


if __name__ == "__main__":
    main()
