"""Vectors from the very model that will be trained: its hidden states, pooled. The representation of RDS+."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from backends.base import BackendConfig, speed
from backends.embed._mean_pooled import batches
from backends.quiet import call_home_off, quiet_loading
from backends.weights import resolve
from schemas.errors import BackendError, MissingExtra

Pooling = Literal["weighted", "mean", "last"]


class HiddenStates(BackendConfig):
    """Hidden states of a causal language model, one vector a text, of length 1.

    ``weighted`` counts token i of T with i / (1 + … + T): a causal model has read more at later ones. No chat template is
    laid around the text, which the paper does.

    Paper: Ivison et al. 2025, Large-scale data selection for instruction tuning (https://arxiv.org/abs/2503.01807).
    """

    backend: Literal["hidden-states"] = "hidden-states"
    model: str = Field(default="sprout", description="sprout, a folder with safetensors, or org/name@revision")
    pooling: Pooling = Field(default="weighted", description="weighted by position, mean, or the last token's")
    layer: int = Field(default=-1, description="which layer's states: -1 the last, 0 the token embeddings")
    max_tokens: int = Field(default=2048, gt=0, description="longer texts are cut; the model's own context also binds")
    device: str = speed(default="auto", description="auto, cpu, cuda, cuda:1 …")
    batch_tokens: int = speed(default=4096, gt=0, description="padded tokens per batch; texts are sorted by length")
    download: bool = speed(default=False, description="fetch a hub model that is not in the local cache")

    def identity(self) -> dict[str, Any]:
        """The weights stand for the model, not its name: a moved folder keeps its vectors."""
        known = super().identity()
        del known["model"]
        return {**known, **resolve(self.model).identity()}

    def open(self) -> "HiddenStatesEngine":
        """The engine. ``MissingExtra`` without torch and transformers, ``BackendError`` if the model will not load."""
        try:
            return HiddenStatesEngine(self)
        except ImportError as error:
            raise MissingExtra("hidden states need torch and transformers: pip install 'provender[local]'") from error
        except (OSError, ValueError) as error:
            raise BackendError(
                f"the model {self.model!r} cannot be loaded: {str(error).splitlines()[0]}; check its files (safetensors "
                "only), or set `download: true` once"
            ) from error


class HiddenStatesEngine:
    """A loaded model that is only read from."""

    def __init__(self, config: HiddenStates) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer

        call_home_off()
        self.config, self._torch, place = config, torch, resolve(config.model)
        where: dict[str, Any] = {"trust_remote_code": False, "local_files_only": place.is_local or not config.download}
        if place.revision is not None:
            where["revision"] = place.revision
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(wanted if config.device == "auto" else config.device)
        with quiet_loading():
            self._tokenizer = AutoTokenizer.from_pretrained(place.source, **where)
            model = AutoModel.from_pretrained(place.source, use_safetensors=True, dtype=torch.float32, **where)
        self._model = model.to(self._device).eval()
        self._tokenizer.model_max_length = 10**30  # cut below, without the tokenizer's warning
        layers = int(self._model.config.num_hidden_layers)
        if not -layers - 1 <= config.layer <= layers:
            raise BackendError(
                f"layer {config.layer}: the model has layers 0 (embeddings) to {layers}, or -1 for the last"
            )
        own = getattr(self._model.config, "max_position_embeddings", None)
        self._limit = min(config.max_tokens, own or config.max_tokens)

    def identity(self) -> Mapping[str, Any]:
        """The config's identity."""
        return self.config.identity()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows, float32, shape (len(texts), dim); a text without a token has the vector of the end-of-text token."""
        out = np.empty((len(texts), int(self._model.config.hidden_size)), dtype=np.float32)
        if not len(texts):
            return out
        rows = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        ids = [row[: self._limit] or [self._tokenizer.eos_token_id or 0] for row in rows]
        for batch in batches([len(row) for row in ids], self.config.batch_tokens):
            out[batch] = self._pooled([ids[i] for i in batch])
        return out

    def _pooled(self, rows: list[list[int]]) -> np.ndarray:
        torch, lengths = self._torch, [len(row) for row in rows]
        width = max(lengths)
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=self._device)
        mask = torch.tensor([[1] * n + [0] * (width - n) for n in lengths], device=self._device)
        with torch.inference_mode():
            said = self._model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
            weight = torch.tensor(weights(lengths, self.config.pooling), dtype=torch.float32, device=self._device)
            mean = torch.einsum("rt,rtd->rd", weight, said.hidden_states[self.config.layer])
            return torch.nn.functional.normalize(mean, dim=1).cpu().numpy()


def weights(lengths: Sequence[int], pooling: Pooling) -> np.ndarray:
    """What each token counts, (rows, longest), each row summing to 1 over its own tokens.

    >>> (weights([3], "weighted") @ np.array([[1, 0], [0, 1], [2, 2]])).round(5).tolist()
    [[1.16667, 1.33333]]
    """
    place = np.arange(1, max(lengths) + 1)[None, :]
    count = np.asarray(lengths)[:, None]
    if pooling == "last":
        return (place == count).astype(np.float64)
    told = np.where(place <= count, place if pooling == "weighted" else 1, 0).astype(np.float64)
    return told / told.sum(axis=1, keepdims=True)
