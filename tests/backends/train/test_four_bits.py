"""The base in 4 bits: QLoRA and LoftQ train for real on the CPU, resume, and what is saved is right over the plain base."""

import json
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

from backends.protocols import TrainingRun
from backends.train._four_bits import BYTES_PER_WEIGHT, require, warnings_of
from backends.train._preflight import memory
from backends.train._rows import rows_of
from backends.train._tokens import sequences
from schemas.errors import BackendError, MissingExtra
from schemas.examples import turns
from schemas.training import Training
from tests.backends.train._tiny import COLORS, color_of_fruit, config, published, tensors

pytestmark = [
    pytest.mark.engine,
    # PEFT asks transformers by the old name when these tests load an adapter themselves
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
packed = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="needs bitsandbytes: pip install 'provender[qlora]'"
)

# ---------------------------------------------------------------- arithmetic


def test_loftq_starts_with_the_best_that_its_rank_can_give_back():
    import torch

    from backends.train._loftq import factors

    # Quantizing took diag(3, 2) away. Rank 1 gives the 3 back: sqrt(3) on either side, b divided by LoRA's scale of 2.
    weight, quantized = torch.diag(torch.tensor([5.0, 5.0])), torch.diag(torch.tensor([2.0, 3.0]))
    one = factors(weight, quantized, rank=1, scale=2.0)
    assert (one.a.shape, one.b.shape) == ((1, 2), (2, 1))
    assert torch.allclose(quantized + 2.0 * one.b @ one.a, torch.diag(torch.tensor([5.0, 3.0])), atol=1e-6)
    both = factors(weight, quantized, rank=2, scale=2.0)
    assert torch.allclose(quantized + 2.0 * both.b @ both.a, weight, atol=1e-6)


def test_the_memory_estimate_counts_packed_and_whole_weights_apart(base):
    from backends.train._prepare import size_on_paper
    from backends.weights import resolve

    # 64 weights cost 32 bytes, one byte of scale, and 4 bytes for every 256 scales
    assert pytest.approx((32 + 1 + 4 / 256) / 64) == BYTES_PER_WEIGHT
    sizes = {
        (kind, bf16): size_on_paper(
            resolve(str(base)), Training(model=str(base), adapter=kind), micro_batch=1, checkpointing=False,
            download=False, bf16=bf16,
        )
        for kind in ("lora", "qlora") for bf16 in (False, True)
    }  # fmt: skip
    # two layers of four 32 x 32 and three 32 x 64; a tied embedding of 29 words and five norms of 32 stay whole
    linear, rest = 2 * (4 * 32 * 32 + 3 * 32 * 64), 29 * 32 + 5 * 32
    for bf16, width in ((False, 4), (True, 2)):
        plain, four = (memory(Training(), sizes[kind, bf16], longest_tokens=10) for kind in ("lora", "qlora"))
        assert plain["weights"] == (linear + rest) * width
        assert four["weights"] == pytest.approx(linear * BYTES_PER_WEIGHT + rest * width, abs=1)
        assert four["activations"] == plain["activations"]  # they are computed in the same precision


def test_the_estimate_for_an_accelerator_elsewhere_is_that_of_its_run(base, fruit):
    """Made here, for `device: cuda`: bf16 for what is frozen, and checkpoints instead of all activations."""
    here, there, kept = (
        config(base, **how).open().preflight(fruit).memory_bytes
        for how in ({"device": "cpu"}, {"device": "cuda"}, {"device": "cuda", "gradient_checkpointing": False})
    )
    assert here["weights"] == 2 * there["weights"]
    assert there["activations"] < kept["activations"] < here["activations"]


# ---------------------------------------------------------------- where it cannot be


def test_without_the_package_training_says_what_to_install_and_what_to_use_instead(base, fruit, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    trainer = config(base, adapter="qlora").open()
    with pytest.raises(MissingExtra, match=r"pip install 'provender\[qlora\]', or use `adapter: lora`"):
        trainer.train(fruit, tmp_path / "out", rng_seed=0)
    assert not (tmp_path / "out").exists()  # refused before anything was written
    missing, slow = trainer.preflight(fruit).warnings  # the report can be made where the training will not be
    assert "needs the package bitsandbytes" in missing
    assert "for trying out" in slow


def test_other_adapters_ask_for_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    require(Training(adapter="lora"), "cpu")
    assert warnings_of(Training(adapter="lora"), "cpu") == ()


@packed
def test_a_device_without_4_bit_weights_is_named():
    with pytest.raises(BackendError, match=r"no 4-bit weights on the device 'tpu:0', only on .*cpu"):
        require(Training(adapter="qlora"), "tpu:0")


# ---------------------------------------------------------------- training


def loss(model, base: Path, fruit: Path) -> float:
    """Mean loss of the answers to the eight questions."""
    import numpy as np
    import torch
    from transformers import AutoTokenizer

    made = sequences(AutoTokenizer.from_pretrained(base), rows_of(pl.read_parquet(fruit)[:8]), "assistant")
    ids = torch.tensor(np.stack(made.ids)).long()
    labels = torch.where(torch.tensor(np.stack(made.mask)) == 1, ids, -100)
    model.train()  # else the layers in 4 bits are computed by other kernels, in bf16; there is no dropout
    with torch.no_grad():
        return model(input_ids=ids, labels=labels).loss.item()


def plain(base: Path):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base)


def in_four_bits(base: Path):
    import torch
    from transformers import AutoModelForCausalLM

    from backends.train._four_bits import settings

    return AutoModelForCausalLM.from_pretrained(base, quantization_config=settings(torch.float32))


