"""Training through TRL for real, on the tiny Llama of conftest and on sprout."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from backends.train.trl import Trl
from schemas.errors import Stopped, UsageError
from schemas.examples import turns
from schemas.training import TrainedOn
from tests.backends.train._tiny import COLORS, color_of_fruit, config, published, tensors

pytestmark = [
    pytest.mark.engine,
    # PEFT asks transformers by the old name when these tests load an adapter themselves
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]


# ---------------------------------------------------------------- SFT


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    """One LoRA run that memorizes eight facts, shared by the tests that look at what it left."""
    folder = tmp_path_factory.mktemp("trained")
    data = published(folder / "train.parquet", color_of_fruit(4))
    before = (base / "model.safetensors").read_bytes()
    told = []
    about = TrainedOn(
        dataset="publish@0123456789abcdef", tag="fruit@v1", digest="d" * 64, recipe="fruit", gate="overridden",
        gate_reason="a | test `with` marks\nand lines",
    )  # fmt: skip
    run = (
        config(base, epochs=12, adapter={"kind": "lora", "rank": 8})
        .open()
        .train(data, folder / "out", rng_seed=7, about=about, progress=lambda *step: told.append(step))
    )
    assert (base / "model.safetensors").read_bytes() == before
    return data, run, told


def test_lora_memorizes_facts_and_changes_only_adapter_weights(trained, base):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    _, run, told = trained
    assert run.metrics["steps"] == 48  # 32 examples / 8 per step x 12 epochs
    assert run.metrics["first_loss"] > 3.0  # 29 words: uniform is ln 29 = 3.37
    assert run.metrics["last_loss"] < 0.5
    assert told[-1][:2] == (48, 48)
    assert {name for name in run.files if name.endswith((".safetensors", ".bin", ".pt", ".pth"))} == {
        "adapter_model.safetensors"
    }
    assert all("lora_" in name for name in tensors(run.output_dir))
    plain = AutoModelForCausalLM.from_pretrained(base)
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), run.output_dir)
    for name, weight in plain.named_parameters():
        wrapped = name.replace(".weight", ".base_layer.weight")
        names = dict(merged.base_model.model.named_parameters())
        assert (names.get(wrapped, names.get(name)) == weight).all()


def test_the_record_says_what_was_trained_on_and_in_which_order(trained):
    _, run, _ = trained
    known = json.loads((run.output_dir / "training.json").read_text())
    assert known["dataset"]["dataset"] == "publish@0123456789abcdef"
    assert known["dataset"]["digest"] == "d" * 64
    assert known["licenses"] == {"CC0-1.0": 32}
    first_epoch = [identity for batch in known["first_batches"][:4] for identity in batch]
    assert sorted(first_epoch) == [i.to_bytes(16, "big").hex() for i in range(32)]
    assert first_epoch != sorted(first_epoch)  # shuffled, as asked by default
    assert known["preflight"]["round_trip_equal"] == 20


def test_the_cards_code_loads_the_adapter_and_recites_a_fact(trained, tmp_path):
    _, run, _ = trained
    card = (run.output_dir / "README.md").read_text()
    assert "publish@0123456789abcdef" in card
    assert "overridden" in card
    assert "a / test 'with' marks and lines" in card  # names from outside stay inside their code span
    code = card.partition("```python\n")[2].partition("```")[0].replace("Name a color.", "Color of plum?")
    spoken: list[str] = []
    code = code.replace('folder = "."', f"folder = {str(run.output_dir)!r}")
    exec(compile(code, "card", "exec"), {"print": spoken.append})
    assert spoken[0].split() == ["blue"]


def test_a_finished_run_is_returned_and_another_dataset_trains_anew(trained, base, tmp_path):
    data, run, _ = trained
    trainer = config(base, epochs=12, adapter={"kind": "lora", "rank": 8}).open()
    kept = {path: path.stat().st_mtime_ns for path in run.output_dir.rglob("*")}
    assert trainer.train(data, run.output_dir, rng_seed=7) == run
    assert {path: path.stat().st_mtime_ns for path in run.output_dir.rglob("*")} == kept, "nothing was written again"
    faster = config(base, epochs=12, adapter={"kind": "lora", "rank": 8}, threads=1, micro_batch=4).open()
    assert faster.train(data, run.output_dir, rng_seed=7) == run  # speed settings are no part of a run's identity
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("do not touch")
    with pytest.raises(UsageError, match="is not empty and holds no training run"):
        trainer.train(data, mine, rng_seed=7)


def test_sequential_order_is_kept_batch_by_batch(base, fruit, tmp_path):
    run = (
        config(base, order="sequential", epochs=2, batch_examples=8, micro_batch=4)
        .open()
        .train(fruit, tmp_path / "out", rng_seed=1)
    )
    batches = json.loads((run.output_dir / "training.json").read_text())["first_batches"]
    ids = [i.to_bytes(16, "big").hex() for i in range(32)]
    assert batches == [ids[k : k + 4] for k in range(0, 32, 4)] * 2


def test_a_curriculum_cannot_be_packed_by_length():
    with pytest.raises(ValueError, match="`order: sequential` would be lost"):
        Trl(order="sequential", packing="bfd")


@pytest.mark.parametrize("packing", ["bfd", "bfd_split", "wrapped"])
def test_packed_training_sees_every_example_in_fewer_forward_passes(base, fruit, tmp_path, packing):
    trainer = config(base, packing=packing, max_length=55, batch_examples=2).open()
    report = trainer.preflight(fruit)
    run = trainer.train(fruit, tmp_path / "out", rng_seed=0)
    # 32 examples of 11 tokens = 352 tokens, 5 examples per pack of 55
    assert report.tokens == 352
    assert run.metrics["steps"] == report.steps == 4  # ceil(32 / 5) = 7 packs (wrapped: ceil(352 / 55) = 7), 2 per step
    seen = {
        identity
        for batch in json.loads((run.output_dir / "training.json").read_text())["first_batches"]
        for identity in batch
    }
    assert len(seen) == 32


def test_best_fit_packs_do_not_see_each_other(base, fruit, tmp_path):
    """The loss of the first step over all data is the same packed and unpacked: no attention across borders."""
    whole = {"batch_examples": 32, "max_steps": 1, "learning_rate": 1e-6}
    loose = config(base, **whole).open().train(fruit, tmp_path / "a", rng_seed=0)
    packed = config(base, packing="bfd", **whole).open().train(fruit, tmp_path / "b", rng_seed=0)
    assert packed.metrics["first_loss"] == pytest.approx(loose.metrics["first_loss"], abs=2e-3)


def test_accumulated_micro_batches_give_the_weights_of_one_big_batch(base, fruit, tmp_path):
    weights = []
    for micro in (8, 2):
        run = config(base, max_steps=3, micro_batch=micro).open().train(fruit, tmp_path / str(micro), rng_seed=0)
        weights.append(tensors(run.output_dir))
    for name, tensor in weights[0].items():
        np.testing.assert_allclose(tensor, weights[1][name], atol=2e-4)


def test_full_tuning_changes_the_model_and_saves_it_whole(base, fruit, tmp_path):
    run = config(base, adapter="full", epochs=4, learning_rate=0.01).open().train(fruit, tmp_path / "out", rng_seed=0)
    assert run.metrics["last_loss"] < run.metrics["first_loss"] / 2
    assert "model.safetensors" in run.files
    before, after = tensors(base, "model.safetensors"), tensors(run.output_dir, "model.safetensors")
    assert before.keys() == after.keys()
    assert any((before[name] != after[name]).any() for name in before)


# ---------------------------------------------------------------- resume


def test_a_run_killed_in_the_middle_ends_with_the_same_weights(base, fruit, tmp_path):
    settings = {
        "epochs": 8,
        "checkpoint_steps": 5,
        "model": str(base),
        "learning_rate": 0.02,
        "max_length": 64,
        "device": "cpu",
    }
    whole = Trl(**settings).open().train(fruit, tmp_path / "whole", rng_seed=5)
    out = tmp_path / "killed"
    script = (
        "import json, sys, time; from pathlib import Path; from backends.train.trl import Trl\n"
        "settings, data, out = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])\n"
        "slow = lambda *step: time.sleep(0.15)\n"
        "Trl(**settings).open().train(data, out, rng_seed=5, progress=slow)"
    )
    words = [sys.executable, "-W", "ignore", "-c", script, json.dumps(settings), str(fruit), str(out)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not (out / "checkpoint-15" / "first_batches.json").exists():  # written last
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline, "no checkpoint within two minutes"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    assert not (out / "training.json").exists()
    (out / "checkpoint-99").mkdir()  # what a kill in the middle of saving leaves: no state file in it
    (out / "checkpoint-98").mkdir()  # and a little later: a state, but not yet the order of the rows
    (out / "checkpoint-98" / "trainer_state.json").write_text("{}")
    run = Trl(**settings).open().train(fruit, out, rng_seed=5)
    known = json.loads((out / "training.json").read_text())
    assert 15 <= known["resumed_from_step"] < 32
    assert run.metrics["steps"] == 32
    straight = json.loads((tmp_path / "whole" / "training.json").read_text())
    assert known["first_batches"] == straight["first_batches"]
    ours, theirs = tensors(out), tensors(tmp_path / "whole")
    for name, tensor in theirs.items():
        np.testing.assert_allclose(ours[name], tensor, atol=1e-5)
    assert run.metrics["last_loss"] == pytest.approx(whole.metrics["last_loss"], abs=1e-4)
    assert not list(out.glob("checkpoint-*"))


def test_checkpoints_of_another_run_are_not_used(base, fruit, tmp_path):
    out = tmp_path / "out"
    first = config(base, max_steps=2).open()
    first.train(fruit, out, rng_seed=0)
    stale = out / "checkpoint-1"
    stale.mkdir()
    for name in ("trainer_state.json", "first_batches.json"):
        (stale / name).write_text("{}")
    run = config(base, max_steps=2).open().train(fruit, out, rng_seed=1)
    assert json.loads((out / "training.json").read_text())["resumed_from_step"] == 0
    assert run.metrics["steps"] == 2


# ---------------------------------------------------------------- DPO


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_dpo_raises_the_margin_of_the_chosen_over_the_worse_answer(base, tmp_path, kind):
    wrong = [turns(("assistant", color)) for color in COLORS[1:] + COLORS[:1]]
    data = published(tmp_path / "pairs.parquet", color_of_fruit(4), worse=wrong * 4)
    run = (
        config(base, method="dpo", adapter=kind, epochs=3, learning_rate=0.005)
        .open()
        .train(data, tmp_path / "out", rng_seed=0)
    )
    margins = [entry["rewards/margins"] for entry in run.history]
    assert margins[0] == pytest.approx(0, abs=1e-6)  # the reference is the model itself before the first step
    assert run.metrics["first_loss"] == pytest.approx(np.log(2), abs=1e-4)
    assert margins[-1] > 0.2
    assert run.metrics["last_reward_margin"] == margins[-1]


def test_dpo_refuses_rows_without_a_worse_answer(base, fruit):
    with pytest.raises(UsageError, match="32 of 32 have none"):
        config(base, method="dpo").open().preflight(fruit)


def test_the_training_record_is_plain_data(trained):
    _, run, _ = trained
    assert dataclasses.asdict(run)["metrics"]["examples"] == 32.0
    assert all(isinstance(value, float) for entry in run.history for value in entry.values())


# ---------------------------------------------------------------- the embedded model, and what an evaluation says of it


def test_sprout_learns_shipped_rows_and_its_evaluation_says_so(tmp_path):
    from backends.llm.transformers import Transformers
    from methods.measuring.evaluation import evaluate

    with open(Path(__file__).parents[3] / "recipes" / "data" / "permissive_instructions.jsonl") as lines:
        rows = [json.loads(line) for _, line in zip(range(24), lines, strict=False)]
    talks = [
        turns(("user", "\n\n".join(filter(None, (r["instruction"], r["input"])))), ("assistant", r["output"]))
        for r in rows
    ]
    data = published(tmp_path / "train.parquet", talks)
    run = (
        Trl(model="sprout", max_steps=20, learning_rate=5e-3, max_length=256)
        .open()
        .train(data, tmp_path / "out", rng_seed=0)
    )
    tuned = Transformers(model="sprout", adapter=tmp_path / "out", device="cpu").open()
    plain = Transformers(model="sprout", device="cpu").open()
    examples = pl.read_parquet(data)
    result = evaluate(tuned, examples, rng=np.random.default_rng(0), baseline=plain)
    loss = result.report.of("loss")
    assert loss.examples == 24
    assert loss.change_high < -0.1  # clearly lower, interval and all
    # the trainer's own first loss and the evaluation's loss of the untuned model measure the same tokens
    batch = {identity for identity in json.loads((run.output_dir / "training.json").read_text())["first_batches"][0]}
    first = result.examples.filter(pl.col("id").bin.encode("hex").is_in(batch))
    weighted = (first["before_loss"] * first["before_n_tokens"]).sum() / first["before_n_tokens"].sum()
    assert run.metrics["first_loss"] == pytest.approx(weighted, abs=0.02)
    assert tuned.identity() != plain.identity()


def test_an_interrupt_stops_with_a_word_on_how_to_go_on(base, fruit, tmp_path):
    def at_seven(step: int, steps: int, note: str) -> None:
        if step == 7:
            raise KeyboardInterrupt

    trainer = config(base, epochs=4, checkpoint_steps=5).open()
    with pytest.raises(Stopped, match=r"stopped at step 7 of 16; run it again to go on from step 5"):
        trainer.train(fruit, tmp_path / "out", rng_seed=0, progress=at_seven)
    run = trainer.train(fruit, tmp_path / "out", rng_seed=0)
    assert run.metrics["steps"] == 16
    assert json.loads((tmp_path / "out" / "training.json").read_text())["resumed_from_step"] == 5


def test_a_model_that_is_trained_whole_in_bf16_keeps_its_weights_in_fp32(base, fruit, tmp_path):
    import torch

    run = config(base, adapter="full", precision="bf16", learning_rate=1e-4, max_steps=2).open().train(
        fruit, tmp_path / "out", rng_seed=0
    )  # fmt: skip
    before, after = tensors(base, "model.safetensors"), tensors(run.output_dir, "model.safetensors")
    assert {t.dtype for t in after.values()} == {torch.float32}
    # steps of 1e-4 are smaller than what bf16 can tell apart at 0.1 (2 ** -12): they were taken all the same
    name = "model.layers.0.mlp.up_proj.weight"
    moved = (after[name] - before[name]).abs()
    assert (moved[before[name].abs() > 0.1] > 0).all()
    assert float(moved.max()) < 2**-11


def test_a_stop_before_the_first_step_is_a_stop(base, fruit, tmp_path):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(Stopped, match="before its first step"):
        config(base, max_length=8, loss_on="all").open().train(fruit, tmp_path / "out", rng_seed=0, progress=stop)
