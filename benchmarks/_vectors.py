"""Unit vectors that look like embeddings: a mixture of Gaussians of unequal weight, written to a file block by block."""

import resource
import sys
from pathlib import Path

import numpy as np

DIM = 384
KINDS = 200
_BLOCK = 20_000


def mixture(path: Path, count: int, seed: int, tilt: float = 0.0) -> np.ndarray:
    """``count`` unit rows (float32, 384) as a memory-mapped file; ``tilt`` above 0 prefers the kinds that are rare at 0."""
    kinds = np.random.default_rng(0).normal(size=(KINDS, DIM)).astype(np.float32)
    weight = 1.0 / np.arange(1, KINDS + 1)
    weight = weight if tilt <= 0 else weight[::-1] ** tilt
    draw = np.random.default_rng(seed)
    rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, DIM))
    for start in range(0, count, _BLOCK):
        size = min(_BLOCK, count - start)
        kind = draw.choice(KINDS, size=size, p=weight / weight.sum())
        block = kinds[kind] + 1.5 * draw.standard_normal((size, DIM), dtype=np.float32)
        rows[start : start + size] = block / np.linalg.norm(block, axis=1, keepdims=True)
    rows.flush()
    return np.load(path, mmap_mode="r")


def peak_gib() -> float:
    """The most memory this process has held, GiB; pages of mapped files count."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**30 if sys.platform == "darwin" else most / 2**20
