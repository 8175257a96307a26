"""Sentence embeddings by a real model, offline. Plain mean-pooled BERT models load in a quarter of the time."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from backends.base import BackendConfig, speed
from backends.embed._mean_pooled import MeanPooled, is_mean_pooled_bert
from backends.quiet import call_home_off, quiet_loading
from backends.weights import ModelPlace, resolve
from schemas.errors import BackendError, MissingExtra


class SentenceTransformers(BackendConfig):
    """A sentence-transformers model; ``minilm`` is all-MiniLM-L6-v2 (384 dimensions, 256 tokens) from its own package.

    Models that are a BERT with mean pooling (MiniLM is) run on transformers alone, whose import takes 4 seconds
    instead of 16; vectors agree to 1e-5, a test shows it. Nothing is downloaded unless ``download`` says so, and code
    that a model brings along is never run.

    Paper: Reimers and Gurevych 2019, Sentence-BERT (https://arxiv.org/abs/1908.10084).
    """

    backend: Literal["sentence-transformers"] = "sentence-transformers"
    model: str = Field(default="minilm", description="minilm, a local folder, or org/name@revision")
    max_tokens: int | None = Field(default=None, gt=2, description="longer texts are cut; None = the model's own limit")
    device: str = speed(default="auto", description="auto, cpu, cuda, cuda:1 …")
    batch_tokens: int = speed(default=4096, gt=0, description="padded tokens per batch; texts are sorted by length")
    download: bool = speed(default=False, description="fetch a hub model that is not in the local cache")

    def identity(self) -> dict[str, Any]:
        """The weights stand for the model, not its name: a moved folder keeps its vectors."""
        known = super().identity()
        del known["model"]
        return {**known, **resolve(self.model).identity()}

    def open(self) -> "MeanPooled | PackagedModel":
        """The engine. ``MissingExtra`` without torch and transformers, ``BackendError`` if the model will not load."""
        place = resolve(self.model)
        try:
            if place.is_local and is_mean_pooled_bert(place.source):
                return MeanPooled(
                    place.source,
                    self.identity,
                    device=self.device,
                    max_tokens=self.max_tokens,
                    batch_tokens=self.batch_tokens,
                )
            return PackagedModel(self, place)
        except ImportError as error:
            raise MissingExtra("embeddings need torch and transformers: pip install 'provender[local]'") from error
        except (OSError, ValueError) as error:
            hint = "check the path" if place.is_local else "set `download: true` once, or give a local folder"
            raise BackendError(f"the embedding model {self.model!r} cannot be loaded: {error}; {hint}") from error


class PackagedModel:
    """Any model that the package sentence-transformers can build, pooling and all."""

    def __init__(self, config: SentenceTransformers, place: ModelPlace) -> None:
        from sentence_transformers import SentenceTransformer

        self.config = config
        call_home_off()
        with quiet_loading():
            self._model = SentenceTransformer(
                place.source,
                revision=place.revision,
                device=None if config.device == "auto" else config.device,
                local_files_only=place.is_local or not config.download,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        if config.max_tokens:
            self._model.max_seq_length = config.max_tokens

    def identity(self) -> Mapping[str, Any]:
        """The config's identity."""
        return self.config.identity()

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows, float32, shape (len(texts), dim). The package sorts by length itself."""
        vectors = self._model.encode(
            list(texts),
            batch_size=max(1, self.config.batch_tokens // 128),
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)
