"""What does our trainer cost beside a plain TRL script with the same settings? Seconds per optimizer step, in turns.

The baseline is what a reader of TRL's documentation writes: SFTTrainer with LoRA on prompt/completion rows. Both train the
embedded model on the same rows, batch, length, steps and seed; the time is that of ``Trainer.train`` in both, without
loading, and the best of the rounds; where the machine's speed swings, the median over pairs of runs is the fairer ratio.
Processor seconds (one thread) are printed beside: on a busy machine they are the fairer figure. The losses
are printed too: they should be the same training.

    python -m benchmarks.trainer [--rows 320] [--rounds 3]
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import polars as pl

from backends.train.trl import Trl
from backends.weights import resolve
from schemas.examples import EXAMPLES, turns

BATCH, LENGTH, RANK, ALPHA, RATE = 8, 256, 8, 16, 2e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    data = Path(__file__).resolve().parent.parent / "recipes" / "data" / "permissive_instructions.jsonl"
    rows = pl.read_ndjson(data).head(args.rows)
    pairs = [
        (q + (f"\n\n{i}" if i else ""), a) for q, i, a in rows.select("instruction", "input", "output").iter_rows()
    ]
    made: dict[str, list[dict[str, float]]] = {"plain TRL": [], "provender": []}
    with tempfile.TemporaryDirectory() as folder, clocked() as clock:
        for number in range(args.rounds):
            for name, train in (("plain TRL", _plain), ("provender", _ours)):
                loss = train(pairs, Path(folder) / f"{name}{number}")
                made[name].append({**clock, "loss": loss})
    steps = -(-args.rows // BATCH)
    print(f"cores {os.cpu_count()}; {args.rows} rows, {steps} steps of {BATCH}, best of {args.rounds}")
    best = {
        name: {key: min(run[key] for run in runs) for key in ("seconds", "processor")} | {"loss": runs[-1]["loss"]}
        for name, runs in made.items()
    }
    for name, run in best.items():
        wall, processor = run["seconds"] / steps * 1000, run["processor"] / steps * 1000
        print(f"{name:10} {wall:8.1f} ms a step, {processor:.1f} ms of processor   last loss {run['loss']:.4f}")
    for what, key in (("ratio", "seconds"), ("ratio of processor seconds", "processor")):
        paired = [ours[key] / plain[key] for ours, plain in zip(made["provender"], made["plain TRL"], strict=True)]
        told = f"of two runs beside each other: median {median(paired):.3f}, {min(paired):.3f} to {max(paired):.3f}"
        print(f"{what} {best['provender'][key] / best['plain TRL'][key]:.3f} of the best; {told}")


@contextmanager
def clocked() -> Iterator[dict[str, float]]:
    """While it lasts, every ``Trainer.train`` leaves its wall and processor seconds in the mapping."""
    from transformers import Trainer

    clock: dict[str, float] = {}
    whole = Trainer.train

    def train(self: Any, *args: Any, **known: Any) -> Any:
        wall, processor = time.perf_counter(), time.process_time()
        result = whole(self, *args, **known)
        clock.update(seconds=time.perf_counter() - wall, processor=time.process_time() - processor)
        return result

    Trainer.train = train
    try:
        yield clock
    finally:
        Trainer.train = whole


def _plain(pairs: list[tuple[str, str]], folder: Path) -> float:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(1)
    set_seed(0)  # and data_seed below: the same start and the same order as ours
    place = resolve("sprout").source
    tokenizer = AutoTokenizer.from_pretrained(place)
    model: Any = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    rows = Dataset.from_list(
        [
            {"prompt": [{"role": "user", "content": q}], "completion": [{"role": "assistant", "content": a}]}
            for q, a in pairs
        ]
    )
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=rows,
        peft_config=LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"),
        args=SFTConfig(
            output_dir=str(folder), per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=RATE,
            lr_scheduler_type="cosine", warmup_steps=2, max_length=LENGTH, completion_only_loss=True, report_to=[],
            save_strategy="no", logging_steps=1, use_cpu=True, seed=0, data_seed=0, gradient_checkpointing=False, bf16=False,
            disable_tqdm=True,
        ),
    )  # fmt: skip
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return float(logged[-1])


def _ours(pairs: list[tuple[str, str]], folder: Path) -> float:
    folder.mkdir(parents=True)
    frame = pl.DataFrame(
        {
            "id": [i.to_bytes(16, "big") for i in range(len(pairs))],
            "messages": [turns(("user", q), ("assistant", a)) for q, a in pairs],
            "source": ["bench"] * len(pairs),
        },
        schema_overrides={"id": pl.Binary, "messages": EXAMPLES["messages"]},
    )
    frame.write_parquet(folder / "train.parquet")
    trainer = Trl(
        model="sprout", epochs=1, batch_examples=BATCH, max_length=LENGTH, learning_rate=RATE, checkpoint_steps=0,
        loss_on="last-turn", device="cpu", gradient_checkpointing=False, threads=1, precision="fp32",
    ).open()  # fmt: skip
    done = trainer.train(folder / "train.parquet", folder / "out", rng_seed=0)
    return float(done.history[-1].get("loss", float("nan")))


if __name__ == "__main__":
    main()