HOW = {"max_steps": 8, "checkpoint_steps": 3, "warmup_fraction": 0.0}


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory) -> Callable[[str], tuple[Path, TrainingRun]]:
    """Folder and run of an adapter kind; each is trained once."""
    data = published(tmp_path_factory.mktemp("data") / "train.parquet", color_of_fruit(4))

    @cache
    def train(kind: str) -> tuple[Path, TrainingRun]:
        out = tmp_path_factory.mktemp(kind) / "out"
        return out, config(base, adapter={"kind": kind, "rank": 4}, **HOW).open().train(data, out, rng_seed=0)

    return train


@packed
@pytest.mark.parametrize(("kind", "at"), [("qlora", "."), ("loftq", "on-4-bits")])
def test_a_base_in_4_bits_is_learned_on_and_the_saved_adapter_serves_the_plain_base(base, fruit, trained, kind, at):
    from peft import PeftModel

    out, run = trained(kind)
    assert run.metrics["last_loss"] < run.metrics["first_loss"] - 0.5
    before = loss(plain(base), base, fruit)
    after = loss(PeftModel.from_pretrained(plain(base), out), base, fruit)
    assert after < before - 0.5
    # over the base in 4 bits the adapter that was trained gives the model that was trained
    exact = loss(PeftModel.from_pretrained(in_four_bits(base), out / at), base, fruit)
    assert exact == pytest.approx(run.metrics["last_loss"], abs=0.75)
    if kind == "loftq":  # expressed against its start, it gives nearly the same over the plain base
        assert after == pytest.approx(exact, abs=0.2)
        raw = loss(PeftModel.from_pretrained(plain(base), out / at), base, fruit)
        assert abs(raw - exact) > abs(after - exact)  # as it was trained it would add what quantizing never took there


@packed
@pytest.mark.parametrize(("kind", "at"), [("qlora", "."), ("loftq", "on-4-bits")])
def test_record_and_card_say_how_the_base_was_held(trained, kind, at):
    out, run = trained(kind)
    known = json.loads((out / "training.json").read_text())
    assert known["base_held_in"] == "4 bits (NF4, double quantization)"
    assert "bitsandbytes" in known["versions"]
    card = (out / "README.md").read_text()
    assert "| base held in | `4 bits (NF4, double quantization)` |" in card
    assert "for trying out" in card  # what the pre-flight report warned of
    assert f'quantization_config=packed), "{at}")' in card
    assert sum(name.endswith(".safetensors") for name in run.files) == (2 if kind == "loftq" else 1)
    assert not any(name.endswith((".bin", ".pt")) for name in run.files)


@packed
def test_loftq_starts_nearer_to_the_base_than_qlora(base):
    """Over every matrix: with its start the quantized one is nearer to the original than without, whatever the scale."""
    import torch
    from bitsandbytes.functional import dequantize_4bit

    from backends.train._attach import attach
    from backends.train._tokens import Sequences
    from schemas.training import Adapter

    original = dict(plain(base).named_modules())
    adapter = Adapter(kind="loftq", rank=8, alpha=16)
    model = attach(in_four_bits(base), adapter, Sequences([], []), max_length=64, whole=lambda: plain(base))
    seen = 0
    for name, module in model.base_model.model.named_modules():
        if hasattr(module, "lora_A"):
            held = module.get_base_layer().weight
            quantized = dequantize_4bit(held.data, held.quant_state)
            a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
            weight = original[name].weight
            qlora = torch.linalg.norm(weight - quantized)  # QLoRA's b starts as zeros
            loftq = torch.linalg.norm(weight - quantized - 2.0 * b @ a)
            # what is left are the singular values beyond the eighth
            assert loftq.item() == pytest.approx(torch.linalg.svdvals(weight - quantized)[8:].norm().item(), rel=1e-3)
            assert loftq < 0.9 * qlora
            seen += 1
    assert seen == 14


@packed
def test_a_killed_run_in_4_bits_goes_on_and_ends_with_the_same_weights(base, fruit, trained, tmp_path):
    class Killed(Exception):
        pass

    def kill(done: int, *_: object) -> None:
        if done == 5:
            raise Killed

    whole, _ = trained("loftq")
    cut = tmp_path / "cut"
    trainer = config(base, adapter={"kind": "loftq", "rank": 4}, **HOW).open()
    with pytest.raises(Killed):
        trainer.train(fruit, cut, rng_seed=0, progress=kill)
    heard: list[tuple[int, int, str]] = []
    trainer.train(fruit, cut, rng_seed=0, progress=lambda *said: heard.append(said))
    assert heard[0][:2] == (0, 8)  # before the first step
    assert "for trying out" in heard[0][2]
    assert json.loads((cut / "training.json").read_text())["resumed_from_step"] == 3
    for part in ("", "on-4-bits"):
        one, other = tensors(whole / part), tensors(cut / part)
        assert one.keys() == other.keys()
        assert all((one[name] == other[name]).all() for name in one)


@packed
def test_dpo_learns_on_a_base_in_4_bits(base, tmp_path):
    worse = [turns(("assistant", COLORS[(i + 1) % 8])) for i in range(8)]
    data = published(tmp_path / "pairs.parquet", color_of_fruit(), worse)
    run = config(base, method="dpo", adapter={"kind": "qlora", "rank": 4}, max_steps=8, learning_rate=5e-3).open().train(
        data, tmp_path / "out", rng_seed=0
    )  # fmt: skip
    assert run.metrics["first_loss"] == pytest.approx(0.6931, abs=1e-3)  # ln 2: nothing is preferred yet
    assert run.metrics["last_loss"] < 0.6
    assert run.metrics["last_reward_margin"] > 0
    assert not (tmp_path / "out" / "ref").exists()  # what DPO compared with is not part of what was learned
