"""Embeds by looking up token vectors and averaging them: no neural network at run time, thousands of texts a second."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from backends.base import BackendConfig
from schemas.errors import BackendError, MissingExtra

_SHIPPED = Path(__file__).parent / "static_minilm.safetensors"
_CHUNK_TOKENS = (
    1_000  # looked up at once: 1 MB at 256 dimensions stays in the processor's cache, 50 MB took 2.7 times as long
)


class Static(BackendConfig):
    """Mean of static token vectors distilled from all-MiniLM-L6-v2 (`distill_static`): 256 dimensions, word order is lost.

    Rank agreement with MiniLM's own cosines (Spearman, texts not distilled from): 0.88 on 1,500 STS-B pairs, 0.67 and
    0.60 on all pairs of 1,500 Alpaca and 1,500 Dolly instructions; 44 % of MiniLM's ten nearest are among its ten.
    Agreement with people on the STS-B pairs: 0.81 (MiniLM 0.87). A CPU-second embeds 21,600 instructions, where
    MiniLM embeds 170. Use it to find candidates, not to decide on a close call. English.

    Paper: Arora et al. 2017, smooth inverse frequency (https://openreview.net/forum?id=SyK00v5xx).
    """

    backend: Literal["static"] = "static"
    table: str = Field(default="minilm", description="minilm (shipped), or a file that distill_static wrote")
    max_tokens: int = Field(default=256, gt=0, description="longer texts are cut")

    def identity(self) -> dict[str, Any]:
        """The table stands by the digest of its bytes, not by its path."""
        known = super().identity()
        del known["table"]
        path = _path(self.table)
        return {**known, "weights": _digest(str(path), path.stat().st_mtime_ns)}

    def open(self) -> "StaticEngine":
        """Loads 8 MB. ``MissingExtra`` without the package tokenizers, ``BackendError`` for a file that is no table."""
        return StaticEngine(self)


def _path(table: str) -> Path:
    path = _SHIPPED if table == "minilm" else Path(table)
    if not path.is_file():
        raise BackendError(f"there is no table at {path}; write `table: minilm` or a file made by distill_static")
    return path


@lru_cache(maxsize=8)
def _digest(path: str, _changed_ns: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class StaticEngine:
    """Holds the table and a WordPiece tokenizer."""

    def __init__(self, config: Static) -> None:
        try:
            from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
        except ImportError as error:
            raise MissingExtra("static embeddings need the package tokenizers: pip install tokenizers") from error
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        self.config = config
        self._identity = config.identity()
        try:
            parts = load_file(_path(config.table))
            words = parts["vocabulary"].tobytes().decode().split("\n")
            self._table = parts["codes"].astype(np.float32) * parts["scales"].astype(np.float32)[:, None]
        except (SafetensorError, KeyError, ValueError) as error:
            raise BackendError(f"{config.table} is no table of static vectors: {error}; make one anew") from error
        vocabulary = {word: i for i, word in enumerate(words)}
        self._unknown = vocabulary["[UNK]"]
        self._tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        self._tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()

    def identity(self) -> Mapping[str, Any]:
        """The config's identity."""
        return self._identity

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows, float32, shape (len(texts), 256). A text without any token is the unknown token."""
        out = np.empty((len(texts), self._table.shape[1]), dtype=np.float32)
        for start in range(0, len(texts), 4096):
            batch = self._tokenizer.encode_batch_fast(list(texts[start : start + 4096]), add_special_tokens=False)
            self._averages([item.ids[: self.config.max_tokens] or [self._unknown] for item in batch], out[start:])
        length = np.linalg.norm(out, axis=1, keepdims=True)
        return out / np.maximum(length, 1e-12)

    def _averages(self, rows: list[list[int]], out: np.ndarray) -> None:
        first = 0
        while first < len(rows):
            last, tokens = first, 0
            while last < len(rows) and (last == first or tokens + len(rows[last]) <= _CHUNK_TOKENS):
                tokens += len(rows[last])
                last += 1
            lengths = np.array([len(row) for row in rows[first:last]])
            ids = np.fromiter((token for row in rows[first:last] for token in row), dtype=np.int64, count=tokens)
            starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
            out[first:last] = np.add.reduceat(self._table[ids], starts, axis=0) / lengths[:, None]
            first = last
