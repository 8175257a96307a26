"""The declared substitute for an NLI model: the cosine of two embeddings, where no cross-encoder is at hand."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from backends.base import BackendConfig, any_of
from backends.protocols import Embedder

if TYPE_CHECKING:
    AnyEmbed = BackendConfig
else:
    AnyEmbed = any_of("backends.embed")  # by name: a new file in backends/embed is a choice here too

SUBSTITUTE = "cosine of embeddings instead of an NLI model: sees topic and wording, not contradiction"


class EmbeddingNLI(BackendConfig):
    """No NLI model: texts that lie near each other count as entailing, texts that lie far apart as contradicting.

    Entailment is the cosine (negative ones as 0), contradiction what is left to 1, neutral always 0; symmetric. It
    cannot tell "the door is open" from "the door is not open". The identity, and so every manifest, says what it is.
    """

    billed: ClassVar[bool] = False

    backend: Literal["embedding"] = "embedding"
    embed: AnyEmbed = Field(
        default={"backend": "sentence-transformers", "model": "minilm"},
        validate_default=True,
        description="an embedder as under `backends.embed`; minilm if not given",
    )

    def identity(self) -> dict[str, Any]:
        """The embedder's identity, and in words what this stands in for."""
        return {**super().identity(), "substitute": SUBSTITUTE, "embed": dict(self.embed.identity())}

    def open(self) -> "EmbeddingNLIEngine":
        """Opens the embedder, with its errors."""
        return EmbeddingNLIEngine(self.embed.open(), self.identity())


class EmbeddingNLIEngine:
    """Cosines dressed as probabilities. ``identity`` defaults to one that names the given embedder."""

    def __init__(self, embedder: Embedder, identity: Mapping[str, Any] | None = None) -> None:
        self._embedder = embedder
        self._identity = dict(
            identity or {"backend": "embedding", "substitute": SUBSTITUTE, "embed": dict(embedder.identity())}
        )

    def identity(self) -> Mapping[str, Any]:
        """The config's."""
        return self._identity

    def judge(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """See ``backends.protocols.NLI``; each distinct text is embedded once, equal texts entail each other with 1."""
        found = np.zeros((len(pairs), 3))
        found[:, 2] = 1.0
        different = [i for i, (premise, hypothesis) in enumerate(pairs) if premise != hypothesis]
        if not different:
            return found
        texts = sorted({text for i in different for text in pairs[i]})
        place = {text: row for row, text in enumerate(texts)}
        vectors = np.asarray(self._embedder.embed(texts))
        left = vectors[[place[pairs[i][0]] for i in different]].astype(np.float64)
        right = vectors[[place[pairs[i][1]] for i in different]].astype(np.float64)
        near = np.clip(np.einsum("ij,ij->i", left, right), 0.0, 1.0)
        found[different, 0], found[different, 2] = 1.0 - near, near
        return found
