"""The vector cache: a text is embedded once, vectors come back unchanged and in order."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from backends.embed.hashing import Hashing
from schemas.errors import StoreUnwritable
from storage.calls.vectors import CachedEmbedder


class Counting:
    def __init__(self, ngram: int = 3) -> None:
        self.texts: list[str] = []
        self._engine = Hashing(dim=16, ngram=ngram).open()

    def identity(self) -> dict[str, Any]:
        return dict(self._engine.identity())

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        return self._engine.embed(texts)


def test_each_text_is_embedded_once_over_runs(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    texts = ["a dog", "a cat", "a dog", "half \ud800"]
    with_cache = CachedEmbedder(first, tmp_path / "vectors")
    got = with_cache.embed(texts[:3])
    with_cache.close()
    again = CachedEmbedder(second, tmp_path / "vectors")
    more = again.embed(["a bird", *texts[:3]])
    assert first.texts == ["a dog", "a cat"]
    assert second.texts == ["a bird"]
    assert got.dtype == np.float32
    assert np.array_equal(got, Counting().embed(texts[:3]))
    assert np.array_equal(more[1:], got)
    again.close()


def test_another_embedder_has_vectors_of_its_own(tmp_path: Path) -> None:
    one, other = Counting(), Counting(ngram=0)
    a, b = CachedEmbedder(one, tmp_path / "v"), CachedEmbedder(other, tmp_path / "v")
    assert not np.array_equal(a.embed(["running dogs"]), b.embed(["running dogs"]))
    assert other.texts == ["running dogs"]
    assert a.embed([]).shape == (0, 16)
    a.close()
    b.close()


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    (tmp_path / "vectors.sqlite").write_bytes(b"something else entirely " * 50)
    with pytest.raises(StoreUnwritable, match=r"vectors\.sqlite .* delete it"):
        CachedEmbedder(Counting(), tmp_path / "vectors")
