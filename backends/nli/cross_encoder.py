"""A cross-encoder for natural language inference, run by transformers: premise and hypothesis in, three probabilities out."""

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from backends.base import BackendConfig, speed
from backends.cpu import threads_for
from backends.quiet import call_home_off, quiet_loading
from backends.weights import resolve
from schemas.errors import BackendError, MissingExtra

#: The order of the columns that come back.
CLASSES = ("contradiction", "neutral", "entailment")


class CrossEncoder(BackendConfig):
    """A sequence classification model whose three labels are contradiction, neutral and entailment, in any order.

    For example ``cross-encoder/nli-deberta-v3-small`` at a revision. No code from a model's repository is ever run.
    """

    billed: ClassVar[bool] = False

    backend: Literal["cross-encoder"] = "cross-encoder"
    model: str = speed(description="a folder, or org/name@revision; its weights or revision are the identity")
    max_tokens: int = Field(512, ge=16, description="of a pair; the longer text is cut")
    batch_size: int = speed(32, ge=1)
    device: str = speed("auto", description="auto (a GPU if there is one), cpu, cuda")
    threads: int | None = speed(None, ge=1, description="CPU threads of torch; one for a small model by default")
    download: bool = speed(False, description="allow fetching a hub model that is not on this machine")

    def identity(self) -> dict[str, Any]:
        """Weights or revision instead of a path."""
        return {**super().identity(), **resolve(self.model).identity()}

    def open(self) -> "CrossEncoderEngine":
        """Load the model. ``MissingExtra`` without torch, ``BackendError`` if it does not load or is no NLI model."""
        for package in ("torch", "transformers"):
            if find_spec(package) is None:
                raise MissingExtra(f"the NLI cross-encoder needs {package}: pip install 'provender[local]'")
        return CrossEncoderEngine(self)


class CrossEncoderEngine:
    """A loaded cross-encoder. One call at a time."""

    def __init__(self, config: CrossEncoder) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        call_home_off()
        self.config = config
        place = resolve(config.model)
        where: dict[str, Any] = {"trust_remote_code": False, "local_files_only": place.is_local or not config.download}
        if place.revision is not None:
            where["revision"] = place.revision
        with quiet_loading():
            try:
                self.tokenizer = AutoTokenizer.from_pretrained(place.source, **where)
                model = AutoModelForSequenceClassification.from_pretrained(place.source, use_safetensors=True, **where)
            except (OSError, ValueError) as error:
                raise BackendError(
                    f"NLI model {place.name!r} cannot be loaded: {str(error).splitlines()[0]}; check its files "
                    "(safetensors only), or set `download: true` once"
                ) from error
        self._order = columns_of(model.config.id2label, place.name)
        device = "cuda" if config.device == "auto" and torch.cuda.is_available() else config.device
        self.model = model.to("cpu" if device == "auto" else device).eval()
        self._lock = threading.Lock()

    def identity(self) -> dict[str, Any]:
        """The config's."""
        return self.config.identity()

    def judge(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """See ``backends.protocols.NLI``; batches hold pairs of similar length."""
        import torch

        found = np.zeros((len(pairs), len(CLASSES)))
        order = sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i])))
        device = str(self.model.device)
        with self._lock, threads_for(self.model, self.config.threads, device), torch.inference_mode():
            for start in range(0, len(order), self.config.batch_size):
                batch = order[start : start + self.config.batch_size]
                ids = self.tokenizer(
                    [pairs[i][0] for i in batch],
                    [pairs[i][1] for i in batch],
                    truncation="longest_first",
                    max_length=self.config.max_tokens,
                    padding=True,
                    return_tensors="pt",
                ).to(device)
                chances = self.model(**ids).logits.float().softmax(-1).cpu().numpy().astype(np.float64)
                found[batch] = chances[:, self._order]
        return found


def columns_of(labels: dict[int, str], name: str) -> list[int]:
    """Where contradiction, neutral and entailment stand among a model's labels; ``BackendError`` if they do not."""
    place = {str(label).lower(): int(index) for index, label in labels.items()}
    if set(place) != set(CLASSES):
        raise BackendError(
            f"{name} has the labels {', '.join(sorted(place))}; an NLI model has {', '.join(CLASSES)}; choose another"
        )
    return [place[label] for label in CLASSES]
