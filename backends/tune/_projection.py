"""Random projection of long gradients: a seeded count sketch, a block of parameters at a time."""

from collections.abc import Sequence

import numpy as np

#: Parameters added at once; bounds the temporary arrays.
_BLOCK = 65_536


class Projection:
    """``(n_parameters,) -> (dim,)``, the same for equal ``rng_seed``.

    Every parameter adds its value with a random sign to ``FOLDS`` random dimensions, instead of to all of them as a
    dense random matrix would. Inner products are kept in expectation, at a cost of FOLDS additions a parameter.
    Paper: Charikar, Chen and Farach-Colton 2002, https://doi.org/10.1007/3-540-45465-9_59
    """

    FOLDS = 4

    def __init__(self, sizes: Sequence[int], dim: int, rng_seed: int) -> None:
        self.dim = dim
        rng = np.random.default_rng([rng_seed, dim])
        total = int(sum(sizes))
        kind = np.uint16 if dim <= 65_536 else np.uint32
        self._where = [rng.integers(0, dim, total, dtype=kind) for _ in range(self.FOLDS)]
        self._sign = [np.where(rng.integers(0, 2, total, dtype=np.uint8), 1, -1).astype(np.int8) for _ in self._where]

    def __call__(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """The projection of the concatenated parts: float32, (dim,)."""
        found = np.zeros(self.dim)
        start = 0
        for part in parts:
            for begin in range(0, len(part), _BLOCK):
                values = part[begin : begin + _BLOCK]
                here = slice(start + begin, start + begin + len(values))
                for where, sign in zip(self._where, self._sign, strict=True):
                    found += np.bincount(where[here], weights=values * sign[here], minlength=self.dim)
            start += len(part)
        return (found / np.sqrt(self.FOLDS)).astype(np.float32)
