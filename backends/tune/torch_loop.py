"""Fine-tunes small causal language models in this process: the proxies that data are measured with."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from backends.base import BackendConfig, speed
from backends.protocols import LLM, Tuning, Turn
from backends.weights import resolve
from schemas.errors import MissingExtra


class TorchTuner(BackendConfig):
    """A plain AdamW loop over a model that fits in memory; full weights, or LoRA over the attention and MLP matrices.

    Made for hundreds of short runs: one process, no checkpoints, equal input gives equal weights on one kind of machine.
    To fine-tune what will be used, ``finetune`` with TRL is the stage.
    """

    billed: ClassVar[bool] = False

    backend: Literal["torch"] = "torch"
    model: str = speed("sprout", description="sprout, a folder, or org/name@revision; its weights are the identity")
    adapter: Literal["full", "lora"] = Field("full", description="full: every weight learns; lora: a low-rank update")
    lora_rank: int = Field(8, ge=1, le=256, description="rank of the LoRA update; alpha is twice the rank")
    epochs: float = Field(2.0, gt=0, description="passes over the conversations")
    learning_rate: float = Field(5e-4, gt=0, description="peak of the schedule")
    schedule: Literal["linear", "constant", "cosine"] = Field("linear", description="of the learning rate, per call")
    warmup_fraction: float = Field(0.05, ge=0, lt=1, description="share of the steps over which the rate rises")
    weight_decay: float = Field(0.0, ge=0)
    batch_size: int = Field(16, ge=1, description="conversations per optimizer step")
    max_tokens: int = Field(256, ge=8, description="longer conversations are cut at the front, never in the answer")
    max_grad_norm: float = Field(1.0, gt=0)
    device: str = speed("auto", description="auto (a GPU if there is one), cpu, cuda")
    threads: int | None = speed(None, ge=1, description="CPU threads of torch; one for a small model by default")
    download: bool = speed(False, description="allow fetching a hub model that is not on this machine")

    def identity(self) -> dict[str, Any]:
        """Weights or revision instead of a path, and every setting that decides what is learned."""
        own = super().identity()
        if self.adapter == "full":
            own.pop("lora_rank")
        return {**own, "base": dict(resolve(self.model).identity())}

    def open(self) -> "TorchTunerEngine":
        """``MissingExtra`` without torch and transformers (and peft for LoRA)."""
        for package in ("torch", "transformers", *(["peft"] if self.adapter == "lora" else [])):
            if find_spec(package) is None:
                raise MissingExtra(f"the tuner needs {package}: pip install 'provender[local]'")
        return TorchTunerEngine(self)


class TorchTunerEngine:
    """Sessions over one base model; each loads its own copy of the weights."""

    def __init__(self, config: TorchTuner) -> None:
        self.config = config

    def identity(self) -> Mapping[str, Any]:
        """The config's."""
        return self.config.identity()

    def start(self, rng_seed: int = 0) -> Tuning:
        """A fresh session."""
        from backends.tune._session import TorchTuning

        return TorchTuning(self.config, rng_seed)

    def train_into(
        self, folder: Path, conversations: Sequence[Sequence[Turn]], *, rng_seed: int, keep_order: bool
    ) -> None:
        """Tune for the config's epochs and save; ``tuning.json`` beside the weights has the loss of each step."""
        session = self.start(rng_seed)
        history = session.learn(conversations, epochs=self.config.epochs, keep_order=keep_order)
        session.save(folder)
        (folder / "tuning.json").write_text(
            json.dumps({"conversations": len(conversations), "rng_seed": rng_seed, "loss_per_step": history}) + "\n"
        )

    def load(self, folder: Path) -> LLM:
        """The model that ``train_into`` left in this folder."""
        from backends.llm.transformers import Transformers

        c = self.config
        return Transformers(model=str(folder), device=c.device, threads=c.threads, repairs=0).open()

    def base(self) -> LLM:
        """The base model, opened by the same engine."""
        from backends.llm.transformers import Transformers

        c = self.config
        return Transformers(model=c.model, device=c.device, threads=c.threads, download=c.download, repairs=0).open()
