"""What a fine-tuning run is told, what it was trained on, and what an evaluation of it says."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schemas.lineage import GateStatus

AdapterKind = Literal[
    "full", "lora", "rslora", "dora", "qlora", "pissa", "olora", "orthogonal", "loftq", "eva", "corda",
    "randlora", "vera", "oft", "hra", "ia3", "ln-tuning", "loha", "lokr", "miss", "c3a",
    "fourierft", "shira", "road",
]  # fmt: skip

#: Where the search for a good learning rate starts: adapters take about ten times that of full tuning, DPO far less.
LEARNING_RATES: Mapping[tuple[str, bool], float] = {
    ("sft", True): 2e-4,
    ("sft", False): 2e-5,
    ("dpo", True): 1e-5,
    ("dpo", False): 1e-6,
}


class Strict(BaseModel):
    """Frozen, and an unknown key is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Adapter(Strict):
    """Which weights are trained. ``full`` trains the model itself; every other kind is a PEFT adapter beside it.

    ``rank``, ``alpha`` and ``dropout`` mean what they mean in LoRA and are left out for kinds that have no such thing.
    """

    kind: AdapterKind = Field(default="lora", description="full, or the kind of PEFT adapter")
    rank: int = Field(default=8, gt=0, le=1024, description="rank of the update (block size for OFT and BOFT)")
    alpha: float = Field(default=16.0, gt=0, description="scale of the update; the factor is alpha / rank")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout inside the adapter")
    targets: str | tuple[str, ...] = Field(default="all-linear", description="module names, or all-linear")
    calibration_examples: int = Field(default=256, gt=0, description="first examples that EVA and CorDA look at")
    options: Mapping[str, bool | int | float | str] = Field(
        default_factory=dict, description="further fields of the PEFT config, checked against it"
    )


def _adapter(value: Any) -> Any:
    """``adapter: dora`` stands for ``adapter: {kind: dora}``."""
    return {"kind": value} if isinstance(value, str) else value


class Training(Strict):
    """How a model is fine-tuned. Every field decides the weights; how fast it goes is the backend's business."""

    model: str = Field(default="sprout", description="sprout, a local folder, or org/name@revision")
    method: Literal["sft", "dpo"] = Field(default="sft", description="sft on the answers, or dpo on preference pairs")
    adapter: Annotated[Adapter, BeforeValidator(_adapter)] = Field(
        default=Adapter(), description="lora, full, dora … by name, or a mapping"
    )
    epochs: float = Field(default=1.0, gt=0, description="passes over the dataset")
    max_steps: int | None = Field(default=None, gt=0, description="stop after so many optimizer steps")
    batch_examples: int = Field(default=8, gt=0, description="examples (packs, when packing) per optimizer step")
    learning_rate: float | None = Field(default=None, gt=0, description="peak; None: see LEARNING_RATES")
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_fraction: float = Field(default=0.03, ge=0, lt=1, description="share of the steps over which the rate rises")
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    max_length: int = Field(
        default=1024, gt=1, description="tokens; what is longer is cut at the end, and counted beforehand"
    )
    loss_on: Literal["assistant", "last-turn", "all"] = Field(
        default="assistant",
        description="tokens that are learned: every assistant turn, only the last one, or the whole text",
    )
    packing: Literal["none", "bfd", "bfd_split", "wrapped"] = Field(
        default="none", description="join short examples: best fit, best fit with splitting, or cut anywhere"
    )
    order: Literal["shuffled", "sequential"] = Field(
        default="shuffled", description="sequential keeps the dataset's order (curricula)"
    )
    chat_template: str = Field(
        default="model", description="model (the tokenizer's own), chatml, or the path of a Jinja file"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto = bf16 where the accelerator has it"
    )
    dpo_beta: float = Field(default=0.1, gt=0, description="how strongly DPO holds to the reference model")

    @model_validator(mode="after")
    def _belongs_together(self) -> "Training":
        if self.order == "sequential" and self.packing in ("bfd", "bfd_split"):
            raise ValueError(
                f"packing {self.packing!r} sorts examples by length, so `order: sequential` would be lost; "
                "use packing 'none' or 'wrapped'"
            )
        if self.method == "dpo" and self.packing != "none":
            raise ValueError("dpo compares whole answers and cannot be packed; use packing 'none'")
        return self

    @property
    def peak_rate(self) -> float:
        """The learning rate, settled."""
        return self.learning_rate or LEARNING_RATES[self.method, self.adapter.kind != "full"]


class TrainedOn(Strict):
    """Which dataset a model saw: what its card and its lineage say. Written by whoever starts the training."""

    dataset: str = Field(
        default="", description="ref of the published version, stage@fingerprint; empty for a loose file"
    )
    tag: str = Field(default="", description="name@vN, if it had one")
    digest: str = Field(default="", description="SHA-256 over the version's bytes, or of the loose file")
    recipe: str = ""
    gate: GateStatus = "unchecked"
    gate_reason: str = Field(default="", description="the written reason, if the gate was overridden")


class Measured(Strict):
    """One metric on one slice, with a 95 % percentile-bootstrap interval over examples.

    ``before`` is the untuned model on the same examples, with its own interval; ``change`` = value - before with the
    paired one, which is narrower than the two would say.
    All are null where nothing could be measured, never 0.
    """

    metric: str
    slice: str = Field(default="all", description="all, or column=value, as in source=dolly")
    examples: int
    value: float | None
    low: float | None = None
    high: float | None = None
    before: float | None = None
    before_low: float | None = None
    before_high: float | None = None
    change: float | None = None
    change_low: float | None = None
    change_high: float | None = None


class EvalReport(Strict):
    """What a model does on examples it was not trained on."""

    model: Mapping[str, Any]
    baseline: Mapping[str, Any] | None = None
    examples: int
    unscored: Mapping[str, int] = Field(default_factory=dict, description="failure class → examples left out")
    truncated: int = Field(
        default=0, description="examples whose answer did not fit the context; scored on what fitted"
    )
    measured: tuple[Measured, ...] = ()

    def of(self, metric: str, slice: str = "all") -> Measured:
        """The one measurement of that metric and slice; ``KeyError`` if it was not made."""
        for item in self.measured:
            if item.metric == metric and item.slice == slice:
                return item
        raise KeyError(f"{metric} on {slice}")
